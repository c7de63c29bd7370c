"""Health and the phase clock: rows 1 to 7 of the conformance table."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from chalicelib.experts import domain, store
from chalicelib.experts.contracts import CYCLE as LIVE
from chalicelib.experts.contracts import PUBLIC_PHASES, ExpertsSettings
from chalicelib.kernel.errors import Unavailable
from chalicelib.kernel.settings import SettingError
from tests.experts.conftest import NOW, START, World
from tests.harness.budget import counted
from tests.harness.client import Client

LIVE_CYCLE = domain.cycle(LIVE, PUBLIC_PHASES)


def test_health_needs_no_token_and_answers_typed_keys(served: World) -> None:
    reply = served.client.get("/experts/health")

    assert reply.status == 200
    found = {name: type(reply.json[name]) for name in ("status", "model_loaded", "current_block", "phase")}
    assert found == {"status": str, "model_loaded": bool, "current_block": int, "phase": str}
    assert (reply.json["status"], reply.json["model_loaded"], reply.json["current_block"]) == (
        "healthy",
        True,
        START + 20,
    )


def test_a_wrong_token_does_not_matter_for_health(served: World) -> None:
    assert served.get("/health", Authorization="Bearer wrong").status == 200


def test_without_a_model_health_says_so(world: World) -> None:
    found = world.get("/health").json

    assert (found["model_loaded"], found["status"], found["model_version"]) == (False, "degraded", None)


def test_before_any_block_health_counts_from_zero(client: Client) -> None:
    found = client.get("/experts/health").json

    assert (found["current_block"], found["phase"], found["status"]) == (0, "distribute", "degraded")


@pytest.mark.parametrize(
    ("offset", "phase"),
    [(0, "distribute"), (4, "distribute"), (5, "train"), (14, "train"), (15, "commit"), (17, "commit"), (18, "submit"),
     (25, "submit"), (26, "commit"), (29, "commit"), (30, "distribute")],
)  # fmt: skip
def test_a_phase_holds_its_first_and_its_last_block(world: World, offset: int, phase: str) -> None:
    world.at(START + 60 + offset)

    assert world.get("/health").json["phase"] == phase


def test_the_observed_block_never_goes_back(world: World) -> None:
    world.at(START + 21)
    world.at(START + 5)

    assert world.get("/health").json["current_block"] == START + 21


def test_an_old_block_makes_health_degraded_and_stays(served: World, freeze: Callable[[float], None]) -> None:
    freeze(NOW + 600)
    found = served.get("/health").json

    assert (found["status"], found["current_block"], found["model_loaded"]) == ("degraded", START + 20, True)


@pytest.mark.parametrize("error", [Unavailable("busy"), RuntimeError("gone")])
def test_a_store_that_does_not_answer_makes_health_degraded(
    served: World, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def down(*_: object) -> None:
        raise error

    served.get("/health")
    monkeypatch.setattr(store, "get_many", down)
    reply = served.get("/health")
    assert (reply.status, reply.json["status"]) == (200, "degraded")
    assert (reply.json["current_block"], reply.json["model_loaded"]) == (START + 20, True)

    store.SEEN.clear()
    assert served.get("/health").json["current_block"] == 0


def test_health_is_one_read(served: World) -> None:
    with counted() as spent:
        served.get("/health")

    assert spent.calls == {"dynamodb:BatchGetItem": 1}


def test_the_live_cycle_is_the_sum_of_its_phases() -> None:
    assert LIVE_CYCLE.length == 500
    assert [LIVE_CYCLE.at(block).name for block in (0, 19, 20, 319, 320, 339, 340, 419, 420, 499)] == [
        "distribute", "distribute", "train", "train", "commit", "commit", "submit", "submit", "commit", "commit",
    ]  # fmt: skip


def test_the_next_submit_block_is_right_from_every_block() -> None:
    for block in range(1000):
        following = LIVE_CYCLE.next_start("submit", block)
        assert following > block
        assert LIVE_CYCLE.at(following).name == "submit"
        assert all(LIVE_CYCLE.at(between).name != "submit" or LIVE_CYCLE.at(block).name == "submit"
                   for between in range(block + 1, following))  # fmt: skip


@pytest.mark.parametrize("phases", ["train:10", "submit:0", "submit", "walk:3,submit:2", "submit:-1", "submit:x"])
def test_phases_that_make_no_cycle_stop_the_start(phases: str) -> None:
    with pytest.raises(SettingError, match="PHASES"):
        ExpertsSettings.load({"EXPERTS_PHASES": phases})
