"""What a malicious validator would try (the specification's section 11), and what it gets."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest

from chalicelib.kernel import chain
from chalicelib.kernel.keys import _checksum
from chalicelib.leoma import contracts_sheets, store, store_jobs, tasks, tasks_fold
from tests.harness.budget import counted
from tests.harness.client import Client
from tests.harness.wallets import wallet

from .world import ADMIN, ALICE, BOB, CAROL, NOW, get, miner, post, publish, sample, send, signed, subnet, sync, vote

pytestmark = pytest.mark.usefixtures("world")

Freeze = Callable[[float], None]
Configure = Callable[..., None]


def test_a1_a_task_of_the_far_future_moves_no_window(client: Client) -> None:
    for first in (1, 51):
        send(client, ALICE, [sample(task, miner(1)) for task in range(first, first + 50)])
    refused = post(client, BOB, "/samples", sample(2**31 - 1, miner(1)))
    legacy = post(client, BOB, "/samples", sample(None, miner(1), task_id=..., sample_id="999999999"))
    tasks.rank({}, None)

    assert (refused.status, legacy.status) == (422, 422)
    assert get(client, "/weights").json["winner_uid"] == 1


def test_a1_the_scorer_looks_no_further_than_what_is_published(client: Client, configure: Configure) -> None:
    for first in (1, 51):
        send(client, ALICE, [sample(task, miner(1)) for task in range(first, first + 50)])
    configure(LEOMA_TASK_ID_AHEAD_MAX="100000")
    send(client, BOB, [sample(50_000, miner(1))])
    configure(LEOMA_TASK_ID_AHEAD_MAX="0")
    tasks.rank({}, None)

    assert get(client, "/weights").json["winner_uid"] == 1


def test_a2_a_signature_is_bound_to_the_query_too(client: Client) -> None:
    captured = signed(ALICE)
    path = f"/leoma/samples/validator/{ALICE.hotkey}"

    assert client.get(f"{path}?limit=1", captured).status == 200
    assert client.get(f"{path}?limit=2", captured).status == 401
    assert client.get(f"{path}?limit=1", captured).status == 200


def test_a2_two_honest_requests_of_one_second_do_not_meet(client: Client) -> None:
    replies = [get(client, path, ALICE) for path in ("/miners/valid", "/miners/all", "/miners/valid")]

    assert [reply.status for reply in replies] == [200] * 3


def test_a2_the_spelling_of_a_signature_does_not_matter(client: Client) -> None:
    captured = signed(ALICE)
    upper = captured | {"X-Signature": captured["X-Signature"][2:].upper()}

    assert client.get("/leoma/miners/valid", captured).status == 200
    assert client.get("/leoma/miners/all", upper).status == 401


def test_a3_a_captured_batch_does_not_roll_a_verdict_back(client: Client, freeze: Freeze) -> None:
    body = json.dumps({"samples": [sample(7, miner(1), passed=True)]}).encode()
    captured = signed(ALICE, body)
    assert client.post("/leoma/samples/batch", body, captured).status == 200
    freeze(NOW + 5)
    assert client.post("/leoma/samples/batch", body, captured).status == 200, "a client's retry"
    freeze(NOW + 20)
    send(client, ALICE, [sample(7, miner(1), passed=False)])
    freeze(NOW + 60)
    replayed = client.post("/leoma/samples/batch", body, captured)

    assert (replayed.status, replayed.json["code"]) == (401, "signature_replayed")
    path = f"/samples/task?validator_hotkey={ALICE.hotkey}&task_id=7"
    assert [one["passed"] for one in get(client, path).json] == [False]


def test_a4_a_future_timestamp_is_watched_as_long_as_it_is_fresh(client: Client, freeze: Freeze) -> None:
    captured = signed(ALICE, at=NOW + 299)
    assert client.get("/leoma/miners/valid", captured).status == 200
    freeze(NOW + 598)

    assert client.get("/leoma/miners/all", captured).status == 401


def test_a5_a_flood_ends_at_the_quota_and_says_when_to_come_back(
    client: Client, freeze: Freeze, configure: Configure
) -> None:
    configure(LEOMA_SAMPLE_DAILY_QUOTA="150")
    batch = [sample(7, miner(n)) for n in range(100)]
    replies = [send(client, ALICE, batch), send(client, ALICE, batch), send(client, ALICE, batch[:50])]

    assert [reply.status for reply in replies] == [200, 429, 200]
    assert replies[1].json["detail"] == "Daily sample quota reached"
    assert replies[1].header("Retry-After") == str(86_400 - 8 * 3600)
    assert send(client, BOB, batch).status == 200, "another validator's day is its own"

    freeze((int(NOW) // 86_400 + 1) * 86_400 + 1)
    assert send(client, ALICE, batch).status == 200


def test_a5_nobody_invents_miners_without_end(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("chalicelib.leoma.domain.SHEET_LIMIT", 3)
    taken = send(client, ALICE, [sample(7, miner(n)) for n in range(3)])
    refused = send(client, ALICE, [sample(7, miner(9))])
    again = send(client, ALICE, [sample(7, miner(0))])

    assert [taken.status, refused.status, again.status] == [200, 422, 200]


def test_a5_totals_are_bounded_and_still_count_everything(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("chalicelib.leoma.contracts_sheets.TALLIED_MINERS", 2)
    send(client, ALICE, [sample(7, miner(n)) for n in range(10)])
    tasks.rank({}, None)

    assert get(client, "/scores/stats").json["total_samples"] == 10


def test_a5_a_task_with_more_votes_than_an_item_holds_holds_up_no_other(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    send(client, ALICE, [sample(7, miner(n)) for n in range(100, 200)])
    send(client, BOB, [sample(7, miner(1)), sample(8, miner(1))])
    monkeypatch.setattr(tasks_fold, "LARGEST_BODY", 1000)
    tasks_fold.fold()

    assert [task["task_id"] for task in get(client, f"/tasks?miner_hotkey={miner(1)}").json] == [8]


def test_more_voters_than_a_transaction_takes_are_folded_in_several(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tasks_fold, "VOTERS_PER_TRANSACTION", 2)
    for who in (ALICE, BOB, CAROL):
        send(client, who, [sample(7, miner(1)), sample(8, miner(1))])
    with counted() as spent:
        tasks_fold.fold()

    assert spent.calls["dynamodb:TransactWriteItems"] == 2 * 2, "each time the lists and what they are made of"
    for key in ("0000000007", "0000000008"):
        assert len(contracts_sheets.task_of(store_jobs.task_rows(key)[0]).voters) == 3
    assert tasks_fold.samples_stored(store_jobs.totals().values()) == 6


def test_a6_history_is_closed_and_its_first_samples_welcome(client: Client) -> None:
    vote(client, 100, {ALICE: True}, miner(1))
    vote(client, 99, {ALICE: True}, miner(1))
    publish(299)
    edits = [send(client, ALICE, [sample(task, miner(1), passed=False)]) for task in (99, 100)]
    late = send(client, ALICE, [sample(1, miner(1))])

    assert (edits[0].status, edits[0].json["detail"]) == (409, "Task is too old to edit")
    assert [edits[1].status, late.status] == [200, 200]


def test_a6_every_verdict_that_ever_was_stays_on_record(client: Client) -> None:
    for passed in (True, False, True):
        vote(client, 7, {ALICE: passed}, miner(1))

    kept = [contracts_sheets.entries_of(item["body"]) for item in store.newest_batches(ALICE.hotkey, 10)]
    assert [[entry.passed for entry in batch] for batch in kept] == [[True], [False], [True]]


def test_a8_stake_that_left_takes_its_votes_along(client: Client) -> None:
    for first in (1, 51):
        send(client, ALICE, [sample(task, miner(1)) for task in range(first, first + 50)])
    tasks.rank({}, None)
    assert get(client, "/scores/rank").json["ranks"][0]["passed_count"] == 100

    sync(subnet(stakes={BOB: 5000}), block=1001)
    tasks.rank({}, None)

    assert get(client, "/scores/rank").json["ranks"][0]["passed_count"] == 0


def test_a10_markup_stays_text(client: Client) -> None:
    evil = "<img src=x onerror=alert(1)>\r\nX-Evil: 1"
    reply = post(client, ALICE, "/samples", sample(7, miner(1), reasoning=evil, prompt=evil, s3_prefix="../" * 100))

    assert reply.json["reasoning"] == evil
    assert reply.header("X-Content-Type-Options") == "nosniff"
    assert reply.header("Content-Type") == "application/json"
    assert reply.header("X-Evil") is None


def test_a12_another_spelling_of_a_blacklisted_key_gets_nowhere(client: Client) -> None:
    store.add_to_blacklist(ALICE.hotkey, None, ADMIN.hotkey)
    alphabet = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"
    body = bytes([0]) + ALICE.public
    number, text = int.from_bytes(body + _checksum(body), "big"), ""
    while number:
        number, digit = divmod(number, 58)
        text = alphabet[digit] + text
    reply = client.get("/leoma/miners/valid", signed(ALICE, hotkey="1" + text))

    assert (reply.status, reply.json["detail"]) == (401, "Signature verification failed")


@pytest.mark.parametrize(
    "raw",
    [
        b'{"samples": ' + b"[" * 5000,
        b'{"samples": [{"task_id": 1e999}]}',
        b'{"samples": [{"task_id": ' + b"9" * 5000 + b"}]}",
        b'{"samples": [{"prompt": "\\ud800"}]}',
        b'{"samples": [' + b"{}," * 99 + b"{}]}",
    ],
)
def test_a15_hostile_json_is_a_422(client: Client, raw: bytes) -> None:
    reply = client.post("/leoma/samples/batch", raw, signed(ALICE, raw))

    assert reply.status == 422
    assert len(reply.body) < 200_000


def test_a_stale_metagraph_is_not_believed_over_a_newer_one(client: Client) -> None:
    thin = subnet(1, stakes={BOB: 5000})

    assert chain.save_snapshot("leoma", 999, thin) is False
    tasks.validators()
    tasks.miners()

    assert get(client, "/miners/valid", ALICE).json["total"] == 3


def test_a_metagraph_without_commitments_changes_no_miner(client: Client) -> None:
    sync(subnet(commitments=()), block=1001)

    assert get(client, "/miners/list").json["valid_count"] == 3


def test_a_list_that_would_outgrow_a_response_is_cut_and_says_so(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    send(client, ALICE, [sample(7, miner(n), reasoning='"' * 200) for n in range(20)])
    tasks_fold.fold()
    paths = {
        "/samples/list": None,
        f"/samples/task?validator_hotkey={ALICE.hotkey}&task_id=7": None,
        f"/samples/validator/{ALICE.hotkey}": BOB,
    }
    whole = {path: get(client, path, signer) for path, signer in paths.items()}
    monkeypatch.setattr("chalicelib.leoma.routes_samples._LARGEST_ANSWER", 10_000)
    cut = {path: get(client, path, signer) for path, signer in paths.items()}

    assert {reply.header("X-Truncated") for reply in whole.values()} == {None}
    assert {reply.header("X-Truncated") for reply in cut.values()} == {"true"}
    for path, reply in cut.items():
        assert len(json.dumps(reply.body.decode())) <= 10_000, "as Lambda counts it"
        assert 0 < len(reply.json) < 20
        assert reply.json == whole[path].json[: len(reply.json)]


def test_a_validator_is_seen_at_most_once_a_minute_and_an_admin_never(
    client: Client, freeze: Freeze, configure: Configure
) -> None:
    configure(LEOMA_ADMIN_HOTKEYS=BOB.hotkey)
    seen = []
    for seconds in (0, 59, 61):
        freeze(NOW + seconds)
        assert [get(client, "/miners/valid", who).status for who in (ALICE, BOB)] == [200, 200]
        seen.append([store_jobs.validators()[who.hotkey].get("last_seen_at") for who in (ALICE, BOB)])

    assert seen == [[NOW, None], [NOW, None], [NOW + 61, None]]


@pytest.mark.parametrize("claimed", ["", ALICE.hotkey])
def test_a_stranger_costs_one_read_and_no_write(client: Client, claimed: str) -> None:
    with counted() as spent:
        reply = client.get("/leoma/miners/valid", signed(wallet("stranger"), hotkey=claimed))

    assert reply.status == 401
    assert dict(spent.calls) == {"dynamodb:BatchGetItem": 1}
