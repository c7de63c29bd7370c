"""The specification's behaviours 48 and 49, and its section 4.5: evaluation results and their signatures."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from typing import Any

import pytest

from chalicelib.kernel import keys
from chalicelib.kernel.blobs import Bucket
from chalicelib.kernel.errors import Unavailable
from chalicelib.leoma import store_jobs, tasks_fold
from tests.harness.client import Client
from tests.harness.wallets import wallet

from .world import ALICE, get, miner, sample, send, subnet, sync

pytestmark = pytest.mark.usefixtures("world")

Freeze = Callable[[float], None]
Configure = Callable[..., None]
TEXTS = {"original_artifacts": "[]", "generated_artifacts": '{"overall_score": 86}', "presentation_order": "single"}


def result(task: int, validator: str = ALICE.hotkey) -> dict[str, Any]:
    raw = Bucket("leoma-samples").get(f"{task}/evaluation_results/{validator}.json")
    assert raw is not None
    found: dict[str, Any] = json.loads(raw)
    return found


# --- 48, 49 and section 4.5: evaluation results


def test_48_a_result_that_cannot_be_written_is_written_later(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    def down(*_: object, **__: object) -> None:
        raise Unavailable("down")

    with monkeypatch.context() as broken:
        broken.setattr(Bucket, "put", down)
        assert send(client, ALICE, [sample(7, miner(1))]).status == 200
        tasks_fold.fold()
    assert Bucket("leoma-samples").get(f"7/evaluation_results/{ALICE.hotkey}.json") is None

    tasks_fold.fold()

    assert [line["hotkey"] for line in result(7)["data"]] == [miner(1)]
    assert store_jobs.results_due() == []


def test_48_storage_that_stays_away_is_asked_once_and_holds_up_no_vote(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    """More results are due than a transaction takes writes, as after a pause of the fold."""
    validators = [wallet(f"validator-{number}") for number in range(13)]
    sync(subnet(stakes=dict.fromkeys(validators, 100_000)), 1001)
    asked = []

    def down(*given: object, **_: object) -> None:
        asked.append(given)
        raise Unavailable("down")

    with monkeypatch.context() as broken:
        broken.setattr(Bucket, "put", down)
        for validator in validators:
            assert send(client, validator, [sample(task, miner(1)) for task in range(1, 9)]).status == 200
        asked.clear()
        tasks_fold.fold()
        assert (len(asked), len(store_jobs.results_due())) == (1, 13 * 8)
        tasks_fold.fold()
        assert (len(asked), len(get(client, f"/tasks?miner_hotkey={miner(1)}").json)) == (2, 8)
    tasks_fold.fold()

    assert store_jobs.results_due() == []
    assert [line["hotkey"] for line in result(8, validators[12].hotkey)["data"]] == [miner(1)]


def test_49_a_result_holds_every_miner_and_the_last_signature(client: Client) -> None:
    send(client, ALICE, [sample(7, miner(1))], "0xfirst")
    send(client, ALICE, [sample(7, miner(2), passed=False)], "0xsecond")
    tasks_fold.fold()

    found = result(7)
    assert found["signature"] == "0xsecond"
    assert [line["hotkey"] for line in found["data"]] == sorted([miner(1), miner(2)])
    assert {line["hotkey"]: line["status"] for line in found["data"]} == {miner(1): "passed", miner(2): "failed"}


@pytest.mark.parametrize("order", [(1, 2, 3), (3, 1, 2), (2, 3, 1)])
def test_the_signature_of_a_whole_batch_verifies_over_the_written_data(client: Client, order: tuple[int, ...]) -> None:
    samples = [sample(7, miner(n), confidence=n, reasoning="é", latency_ms=n, **TEXTS) for n in order]
    signature = "0x" + ALICE.sign(_digest([_line(one) for one in samples])).hex()
    send(client, ALICE, samples, signature)
    tasks_fold.fold()

    found = result(7)
    assert found["signature"] == signature
    digest = _digest(found["data"])
    assert keys.verify(ALICE.public, digest, bytes.fromhex(found["signature"][2:]))
    assert store_jobs.task_rows("0000000007")[1][ALICE.hotkey]["verified"] is True


def test_a_signature_that_does_not_verify_is_kept_and_marked_or_refused_when_strict(
    client: Client, configure: Configure
) -> None:
    assert send(client, ALICE, [sample(7, miner(1))], "0xnonsense").status == 200
    assert store_jobs.task_rows("0000000007")[1][ALICE.hotkey]["verified"] is False

    configure(LEOMA_STRICT_EVAL_SIGNATURE="1")
    assert send(client, ALICE, [sample(8, miner(1))], "0xnonsense").status == 422


def test_a_samples_own_signature_wins(client: Client) -> None:
    send(client, ALICE, [sample(7, miner(1), evaluation_signature="0xown")], "0xbatch")
    tasks_fold.fold()

    assert result(7)["signature"] == "0xown"


def _line(one: dict[str, Any]) -> dict[str, Any]:
    names = ("passed", "confidence", "reasoning", "latency_ms", *TEXTS)
    return {"hotkey": one["miner_hotkey"], "status": "passed"} | {name: one[name] for name in names}


def _digest(lines: list[dict[str, Any]]) -> bytes:
    return hashlib.sha256(json.dumps(lines, sort_keys=True).encode()).digest()


def test_the_canonical_form_has_the_published_digest(client: Client) -> None:
    line = {
        "hotkey": "5FHneW46xGXgs5mUiveU4sbTyGBzmstUspZC92UhjJM694ty",
        "passed": True,
        "status": "passed",
        "confidence": 91,
        "reasoning": "sharp motion",
        "latency_ms": 41250,
        "original_artifacts": "[]",
        "generated_artifacts": "{}",
        "presentation_order": "single-video benchmark",
    }
    assert _digest([line]).hex() == "c8fa7523917f91790991905ce007a0955a516bca2117bbd5941ddb28537eb3aa"
