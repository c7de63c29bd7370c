"""Handing in a checkpoint: rows 47 to 72 and 87 of the conformance table."""

from __future__ import annotations

import base64
import functools
import json
import uuid
from collections.abc import Callable
from typing import Any

import pytest

import app as app_module
from chalicelib.experts import store
from chalicelib.kernel.chain import Commitment
from tests.experts.conftest import (
    CYCLE,
    MINER,
    NOW,
    SECOND,
    START,
    SUBMIT_LAST,
    TOKEN,
    URL,
    World,
    encoded,
    submission,
)
from tests.harness.budget import counted
from tests.harness.client import Client, Reply
from tests.harness.race import all_at_once
from tests.harness.wallets import wallet


def code(reply: Reply) -> tuple[int, str]:
    return reply.status, reply.json["code"]


# ---- accepted


def test_a_valid_submission_is_accepted_with_an_id_and_an_estimate(served: World) -> None:
    reply = served.submit(submission())

    assert (reply.status, reply.json["status"], reply.header("Cache-Control")) == (202, "accepted", "no-store")
    assert uuid.UUID(reply.json["submission_id"]).version == 4
    assert reply.json["evaluation_eta_blocks"] == 5


def test_the_estimate_grows_with_the_queue(served: World) -> None:
    served.submit(submission())

    assert served.submit(submission(SECOND)).json["evaluation_eta_blocks"] == 10


def test_the_estimate_counts_the_wait_for_the_phase_and_is_never_above_a_cycle(served: World) -> None:
    served.configure(EXPERTS_EVAL_START="validate")

    assert served.submit(submission()).json["evaluation_eta_blocks"] == 5 + SUBMIT_LAST - 20
    store.count_in(5)
    assert served.submit(submission(SECOND)).json["evaluation_eta_blocks"] == CYCLE


def test_the_same_submission_again_learns_its_id(served: World) -> None:
    first = served.submit(submission()).json["submission_id"]
    again = served.submit(submission())

    assert code(again) == (409, "duplicate_submission")
    assert again.json["submission_id"] == first
    elsewhere = served.submit(submission(url="https://other.example.com/x.pt"))
    assert (code(elsewhere), elsewhere.json["submission_id"]) == ((409, "duplicate_submission"), first)


def test_another_block_or_another_hotkey_is_another_submission(served: World) -> None:
    replies = [served.submit(body) for body in (submission(), submission(block=START + 19), submission(SECOND))]

    assert [reply.status for reply in replies] == [202, 202, 202]
    assert len({reply.json["submission_id"] for reply in replies}) == 3


def test_fifty_copies_at_once_are_one_submission(served: World) -> None:
    body = encoded(submission())
    headers = {"Authorization": f"Bearer {TOKEN}", "Content-Type": "application/json"}
    clients = [Client(app_module.build()) for _ in range(50)]

    replies = all_at_once([functools.partial(client.post, "/experts/submit", body, headers) for client in clients])

    assert sorted(reply.status for reply in replies) == [202] + [409] * 49
    assert len({reply.json["submission_id"] for reply in replies}) == 1


def test_a_hotkey_has_three_blocks_a_cycle(served: World) -> None:
    replies = [served.submit(submission(block=START + 10 + number)) for number in range(4)]

    assert [reply.status for reply in replies] == [202, 202, 202, 409]
    assert replies[3].json["code"] == "too_many_submissions"
    served.at(START + CYCLE + 20)
    assert served.submit(submission(block=START + CYCLE + 20)).status == 202


def test_two_curves_and_two_paddings_are_one_scheme(served: World) -> None:
    padded, bare = submission(), submission(block=START + 19)
    bare["signature"] = bare["signature"].rstrip("=")

    assert padded["signature"].endswith("==")
    assert [served.submit(body).status for body in (padded, bare, submission(SECOND))] == [202, 202, 202]


def test_one_curve_alone_where_the_operator_says_so(served: World) -> None:
    served.configure(EXPERTS_SIGNATURE_SCHEMES="ed25519")

    assert code(served.submit(submission(SECOND))) == (400, "bad_signature")
    assert served.submit(submission(MINER)).status == 202


def test_order_spaces_and_unknown_keys_do_not_matter(served: World) -> None:
    body = dict(reversed(submission().items())) | {"note": [1, {"x": None}]}

    assert served.submit(json.dumps(body, indent=3).encode()).status == 202


def test_the_other_message_form_can_be_switched_on(served: World) -> None:
    served.configure(EXPERTS_SUBMIT_MESSAGE_FORMAT="legacy-colon")
    message = f"{MINER.hotkey}:0:{URL}:{START + 20}".encode()
    signature = base64.urlsafe_b64encode(MINER.sign(message)).decode()

    assert served.submit(submission(signature=signature)).status == 202
    assert code(served.submit(submission())) == (400, "bad_signature")


@pytest.mark.parametrize("kind", ["application/json; charset=utf-8", "APPLICATION/JSON", ""])
def test_json_may_come_with_a_charset_or_without_a_type(served: World, kind: str) -> None:
    assert served.submit(submission(), **{"Content-Type": kind}).status == 202


# ---- phases


@pytest.mark.parametrize("offset", [0, 6, 15, 26])
def test_outside_the_submit_phase_it_is_423_and_says_when(served: World, offset: int) -> None:
    served.at(START + CYCLE + offset)
    reply = served.submit(submission(block=START + CYCLE + offset))

    assert code(reply) == (423, "not_submit_phase")
    assert reply.json["current_block"] == START + CYCLE + offset
    assert reply.json["next_submit_block"] == START + CYCLE + 18 + (CYCLE if offset > 25 else 0)
    assert reply.header("Retry-After") == str((reply.json["next_submit_block"] - START - CYCLE - offset) * 12)


def test_the_last_block_of_the_phase_is_in_and_the_next_is_out(served: World) -> None:
    served.at(START + 25)
    last = served.submit(submission(block=START + 25))
    served.at(START + 26)
    late = served.submit(submission(block=START + 24))

    assert (last.status, late.status) == (202, 423)


def test_the_phase_may_be_decided_on_the_block_that_should_be(served: World, freeze: Callable[[float], None]) -> None:
    served.at(START + 25)
    freeze(NOW + 12)
    assert served.submit(submission(block=START + 25)).status == 202
    served.configure(EXPERTS_PHASE_EXTRAPOLATE="true")
    late = served.submit(submission(SECOND, block=START + 25))

    assert (late.status, late.json["current_block"]) == (423, START + 26)
    freeze(NOW + 11)
    assert served.submit(submission(SECOND, block=START + 25)).status == 202


def test_423_agrees_with_health_at_every_block(served: World) -> None:
    for block in range(START + 30, START + 60):
        served.at(block)
        is_open = served.get("/health").json["phase"] == "submit"
        assert (served.submit(submission(block=block, group=9)).status != 423) == is_open


@pytest.mark.parametrize(
    ("body", "found"),
    [(b"{", "bad_json"), (encoded(submission(signature="x")), "bad_signature_encoding"),
     (encoded(submission(block_number=START + 21)), "bad_signature")],
)  # fmt: skip
def test_a_malformed_body_is_400_in_any_phase_and_401_without_a_token(served: World, body: bytes, found: str) -> None:
    served.at(START + 30)

    assert code(served.submit(body)) == (400, found)
    assert served.submit(body, Authorization="Bearer no").status == 401


def test_without_a_fresh_block_nothing_is_decided(served: World, freeze: Callable[[float], None]) -> None:
    freeze(NOW + 121)

    assert code(served.submit(submission())) == (503, "chain_head_stale")


def test_without_a_model_nothing_can_be_evaluated(world: World) -> None:
    assert code(world.submit(submission())) == (503, "model_not_loaded")


# ---- refused


FIELDS = ("hotkey", "expert_group", "checkpoint_url", "block_number", "signature")


@pytest.mark.parametrize("name", FIELDS)
@pytest.mark.parametrize("value", ["absent", None, True, 1.0, [], {}])
def test_each_field_is_there_and_of_its_type(served: World, name: str, value: Any) -> None:
    body = submission(**{name: value})
    if value == "absent":
        del body[name]

    reply = served.submit(body)

    assert (code(reply), reply.json["field"]) == ((400, "bad_field"), name)


@pytest.mark.parametrize(
    ("name", "value"),
    [("expert_group", "0"), ("block_number", str(START)), ("hotkey", 5), ("expert_group", -1), ("expert_group", 2**31),
     ("block_number", -1), ("block_number", 2**63)],
)  # fmt: skip
def test_numbers_are_no_text_and_stay_in_range(served: World, name: str, value: Any) -> None:
    reply = served.submit(submission(**{name: value}))

    assert (code(reply), reply.json["field"]) == ((400, "bad_field"), name)


@pytest.mark.parametrize(
    "body",
    [b"[]", b'"x"', b"", b"\xff\xfe", b"null", b'{"hotkey": NaN}', b'{"a": 1, "a": 2}', b"{}x", b'{"a": 1e999}',
     b'{"a":' * 200 + b"1" + b"}" * 200, b'{"block_number": ' + b"9" * 60 + b"}"],
)  # fmt: skip
def test_what_is_no_plain_json_object_is_refused(served: World, body: bytes) -> None:
    assert code(served.submit(body)) == (400, "bad_json")


@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", "application/octet-stream"])
def test_another_content_type_is_never_taken(served: World, kind: str) -> None:
    assert code(served.submit(submission(), **{"Content-Type": kind})) == (400, "bad_json")


def test_a_body_over_the_limit_is_refused(served: World) -> None:
    body = submission() | {"note": "x" * 9000}

    assert code(served.submit(body)) == (400, "body_too_large")


def bad_signatures() -> list[str]:
    good = submission()["signature"].rstrip("=")
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    spare_bits = good[:-1] + alphabet[alphabet.index(good[-1]) + 1]
    return [
        f"+{good[1:]}",
        f"/{good[1:]}",
        good[:-1],
        good[:84],
        f"{good}=",
        f"{good}AA",
        spare_bits,
        "",
        good.upper() + "!",
    ]


@pytest.mark.parametrize("signature", bad_signatures())
def test_a_signature_has_one_spelling(served: World, signature: str) -> None:
    assert code(served.submit(submission(signature=signature))) == (400, "bad_signature_encoding")


@pytest.mark.parametrize(
    "change",
    [
        {"hotkey": SECOND.hotkey},
        {"expert_group": 1},
        {"checkpoint_url": URL.replace("one", "two")},
        {"block_number": START + 19},
    ],
)
def test_what_was_signed_cannot_be_changed(served: World, change: dict[str, Any]) -> None:
    assert code(served.submit(submission(**change))) == (400, "bad_signature")


def test_another_key_s_signature_burns_nobody_s_slot(served: World) -> None:
    forged = submission(SECOND) | {"hotkey": MINER.hotkey}

    assert code(served.submit(forged)) == (400, "bad_signature")
    assert served.submit(submission(MINER)).status == 202


def test_every_bit_of_a_signature_counts(served: World) -> None:
    raw = base64.urlsafe_b64decode(submission()["signature"])
    for bit in range(0, 512, 7):
        flipped = (int.from_bytes(raw, "big") ^ (1 << bit)).to_bytes(64, "big")
        text = base64.urlsafe_b64encode(flipped).decode()
        assert code(served.submit(submission(signature=text))) == (400, "bad_signature")


@pytest.mark.parametrize("hotkey", ["", "5abc", MINER.hotkey + "1", "0x" + MINER.public.hex()])
def test_a_hotkey_that_is_no_address_is_refused(served: World, hotkey: str) -> None:
    assert code(served.submit(submission(hotkey=hotkey))) == (400, "bad_hotkey")


def test_an_unregistered_hotkey_is_refused(served: World) -> None:
    assert code(served.submit(submission(wallet("nobody")))) == (400, "unregistered_hotkey")


def test_an_unknown_group_is_refused(served: World) -> None:
    assert code(served.submit(submission(group=7))) == (400, "unknown_expert_group")


@pytest.mark.parametrize("block", [START + 21, START - 1, START + 4, 0])
def test_a_block_lies_in_this_cycle_after_distribution(served: World, block: int) -> None:
    assert code(served.submit(submission(block=block))) == (400, "block_out_of_window")


@pytest.mark.parametrize(("offset", "status"), [(11, 400), (12, 202), (16, 202), (17, 400)])
def test_the_strict_window_is_the_end_of_training(served: World, offset: int, status: int) -> None:
    served.configure(EXPERTS_BLOCK_WINDOW="strict")

    assert served.submit(submission(block=START + offset)).status == status


def test_the_committed_group_binds_where_the_operator_says_so(served: World) -> None:
    served.commitments.append(Commitment(hotkey=MINER.hotkey, block=START, data='{"e": 1}'))
    served.at(START + 20)
    served.configure(EXPERTS_ENFORCE_GROUP_ASSIGNMENT="1")

    assert code(served.submit(submission(group=0))) == (400, "bad_field")
    assert served.submit(submission(group=1)).status == 202


# ---- what it costs, and what is read back


def test_a_submission_costs_one_read_and_one_transaction_and_a_counter(served: World) -> None:
    served.submit(submission(SECOND))
    with counted() as spent:
        served.submit(submission())

    assert spent.calls == {
        "dynamodb:BatchGetItem": 1, "dynamodb:TransactWriteItems": 1, "dynamodb:UpdateItem": 1,
    }  # fmt: skip
    assert spent.write_units <= 12


def test_a_refused_submission_writes_nothing(served: World) -> None:
    with counted() as spent:
        served.submit(submission(signature=submission(SECOND)["signature"]))
        served.submit(b"{}")

    assert spent.calls == {}


def test_a_miner_sees_what_became_of_it(served: World) -> None:
    accepted = served.submit(submission()).json["submission_id"]
    found = served.get(f"/submission/{accepted}").json

    assert (found["state"], found["hotkey"], found["expert_group"]) == ("accepted", MINER.hotkey, 0)
    assert found["score"] is found["code"] is found["merged_into"] is None
    assert store.submission(accepted)["url"] == URL
    assert "url" not in found


@pytest.mark.parametrize("submission_id", [str(uuid.UUID(int=1)), "x", "SUBMISSION%23x", "%2e%2e"])
def test_an_unknown_submission_is_404(served: World, submission_id: str) -> None:
    assert code(served.get(f"/submission/{submission_id}")) == (404, "submission_not_found")


def test_the_status_route_can_be_switched_off(served: World) -> None:
    accepted = served.submit(submission()).json["submission_id"]
    served.configure(EXPERTS_SUBMISSION_STATUS_ROUTE="false")

    assert served.get(f"/submission/{accepted}").status == 404
