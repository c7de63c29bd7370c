"""Leoma's signed requests: the order of checks and every way to fail."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from chalicelib.leoma import domain, store
from tests.harness.client import Client, Reply
from tests.harness.wallets import Wallet, ed25519_wallet, wallet

NOW = 1_700_000_000
ADMIN = wallet("admin")
VALIDATOR = wallet("validator")
STRANGER = wallet("stranger")
MINER = wallet("miner").hotkey

Freeze = Callable[[float], None]
Configure = Callable[..., None]


@pytest.fixture(autouse=True)
def _world(cloud: None, freeze: Freeze, configure: Configure) -> None:
    freeze(NOW)
    configure(LEOMA_ADMIN_HOTKEYS=ADMIN.hotkey)
    store.table.put({"pk": "VAL", "sk": VALIDATOR.hotkey})


def headers(signer: Wallet, body: bytes = b"", *, timestamp: str = str(NOW), hotkey: str = "") -> dict[str, str]:
    signature = signer.sign(domain.signed_message(body, timestamp))
    return {
        "X-Validator-Hotkey": hotkey or signer.hotkey,
        "X-Signature": signature.hex(),
        "X-Timestamp": timestamp,
    }


def add(client: Client, signer: Wallet, **changes: str) -> Reply:
    body = f'{{"hotkey": "{MINER}", "reason": "spam"}}'.encode()
    return client.post("/leoma/blacklist", body, headers(signer, body) | changes)


def test_an_admin_blacklists_and_everybody_reads_it(client: Client) -> None:
    added = add(client, ADMIN)

    assert (added.status, added.json["hotkey"], added.json["added_by"]) == (200, MINER, ADMIN.hotkey)
    assert client.get("/leoma/blacklist").json == [added.json]
    assert client.get("/leoma/blacklist/miners").json == [MINER]


def test_missing_headers_are_listed_one_by_one(client: Client) -> None:
    reply = client.post("/leoma/blacklist", b"{}", {"X-Timestamp": str(NOW)})

    assert reply.status == 422
    assert [problem["loc"] for problem in reply.json["detail"]] == [
        ["header", "x-validator-hotkey"],
        ["header", "x-signature"],
    ]


@pytest.mark.parametrize("timestamp", ["abc", "1700000000.5", "1_700_000_000", "+1700000000", "", " 1700000000"])
def test_a_timestamp_is_digits_alone(client: Client, timestamp: str) -> None:
    reply = client.post("/leoma/blacklist", b"", headers(ADMIN, timestamp=timestamp))

    assert (reply.status, reply.json["detail"]) == (401, "Invalid timestamp format")


@pytest.mark.parametrize(("offset", "status"), [(-300, 422), (-301, 401), (300, 422), (301, 401)])
def test_the_window_includes_its_edges(client: Client, offset: int, status: int) -> None:
    reply = client.post("/leoma/blacklist", b"", headers(ADMIN, timestamp=str(NOW + offset)))

    assert reply.status == status


def test_a_blacklisted_caller_is_told_so_even_with_a_bad_signature(client: Client) -> None:
    store.add_to_blacklist(VALIDATOR.hotkey, None, ADMIN.hotkey)

    reply = add(client, VALIDATOR, **{"X-Signature": "00"})

    assert (reply.status, reply.json["detail"]) == (401, "Hotkey is blacklisted")


@pytest.mark.parametrize("signature", ["", "0x", "0X" + "ab" * 64, "ab" * 63, "ab" * 65, "zz" * 64, "é" * 128])
def test_a_malformed_signature_never_verifies(client: Client, signature: str) -> None:
    reply = add(client, ADMIN, **{"X-Signature": signature})

    assert (reply.status, reply.json["detail"]) == (401, "Signature verification failed")


def test_a_signature_may_carry_0x_and_be_wrapped_as_browser_wallets_do(client: Client) -> None:
    body = f'{{"hotkey": "{MINER}"}}'.encode()
    message = domain.signed_message(body, str(NOW))
    wrapped = "0x" + ADMIN.sign(b"<Bytes>" + message + b"</Bytes>").hex()

    assert client.post("/leoma/blacklist", body, headers(ADMIN, body) | {"X-Signature": wrapped}).status == 200


def test_a_changed_body_a_foreign_key_and_another_curve_are_refused(client: Client) -> None:
    body = b'{"hotkey": "x"}'
    forged = [
        client.post("/leoma/blacklist", body + b" ", headers(ADMIN, body)),
        client.post("/leoma/blacklist", body, headers(STRANGER, body, hotkey=ADMIN.hotkey)),
        client.post("/leoma/blacklist", body, headers(ed25519_wallet("ed"), body)),
    ]

    assert [(reply.status, reply.json["detail"]) for reply in forged] == [(401, "Invalid signature")] * 3


def test_a_stranger_is_not_registered_and_a_validator_is_no_admin(client: Client) -> None:
    stranger, validator = add(client, STRANGER), add(client, VALIDATOR)

    assert (stranger.status, stranger.json["code"]) == (401, "validator_not_registered")
    assert (validator.status, validator.json["detail"]) == (403, "Admin access required")


def test_a_signature_counts_for_its_first_target_only(client: Client) -> None:
    store.add_to_blacklist(MINER, None, ADMIN.hotkey)
    other = wallet("other").hotkey
    signed = headers(ADMIN)

    first = client.call("DELETE", f"/leoma/blacklist/{other}", headers=signed)
    retried = client.call("DELETE", f"/leoma/blacklist/{other}", headers=signed)
    replayed = client.call("DELETE", f"/leoma/blacklist/{MINER}", headers=signed)

    assert [first.status, retried.status] == [404, 404]
    assert (replayed.status, replayed.json["code"]) == (401, "signature_replayed")
    assert client.get("/leoma/blacklist/miners").json == [MINER]


def test_the_identity_key_signs_nothing(client: Client, configure: Configure) -> None:
    zero = "5C4hrfjw9DjXZTzV3MwzrrAr9P1MJhSrvWGWqi1eSuyUpnhM"
    configure(LEOMA_ADMIN_HOTKEYS=zero)

    reply = add(client, ADMIN, **{"X-Validator-Hotkey": zero, "X-Signature": "00" * 63 + "80"})

    assert (reply.status, reply.json["detail"]) == (401, "Invalid signature")
