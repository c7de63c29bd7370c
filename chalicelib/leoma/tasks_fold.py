"""The fold: turns committed batches into task sheets, totals, the recent list, miners' tasks and evaluation results.

It starts from what the sheets say, never from what a batch says, so running it twice, late, or after a crash at any
point gives the same. A batch whose number was taken but that no sheet knows yet is waited for as long as its request
could still be running.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from chalicelib.kernel import clock, telemetry
from chalicelib.kernel.blobs import Bucket
from chalicelib.kernel.errors import Unavailable
from chalicelib.kernel.tables import ConditionFailed

from . import contracts_sheets, domain, store, store_jobs, store_samples
from .contracts import LeomaSettings, task_of
from .contracts_sheets import Sheet, TaskSheet, Totals, Vote, Votes

LOCK_SECONDS = 120
_WAIT_FOR_A_BATCH_SECONDS = 60
VOTERS_PER_TRANSACTION = 64
LARGEST_BODY = 390_000
_TASKS_PER_TRANSACTION = 8
_MOST_OPEN_TASKS = 16
_KEPT_OPEN_TASKS = 8
_MINERS_AT_A_TIME = 100
_LISTS_AT_A_TIME = 25

Change = tuple[str, str]


@dataclass
class Memory:
    """What the last fold had seen: batch numbers per writer, and those still waited for."""

    seen: dict[str, int] = field(default_factory=dict)
    waiting: dict[str, dict[str, float]] = field(default_factory=dict)


def newest_task() -> int:
    """The highest task among the samples."""
    held = store.snapshot("open")
    return int(held.content["newest"]) if held else 0


def _memory() -> Memory:
    found = store_jobs.state("fold")
    return Memory(**found) if found else Memory()


def fold() -> bool:
    """One pass over what is new; False where another one is at it."""
    with store_jobs.lock("fold", LOCK_SECONDS) as alone:
        if alone:
            _fold()
        return alone


def _fold() -> None:
    memory = _memory()
    written = store_jobs.writers()
    _retry_results()
    if not any(memory.waiting.values()) and written == memory.seen:
        return
    touched, numbers = _touched(memory, written)
    now = clock.now()
    arrived: set[tuple[str, int]] = set()
    for first in range(0, len(touched), _TASKS_PER_TRANSACTION):
        while _fold_tasks(touched[first : first + _TASKS_PER_TRANSACTION], arrived):
            pass  # more voters than one transaction takes
    _settle_old()
    memory.seen = written
    memory.waiting = _still_waiting(memory.waiting, numbers, arrived, now)
    store_jobs.save_state("fold", memory.__dict__)


def _touched(memory: Memory, written: Mapping[str, int]) -> tuple[list[str], dict[str, list[int]]]:
    """Tasks that new or awaited batches name, and all those batch numbers."""
    tasks: set[str] = set()
    numbers: dict[str, list[int]] = {}
    for validator, newest in written.items():
        awaited = [int(number) for number in memory.waiting.get(validator, {})]
        after = memory.seen.get(validator, 0)
        if newest <= after and not awaited:
            continue
        first = min([after + 1, *awaited])
        found = store_jobs.batch_tasks(validator, first - 1, newest)
        wanted = [*awaited, *range(after + 1, newest + 1)]
        numbers[validator] = wanted
        for number in wanted:
            tasks.update(found.get(number, ()))
    return sorted(tasks), numbers


def _still_waiting(
    before: Mapping[str, Mapping[str, float]],
    numbers: Mapping[str, Iterable[int]],
    arrived: set[tuple[str, int]],
    now: float,
) -> dict[str, dict[str, float]]:
    """Numbers that no sheet knows: abandoned, or about to arrive; given up when their request must be over."""
    waiting: dict[str, dict[str, float]] = {}
    for validator, wanted in numbers.items():
        for number in wanted:
            since = before.get(validator, {}).get(str(number), now)
            if (validator, number) not in arrived and now - since < _WAIT_FOR_A_BATCH_SECONDS:
                waiting.setdefault(validator, {})[str(number)] = since
    return waiting


def _fold_tasks(keys: Sequence[str], arrived: set[tuple[str, int]]) -> bool:
    """Bring some task sheets up to their sheets, with the totals that follow, in one transaction; whether voters are
    left for another.

    That a sheet differs from its task sheet is what tells that work is left: whatever else follows from the difference
    is written before it goes away.
    """
    voters: set[str] = set()
    left = False
    tasks: dict[str, tuple[str, store.Item]] = {}
    changed: dict[Change, Sheet] = {}
    steps: dict[Change, tuple[Votes, Votes]] = {}
    for key in keys:
        folded, rows = store_jobs.task_rows(key)
        before = contracts_sheets.task_of(folded)
        now = {validator: contracts_sheets.sheet_of(item) for validator, item in rows.items()}
        arrived |= {(validator, commit.number) for validator, sheet in now.items() for commit in sheet.commits}
        differing = [v for v, sheet in now.items() if before.voters.get(v) != sheet.votes]
        moved = {v: now[v] for v in _with_room(differing, voters)}
        left = left or len(moved) < len(differing)
        if not moved:
            continue
        after = TaskSheet(before.voters | {v: sheet.votes for v, sheet in moved.items()}, clock.new_hex(6))
        fields = contracts_sheets.task_fields(after)
        if len(fields["body"]) > LARGEST_BODY:
            telemetry.log("a task has more votes than can be kept", system="leoma", task=key, voters=len(after.voters))
            continue
        tasks[key] = (before.version, fields)
        voters |= moved.keys()
        steps |= {(key, v): (before.voters.get(v, {}), sheet.votes) for v, sheet in moved.items()}
        changed |= {(key, v): sheet for v, sheet in moved.items()}
    if tasks:
        store_jobs.note_results_due(_write_results(changed))
        _show(changed)
        _show_by_name(steps)
        store_jobs.move_tasks(tasks, _moved_totals(steps))
    return left and bool(tasks)


def _with_room(validators: Sequence[str], voters: set[str]) -> list[str]:
    """Those whose totals the transaction has room for, besides the ones that it holds already."""
    new = [name for name in validators if name not in voters]
    left_out = set(new[VOTERS_PER_TRANSACTION - len(voters) :])
    return [name for name in validators if name not in left_out]


def _moved_totals(steps: Mapping[Change, tuple[Votes, Votes]]) -> dict[str, tuple[str, store.Item]]:
    names = list(dict.fromkeys(validator for _, validator in steps))
    known = {name: contracts_sheets.totals_of(item) for name, item in store_jobs.totals_of(names).items()}
    after: dict[str, Totals] = dict(known)
    for (_, validator), (before, now) in steps.items():
        after[validator] = after[validator].plus(before, now)
    return {
        name: (known[name].version, contracts_sheets.totals_fields(replace(totals, version=clock.new_hex(6))))
        for name, totals in after.items()
    }


# --- evaluation results


def _write_results(changed: Mapping[Change, Sheet]) -> list[Change]:
    """Put each changed result object; answers those that are due, from the first that could not be written: storage
    that hangs would hold up the votes.
    """
    due: list[Change] = []
    for change, sheet in changed.items():
        if due or not _write_result(*change, sheet):
            due.append(change)
    return due


def _write_result(key: str, validator: str, sheet: Sheet) -> bool:
    bucket = LeomaSettings.current().samples_bucket
    task = task_of(key)
    if task is None or not bucket:
        return True
    name = f"{task}/evaluation_results/{validator.replace('/', '_')}.json"
    try:
        Bucket(bucket).put(name, _result_object(validator, sheet), content_type="application/json")
    except (Unavailable, RuntimeError):
        telemetry.log("evaluation result not written", system="leoma", task=task, validator=validator)
        return False
    return True


def _result_object(validator: str, sheet: Sheet) -> bytes:
    """Everything a validator said about one task, in the form and, where it can be, the order that it signed."""
    order = domain.result_order(sheet)
    lines = []
    for miner, (_, entry, vote) in zip(
        order, store_samples.located([(validator, sheet.votes[m]) for m in order]), strict=True
    ):
        texts = entry.texts or store_samples.texts_at(validator, vote.batch, vote.place)
        lines.append(domain.evaluation_entry(miner, entry, texts))
    return domain.result_body(sheet.signature, lines)


def _retry_results() -> None:
    for key, validator in store_jobs.results_due():
        sheet = contracts_sheets.sheet_of(store.sheet(validator, key))
        if not _write_result(key, validator, sheet):
            return
        store_jobs.result_written(key, validator)


# --- recent samples, miners' tasks


def _show(changed: Mapping[Change, Sheet]) -> None:
    """The newest references (validator, task, then the vote), and the tasks that are read from their task sheets."""
    held, opened = store.snapshots("recent", "open")
    rows = [row for row in (held.content if held else []) if (row[1], row[0]) not in changed]
    for (key, validator), sheet in changed.items():
        rows += [[validator, key, *vote] for vote in sheet.votes.values()]
    numbered = {key for key, _ in changed if task_of(key) is not None}
    known: dict[str, Any] = opened.content if opened else {"tasks": [], "newest": 0}
    tasks = sorted({*known["tasks"], *numbered})
    newest = max([int(known["newest"]), *(int(key) for key in numbered)])
    contents = {"recent": _newest(rows), "open": {"tasks": tasks, "newest": newest}}
    store_jobs.save_snapshots(contents, at=clock.now())


def _show_by_name(steps: Mapping[Change, tuple[Votes, Votes]]) -> None:
    """Samples under a legacy name stand in no task list: their miners' newest, in the form of the recent list."""
    new: dict[str, dict[Change, Vote]] = {}
    for (key, validator), (before, now) in steps.items():
        if task_of(key) is None:
            for miner in [miner for miner, vote in now.items() if before.get(miner) != vote]:
                new.setdefault(store.by_name(miner), {})[validator, key] = now[miner]
    names = list(new)
    for first in range(0, len(names), _LISTS_AT_A_TIME):
        some = names[first : first + _LISTS_AT_A_TIME]
        contents = {}
        for name, held in zip(some, store.snapshots(*some), strict=True):
            rows = [row for row in (held.content if held else []) if (row[0], row[1]) not in new[name]]
            rows += [[*change, *vote] for change, vote in new[name].items()]
            contents[name] = _newest(rows)
        store_jobs.save_snapshots(contents, at=clock.now())


def _newest(rows: list[Any]) -> list[Any]:
    return sorted(rows, key=lambda row: (-row[5], -row[2]))[: store_samples.RECENT]


def _settle_old() -> None:
    """Keep few tasks open; the others stand in blocks before they are no longer read from their task sheets."""
    held = store.snapshot("open")
    tasks = held.content["tasks"] if held else []
    if held and len(tasks) > _MOST_OPEN_TASKS:
        _settle(tasks[:-_KEPT_OPEN_TASKS])
        store_jobs.save_snapshots({"open": held.content | {"tasks": tasks[-_KEPT_OPEN_TASKS:]}}, at=clock.now())


def _settle(keys: Sequence[str]) -> None:
    """Write tasks into the blocks of every miner they name; a task that opens again overrides its line."""
    lines: dict[tuple[str, str], list[contracts_sheets.TaskLine]] = {}
    for first in range(0, len(keys), _TASKS_PER_TRANSACTION):
        some = store.task_sheets(keys[first : first + _TASKS_PER_TRANSACTION], consistent=True)
        for key, item in some.items():
            task = int(key)
            for miner, votes in contracts_sheets.task_of(item).by_miner().items():
                place = (miner, contracts_sheets.block_number(task))
                lines.setdefault(place, []).append(contracts_sheets.line(task, votes))
    places = list(lines)
    for first in range(0, len(places), _MINERS_AT_A_TIME):
        some_places = places[first : first + _MINERS_AT_A_TIME]
        held = store_jobs.blocks_at(some_places)
        bodies = {}
        for place in some_places:
            known = {line.task: line for line in contracts_sheets.block_lines(held[place])} if place in held else {}
            known |= {line.task: line for line in lines[place]}
            bodies[place] = contracts_sheets.block_body(known[task] for task in sorted(known))
        store_jobs.save_blocks(bodies)


def catch_up() -> None:
    """Fold until nothing is new; a pass that lost to another starts over."""
    deadline = clock.monotonic() + LOCK_SECONDS
    while clock.monotonic() < deadline:
        try:
            if fold():
                return
        except ConditionFailed:
            continue
        clock.sleep(clock.jitter(0.2))


def votes_on(keys: Sequence[str]) -> list[dict[str, dict[str, bool]]]:
    """Who voted how on each task that has votes, by miner."""
    found: list[dict[str, dict[str, bool]]] = []
    for first in range(0, len(keys), _MINERS_AT_A_TIME):
        for item in store.task_sheets(keys[first : first + _MINERS_AT_A_TIME], consistent=True).values():
            by_miner = contracts_sheets.task_of(item).by_miner()
            if by_miner:
                found.append(
                    {miner: {voter: vote.passed for voter, vote in votes.items()} for miner, votes in by_miner.items()}
                )
    return found


def samples_stored(totals: Iterable[Any]) -> int:
    return sum(contracts_sheets.totals_of(item).samples for item in totals)
