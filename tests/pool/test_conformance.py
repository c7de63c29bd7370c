"""The conformance table of the pool's specification, health and miners: row numbers stand in the tests' names."""

from __future__ import annotations

from typing import Any

import pytest

import app as app_module
from chalicelib.kernel import keys
from chalicelib.kernel.tables import Table
from tests.harness.client import Client, Reply
from tests.harness.wallets import ed25519_wallet, wallet
from tests.pool.world import LEASE, NOW, RECIPIENT, REGISTER, Configure, Freeze, Pool, address, at_block, settle, told


def register(pool: Pool, at: float = NOW, headers: dict[str, str] | None = None) -> Reply:
    return pool.client.post(f"/pool{REGISTER}", {}, pool.headers(wallet("a"), at=at) | (headers or {}))


def test_1_2_4_health_has_every_part_under_both_names(pool: Pool) -> None:
    reply = pool.get("/health")

    assert (reply.status, reply.json["status"]) == (200, "healthy")
    numbers = [reply.json[name] for name in ("window_number", "current_block", "time_remaining_s")]
    assert numbers == [0, 0, 3840]
    parts = {"contract_status", "proof_api", "accounts", "verifier_diagnostics"}
    runtime = reply.json["onchain_runtime"]
    assert all(isinstance(runtime[name], dict) for name in parts)
    assert isinstance(runtime["processes"], list)
    assert pool.get("/status").json == reply.json


def test_3_the_window_comes_of_the_block(pool: Pool, configure: Configure) -> None:
    configure(WINDOW_BLOCKS="7200")
    at_block(8239292)

    assert pool.get("/health").json["window_number"] == 1144


def test_5_the_disclaimer_is_one_text(pool: Pool) -> None:
    texts = [pool.get(path) for path in ("/api/v1/disclaimer.md", "/disclaimer.md")]

    assert {reply.header("content-type") for reply in texts} == {"text/markdown; charset=utf-8"}
    assert texts[0].body == texts[1].body == pool.get("/api/v1/disclaimer").json["content"].encode()


def test_6_a_request_without_headers_is_nobody_s(pool: Pool) -> None:
    assert told(pool.post(REGISTER)) == (401, "Missing authentication headers")


@pytest.mark.parametrize(("offset", "status"), [(-301, 401), (301, 401), (-290, 200), (-300, 200), (300, 200)])
def test_7_8_9_the_window_of_time_has_two_sides(pool: Pool, offset: int, status: int) -> None:
    assert register(pool, NOW + offset).status == status


def test_10_11_another_key_or_another_message_is_refused(pool: Pool) -> None:
    foreign = pool.headers(wallet("b")) | {"X-Key": address("a")}
    shifted = pool.headers(wallet("a"), f"auth:{NOW + 1}")

    assert told(pool.client.post(f"/pool{REGISTER}", {}, foreign)) == (401, "Invalid signature")
    assert told(pool.client.post(f"/pool{REGISTER}", {}, shifted)) == (401, "Invalid signature")


def test_12_a_signature_may_carry_0x_in_any_case(pool: Pool) -> None:
    signature = pool.headers(wallet("a"))["X-Signature"]

    assert register(pool, headers={"X-Signature": "0x" + signature}).status == 200
    assert register(pool, headers={"X-Signature": "0X" + signature.upper()}).status == 200


@pytest.mark.parametrize("timestamp", ["1e9", " 170", "-5", "1.5", "１８００００００００", "1" * 13])
def test_13_a_timestamp_is_digits(pool: Pool, timestamp: str) -> None:
    signed = pool.headers(wallet("a"), f"auth:{timestamp}") | {"X-Timestamp": timestamp}

    assert told(pool.client.post(f"/pool{REGISTER}", {}, signed)) == (401, "Invalid timestamp")


def test_14_15_another_spelling_of_the_key_or_another_curve_is_refused(pool: Pool) -> None:
    other_prefix = "15oF4uVJwmo4TdGW7VfQxNLavjCXviqxT9S1MgbjMNHr6Sp5"

    assert told(register(pool, headers={"X-Key": other_prefix})) == (401, "Invalid signature")
    ed = ed25519_wallet("ed")
    assert told(pool.post(REGISTER, ed)) == (401, "Invalid signature")


def test_16_registering_twice_keeps_the_first_day(pool: Pool, freeze: Freeze) -> None:
    first = register(pool).json
    freeze(NOW + 60)
    second = register(pool, NOW + 60).json

    assert (first["created"], second["created"]) == (True, False)
    assert (first["registered_at"], first["reputation"]) == (second["registered_at"], second["reputation"])
    assert second["last_seen_at"] > first["last_seen_at"]


@pytest.mark.parametrize(
    ("body", "status"), [("", 200), ('{"x": 1}', 200), ("[]", 422), ("{", 422), ('{"x": NaN}', 422)]
)
def test_what_is_registered_with_is_an_object_or_nothing(pool: Pool, body: str, status: int) -> None:
    assert pool.post(REGISTER, wallet("a"), body.encode()).status == status


def test_the_reference_and_the_old_name_of_health_may_be_left_out(pool: Pool, configure: Configure) -> None:
    configure(DOCS_ENABLED="false", COMPAT_STATUS_ROUTE="false")
    client = Client(app_module.build())

    gone = ("/docs", "/redoc", "/openapi.json", "/claims/docs", "/claims/openapi.json", "/status")
    assert {path: client.get(f"/pool{path}").status for path in gone} == dict.fromkeys(gone, 404)
    assert client.get("/pool/health").status == client.get("/pool/dashboard").status == 200


def test_17_a_stranger_gets_no_lease(pool: Pool) -> None:
    assert told(pool.post(LEASE, wallet("a"))) == (403, "Miner not registered")


def test_18_19_20_a_stranger_may_say_whom_to_pay_by_any_of_four_names(pool: Pool) -> None:
    stranger, coldkey = wallet("stranger"), address("cold")
    paths = [
        ("POST", "/coldkey_address/update", "coldkey_address"),
        ("POST", "/api/v1/miners/coldkey_address/update", "recipient_coldkey"),
        ("POST", RECIPIENT, "recipient_coldkey"),
        ("PUT", RECIPIENT, "recipient_coldkey"),
    ]
    for method, path, name in paths:
        signed = pool.headers(stranger, f"recipient_coldkey:update:{NOW}:{coldkey}")
        reply = pool.client.call(method, f"/pool{path}", {name: f"  {coldkey} "}, signed)
        assert (reply.status, reply.json["status"]) == (200, "success")

    assert pool.get(f"{RECIPIENT}/{stranger.hotkey}").json["recipient_coldkey"] == coldkey
    assert pool.client.call("PUT", "/pool/coldkey_address/update", {}).status == 405


def test_21_22_the_message_names_the_recipient(pool: Pool) -> None:
    body = {"recipient_coldkey": address("y")}
    for message in (f"auth:{NOW}", f"recipient_coldkey:update:{NOW}:{address('x')}"):
        reply = pool.client.call("PUT", f"/pool{RECIPIENT}", body, pool.headers(wallet("a"), message))
        assert told(reply) == (401, "Invalid signature")
    update = pool.headers(wallet("a"), f"recipient_coldkey:update:{NOW}:{address('y')}")
    assert told(pool.client.post(f"/pool{REGISTER}", {}, update)) == (401, "Invalid signature")


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"recipient_coldkey": address("x"), "coldkey_address": address("y")},
        {"recipient_coldkey": address("x")[:-1] + "1"},
        {"recipient_coldkey": 5},
        {"recipient_coldkey": "  "},
        [],
    ],
)
def test_23_24_25_a_recipient_is_one_address(pool: Pool, body: Any) -> None:
    signed = pool.headers(wallet("a"), f"recipient_coldkey:update:{NOW}:{address('x')}")

    assert pool.client.call("PUT", f"/pool{RECIPIENT}", body, signed).status == 422


def test_26_an_older_update_never_undoes_a_newer(pool: Pool) -> None:
    a, x, y = wallet("a"), address("x"), address("y")
    assert pool.recipient(a, x, NOW).status == 200

    assert told(pool.recipient(a, y, NOW - 10)) == (409, "Stale recipient update")
    assert told(pool.recipient(a, y, NOW)) == (409, "Stale recipient update")
    assert pool.recipient(a, x, NOW).status == 200
    assert pool.get(f"{RECIPIENT}/{a.hotkey}").json["recipient_coldkey"] == x


def test_27_what_was_never_set_is_not_there(pool: Pool) -> None:
    (a,) = pool.register("a")

    assert told(pool.get(RECIPIENT, a)) == (404, "Recipient coldkey not set")
    assert told(pool.get(f"{RECIPIENT}/{a.hotkey}")) == (404, "Recipient coldkey not set")
    assert pool.get(f"{RECIPIENT}/nonsense").status == 422


def test_28_stats_have_a_miner_and_a_pool(pool: Pool) -> None:
    (a,) = pool.register("a")
    stats = pool.stats(a)

    assert stats["miner"]["miner_hotkey"] == a.hotkey
    assert (stats["pool"]["active_miners"], stats["pool"]["total_miners"]) == (1, 1)
    assert told(pool.get("/api/v1/miners/stats", wallet("stranger"))) == (404, "Miner not found")


def test_29_30_the_leaderboard_is_by_reputation(pool: Pool) -> None:
    a, b = pool.register("a", "b")
    for signer, reputation in ((a, 5), (b, 9)):
        key = f"{10**18 - reputation * 10**6:019d}#0#0#{signer.hotkey}"
        values: dict[str, Any] = {"rep": reputation * 10**6, "key": key}
        Table("pool").update(f"MINER#{signer.hotkey}", "META", "SET #reputation = :rep, #rank_sk = :key", **values)
    settle()

    board = pool.get("/api/v1/miners/leaderboard").json
    assert [(row["rank"], row["miner_hotkey"]) for row in board["miners"]] == [(1, b.hotkey), (2, a.hotkey)]
    for limit in ("0", "101", "x"):
        assert pool.get(f"/api/v1/miners/leaderboard?limit={limit}").status == 422


def test_the_identity_key_signs_nothing(pool: Pool) -> None:
    zero = keys.address(bytes(32))

    assert told(register(pool, headers={"X-Key": zero, "X-Signature": "00" * 63 + "80"})) == (401, "Invalid signature")
