"""What the operator's commands refuse: the wrong account, a lost table, an answer that is not yes."""

from __future__ import annotations

from typing import Any

import pytest

from infra import changes, cloud, consent, deploy, removal, stack, stages, supply
from infra.changes import Change, Plan
from infra.cloud import Place

HERE = Place("123456789012", "us-east-1", "aws")
TABLE = "AWS::DynamoDB::Table"


@pytest.fixture
def config() -> dict[str, Any]:
    return stages.read()


@pytest.fixture
def done(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What was done to the cloud; nothing is, here."""
    happened: list[str] = []
    monkeypatch.setattr(changes, "adopt", lambda *_: [])
    monkeypatch.setattr(changes, "execute", lambda *_: happened.append("execute"))
    monkeypatch.setattr(changes, "discard", lambda *_: happened.append("discard"))
    monkeypatch.setattr(stack, "expire_items", lambda *_: happened.append("expire"))
    monkeypatch.setattr(deploy, "client", lambda service: service)
    return happened


def planned(monkeypatch: pytest.MonkeyPatch, *found: Change) -> None:
    monkeypatch.setattr(changes, "prepare", lambda *_: Plan("stack", "plan", list(found)))


def test_a_first_deployment_pins_the_stage_to_account_and_region(config: dict[str, Any]) -> None:
    dev = deploy._pinned(config, "dev", HERE)["stages"]["dev"]
    assert ":123456789012:" in dev["iam_role_arn"]
    assert dev["region"] == "us-east-1"


@pytest.mark.parametrize(
    "elsewhere", [Place("210987654321", "us-east-1", "aws"), Place(HERE.account, "eu-west-1", "aws")]
)
def test_a_stage_that_lives_elsewhere_is_left_alone(config: dict[str, Any], elsewhere: Place) -> None:
    pinned = deploy._pinned(config, "dev", HERE)
    assert deploy._pinned(pinned, "dev", HERE) == pinned
    with pytest.raises(deploy.Refused, match="lives in"):
        deploy._pinned(pinned, "dev", elsewhere)
    deploy._pinned(pinned, "prod", elsewhere)


def test_a_stage_that_is_not_configured_is_refused(config: dict[str, Any]) -> None:
    with pytest.raises(deploy.Refused, match="no stage staging"):
        deploy._pinned(config, "staging", HERE)


@pytest.mark.parametrize(
    "change",
    [Change("Modify", "LeomaTable", TABLE, replaces=True), Change("Remove", "LeomaTable", TABLE, replaces=False)],
)
def test_a_change_that_would_lose_a_table_is_refused_even_if_agreed_to(
    monkeypatch: pytest.MonkeyPatch, done: list[str], change: Change
) -> None:
    planned(monkeypatch, change)
    with pytest.raises(deploy.Refused, match="lose the data of LeomaTable"):
        deploy._change("dev", {"Resources": {}}, lambda _: True)
    assert done == ["discard"]


def test_a_plan_that_is_not_agreed_to_is_thrown_away(monkeypatch: pytest.MonkeyPatch, done: list[str]) -> None:
    planned(monkeypatch, Change("Add", "LeomaTable", TABLE, replaces=False))
    with pytest.raises(deploy.Refused, match="nothing was changed"):
        deploy._change("dev", {"Resources": {}}, lambda _: False)
    assert done == ["discard"]


def test_a_plan_that_is_agreed_to_is_carried_out(monkeypatch: pytest.MonkeyPatch, done: list[str]) -> None:
    planned(monkeypatch, Change("Add", "LeomaTable", TABLE, replaces=False))
    deploy._change("dev", {"Resources": {}}, lambda _: True)
    assert done == ["execute", "expire"]


def test_nobody_is_asked_about_nothing(monkeypatch: pytest.MonkeyPatch, done: list[str]) -> None:
    planned(monkeypatch)
    deploy._change("dev", {"Resources": {}}, lambda _: pytest.fail("asked"))
    assert done == ["execute", "expire"]


def test_destroying_asks_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cloud, "place", lambda: pytest.fail("touched the cloud"))
    monkeypatch.setattr("builtins.input", lambda _: "yes")
    with pytest.raises(deploy.Refused, match="nothing was removed"):
        deploy.destroy("dev", "", data=False)


def test_destroying_data_asks_again(monkeypatch: pytest.MonkeyPatch, done: list[str]) -> None:
    monkeypatch.setattr(cloud, "place", lambda: HERE)
    monkeypatch.setattr(supply, "restore_state", lambda *_: None)
    monkeypatch.setattr(stack, "delete", lambda *_: done.append("delete stack"))
    monkeypatch.setattr(removal, "remove_data", lambda *_: pytest.fail("removed data"))
    with pytest.raises(deploy.Refused, match="nothing was removed"):
        deploy.destroy("dev", "dev", data=True)
    assert done == ["delete stack"]


@pytest.mark.parametrize(("answer", "meant"), [("y", True), ("yes", True), (" YES ", True), ("", False), ("n", False)])
def test_an_operator_says_yes_in_full_or_in_short(answer: str, meant: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("builtins.input", lambda _question: answer)

    assert consent.asked(beforehand=False)("so?") is meant


def test_who_agreed_beforehand_is_not_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr("builtins.input")

    assert consent.asked(beforehand=True)("so?")
