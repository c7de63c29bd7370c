"""Doors in front of a submission: switch, validators, limits, the body's form, the hotkey."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from chalicelib.bitrecs import store
from chalicelib.kernel.errors import Unavailable
from tests.bitrecs.world import (
    NOW,
    Configure,
    Freeze,
    World,
    send,
    told,
)
from tests.harness.wallets import wallet


def test_a_closed_intake_is_told_before_anything_else(world: World) -> None:  # S20
    store.switch_submissions(enabled=False)
    miner = world.miner("a")

    reply = send(miner, miner.body(sign=False, signature="zz"), {})

    assert told(reply) == (503, "Submissions are currently disabled. Please try again later.")
    assert reply.headers["Retry-After"]
    store.switch_submissions(enabled=True)
    assert miner.submit().status == 201


def test_maintenance_is_told_with_its_reason(world: World, configure: Configure) -> None:  # S21
    configure(BITRECS_DISALLOW_UPLOADS="true", BITRECS_DISALLOW_UPLOADS_REASON="back at noon")

    assert told(world.miner("a").submit()) == (503, "back at noon")


def test_screeners_are_no_validators(world: World, configure: Configure) -> None:  # S22
    world.connect(0, screeners=5)
    configure(BITRECS_MIN_CONNECTED_VALIDATORS="4")

    assert told(world.miner("a").submit()) == (503, "Not enough validators available for evaluation (connected: 3)")


def test_a_validator_counts_as_long_as_its_heartbeat_is_young(world: World, freeze: Freeze) -> None:  # S23
    miner = world.miner("a")
    first, second, _ = world.validators
    freeze(NOW + 60)
    first.post("heartbeat", {"system_metrics": {}})
    second.post("heartbeat", {"system_metrics": {}})

    freeze(NOW + 121)
    assert told(miner.submit()) == (503, "Not enough validators available for evaluation (connected: 2)")
    freeze(NOW + 120)
    assert miner.submit().status == 201


def test_the_31st_request_of_a_minute_has_to_wait_for_the_minute_s_end(world: World, freeze: Freeze) -> None:  # S24
    miner = world.miner("a")
    for second in range(30):
        freeze(NOW + second)
        send(miner, miner.body(), {})

    reply = send(miner, miner.body(), {})

    assert reply.status == 429
    assert reply.json["detail"] == reply.json["error"] == "Rate limit exceeded: 30 per 1 minute"
    assert reply.headers["Retry-After"] == "31"


def test_a_counter_that_does_not_answer_stops_nobody(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    def down(*_: object) -> float:
        raise Unavailable("the table does not answer")

    monkeypatch.setattr(store, "wait_for", down)

    assert world.client.get("/bitrecs/health").status == 200
    assert world.client.get("/bitrecs/retrieval/top-agents").status == 200


def test_the_interval_takes_no_more_than_its_number(world: World, configure: Configure) -> None:  # S25
    configure(BITRECS_ARTIFACTS_PER_INTERVAL="2")
    assert [world.miner(name).submit().status for name in ("a", "b")] == [201, 201]

    reply = world.miner("c").submit()

    text = "The system is currently receiving too many agent submissions. Please try again later."
    assert told(reply) == (429, text)
    assert int(reply.headers["Retry-After"]) == 3600 - NOW % 3600


@pytest.mark.parametrize(
    ("body", "text"),
    [
        (b"{", "Invalid request body: not valid JSON"),
        (b"[" * 5000, "Invalid request body: not valid JSON"),
        (b"[]", "Invalid request body: must be a JSON object"),
        (b"{}", "Invalid request body: field 'created_at' is required"),
        ({"hotkey": None}, "Invalid request body: field 'hotkey' must be a string"),
        ({"gist_id": 7}, "Invalid request body: field 'gist_id' must be a string"),
        ({"gist_id": "ABC" * 10}, "Invalid request body: field 'gist_id' is not valid"),
        ({"gist_id": "../../users"}, "Invalid request body: field 'gist_id' is not valid"),
        ({"github_account": "a:b"}, "Invalid request body: field 'github_account' is not valid"),
        ({"created_at": "2025-10-01"}, "Invalid request body: field 'created_at' is not valid"),
        ({"created_at": "2025-10-01T12:00:00Z\n"}, "Invalid request body: field 'created_at' is not valid"),
    ],
)  # S26
def test_a_body_of_another_form_is_told_in_one_line(world: World, body: Any, text: str) -> None:
    miner = world.miner("a")
    raw = body if isinstance(body, bytes) else miner.body(sign=False, signature="00") | body

    assert told(world.client.post("/bitrecs/submit", raw, {})) == (400, text)


def test_the_status_of_a_malformed_body_is_a_knob(world: World, configure: Configure) -> None:
    configure(BITRECS_VALIDATION_STATUS="422")

    reply = world.client.post("/bitrecs/submit", b"{}", {})

    assert told(reply) == (422, "Invalid request body: field 'created_at' is required")


def test_a_large_body_is_refused_unread(world: World) -> None:
    assert world.client.post("/bitrecs/submit", b" " * 16_385, {}).status == 413


@pytest.mark.parametrize(
    "change",
    [
        lambda hotkey: hotkey[:-1],
        lambda hotkey: hotkey[:-1] + ("a" if hotkey[-1] != "a" else "b"),
        lambda _hotkey: "15oF4uVJwmo4TdGW7VfQxNLavjCXviqxT9S1MgbjMNHr6Sp5",
        lambda _hotkey: "5C4hrfjw9DjXZTzV3MwzrrAr9P1MJhSrvWGWqi1eSuyUpnhM",
        lambda hotkey: hotkey.lower(),
        lambda hotkey: f" {hotkey}",
        lambda _hotkey: "",
    ],
)  # S27, S28
def test_a_hotkey_is_the_canonical_address_of_a_usable_key(world: World, change: Callable[[str], str]) -> None:
    miner = world.miner("a")
    hotkey = change(miner.hotkey)
    body = miner.body(sign=False, hotkey=hotkey, signature="00" * 63 + "80")
    headers = miner.headers(body, **{"X-Signature": "00" * 63 + "80"})

    assert told(send(miner, body, headers)) == (400, f"Miner hotkey {hotkey} is not a valid format")


def test_a_validator_cannot_mine(world: World) -> None:  # S29
    text = (
        "Hotkey belongs to a whitelisted validator and cannot be used for agent submission. "
        "Please register a new hotkey"
    )
    assert told(world.miner("a", signer=wallet("validator 0")).submit()) == (400, text)
