"""Many at once, and a crash between any two writes: what stands afterwards is what one run after another leaves."""

from __future__ import annotations

import itertools
import json
import threading
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest

import app as app_module
from chalicelib.kernel import aws
from chalicelib.kernel.blobs import Bucket
from chalicelib.leoma import contracts_sheets, store, store_jobs, tasks, tasks_fold
from tests.harness.client import Client
from tests.harness.race import all_at_once

from .world import ALICE, BOB, NOW, get, miner, post, sample, send, signed

pytestmark = pytest.mark.usefixtures("world")

Freeze = Callable[[float], None]
THREADS = 64


class Crashed(BaseException):
    """The function is gone; nothing catches this."""


def clients(count: int) -> list[Client]:
    return [Client(app_module.build()) for _ in range(count)]


def votes_of(task: int, validator: str = ALICE.hotkey) -> dict[str, contracts_sheets.Vote]:
    return contracts_sheets.sheet_of(store.sheet(validator, f"{task:010d}")).votes


def totals_of(validator: str = ALICE.hotkey) -> dict[str, tuple[int, int]]:
    return contracts_sheets.totals_of(store_jobs.totals_of([validator])[validator]).miners


def test_85_two_parallel_identical_batches_are_one(client: Client) -> None:
    body = json.dumps({"samples": [sample(7, miner(n)) for n in range(20)]}).encode()
    headers = signed(ALICE, body)
    calls = [partial(one.post, "/leoma/samples/batch", body, headers) for one in clients(2)]
    replies = all_at_once(calls)

    assert [reply.status for reply in replies] == [200, 200]
    assert [one["id"] for one in replies[0].json] == [one["id"] for one in replies[1].json]
    assert len(votes_of(7)) == 20
    tasks_fold.fold()
    assert set(totals_of().values()) == {(1, 1)}


def test_overlapping_batches_of_many_threads_leave_what_a_serial_run_leaves(client: Client) -> None:
    batches = [[sample(7 + n % 2, miner(m), passed=m % 2 == 0) for m in range(n, n + 10)] for n in range(THREADS)]
    pairs = zip(clients(THREADS), batches, strict=True)
    replies = all_at_once([partial(send, one, ALICE, batch) for one, batch in pairs])
    tasks_fold.fold()

    assert {reply.status for reply in replies} == {200}
    for task in (7, 8):
        expected = {miner(m): m % 2 == 0 for n in range(task - 7, THREADS, 2) for m in range(n, n + 10)}
        found = votes_of(task)
        assert {hotkey: vote.passed for hotkey, vote in found.items()} == expected
        assert len({vote.id for vote in found.values()}) == len(expected)
        answered = [one for reply in replies for one in reply.json if one["task_id"] == task]
        assert {(one["miner_hotkey"], one["id"]) for one in answered} == {(m, vote.id) for m, vote in found.items()}
    assert sum(total for total, _ in totals_of().values()) == len(votes_of(7)) + len(votes_of(8))


def test_flips_of_one_verdict_end_as_one_of_them_and_count_once(client: Client) -> None:
    flips = [[sample(7, miner(1), passed=number % 2 == 0)] for number in range(8)]
    all_at_once([partial(send, one, ALICE, flip) for one, flip in zip(clients(8), flips, strict=True)])
    tasks_fold.fold()

    (vote,) = votes_of(7).values()
    assert totals_of() == {miner(1): (1, int(vote.passed))}


def test_validators_at_once_do_not_meet(client: Client) -> None:
    batch = [sample(7, miner(n)) for n in range(10)]
    pairs = zip(clients(4), [ALICE, BOB] * 2, strict=True)
    replies = all_at_once([partial(send, one, who, batch) for one, who in pairs])

    assert {reply.status for reply in replies} == {200}
    assert len({vote.id for who in (ALICE, BOB) for vote in votes_of(7, who.hotkey).values()}) == 20


def test_86_of_two_scorers_at_once_one_runs(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    ranked: list[str] = []
    started, other_is_done = threading.Event(), threading.Event()

    def score() -> None:
        started.set()
        assert other_is_done.wait(20)

    def rank() -> int:
        ranked.append(threading.current_thread().name)
        return 0

    monkeypatch.setattr(tasks, "_score", score)
    monkeypatch.setattr(tasks, "_rank", rank)
    first = threading.Thread(target=tasks.ranks, name="first")
    first.start()
    assert started.wait(20)
    tasks.ranks()
    other_is_done.set()
    first.join()

    assert ranked == ["first"]


def test_folds_at_once_count_once(client: Client) -> None:
    send(client, ALICE, [sample(task, miner(n)) for task in range(1, 11) for n in range(10)])
    all_at_once([tasks_fold.fold] * 4)
    tasks_fold.fold()

    assert set(totals_of().values()) == {(10, 10)}


# --- a crash between any two writes


def crash_at(monkeypatch: pytest.MonkeyPatch, step: int) -> None:
    """The AWS call number `step` never leaves this process, and neither does any after it."""
    calls = itertools.count(1)

    def stop(**_: Any) -> None:
        if next(calls) >= step:
            raise Crashed

    for service in ("dynamodb", "s3"):
        aws.client(service).meta.events.register("before-call.*", stop, unique_id="crash")


def survive() -> None:
    for service in ("dynamodb", "s3"):
        aws.client(service).meta.events.unregister("before-call.*", unique_id="crash")


LONG = {"generated_artifacts": "long " * 200}


def state(client: Client) -> str:
    """Everything that readers see, without what differs between any two runs."""
    paths = [f"/samples/task?validator_hotkey={ALICE.hotkey}&task_id={task}" for task in (7, 8)]
    paths += [f"/tasks?miner_hotkey={miner(n)}" for n in (1, 2)] + ["/samples/list", "/scores/stats"]
    found = {path: get(client, path).json for path in paths} | {"task": get(client, "/tasks/7").json["miners"]}
    results = [Bucket("leoma-samples").get(f"{task}/evaluation_results/{ALICE.hotkey}.json") for task in (7, 8)]
    text = json.dumps([found, [raw.decode() if raw else None for raw in results], totals_of()], sort_keys=True)
    for one in found["/samples/list"]:
        text = text.replace(str(one["id"]), f"id-of-{one['task_id']}-{one['miner_hotkey']}")
    return text


@pytest.mark.parametrize("step", range(1, 8))
def test_a_batch_that_dies_halfway_is_stored_whole_or_not_at_all(
    client: Client, monkeypatch: pytest.MonkeyPatch, step: int
) -> None:
    batch = [sample(task, miner(n), **LONG) for task in (7, 8) for n in (1, 2)]
    crash_at(monkeypatch, step)
    try:
        with pytest.raises(Crashed):
            send(client, ALICE, batch)
    finally:
        survive()
    tasks_fold.fold()
    assert [len(votes_of(task)) for task in (7, 8)] in ([0, 0], [2, 2])
    assert len(get(client, "/samples/list").json) in (0, 4)

    send(client, ALICE, batch)
    tasks_fold.fold()
    tasks.rank({}, None)

    assert [len(votes_of(task)) for task in (7, 8)] == [2, 2]
    assert totals_of() == {miner(1): (2, 2), miner(2): (2, 2)}
    assert get(client, "/scores/stats").json["total_samples"] == 4


def test_a_fold_that_dies_anywhere_is_finished_by_the_next(
    client: Client, monkeypatch: pytest.MonkeyPatch, freeze: Freeze
) -> None:
    def prepare() -> None:
        send(client, ALICE, [sample(task, miner(n), **LONG) for task in (7, 8) for n in (1, 2)])

    prepare()
    tasks_fold.fold()
    tasks.scores()
    expected = state(client)
    for step in range(1, 40):
        for item in store.table.query_all("WRITER"):
            store.table.delete(item["pk"], item["sk"])
        forget(["0000000007", "0000000008"])
        prepare()
        crash_at(monkeypatch, step)
        try:
            tasks_fold.fold()
        except Crashed:
            pass
        else:
            break
        finally:
            survive()
        freeze(NOW + 200 * step)
        tasks_fold.fold()
        tasks.scores()
        freeze(NOW)
        assert state(client) == expected, step
    assert step > 10


def forget(keys: list[str]) -> None:
    """An empty world again, as far as samples go."""
    for pk in [f"T#{key}" for key in keys] + ["TOTALS", "LOCK", "DUE", f"B#{ALICE.hotkey}#00000000"]:
        store.table.delete_many([(item["pk"], item["sk"]) for item in store.table.query_all(pk)])
    store.table.delete_many([("STATE", "fold"), ("SNAP", "recent"), ("SNAP", "open")])
    for key in (7, 8):
        Bucket("leoma-samples").delete(f"{key}/evaluation_results/{ALICE.hotkey}.json")


def test_a_batch_that_commits_after_the_fold_looked_is_waited_for(client: Client) -> None:
    """Its number is taken, its sheets do not know it yet: the fold comes back for it."""
    number, _ = store.next_batch(ALICE.hotkey, 1, 1000)
    tasks_fold.fold()
    assert get(client, "/samples/list").json == []

    commit_late(number)
    tasks_fold.fold()

    assert [one["miner_hotkey"] for one in get(client, "/samples/list").json] == [miner(1)]


def commit_late(number: int) -> None:
    name = store.batch_names(number, 1)[0]
    entry = contracts_sheets.Entry(
        "0000000007", miner(1), "7", "p", "b", "x", True, None, None, None, None, None, (None, None, None)
    )
    store.save_batch(ALICE.hotkey, [name], [contracts_sheets.pack([entry])], ["0000000007"])
    sheet = contracts_sheets.Sheet(
        {miner(1): contracts_sheets.Vote(1, True, None, NOW, name, 0)}, "v", (contracts_sheets.Commit(number, ""),)
    )
    store.move_sheets(ALICE.hotkey, {"0000000007": ("", contracts_sheets.sheet_fields(sheet))})


def test_a_number_that_nobody_used_is_given_up(client: Client, freeze: Freeze) -> None:
    store.next_batch(ALICE.hotkey, 1, 1000)
    tasks_fold.fold()
    assert store_jobs.state("fold")["waiting"] != {}
    freeze(NOW + 61)
    tasks_fold.fold()

    assert store_jobs.state("fold")["waiting"] == {}
    assert post(client, ALICE, "/samples", sample(7, miner(1))).status == 200


def test_scores_of_a_slower_run_never_replace_those_of_a_rank_run(client: Client) -> None:
    send(client, ALICE, [sample(7, miner(1))])
    with store_jobs.lock("scorer", 60) as alone:
        assert alone
        tasks.scores()
        assert get(client, "/scores").json["scores"] == {}
    tasks.scores()
    assert list(get(client, "/scores").json["scores"]) == [miner(1)]
