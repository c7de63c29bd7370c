"""Samples: what is taken, what a repeat changes, and that a batch is all or nothing."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from chalicelib.leoma import fold
from tests.harness.client import Client

from .world import ADMIN, ALICE, BOB, NOW, get, miner, post, publish, sample, send, subnet, sync

Freeze = Callable[[float], None]
Configure = Callable[..., None]


@pytest.fixture(autouse=True)
def _world(cloud: None, freeze: Freeze, configure: Configure) -> None:
    freeze(NOW)
    configure(LEOMA_ADMIN_HOTKEYS=ADMIN.hotkey)
    sync(subnet())
    publish(100)


def test_a_minimal_sample_is_stored_with_nulls(client: Client) -> None:
    reply = post(client, ALICE, "/samples", sample(7, miner(1)))

    assert reply.status == 200, reply.json
    assert reply.json == {
        "id": reply.json["id"],
        "sample_id": "7",
        "validator_hotkey": ALICE.hotkey,
        "miner_hotkey": miner(1),
        "prompt": "a cyclist turns left",
        "s3_bucket": "leoma-samples",
        "s3_prefix": "7",
        "passed": True,
        "confidence": None,
        "reasoning": None,
        "evaluated_at": "2027-01-15T08:00:00.250000Z",
        "task_id": 7,
        "latency_ms": None,
    }
    assert get(client, f"/samples/task?validator_hotkey={ALICE.hotkey}&task_id=7").json == [reply.json]
    assert get(client, "/samples/list").json == []
    fold.fold()
    assert get(client, "/samples/list").json == [reply.json]
    assert get(client, f"/samples/validator/{ALICE.hotkey}", BOB).json == [reply.json]
    assert get(client, f"/samples/miner/{miner(1)}", BOB).json == [reply.json]
    assert get(client, f"/tasks?miner_hotkey={miner(1)}").json[0]["passed"] is True
    assert get(client, f"/tasks/7/miner/{miner(1)}").json["final_passed"] is True
    assert get(client, "/tasks/7").json["miner_count"] == 1


def test_a_batch_of_a_hundred_is_answered_in_order(client: Client) -> None:
    reply = send(client, ALICE, [sample(7, miner(n)) for n in range(100)])

    assert reply.status == 200, reply.json
    assert [one["miner_hotkey"] for one in reply.json] == [miner(n) for n in range(100)]
