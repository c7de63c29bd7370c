"""The doctor: each thing that goes wrong is a finding with a remedy."""

from __future__ import annotations

import time

import pytest

from chalicelib.kernel import chain, version
from subnetctl import doctor
from subnetctl.doctor import Finding
from tests.harness.wallets import wallet

NOBODY = "http://127.0.0.1:9"
ALICE = wallet("alice").hotkey


def found(what: str, findings: list[Finding]) -> list[Finding]:
    return [finding for finding in findings if finding.what == what]


@pytest.fixture
def answers(monkeypatch: pytest.MonkeyPatch) -> dict[str, object]:
    """What the API says of itself, to be changed by a test."""
    said: dict[str, object] = {
        "/time": {"unix_ms": time.time() * 1000},
        "/mounts.json": {"mounts": [{"name": "leoma"}], "version": version.VERSION},
    }
    monkeypatch.setattr(doctor, "_json", lambda url: said[url.removeprefix(NOBODY)])
    return said


def test_a_sound_deployment_has_no_complaint(cloud: None, answers: dict[str, object]) -> None:
    chain.save_head(7)

    findings = doctor.examine(NOBODY)

    assert [finding for finding in findings if not finding.well] == []
    assert {finding.what for finding in findings} == {"api", "clock", "version", "table", "bucket", "chain"}


def test_a_silent_server_is_told_with_its_address(cloud: None) -> None:
    (api,) = found("api", doctor.examine(NOBODY))

    assert not api.well
    assert NOBODY in api.found


@pytest.mark.parametrize(("off_by", "well"), [(59, True), (-59, True), (61, False), (-61, False)])
def test_a_clock_that_is_a_minute_off_is_told(
    cloud: None, answers: dict[str, object], off_by: int, *, well: bool
) -> None:
    answers["/time"] = {"unix_ms": (time.time() + off_by) * 1000}

    (clock,) = found("clock", doctor.examine(NOBODY))

    assert clock.well is well


def test_another_version_is_told(cloud: None, answers: dict[str, object]) -> None:
    answers["/mounts.json"] = {"mounts": [], "version": "9.9.9"}

    (version,) = found("version", doctor.examine(NOBODY))

    assert not version.well


def test_a_missing_table_is_told_by_name(cloud: None, answers: dict[str, object]) -> None:
    from chalicelib.kernel import aws  # noqa: PLC0415 - the client of this test's cloud

    aws.client("dynamodb").delete_table(TableName="subnet-functions-local-leoma")

    missing = [finding for finding in found("table", doctor.examine(NOBODY)) if not finding.well]

    assert ["subnet-functions-local-leoma" in finding.found for finding in missing] == [True]


def test_a_chain_that_was_never_copied_is_told(cloud: None, answers: dict[str, object]) -> None:
    (copy,) = found("chain", doctor.examine(NOBODY))

    assert not copy.well


def test_registration_is_looked_up_on_every_subnet(cloud: None, answers: dict[str, object]) -> None:
    neuron = chain.Neuron(uid=3, hotkey=ALICE, stake_rao=5 * 10**9, validator_permit=True)
    chain.save_snapshot("leoma", 1, chain.Subnet(netuid=99, neurons=(neuron,)))

    findings = doctor.examine(NOBODY, ALICE)

    assert [finding.found for finding in found("leoma", findings)] == ["uid 3, 5 TAO with a validator permit"]
    assert [finding.found for finding in found("pool", findings)] == ["not registered"]
