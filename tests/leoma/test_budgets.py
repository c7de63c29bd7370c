"""What each route costs, at different sizes of history: AWS calls and write units, asserted and constant."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest

from chalicelib.leoma import contracts_sheets, routes, store, store_jobs, store_samples, tasks, tasks_fold
from chalicelib.leoma.contracts import task_key
from chalicelib.leoma.contracts_sheets import Sheet, TaskSheet, Vote
from tests.harness.budget import Spent, counted
from tests.harness.client import Client
from tests.harness.wallets import Wallet, wallet

from .world import ADMIN, ALICE, BOB, NOW, get, miner, publish, sample, send, signed

pytestmark = pytest.mark.usefixtures("world")

Freeze = Callable[[float], None]
MINERS = [miner(n) for n in range(100)]
MOST_UNITS = 250
WRITE_UNITS = 49  # a hundred samples of a new sheet of a task that others have judged


def text(length: int, seed: object) -> str:
    """Text that does not compress much better than prose does."""
    found = ""
    while len(found) < length:
        found += hashlib.sha256(f"{seed}{len(found)}".encode()).hexdigest()
    return found[:length]


def batch_of(task: int, first: int = 0) -> list[dict[str, Any]]:
    """A hundred samples of 0.35 KB."""
    return [
        sample(
            task, miner(first + n), confidence=90, reasoning=text(130, (task, n)), latency_ms=40_000 + n, **ARTIFACTS
        )
        for n in range(100)
    ]


ARTIFACTS = {"original_artifacts": "[]", "generated_artifacts": "{}", "presentation_order": "single-video benchmark"}


def history(samples_count: int) -> None:
    """As if five validators had judged twenty miners on task 7 and those after it, all folded and settled."""
    numbers = range(7, 7 + samples_count // 100)
    publish(max(100, numbers[-1]))
    names, judged = [wallet(f"voter-{n}").hotkey for n in range(5)], MINERS[:20]
    entries = [
        contracts_sheets.Entry(
            task_key(7), name, "7", "prompt", "b", "p", True, None, None, 5, None, None, (None, None, None)
        )
        for name in judged
    ]
    for name in names:
        store.save_batch(name, ["0000000001.0.ab"], [contracts_sheets.pack(entries)], [task_key(7)])
    items, lines = [], dict[tuple[str, str], list[contracts_sheets.TaskLine]]()
    for number in numbers:
        at = NOW - 9000 + number
        votes = {name: Vote(number, True, 5, at, "0000000001.0.ab", place) for place, name in enumerate(judged)}
        task = TaskSheet(dict.fromkeys(names, votes), "v")
        items.append({"pk": f"T#{task_key(number)}", "sk": store.ALL_VOTERS, **contracts_sheets.task_fields(task)})
        for name in judged:
            line = contracts_sheets.line(number, task.of_miner(name))
            lines.setdefault((name, contracts_sheets.block_number(number)), []).append(line)
    store.table.put_many(items)
    store_jobs.save_blocks({place: contracts_sheets.block_body(found) for place, found in lines.items()})


def spent_on(work: Callable[[], Any]) -> Spent:
    with counted() as spent:
        work()
    return spent


def folded(spent_by: Callable[[], Any]) -> float:
    def both() -> None:
        assert spent_by().status == 200
        tasks_fold.fold()

    return spent_on(both).write_units


def test_a_hundred_samples_cost_few_write_units_in_all(client: Client) -> None:
    units = folded(lambda: send(client, ALICE, batch_of(7), "0xab"))

    assert units <= MOST_UNITS
    assert units == pytest.approx(folded(lambda: send(client, ALICE, batch_of(8), "0xab")), abs=30)


def test_the_hundreds_that_follow_cost_no_more_than_the_bound(client: Client) -> None:
    """256 miners judged by 20 validators: sheets and task sheet at their largest."""
    full = {
        miner(n): Vote(10**10 + n, n % 3 == 0, 40_000 + n, NOW + n % 3, f"000000000{n % 3}.0.abcd", n)
        for n in range(256)
    }
    voters = {wallet(f"voter-{n}").hotkey: full for n in range(19)}
    for name, votes in voters.items():
        store.table.put({"pk": f"T#{task_key(7)}", "sk": name, **contracts_sheets.sheet_fields(Sheet(votes, "v"))})
    task = {"pk": f"T#{task_key(7)}", "sk": store.ALL_VOTERS}
    store.table.put(task | contracts_sheets.task_fields(TaskSheet(voters, "v")))
    units = [folded(partial(send, client, ALICE, batch_of(7, first), "0xab")) for first in (0, 100, 156)]
    again = folded(lambda: send(client, ALICE, batch_of(7, 50), "0xab"))

    assert max(*units, again) <= MOST_UNITS, (units, again)


def test_a_batch_over_a_hundred_tasks_is_one_transaction(client: Client) -> None:
    spread = [sample(task, miner(1)) for task in range(1, 101)]
    with counted() as spent:
        assert send(client, ALICE, spread).status == 200

    assert spent.calls["dynamodb:TransactWriteItems"] == 1
    assert spent.write_units <= MOST_UNITS


@pytest.mark.parametrize("repeats", [1, 4])
def test_a_write_is_the_same_few_calls_whatever_was_stored(client: Client, freeze: Freeze, repeats: int) -> None:
    for number in range(repeats):
        freeze(NOW + number)
        send(client, ALICE, batch_of(7, number))
        tasks_fold.fold()
    freeze(NOW + 50)
    with counted() as spent:
        assert send(client, ALICE, batch_of(8)).status == 200

    assert dict(spent.calls) == {
        "dynamodb:BatchGetItem": 2,  # who calls; the latest task and the sheet
        "dynamodb:PutItem": 3,  # the signature, the batch, the sheet
        "dynamodb:UpdateItem": 1,  # the batch's number
    }


# Calls, read units, who asks.
READS: dict[str, tuple[int, float, Wallet | None]] = {
    "/health": (1, 1.0, None),
    "/miners/list": (1, 1.0, None),
    "/miners/uid/1": (1, 1.0, None),
    f"/miners/{MINERS[1]}": (1, 1.0, None),
    f"/miners/info/{MINERS[1]}": (1, 1.0, None),
    "/scores": (1, 1.0, None),
    "/scores/agreement": (1, 1.0, None),
    "/scores/validators": (1, 1.0, None),
    "/scores/rank": (1, 1.0, None),
    "/scores/stats": (1, 1.0, None),
    f"/scores/miner/{MINERS[1]}": (1, 1.0, None),
    f"/scores/validator/{ALICE.hotkey}": (1, 1.0, None),
    "/weights": (1, 1.0, None),
    "/tasks/latest": (1, 1.0, None),
    "/blacklist": (1, 1.0, None),
    "/blacklist/miners": (1, 1.0, None),
    f"/blacklist/{MINERS[1]}": (1, 1.0, None),
    "/samples/list": (2, 3.0, None),
    f"/samples/task?validator_hotkey={ALICE.hotkey}&task_id=7": (2, 4.0, None),
    f"/tasks/7/miner/{MINERS[1]}": (2, 7.5, None),
    "/tasks/7": (2, 3.5, None),
    f"/tasks?miner_hotkey={MINERS[1]}": (3, 4.0, None),
    f"/miners/{MINERS[1]}/tasks": (3, 4.0, None),
    "/miners/valid": (3, 3.0, ALICE),
    "/miners/all": (3, 3.0, ALICE),
    f"/samples/validator/{ALICE.hotkey}": (5, 9.0, ALICE),
    f"/samples/miner/{MINERS[1]}?limit=2": (7, 14.0, ALICE),
}
# A miner's tasks are an answer that grows: half a unit per 4 KB of packed tasks, up to these units.
GROWING = {f"/tasks?miner_hotkey={MINERS[1]}", f"/miners/{MINERS[1]}/tasks", f"/samples/miner/{MINERS[1]}?limit=2"}


def test_every_get_has_a_budget(client: Client) -> None:
    declared = {route.path for route in routes.api.routes if route.method == "GET" and route.listed}
    known = {"{uid}": "1", "{task_id}": "7", "{validator_hotkey}": ALICE.hotkey}
    known |= dict.fromkeys(("{miner_hotkey}", "{hotkey}"), MINERS[1])
    for name, value in known.items():
        declared = {path.replace(name, value) for path in declared}

    assert declared == {path.partition("?")[0] for path in READS}


@pytest.mark.parametrize("samples_count", [10**2, 10**4, 10**5])
def test_the_routes_cost_the_same_from_a_hundred_to_a_hundred_thousand_samples(
    client: Client, samples_count: int
) -> None:
    history(samples_count)
    store.add_to_blacklist(MINERS[1], None, ADMIN.hotkey)
    writes = folded(lambda: send(client, ALICE, batch_of(7)))
    tasks.rank({}, None)

    costs, units = {}, {}
    for path, (_, _, signer) in READS.items():
        store_samples._remembered.clear()
        headers = signed(signer) if signer else None
        spent = spent_on(partial(client.get, f"/leoma{path}", headers))
        costs[path], units[path] = spent.total, spent.read_units

    assert costs == {path: calls for path, (calls, _, _) in READS.items()}
    growing = {path: units.pop(path) for path in GROWING}
    assert [path for path, cost in growing.items() if cost > READS[path][1]] == []
    assert units == {path: cost for path, (_, cost, _) in READS.items() if path not in GROWING}
    assert writes == WRITE_UNITS


def test_a_miners_thousand_tasks_are_one_page(client: Client) -> None:
    history(10**5)
    with counted() as spent:
        listed = get(client, f"/tasks?miner_hotkey={MINERS[1]}").json

    assert len(listed) == 1000
    assert spent.total <= 3


@pytest.mark.parametrize("samples_count", [12_000, 60_000])
def test_a_rank_run_costs_what_its_window_costs(client: Client, samples_count: int) -> None:
    history(samples_count)
    send(client, ALICE, batch_of(6 + samples_count // 100))
    tasks_fold.fold()
    calls = spent_on(lambda: tasks.rank({}, None)).calls

    assert calls["dynamodb:BatchGetItem"] == 2  # the window for scores, and again for ranks
    assert sum(calls.values()) <= 24


def test_an_idle_fold_is_five_calls(client: Client) -> None:
    send(client, ALICE, batch_of(7))
    tasks_fold.fold()

    assert spent_on(tasks_fold.fold).total <= 5


def sign_only(signer: Wallet, body: object) -> tuple[bytes, dict[str, str]]:
    raw = json.dumps(body).encode()
    return raw, signed(signer, raw)


def test_a_refused_batch_writes_nothing_but_its_signature(client: Client) -> None:
    raw, headers = sign_only(BOB, {"samples": [sample(101, miner(1))]})
    with counted() as spent:
        assert client.post("/leoma/samples/batch", raw, headers).status == 422

    assert set(spent.calls) == {"dynamodb:BatchGetItem", "dynamodb:PutItem", "dynamodb:UpdateItem"}
    assert spent.write_units <= 2, "the signature, and once a minute that its owner was seen"
