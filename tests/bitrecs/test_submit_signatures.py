"""Who signed a submission: forms, windows, nonces, curves, and which of two faults is named."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any

import pytest

from tests.bitrecs.world import (
    NOW,
    TIMESTAMP,
    TRANSPORT,
    Configure,
    Miner,
    World,
    send,
    told,
)
from tests.harness.wallets import ed25519_wallet, wallet


def test_a_valid_submission_is_accepted_with_its_five_keys(world: World) -> None:  # S01
    reply = world.miner("a").submit()

    assert reply.status == 201
    assert set(reply.json) == {"artifact_id", "request_id", "message", "similarity_check", "similar_results"}
    assert re.fullmatch(
        r"[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}", reply.json["artifact_id"]
    )
    assert re.fullmatch(r"[0-9a-f]{32}", reply.json["request_id"])
    assert reply.json["message"] == "Artifact submitted successfully"
    assert (reply.json["similarity_check"], reply.json["similar_results"]) == ("enabled", [])


def test_an_ed25519_key_submits_too(world: World) -> None:  # S02
    assert world.miner("a", signer=ed25519_wallet("ed")).submit().status == 201


def test_a_curve_can_be_switched_off(world: World, configure: Configure) -> None:
    configure(BITRECS_SIGNATURE_SCHEMES="sr25519")
    miner = world.miner("a", signer=ed25519_wallet("ed"))

    assert told(miner.submit()) == TRANSPORT
    assert told(miner.check()) == (400, "Invalid signature for submission")
    assert world.miner("b").submit().status == 201


@pytest.mark.parametrize("write", [lambda text: "0x" + text, str.upper, lambda text: "0X" + text.upper()])
def test_hex_may_be_prefixed_and_in_capitals(world: World, write: Callable[[str], str]) -> None:  # S03
    miner = world.miner("a")
    body = miner.body()
    body["signature"] = write(body["signature"])
    headers = miner.headers(body)

    assert send(miner, body, headers | {"X-Signature": write(headers["X-Signature"])}).status == 201


@pytest.mark.parametrize(("version", "status"), [(None, 201), ("2.0.2", 201), ("9.9.9", 400)])
def test_the_transport_string_names_a_known_version_or_none(world: World, version: str | None, status: int) -> None:
    miner = world.miner("a")  # S04, S05
    body = miner.body()

    reply = send(miner, body, miner.headers(body, version=version))

    assert reply.status == status
    assert status == 201 or told(reply) == TRANSPORT


def test_the_version_less_string_can_be_switched_off(world: World, configure: Configure) -> None:
    configure(BITRECS_TRANSPORT_ALLOW_UNVERSIONED="false")
    miner = world.miner("a")
    body = miner.body()

    assert told(send(miner, body, miner.headers(body, version=None))) == TRANSPORT


def test_key_order_white_space_and_unknown_keys_do_not_matter(world: World) -> None:  # S06
    miner = world.miner("a")
    body = miner.body()
    pretty = json.dumps({"more": [1], **dict(reversed(body.items()))}, indent=4).encode()

    assert miner.world.client.post("/bitrecs/submit", pretty, miner.headers(body)).status == 201


def test_header_names_may_be_in_lower_case(world: World) -> None:  # S07
    miner = world.miner("a")
    body = miner.body()

    assert send(miner, body, {name.lower(): value for name, value in miner.headers(body).items()}).status == 201


def wrapped(miner: Miner) -> tuple[dict[str, Any], dict[str, str]]:
    body = miner.body(sign=False)
    message = ":".join(body.values())
    body["signature"] = miner.wallet.sign(f"<Bytes>{message}</Bytes>".encode()).hex()
    headers = miner.headers(body)
    text = ":".join([message, headers["X-Nonce"], headers["X-T-Nonce"], "2.0.2", headers["X-Timestamp"]])
    headers["X-Signature"] = miner.wallet.sign(f"<Bytes>{text}</Bytes>".encode()).hex()
    return body, headers


@pytest.mark.parametrize("key", ["sr", "ed"])
def test_signatures_may_be_wrapped_as_browser_wallets_do(world: World, key: str, configure: Configure) -> None:  # S08
    signer = ed25519_wallet("ed") if key == "ed" else wallet("sr")
    miner = world.miner("a", signer=signer)
    body, headers = wrapped(miner)

    configure(BITRECS_ACCEPT_BYTES_WRAPPER="false")
    assert told(send(miner, body, headers)) == TRANSPORT
    configure(BITRECS_ACCEPT_BYTES_WRAPPER="true")
    assert send(miner, body, headers).status == 201


@pytest.mark.parametrize("offset", [-300, 300])
def test_the_window_includes_its_edges(world: World, offset: int) -> None:  # S09
    miner = world.miner("a")
    body = miner.body()

    assert send(miner, body, miner.headers(body, **{"X-Timestamp": str(NOW + offset)})).status == 201


@pytest.mark.parametrize(
    "stamp",
    [str(NOW - 301), str(NOW + 301), "abc", "", "1.5", f"+{NOW}", f" {NOW}", "1e9", "9" * 30, "١٧٢٧٧٨٤٠٠٠", f"{NOW}.0"],
)
def test_a_timestamp_outside_the_window_or_of_another_form_is_refused(world: World, stamp: str) -> None:  # S10, S11
    miner = world.miner("a")
    body = miner.body()

    reply = send(miner, body, miner.headers(body, **{"X-Timestamp": stamp}))

    assert told(reply) == TIMESTAMP
    assert set(reply.json) == {"detail", "code"}


def test_a_missing_timestamp_is_an_invalid_one_even_when_nothing_is_signed(world: World) -> None:  # S11
    assert told(send(world.miner("a"), world.miner("b").body(), {})) == TIMESTAMP


@pytest.mark.parametrize("name", ["X-Nonce", "X-T-Nonce", "X-Signature"])
def test_without_one_of_its_headers_the_transport_is_not_signed(world: World, name: str) -> None:  # S12 - S14
    miner = world.miner("a")
    body = miner.body()
    headers = miner.headers(body)
    del headers[name]

    assert told(send(miner, body, headers)) == TRANSPORT


@pytest.mark.parametrize("signature", ["zz", "ab" * 63, "ab" * 65, "", "0x", "é" * 128])
def test_a_signature_of_another_form_is_no_signature(world: World, signature: str) -> None:  # S14
    miner = world.miner("a")
    body = miner.body()

    assert told(send(miner, body, miner.headers(body, **{"X-Signature": signature}))) == TRANSPORT


@pytest.mark.parametrize("nonce", ["short", "x" * 129, "with space", "a\r\nb12345678", "ä" * 10])
def test_a_nonce_is_made_of_few_letters(world: World, nonce: str) -> None:
    miner = world.miner("a")
    body = miner.body()

    assert told(send(miner, body, miner.headers(body, **{"X-Nonce": nonce}))) == TRANSPORT


@pytest.mark.parametrize("name", ["X-Signature", "X-Timestamp", "X-Nonce", "X-T-Nonce"])
def test_a_header_sent_twice_counts_for_nothing(world: World, name: str) -> None:
    miner = world.miner("a")
    body = miner.body()
    headers = miner.headers(body)

    reply = send(miner, body, {name.lower(): "another"} | headers)

    assert told(reply) == ((400, "Invalid or expired timestamp") if name == "X-Timestamp" else TRANSPORT)


def test_altered_or_swapped_nonces_are_not_what_was_signed(world: World) -> None:  # S15, S16
    miner = world.miner("a")
    body = miner.body()
    headers = miner.headers(body)
    swapped = headers | {"X-Nonce": headers["X-T-Nonce"], "X-T-Nonce": headers["X-Nonce"]}

    assert told(send(miner, body, headers | {"X-Nonce": "ffeeddccbbaa"})) == TRANSPORT
    assert told(send(miner, body, swapped)) == TRANSPORT


def test_the_payload_must_be_signed_by_the_same_key(world: World) -> None:  # S17
    miner = world.miner("a")
    body = miner.body(signer=wallet("somebody else"))

    assert told(send(miner, body, miner.headers(body))) == (400, "Invalid submission signature")


@pytest.mark.parametrize("signature", ["zz" * 64, "ab" * 63, ""])
def test_a_payload_signature_of_another_form_is_an_invalid_one(world: World, signature: str) -> None:
    miner = world.miner("a")
    body = miner.body(signature=signature)

    assert told(send(miner, body, miner.headers(body))) == (400, "Invalid submission signature")


def test_neither_signature_stands_in_for_the_other(world: World) -> None:
    miner = world.miner("a")
    body = miner.body()
    headers = miner.headers(body)

    assert told(send(miner, body, headers | {"X-Signature": body["signature"]})) == TRANSPORT
    swapped = body | {"signature": headers["X-Signature"]}
    assert told(send(miner, swapped, headers)) == (400, "Invalid submission signature")


def test_a_body_changed_after_signing_fails_at_the_transport_first(world: World) -> None:  # S18
    miner = world.miner("a")
    body = miner.body()

    assert told(send(miner, body | {"github_account": "other"}, miner.headers(body))) == TRANSPORT


def test_the_timestamp_is_told_before_the_signature(world: World) -> None:  # S19
    miner = world.miner("a")
    headers = miner.headers(miner.body(), **{"X-Timestamp": str(NOW - 4000), "X-Signature": "00" * 64})

    assert told(send(miner, miner.body(), headers)) == TIMESTAMP
