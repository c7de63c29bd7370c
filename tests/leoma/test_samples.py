"""The specification's concrete behaviours 26 to 53 and 84: what is taken, what a repeat changes, what is listed."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from chalicelib.kernel.blobs import Bucket
from chalicelib.leoma import store_jobs, tasks_fold
from tests.harness.client import Client
from tests.harness.wallets import wallet

from .world import ALICE, BOB, NOW, get, miner, post, sample, send, signed

pytestmark = pytest.mark.usefixtures("world")

Freeze = Callable[[float], None]
Configure = Callable[..., None]
TEXTS = {"original_artifacts": "[]", "generated_artifacts": '{"overall_score": 86}', "presentation_order": "single"}


def of_task(client: Client, task: int = 7) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = get(client, f"/samples/task?validator_hotkey={ALICE.hotkey}&task_id={task}").json
    return found


def result(task: int, validator: str = ALICE.hotkey) -> dict[str, Any]:
    raw = Bucket("leoma-samples").get(f"{task}/evaluation_results/{validator}.json")
    assert raw is not None
    found: dict[str, Any] = json.loads(raw)
    return found


def nothing_is_stored(client: Client) -> bool:
    tasks_fold.fold()
    tasks = (7, 8)
    return not any(of_task(client, task) for task in tasks) and get(client, "/samples/list").json == []


# --- 26 to 38: one sample


def test_26_a_minimal_sample_is_stored_with_nulls(client: Client) -> None:
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
    assert of_task(client) == [reply.json]
    assert get(client, f"/samples/validator/{ALICE.hotkey}", BOB).json == [reply.json]
    tasks_fold.fold()
    assert get(client, "/samples/list").json == [reply.json]
    assert get(client, f"/samples/miner/{miner(1)}", BOB).json == [reply.json]


def test_27_28_a_repeat_overwrites_with_null_but_keeps_latency(client: Client, freeze: Freeze) -> None:
    said = {"confidence": 90, "reasoning": "sharp"}
    first = post(client, ALICE, "/samples", sample(7, miner(1), **said)).json
    freeze(NOW + 10)
    second = post(client, ALICE, "/samples", sample(7, miner(1), passed=False, latency_ms=77, **said)).json
    freeze(NOW + 20)
    third = post(client, ALICE, "/samples", sample(7, miner(1), passed=False)).json

    assert (second["id"], second["passed"], second["latency_ms"]) == (first["id"], False, 77)
    assert first["evaluated_at"] < second["evaluated_at"] < third["evaluated_at"]
    assert (third["latency_ms"], third["confidence"], third["reasoning"]) == (77, None, None)
    assert of_task(client) == [third]


@pytest.mark.parametrize("texts", [TEXTS, TEXTS | {"generated_artifacts": "long " * 1000}])
def test_artifacts_survive_a_repeat_without_them(client: Client, texts: dict[str, str]) -> None:
    post(client, ALICE, "/samples", sample(7, miner(1), **texts))
    post(client, ALICE, "/samples", sample(7, miner(1), presentation_order="other"))
    tasks_fold.fold()

    (line,) = result(7)["data"]
    assert {name: line[name] for name in TEXTS} == texts | {"presentation_order": "other"}


@pytest.mark.parametrize(
    ("changes", "loc", "kind"),
    [
        ({"prompt": ...}, "prompt", "missing"),
        ({"confidence": 101}, "confidence", "less_than_equal"),
        ({"confidence": -1}, "confidence", "greater_than_equal"),
        ({"latency_ms": -1}, "latency_ms", "greater_than_equal"),
        ({"latency_ms": 1.5}, "latency_ms", "int_from_float"),
        ({"prompt": "é" * 4097}, "prompt", "string_too_long"),
        ({"s3_prefix": "x" * 513}, "s3_prefix", "string_too_long"),
        ({"miner_hotkey": "zz"}, "miner_hotkey", "value_error"),
        ({"miner_hotkey": miner(1) + "\n"}, "miner_hotkey", "value_error"),
        ({"passed": "yes"}, "passed", "bool_parsing"),
        ({"passed": None}, "passed", "bool_parsing"),
        ({"task_id": 51.5}, "task_id", "int_from_float"),
        ({"task_id": True}, "task_id", "int_parsing"),
        ({"task_id": "5_1"}, "task_id", "int_parsing"),
        ({"task_id": 0}, "task_id", "greater_than_equal"),
        ({"task_id": 2**31}, "task_id", "less_than_equal"),
        ({"sample_id": "x" * 65}, "sample_id", "string_too_long"),
        ({"task_id": 101}, "task_id", "value_error"),
    ],
)
def test_29_to_38_what_a_sample_may_not_be(client: Client, changes: dict[str, Any], loc: str, kind: str) -> None:
    reply = post(client, ALICE, "/samples", sample(7, miner(1), **changes))

    assert reply.status == 422, reply.json
    assert [(problem["loc"], problem["type"]) for problem in reply.json["detail"]] == [(["body", loc], kind)]
    assert nothing_is_stored(client)


@pytest.mark.parametrize(
    "changes",
    [
        {"prompt": ""},
        {"prompt": "é" * 4096},
        {"miner_hotkey": wallet("nobody knows").hotkey},
        {"task_id": "7"},
        {"passed": 1, "confidence": "90"},
        {"surprise": {"ignored": True}},
        {"generated_artifacts": "{" * 8192},
        {"reasoning": "<script>\u0000\U0001f600"},
    ],
)
def test_30_to_34_what_a_sample_may_be(client: Client, changes: dict[str, Any]) -> None:
    assert post(client, ALICE, "/samples", sample(7, miner(1), **changes)).status == 200
    tasks_fold.fold()
    assert len(get(client, "/samples/list").json) == 1


@pytest.mark.parametrize("changes", [{}, {"sample_id": ""}, {"sample_id": None}])
def test_35_neither_task_nor_sample_id(client: Client, changes: dict[str, Any]) -> None:
    reply = post(client, ALICE, "/samples", sample(7, miner(1), task_id=..., **changes))

    assert reply.status == 422
    assert (reply.json["detail"][0]["loc"], reply.json["detail"][0]["type"]) == (["body"], "value_error")


def test_36_a_legacy_name_counts_in_totals_and_is_no_task(client: Client) -> None:
    stored = post(client, ALICE, "/samples", sample(None, miner(1), task_id=..., sample_id="abc-1"))
    tasks_fold.fold()

    assert (stored.status, stored.json["task_id"], stored.json["sample_id"]) == (200, None, "abc-1")
    assert get(client, f"/tasks?miner_hotkey={miner(1)}").json == []
    assert get(client, f"/samples/task?validator_hotkey={ALICE.hotkey}&sample_id=abc-1").json == [stored.json]
    assert tasks_fold.samples_stored(store_jobs.totals().values()) == 1
    assert get(client, f"/samples/miner/{miner(1)}", BOB).json == [stored.json]


def test_36_samples_about_a_miner_are_those_of_tasks_and_of_legacy_names(client: Client, freeze: Freeze) -> None:
    for number, name in enumerate(("a", "b", "a")):
        freeze(NOW + number)
        post(client, ALICE, "/samples", sample(None, miner(1), number == 2, sample_id=name))
        post(client, BOB, "/samples", sample(7, miner(1)))
        tasks_fold.fold()

    found = get(client, f"/samples/miner/{miner(1)}", BOB).json
    assert [(one["sample_id"], one["passed"]) for one in found] == [("7", True), ("a", True), ("b", False)]
    assert get(client, f"/samples/miner/{miner(1)}?limit=2", BOB).json == found[:2]


def test_37_a_legacy_name_of_digits_is_the_task(client: Client) -> None:
    stored = post(client, ALICE, "/samples", sample(None, miner(1), task_id=..., sample_id="51")).json

    assert stored["task_id"] == 51
    assert of_task(client, 51) == [stored]
    disagreeing = post(client, ALICE, "/samples", sample(51, miner(1), sample_id="52"))
    agreeing = post(client, ALICE, "/samples", sample(51, miner(1), sample_id="51"))
    assert (disagreeing.status, agreeing.status) == (422, 200)


def test_38_a_task_ahead_of_the_latest(client: Client, configure: Configure) -> None:
    assert post(client, ALICE, "/samples", sample(101, miner(1))).status == 422
    configure(LEOMA_TASK_ID_AHEAD_MAX="1")
    assert post(client, ALICE, "/samples", sample(101, miner(1))).status == 200


# --- 39 to 47: bodies and batches


@pytest.mark.parametrize("raw", [b"{", b"\xff", b"[" * 100_000, b'{"samples": NaN}', b""])
def test_39_a_body_that_is_no_json(client: Client, raw: bytes) -> None:
    reply = client.post("/leoma/samples/batch", raw, signed(ALICE, raw))

    assert (reply.status, reply.json["detail"][0]["type"]) == (422, "json_invalid")


def test_40_a_body_over_the_limit_is_refused_before_anything_else(client: Client) -> None:
    reply = client.post("/leoma/samples/batch", b" " * 2_097_153)

    assert (reply.status, reply.json["detail"]) == (413, "Request body too large")


def test_40_the_limit_is_a_knob(client: Client, configure: Configure) -> None:
    configure(LEOMA_MAX_BODY_SIZE="10")

    assert client.post("/leoma/samples/batch", b" " * 11).status == 413


def test_41_a_hundred_in_order_and_no_more(client: Client) -> None:
    taken = send(client, ALICE, [sample(7, miner(n)) for n in range(100)])
    refused = send(client, BOB, [sample(8, miner(n)) for n in range(101)])
    absurd = post(client, BOB, "/samples/batch", {"samples": [{}] * 300_000})

    assert [one["miner_hotkey"] for one in taken.json] == [miner(n) for n in range(100)]
    assert len({one["id"] for one in taken.json}) == 100
    assert of_task(client) == sorted(taken.json, key=lambda one: one["miner_hotkey"])
    assert (refused.status, refused.json["detail"]) == (400, "Batch size exceeds limit of 100 samples")
    assert absurd.status == 400
    assert get(client, f"/samples/validator/{BOB.hotkey}", BOB).json == []


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({"samples": []}, 200),
        ({"samples": [], "signature": "0xab"}, 200),
        ({}, 422),
        ([], 422),
        ({"samples": {}}, 422),
        (None, 422),
    ],
)
def test_42_43_no_samples(client: Client, body: Any, status: int) -> None:
    reply = post(client, ALICE, "/samples/batch", body)

    assert reply.status == status
    assert status == 422 or reply.json == []


def test_44_45_a_signature_is_about_one_task(client: Client) -> None:
    both = [sample(7, miner(1)), sample(8, miner(1))]
    signed_one = send(client, ALICE, both, "0xab")
    assert signed_one.status == 400
    assert signed_one.json["detail"] == "When signature is provided, all samples must have the same task_id"
    assert nothing_is_stored(client)

    assert send(client, ALICE, both, "").status == 200
    tasks_fold.fold()
    assert [result(task)["signature"] for task in (7, 8)] == ["", ""]


def test_46_one_bad_sample_refuses_the_batch(client: Client) -> None:
    reply = send(client, ALICE, [sample(7, miner(1)), sample(7, miner(2), confidence=101)])
    ahead = send(client, ALICE, [sample(7, miner(1)), sample(101, miner(2))])

    assert reply.json["detail"][0]["loc"] == ["body", "samples", 1, "confidence"]
    assert ahead.json["detail"][0]["loc"] == ["body", "samples", 1, "task_id"]
    assert nothing_is_stored(client)


def test_47_the_same_miner_twice_in_a_batch(client: Client) -> None:
    reply = send(client, ALICE, [sample(7, miner(1), latency_ms=5), sample(7, miner(1), passed=False)])

    assert [one["id"] for one in reply.json] == [reply.json[0]["id"]] * 2
    assert [(one["passed"], one["latency_ms"]) for one in reply.json] == [(True, 5), (False, 5)]
    assert of_task(client) == [reply.json[1]]


def test_84_an_identical_batch_again_changes_only_the_time(client: Client, freeze: Freeze) -> None:
    body = json.dumps({"samples": [sample(7, miner(n)) for n in (1, 2)]}).encode()
    headers = signed(ALICE, body)
    first = client.post("/leoma/samples/batch", body, headers).json
    freeze(NOW + 3)
    second = client.post("/leoma/samples/batch", body, headers).json

    assert [one | {"evaluated_at": ""} for one in second] == [one | {"evaluated_at": ""} for one in first]
    assert of_task(client) == sorted(second, key=lambda one: one["miner_hotkey"])
