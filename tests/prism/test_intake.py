"""Rows 1 to 43 of the conformance table: public reads, signed uploads, the bridge."""

from __future__ import annotations

import hashlib
import hmac
import json
from pathlib import Path

import pytest

from chalicelib.prism import domain, store
from tests.harness.client import Client
from tests.harness.race import all_at_once
from tests.harness.wallets import wallet
from tests.prism.world import ALICE, BOB, INTERNAL, MODEL, NOW, SLUG, TOKEN, Configure, Freeze, Prism, headers, packed

SUBMISSIONS = "/prism/v1/submissions"
BRIDGE = "/prism/internal/v1/bridge/submissions"
VERIFIED = INTERNAL | {"X-Platform-Verified-Hotkey": ALICE.hotkey}


def test_health_version_and_epoch_need_no_store(prism: Prism) -> None:
    assert prism.get("/health") == {"status": "ok", "slug": "prism", "version": "0.1.0"}
    version = prism.get("/version")
    assert set(version) == {"api_version", "challenge_version", "sdk_version", "capabilities"}
    assert {"get_weights", "nas"} <= set(version["capabilities"])
    assert prism.get("/v1/epochs/current") == {"epoch_id": NOW // 21600, "epoch_seconds": 21600}


def test_a_fresh_service_is_empty(prism: Prism) -> None:
    assert prism.get("/v1/leaderboard") == {"epoch_id": NOW // 21600, "entries": []}
    assert prism.get("/v1/architectures") == prism.get("/v1/training-variants") == []
    assert prism.weights() == {}


@pytest.mark.parametrize("limit", ["abc", "0", "-1", "501"])
@pytest.mark.parametrize("path", ["architectures", "training-variants"])
def test_limits_are_whole_numbers_in_bounds(prism: Prism, path: str, limit: str) -> None:
    reply = prism.client.get(f"/prism/v1/{path}?limit={limit}")
    assert (reply.status, reply.json["detail"][0]["loc"]) == (422, ["query", "limit"])


def test_unknown_submissions_and_methods_are_refused(prism: Prism) -> None:
    reply = prism.client.get(f"{SUBMISSIONS}/nope")
    assert (reply.status, reply.json["detail"]) == (404, "submission not found")
    reply = prism.client.call("DELETE", "/prism/health")
    assert (reply.status, reply.json["detail"]) == (405, "Method Not Allowed")


def test_the_four_headers_are_named(prism: Prism) -> None:
    reply = prism.client.post(SUBMISSIONS, {"code": "x"})
    assert reply.status == 422
    named = [tuple(problem["loc"]) for problem in reply.json["detail"]]
    assert named == [("header", f"x-{name}") for name in ("hotkey", "signature", "nonce", "timestamp")]


@pytest.mark.parametrize("timestamp", ["abc", "", " 1780000000", "+1780000000", "1_780_000_000", "1780000000.0"])
def test_a_timestamp_is_digits_alone(prism: Prism, timestamp: str) -> None:
    reply = prism.submit(timestamp=timestamp)
    assert (reply.status, reply.json["detail"]) == (400, "invalid timestamp")


@pytest.mark.parametrize(("offset", "status"), [(-301, 401), (-299, 200), (299, 200), (300, 200), (301, 401)])
def test_the_window_includes_its_edges(prism: Prism, offset: int, status: int) -> None:
    reply = prism.submit(timestamp=str(NOW + offset))
    assert reply.status == status
    if status == 401:
        assert reply.json["detail"] == "stale signature"


def test_the_spec_s_own_vector_verifies(prism: Prism) -> None:
    body = b'{"code":"x = 1","filename":"model.py"}'
    signature = (
        "f4ab96700b271b788c76e17acf22952d7ba726c1e974ed25cbee414d6f96c637"
        "e4b55d32b288573fba34eed5d168e180da68eec0814277a29a525d5d5f642184"
    )
    sent = {
        "X-Hotkey": "5HB7kpn92RS7uF9uWn8bXSvPVKFPg8kPUFDd5sbveGjX6Dbi",
        "X-Nonce": "nonce-0001",
        "X-Timestamp": "1780000000",
        "X-Signature": "0x" + signature,
    }
    assert prism.client.post(SUBMISSIONS, body, sent).status == 200


def test_the_development_signature_counts_only_when_asked_for(prism: Prism, configure: Configure) -> None:
    body = b'{"code":"x = 1","filename":"model.py"}'
    hotkey = "5HB7kpn92RS7uF9uWn8bXSvPVKFPg8kPUFDd5sbveGjX6Dbi"
    mac = "53765805ee7caeb54e8d05642994486a353a3f0afdeb57ecb6adb83169edbf50"
    sent = {"X-Hotkey": hotkey, "X-Nonce": "nonce-0001", "X-Timestamp": "1780000000", "X-Signature": f"sha256={mac}"}
    configure(PRISM_SHARED_TOKEN="secret")
    assert prism.client.post(SUBMISSIONS, body, sent).status == 401
    configure(PRISM_ALLOW_INSECURE_SIGNATURES="1")
    assert prism.client.post(SUBMISSIONS, body, sent).status == 200
    configure(PRISM_SHARED_TOKEN="")
    message = domain.signed_message(hotkey, "nonce-0002", "1780000000", body)
    keyless = {"X-Nonce": "nonce-0002", "X-Signature": hmac.new(b"", message, "sha256").hexdigest()}
    assert prism.client.post(SUBMISSIONS, body, sent | keyless).status == 401


def test_other_bodies_other_keys_and_wrapped_messages(prism: Prism) -> None:
    body = json.dumps({"code": "x"}).encode()
    signed = headers(ALICE, body)
    assert prism.client.post(SUBMISSIONS, body + b" ", signed).json["detail"] == "invalid signature"
    assert prism.client.post(SUBMISSIONS, body, signed | {"X-Hotkey": BOB.hotkey}).status == 401
    assert prism.client.post(SUBMISSIONS, body, headers(ALICE, body, hotkey=BOB.hotkey)).status == 401
    message = b"<Bytes>prism:%b:nonce-1:%d:%b</Bytes>" % (
        ALICE.hotkey.encode(), NOW, hashlib.sha256(body).hexdigest().encode(),
    )  # fmt: skip
    assert prism.client.post(SUBMISSIONS, body, signed | {"X-Signature": ALICE.sign(message).hex()}).status == 200


@pytest.mark.parametrize("signature", ["", "0x", "00", "ab" * 63, "ab" * 65, "zz" * 64, "0X" + "ab" * 64])
def test_a_malformed_signature_never_verifies(prism: Prism, signature: str) -> None:
    body = b'{"code": "x"}'
    reply = prism.client.post(SUBMISSIONS, body, headers(ALICE, body) | {"X-Signature": signature})
    assert reply.status == (422 if not signature else 401)


def test_one_flipped_bit_anywhere_in_a_signature_refuses_it(prism: Prism) -> None:
    body = b'{"code": "x"}'
    signed = headers(ALICE, body)
    good = bytes.fromhex(signed["X-Signature"])
    for bit in range(0, 512, 7):
        flipped = bytearray(good)
        flipped[bit // 8] ^= 1 << bit % 8
        assert prism.client.post(SUBMISSIONS, body, signed | {"X-Signature": flipped.hex()}).status == 401


@pytest.mark.parametrize("nonce", ["n" * 129, "a:b", "a b", "é", ""])
def test_a_nonce_is_one_word_of_bounded_length(prism: Prism, nonce: str) -> None:
    reply = prism.submit(nonce=nonce)
    assert (reply.status, reply.json["detail"][0]["loc"]) == (422, ["header", "x-nonce"])


def test_a_nonce_counts_once_per_miner_whatever_the_body(prism: Prism) -> None:
    assert prism.submit(nonce="same").status == 200
    again = prism.submit({"code": "y"}, nonce="same")
    assert (again.status, again.json["detail"]) == (409, "nonce already used")
    assert prism.submit(signer=BOB, nonce="same").status == 200


def test_a_nonce_is_remembered_for_a_month(prism: Prism, freeze: Freeze) -> None:
    assert prism.submit(nonce="old").status == 200
    freeze(NOW + 29 * 86_400)
    assert prism.submit(nonce="old", timestamp=str(NOW + 29 * 86_400)).status == 409
    freeze(NOW + 31 * 86_400)
    assert prism.submit(nonce="old", timestamp=str(NOW + 31 * 86_400)).status == 200


def test_a_nonce_is_used_up_by_a_body_that_is_refused(prism: Prism) -> None:
    assert prism.submit({"code": ""}, nonce="one").status == 422
    assert prism.submit({"code": "x"}, nonce="one").status == 409


def test_bodies_that_are_no_json_use_no_nonce_up(prism: Prism) -> None:
    reply = prism.submit(b"{", nonce="one")
    assert (reply.status, reply.json["detail"][0]["type"]) == (422, "json_invalid")
    body = b'{"code": "x"}'
    assert prism.client.post(SUBMISSIONS, body, headers(ALICE, body) | {"Content-Type": "text/plain"}).status == 422
    assert prism.submit({"code": "x"}, nonce="one").status == 200


def test_who_is_asked_before_what(prism: Prism) -> None:
    body = b'{"code": ""}'
    assert prism.client.post(SUBMISSIONS, body, headers(ALICE, b"other")).status == 401


def test_a_verified_hotkey_header_says_nothing_on_the_public_route(prism: Prism) -> None:
    body = b'{"code": "x"}'
    sent = headers(ALICE, body) | {"X-Platform-Verified-Hotkey": BOB.hotkey}
    assert prism.client.post(SUBMISSIONS, body, sent).json["hotkey"] == ALICE.hotkey


@pytest.mark.parametrize(
    "filename", ["../a.py", "a b.zip", "x.txt", "a/b.py", "x.PY", "", ".zip.", "a\n.py", "a" * 253 + ".py"]
)
def test_filenames_are_plain_and_known(prism: Prism, filename: str) -> None:
    reply = prism.submit({"code": "x", "filename": filename})
    assert (reply.status, reply.json["detail"][0]["loc"]) == (422, ["body", "filename"])


@pytest.mark.parametrize(("code", "status"), [("a" * 200_000, 200), ("a" * 200_001, 413), ("é" * 100_001, 413)])
def test_code_is_measured_in_bytes(prism: Prism, code: str, status: int) -> None:
    reply = prism.submit({"code": code})
    assert reply.status == status
    if status == 413:
        assert reply.json["detail"] == "submission too large"


@pytest.mark.parametrize(
    "metadata",
    [[], "x", 1, {"a": "x" * 17_000}, {"a": {"a": {"a": {"a": {"a": {"a": {"a": {"a": {"a": 1}}}}}}}}}],
)
def test_metadata_is_an_object_of_bounded_size_and_depth(prism: Prism, metadata: object) -> None:
    reply = prism.submit({"code": "x", "metadata": metadata})
    assert (reply.status, reply.json["detail"][0]["loc"]) == (422, ["body", "metadata"])


def test_a_body_that_breaks_the_contract_is_told_so_before_its_size(prism: Prism) -> None:
    assert prism.submit({"code": "a" * 200_001, "metadata": {"a": "x" * 17_000}}).status == 422


def test_a_submission_is_pending_under_its_own_hash(prism: Prism) -> None:
    first = prism.submit({"code": MODEL, "unknown": 1})
    second = prism.submit({"code": MODEL})
    assert first.status == 200
    assert set(first.json) == {"id", "hotkey", "epoch_id", "status", "code_hash", "created_at"}
    assert (first.json["status"], first.json["epoch_id"]) == ("pending", NOW // 21600)
    assert first.json["code_hash"] == hashlib.sha256(MODEL.encode()).hexdigest() == second.json["code_hash"]
    assert first.json["id"] != second.json["id"]
    assert first.json["created_at"] == "2026-05-28T20:26:40.001000Z"
    status = prism.status(first.json["id"])
    assert status == first.json | {"error": None, "final_score": None, "q_arch": None, "q_recipe": None}


def test_twenty_copies_of_one_request_leave_one_submission(prism: Prism) -> None:
    body = json.dumps({"code": MODEL}).encode()
    signed = headers(ALICE, body)
    replies = all_at_once([lambda: prism.client.post(SUBMISSIONS, body, signed)] * 20)
    assert sorted(reply.status for reply in replies) == [200] + [409] * 19
    assert len(list(store.queue())) == 1


def test_a_closed_door_costs_nothing(prism: Prism, configure: Configure) -> None:
    configure(PRISM_PUBLIC_SUBMISSIONS_ENABLED="0")
    reply = prism.submit(nonce="kept")
    assert (reply.status, reply.json["detail"]) == (404, "submission route disabled")
    assert prism.client.post(BRIDGE, packed({"model.py": MODEL}), VERIFIED).status == 200
    configure(PRISM_PUBLIC_SUBMISSIONS_ENABLED="1")
    assert prism.submit(nonce="kept").status == 200


def test_a_limit_of_pending_ones_holds_under_haste_and_frees_with_each_claim(
    prism: Prism, configure: Configure
) -> None:
    configure(PRISM_MAX_PENDING_PER_HOTKEY="3")
    replies = all_at_once([lambda n=n: prism.submit({"code": f"x = {n}"}, nonce=f"x{n}") for n in range(8)])  # type: ignore[misc] # binds n
    assert sorted(reply.status for reply in replies) == [200] * 3 + [429] * 5
    prism.process()
    assert prism.submit().status == 200


@pytest.mark.parametrize("sent", [{}, {"Authorization": "Bearer wrong"}, {"Authorization": f"bearer {TOKEN}"}])
def test_internal_routes_ask_for_the_exact_token(prism: Prism, sent: dict[str, str]) -> None:
    assert prism.client.post(BRIDGE, b"x", sent).json["detail"] == "invalid internal token"
    reply = prism.client.get("/prism/internal/v1/get_weights", sent | SLUG)
    assert (reply.status, reply.json["detail"]) == (401, "Invalid internal authorization")


def test_without_a_token_the_internal_routes_are_closed(prism: Prism, configure: Configure) -> None:
    configure(PRISM_SHARED_TOKEN="", PRISM_SHARED_TOKEN_FILE="/nonexistent")
    for reply in (
        prism.client.post(BRIDGE, b"x", {"Authorization": "Bearer "}),
        prism.client.get("/prism/internal/v1/get_weights", SLUG),
    ):
        assert (reply.status, reply.json["detail"]) == (503, "Internal challenge token is not configured")


def test_the_token_may_stand_in_a_file_unless_it_is_set_to_nothing(
    prism: Prism, configure: Configure, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = tmp_path / "token"
    place.write_text(" from a file \n")
    monkeypatch.delenv("PRISM_SHARED_TOKEN")
    configure(PRISM_SHARED_TOKEN_FILE=str(place))
    sent = {"Authorization": "Bearer from a file"}
    assert prism.client.post("/prism/internal/v1/worker/process-next", b"", sent).status == 200
    configure(PRISM_SHARED_TOKEN="")
    assert prism.client.post("/prism/internal/v1/worker/process-next", b"", sent).status == 503


def test_a_header_that_says_who_is_asking_comes_once(prism: Prism) -> None:
    body = b'{"code": "x"}'
    signed = headers(ALICE, body)
    for name in ("X-Hotkey", "X-Signature", "X-Nonce", "X-Timestamp"):
        reply = prism.client.post(SUBMISSIONS, body, {name.lower(): "other", **signed})
        assert (reply.status, reply.json["detail"][0]["loc"]) == (422, ["header", name.lower()])
    assert prism.client.post(SUBMISSIONS, body, signed).status == 200
    assert prism.client.post(BRIDGE, b"x", {"authorization": "Bearer no", **VERIFIED}).status == 401
    reply = prism.client.post(BRIDGE, b"x", {"x-platform-verified-hotkey": "other", **VERIFIED})
    assert reply.json["detail"][0]["loc"] == ["header", "x-platform-verified-hotkey"]


def test_the_slug_is_asked_for(prism: Prism, configure: Configure) -> None:
    path = "/prism/internal/v1/get_weights"
    for slug in ({}, {"X-Platform-Challenge-Slug": "other"}):
        reply = prism.client.get(path, INTERNAL | slug)
        assert (reply.status, reply.json["detail"]) == (400, "Invalid challenge slug header")
    configure(PRISM_WEIGHTS_REQUIRE_SLUG="0")
    assert prism.client.get(path, INTERNAL).status == 200
    assert prism.client.get(path, INTERNAL | {"X-Platform-Challenge-Slug": "other"}).status == 400
    assert prism.client.get(path, INTERNAL | SLUG).json["epoch"] == NOW


def test_the_bridge_takes_raw_zips_and_json(prism: Prism) -> None:
    raw = packed({"model.py": MODEL})
    named = {"X-Submission-Filename": "project.zip", "Content-Type": "application/zip"}
    reply = prism.client.post(BRIDGE, raw, VERIFIED | named)
    assert (reply.status, reply.json["hotkey"]) == (200, ALICE.hotkey)
    import base64  # noqa: PLC0415

    lease = prism.next()
    assert base64.b64decode(lease["code"]) == raw
    assert (lease["filename"], lease["metadata"]) == (
        "project.zip",
        {"content_type": "application/zip", "bridge": True},
    )
    assert prism.client.post(BRIDGE, {"code": "x = 1"}, VERIFIED | {"Content-Type": "Application/JSON"}).status == 200


@pytest.mark.parametrize(
    ("body", "sent", "status"),
    [
        (b"x", INTERNAL, 422),
        (b"x", {"X-Platform-Verified-Hotkey": ALICE.hotkey}, 401),
        (b"z" * 150_000, VERIFIED, 200),
        (b"z" * 150_001, VERIFIED, 413),
        (b"{", VERIFIED | {"Content-Type": "application/json"}, 400),
        (b"\xff", VERIFIED | {"Content-Type": "application/json"}, 400),
        (b'{"code":""}', VERIFIED | {"Content-Type": "application/json"}, 422),
        (b"[1]", VERIFIED | {"Content-Type": "application/json"}, 422),
        (b"x", VERIFIED | {"X-Submission-Filename": "my proj.zip"}, 422),
        (b"", VERIFIED, 422),
        (b"x", INTERNAL | {"X-Platform-Verified-Hotkey": "h" * 129}, 422),
        (b"\xff", VERIFIED | {"X-Submission-Filename": "a.py"}, 400),
    ],
)
def test_what_the_bridge_refuses(prism: Prism, body: bytes, sent: dict[str, str], status: int) -> None:
    assert prism.client.post(BRIDGE, body, sent).status == status


def test_the_bridge_names_what_has_no_name_and_keeps_python_as_text(prism: Prism) -> None:
    first = prism.client.post(BRIDGE, b"raw", VERIFIED | {"X-Submission-Filename": "x.txt"}).json["id"]
    second = prism.client.post(BRIDGE, MODEL.encode(), VERIFIED | {"X-Submission-Filename": "m.py"}).json["id"]
    assert store.get(first).filename == "submission.zip"
    assert store.code(store.get(second).code_key) == MODEL


def test_a_request_id_makes_the_bridge_answer_the_same_again_for_a_day(prism: Prism, freeze: Freeze) -> None:
    sent = VERIFIED | {"X-Request-Id": "abc"}
    first = prism.client.post(BRIDGE, b"one", sent).json
    prism.process()
    assert prism.status(first["id"])["status"] == "rejected"
    assert prism.client.post(BRIDGE, b"one", sent).json == first
    other = VERIFIED | {"X-Request-Id": "abc", "X-Platform-Verified-Hotkey": BOB.hotkey}
    assert prism.client.post(BRIDGE, b"one", other).json["id"] != first["id"]
    freeze(NOW + 86_401)
    assert prism.client.post(BRIDGE, b"one", sent).json["id"] != first["id"]


def test_a_weak_key_signs_nothing(prism: Prism) -> None:
    zero = "5C4hrfjw9DjXZTzV3MwzrrAr9P1MJhSrvWGWqi1eSuyUpnhM"
    body = b'{"code": "x"}'
    sent = headers(wallet("any"), body, hotkey=zero) | {"X-Signature": "00" * 63 + "80"}
    assert prism.client.post(SUBMISSIONS, body, sent).json["detail"] == "invalid signature"


def test_the_source_never_leaves_by_the_public_routes(prism: Prism, client: Client) -> None:
    found = prism.processed()
    assert "import torch" not in json.dumps(found)
