"""The specification's concrete behaviours 1 to 25 and 73 to 79: health, signatures, miners, blacklist, sync."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Any

import pytest

from chalicelib.kernel import chain
from chalicelib.kernel.errors import Unavailable
from chalicelib.leoma import domain, store, tasks, tasks_fold
from tests.harness.budget import counted
from tests.harness.client import Client, Reply
from tests.harness.wallets import wallet

from .world import (
    ADMIN,
    ALICE,
    BOB,
    CAROL,
    NOW,
    commitment,
    get,
    miner,
    model,
    neuron,
    post,
    publish,
    sample,
    send,
    signed,
    subnet,
    sync,
    vote,
)

Freeze = Callable[[float], None]
Configure = Callable[..., None]
STRANGER = wallet("stranger")
UNKNOWN = wallet("unknown").hotkey


# --- 1, 2: health


def test_1_health_before_the_first_sync(client: Client, freeze: Freeze) -> None:
    body = client.get("/leoma/health").json

    assert (body["status"], body["database"], body["metagraph_synced"], body["last_sync"]) == (
        "healthy",
        True,
        False,
        None,
    )


def test_1_health_after_a_sync(world: None, client: Client) -> None:
    body = client.get("/leoma/health").json

    assert (body["metagraph_synced"], body["last_sync"]) == (True, "2027-01-15T08:00:00.250000Z")


def test_2_health_while_the_store_is_down(world: None, client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    def down() -> None:
        raise Unavailable("down")

    monkeypatch.setattr(store, "last_sync", down)
    reply = client.get("/leoma/health")

    assert (reply.status, reply.json["status"], reply.json["database"]) == (200, "degraded", False)


# --- 3 to 16: signatures


def valid(client: Client, headers: dict[str, str]) -> Reply:
    return client.get("/leoma/miners/valid", headers)


@pytest.mark.parametrize(
    ("kept", "missing"),
    [((), 3), (("X-Validator-Hotkey",), 2), (("X-Validator-Hotkey", "X-Timestamp"), 1)],
)
def test_3_4_each_missing_header_is_named(world: None, client: Client, kept: tuple[str, ...], missing: int) -> None:
    reply = valid(client, {name: value for name, value in signed(ALICE).items() if name in kept})

    assert reply.status == 422
    assert [problem["type"] for problem in reply.json["detail"]] == ["missing"] * missing
    assert all(set(problem) == {"type", "loc", "msg", "input"} for problem in reply.json["detail"])


@pytest.mark.parametrize("prefix", ["0x", ""])
def test_5_a_signature_with_and_without_0x(world: None, client: Client, prefix: str) -> None:
    headers = signed(ALICE)

    assert valid(client, headers | {"X-Signature": prefix + headers["X-Signature"][2:]}).status == 200


def test_6_an_upper_case_prefix_is_no_signature(world: None, client: Client) -> None:
    headers = signed(ALICE)
    reply = valid(client, headers | {"X-Signature": "0X" + headers["X-Signature"][2:]})

    assert (reply.status, reply.json["detail"]) == (401, "Signature verification failed")


def test_7_a_wrapped_signature(world: None, client: Client) -> None:
    headers = signed(ALICE)
    message = b"<Bytes>" + domain.signed_message(b"", headers["X-Timestamp"]) + b"</Bytes>"

    assert valid(client, headers | {"X-Signature": ALICE.sign(message).hex()}).status == 200


@pytest.mark.parametrize("timestamp", ["abc", "1700000000.5", "1_800_000_000", "+1800000000", ""])
def test_8_a_timestamp_that_is_no_integer(world: None, client: Client, timestamp: str) -> None:
    reply = valid(client, signed(ALICE) | {"X-Timestamp": timestamp})

    assert (reply.status, reply.json["detail"]) == (401, "Invalid timestamp format")


@pytest.mark.parametrize(("offset", "status"), [(-300, 200), (-301, 401), (300, 200), (301, 401)])
def test_9_10_the_window_is_inclusive_both_ways(world: None, client: Client, offset: int, status: int) -> None:
    reply = valid(client, signed(ALICE, at=NOW + offset))

    assert reply.status == status
    assert status == 200 or reply.json["detail"] == "Timestamp expired (max 300s)"


def test_11_a_body_changed_after_signing(world: None, client: Client) -> None:
    body = b'{"samples": []}'
    reply = client.post("/leoma/samples/batch", body + b" ", signed(ALICE, body))

    assert (reply.status, reply.json["detail"]) == (401, "Invalid signature")


def test_12_13_a_stranger_as_somebody_else_and_as_itself(world: None, client: Client) -> None:
    forged = valid(client, signed(STRANGER, hotkey=ALICE.hotkey))
    honest = valid(client, signed(STRANGER))

    assert (forged.status, forged.json["detail"]) == (401, "Invalid signature")
    assert (honest.status, honest.json["code"]) == (401, "validator_not_registered")


def test_14_an_admin_on_a_validator_route(world: None, client: Client) -> None:
    assert valid(client, signed(ADMIN)).status == 200


@pytest.mark.parametrize("hotkey", ["abc", "", "x" * 5000, "é"])
def test_15_a_hotkey_that_is_no_address(world: None, client: Client, hotkey: str) -> None:
    with counted() as spent:
        reply = valid(client, signed(ALICE) | {"X-Validator-Hotkey": hotkey})

    assert (reply.status, reply.json["detail"]) == (401, "Signature verification failed")
    assert spent.total == 0, "DynamoDB takes no empty and no endless keys"


@pytest.mark.parametrize("signature", [None, "00"])
def test_16_a_blacklisted_validator(world: None, client: Client, signature: str | None) -> None:
    store.add_to_blacklist(ALICE.hotkey, None, ADMIN.hotkey)
    reply = valid(client, signed(ALICE) | ({"X-Signature": signature} if signature else {}))

    assert (reply.status, reply.json["detail"]) == (401, "Hotkey is blacklisted")


def test_17_18_who_may_blacklist(world: None, client: Client) -> None:
    body = {"hotkey": miner(1)}
    registered, stranger = (post(client, who, "/blacklist", body) for who in (ALICE, STRANGER))

    assert (registered.status, registered.json["detail"]) == (403, "Admin access required")
    assert stranger.status == 401


def test_public_routes_ignore_wrong_headers(world: None, client: Client) -> None:
    assert client.get(f"/leoma/miners/{miner(1)}", signed(STRANGER, hotkey="nonsense")).status == 200


# --- 19 to 25: miners


@pytest.fixture
def three_miners(world: None) -> None:
    """Uids 9, 2 and 5; the last one's chute is cold."""
    mining = [neuron(uid, miner(uid), model=model(hot=uid != 5)) for uid in (9, 2, 5)]
    held = [commitment(miner(uid)) for uid in (9, 2, 5)]
    validators = subnet(0).neurons
    sync(subnet(0, neurons=(*mining, *validators), commitments=tuple(held)), block=1001)


def test_19_all_miners_by_uid(three_miners: None, client: Client) -> None:
    body = get(client, "/miners/list").json

    assert [one["uid"] for one in body["miners"]] == [2, 5, 9]
    assert (body["total"], body["valid_count"]) == (3, 2)
    assert get(client, "/miners/all", ALICE).json == body
    assert get(client, "/miners/all").status == 422


def test_20_valid_miners_count_all(three_miners: None, client: Client) -> None:
    body = get(client, "/miners/valid", ALICE).json

    assert ([one["uid"] for one in body["miners"]], body["total"], body["valid_count"]) == ([2, 9], 3, 2)


@pytest.mark.parametrize(("uid", "status"), [("9", 200), ("999", 404), ("abc", 422), ("99999999999", 404), ("-1", 404)])
def test_21_a_miner_by_uid(three_miners: None, client: Client, uid: str, status: int) -> None:
    reply = get(client, f"/miners/uid/{uid}")

    assert reply.status == status
    assert status != 404 or reply.json["detail"] == "Miner not found"
    assert status != 422 or reply.json["detail"][0]["type"] == "int_parsing"


def test_22_a_miner_is_public_and_whole(world: None, client: Client) -> None:
    reply = get(client, f"/miners/{miner(1)}")

    assert reply.status == 200
    assert reply.json == {
        "uid": 1,
        "hotkey": miner(1),
        "model_name": f"acme/leoma-{miner(1)}",
        "model_revision": "0f" * 20,
        "model_hash": hashlib.sha256(b"ab" * 32).hexdigest(),
        "chute_id": "c1",
        "chute_slug": "acme-i2v",
        "is_valid": True,
        "invalid_reason": None,
        "block": 101,
        "last_validated_at": "2027-01-15T08:00:00.250000Z",
    }
    assert get(client, f"/miners/info/{miner(1)}").json == reply.json


def test_23_24_25_what_is_no_miner(world: None, client: Client) -> None:
    bad, unknown = get(client, "/miners/info/xyz"), get(client, f"/miners/{UNKNOWN}")

    assert (bad.status, bad.json["detail"]) == (400, "Invalid SS58 address format")
    assert (unknown.status, unknown.json["detail"]) == (404, "Miner not found")
    assert get(client, f"/miners/{UNKNOWN}/tasks").json == []
    assert get(client, f"/miners/{miner(1)}%0A").status == 400


# --- 73 to 79: blacklist and sync


def test_73_a_repeat_replaces_the_reason_and_keeps_the_date(world: None, client: Client, freeze: Freeze) -> None:
    first = post(client, ADMIN, "/blacklist", {"hotkey": miner(1), "reason": "spam"}).json
    freeze(NOW + 5)
    second = post(client, ADMIN, "/blacklist", {"hotkey": miner(1)}).json

    assert second == first | {"reason": None}
    assert get(client, f"/blacklist/{miner(1)}").json == second


@pytest.mark.parametrize(("length", "status"), [(255, 200), (256, 422)])
def test_74_a_long_reason(world: None, client: Client, length: int, status: int) -> None:
    assert post(client, ADMIN, "/blacklist", {"hotkey": miner(1), "reason": "é" * length}).status == status


def test_75_76_removing_twice(world: None, client: Client, freeze: Freeze) -> None:
    for hotkey in (miner(2), miner(1)):
        post(client, ADMIN, "/blacklist", {"hotkey": hotkey})
    assert get(client, "/blacklist/miners").json == sorted([miner(1), miner(2)])

    replies = [client.call("DELETE", f"/leoma/blacklist/{miner(1)}", headers=signed(ADMIN)) for _ in range(2)]

    assert [reply.status for reply in replies] == [200, 404]
    assert replies[0].json == {
        "success": True,
        "message": f"Removed miner {miner(1)[:8]}... from blacklist",
        "removed_by": ADMIN.hotkey,
    }
    assert replies[1].json["detail"] == "Miner not blacklisted"
    assert get(client, "/blacklist/xyz").status == 400


def test_77_a_blacklisted_miner_is_invalid_at_the_next_validation(world: None, client: Client) -> None:
    post(client, ADMIN, "/blacklist", {"hotkey": miner(1)})
    tasks.miners()
    body = get(client, f"/miners/{miner(1)}").json

    nulls = {"model_name", "model_revision", "model_hash", "chute_id", "chute_slug", "block"}
    assert (body["is_valid"], body["invalid_reason"]) == (False, "blacklisted")
    assert {name for name, value in body.items() if value is None} == nulls


@pytest.mark.parametrize("state", [subnet(0, neurons=()), subnet(1, stakes={ALICE: 999.9})])
def test_78_a_metagraph_without_validators_changes_none(world: None, client: Client, state: Any) -> None:
    chain.save_snapshot("leoma", 1001, state)
    tasks.validators()

    assert set(store.stakes()) == {who.hotkey for who in (ALICE, BOB, CAROL)}
    assert valid(client, signed(CAROL)).status == 200


def test_79_who_falls_below_the_minimum_is_out_and_its_votes_weigh_nothing(world: None, client: Client) -> None:
    vote(client, 5, {ALICE: True, BOB: False}, miner(1))
    tasks_fold.fold()
    assert get(client, f"/tasks?miner_hotkey={miner(1)}").json[0]["passed"] is True

    sync(subnet(stakes={ALICE: 999.999, BOB: 1000.0}), block=1001)

    assert valid(client, signed(ALICE)).status == 401
    assert get(client, f"/tasks?miner_hotkey={miner(1)}").json[0]["passed"] is False
    verdicts = get(client, f"/tasks/5/miner/{miner(1)}").json["validators"]
    assert [(one["validator_hotkey"], one["stake"]) for one in verdicts] == [(ALICE.hotkey, 0.0), (BOB.hotkey, 1000.0)]


# --- 82, 83


def test_82_wrong_method_and_unknown_path(world: None, client: Client) -> None:
    reply = client.call("PUT", "/leoma/blacklist")

    assert (reply.status, reply.json["detail"]) == (405, "Method Not Allowed")
    assert reply.header("Allow") == "GET, POST"


def test_83_an_admins_get_replayed_as_delete(world: None, client: Client) -> None:
    post(client, ADMIN, "/blacklist", {"hotkey": miner(1)})
    captured = signed(ADMIN)

    assert client.get("/leoma/miners/valid", captured).status == 200
    assert client.call("DELETE", f"/leoma/blacklist/{miner(1)}", headers=captured).status == 401
    assert client.get("/leoma/miners/valid", captured).status == 200
    assert get(client, "/blacklist/miners").json == [miner(1)]


def test_the_published_vectors_verify(cloud: None, client: Client, freeze: Freeze, configure: Configure) -> None:
    alice = "5GrwvaEF5zXb26Fz9rcQpDWS57CtERHpNehXCPcNoHGKutQY"
    freeze(1_700_000_000)
    configure(LEOMA_ADMIN_HOTKEYS=alice)
    headers = {"X-Validator-Hotkey": alice, "X-Timestamp": "1700000000"}
    empty = (
        "f6bc35bff1f1be01f2943695810992ff4728a95140efd1c20a0cd50ce8dc641ac94f9dffdd3cb3044cded4a5a0fe3243"
        "5d87827be5b346f6493793809a59488d"
    )
    wrapped = (
        "a07f0ad858e412999a9e187b5d4885ab4fb0cada27bfb282e75933f51644cd216797400ac3af5b5985d04bdabc81e2c2"
        "fba8fcfe49a2b046cbcb91a1f2eaba8d"
    )
    spam = (
        "ca3032d172042b249e8c9c6567fb86b57c8855f751e4267af3bb5a577fffad7c45028cba831af4911d788a2a00b30a3f"
        "dd2a41bd5d2a14cee406a4a5e4df7687"
    )
    body = b'{"hotkey": "5FHneW46xGXgs5mUiveU4sbTyGBzmstUspZC92UhjJM694ty", "reason": "spam"}'
    publish(1)

    assert [valid(client, headers | {"X-Signature": text}).status for text in (empty, wrapped)] == [200, 200]
    assert client.post("/leoma/blacklist", body, headers | {"X-Signature": spam}).status == 200


def test_an_unmodified_client_gets_along(cloud: None, client: Client, freeze: Freeze) -> None:
    freeze(NOW)
    sync(subnet())
    before = get(client, "/tasks/latest")
    publish(7)
    stored = send(client, ALICE, [sample(7, miner(n)) for n in (1, 2, 3)], "0xnonsense")

    assert (before.status, before.json["detail"]) == (404, "No task sampled yet")
    assert get(client, "/tasks/latest").json == {"task_id": 7}
    assert (stored.status, len(stored.json)) == (200, 3)
    assert get(client, "/weights").json == {"winner_uid": 0, "miners": []}
