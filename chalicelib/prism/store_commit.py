"""PRISM's access patterns 23, 24, 26 and 28: how a submission ends, goes back or is handed out, each in one go."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import field
from typing import Any

from chalicelib.kernel import clock
from chalicelib.kernel.errors import Contended
from chalicelib.kernel.tables import ConditionFailed, Write, transact
from chalicelib.kernel.values import frozen
from chalicelib.kernel.wire import Item

from . import store, store_families
from .contracts import ASSIGNED, COMPLETED, EXPIRED, HELD, PENDING, Assignment, Family, Hold, Submission, Variant
from .store_records import micros

table = store.table


@frozen
class Ending:
    """Everything that becomes true together when a submission ends; records before are premises."""

    status: str
    error: str | None = None
    score: Mapping[str, Any] | None = None
    assignment: Assignment | None = None
    execution: str = ""
    family: tuple[Family | None, Family] | None = None
    families_created: int = 0
    variants: Sequence[tuple[Variant | None, Variant]] = ()
    events: Sequence[Mapping[str, Any]] = ()
    component: Mapping[str, Any] = field(default_factory=dict)
    hold: tuple[Hold | None, Hold] | None = None


def commit(submission: Submission, ending: Ending) -> None:
    """23: all of it, if the submission still is as it was read; else Contended, and the caller decides again."""
    writes = [_ended(submission, ending)]
    if ending.assignment:
        writes += _assignment_ended(ending.assignment)
    if ending.execution:
        writes += [table.deleting("RUNS", submission.id), table.putting(store.done_item(submission.id))]
    if ending.family:
        writes += store_families.putting_family(*ending.family, ending.families_created)
    for before, after in ending.variants:
        writes += store_families.putting_variant(before, after)
    writes += store_families.earning([*([ending.family] if ending.family else []), *ending.variants])
    if ending.hold:
        writes += store_families.putting_hold(ending.hold[1], ending.hold[0])
    writes += [table.putting(_event(submission, number, event)) for number, event in enumerate(ending.events)]
    if ending.status == COMPLETED:
        score = ending.score or submission.score
        writes.append(table.putting(store_families.board_row(submission, score["final_score"])))
        writes.append(store_families.scoring(submission, score["final_score"]))
        writes.append(store_families.changed_weights())
    _write(writes)


def give_back(submission: Submission, lost: Assignment) -> None:
    """24: pending again, in its old place; the lease that was lost is closed with it."""
    losers = tuple(dict.fromkeys([*submission.failed_by, lost.validator_hotkey]))[-20:]
    again = Submission(**{**vars(submission), "failed_by": losers})
    change = f"SET #status = :pending, #holder = :nobody, #updated_at = :now, #failed_by = :losers, {store.NEXT_STEP}"
    writes = [
        table.updating(
            f"SUB#{submission.id}", "-", change, when="#status = :was AND #holder = :holder",
            pending=PENDING, nobody="", losers=list(losers), **store.step(PENDING),
            was=submission.status, holder=submission.holder,
        ),
        store.queueing(again),
        *store.counting(submission.hotkey, 1, counted=submission.counted),
        *_assignment_ended(lost),
    ]  # fmt: skip
    _write(writes)


def take_back(submission: Submission) -> None:
    """26: pending again after it had failed, in its old place."""
    again = Submission(**{**vars(submission), "pardons": submission.pardons + 1, "error": None})
    change = f"SET #status = :pending, #error = :error, #pardons = :pardons, #updated_at = :now, {store.NEXT_STEP}"
    _write(
        [
            table.updating(
                f"SUB#{submission.id}", "-", change, when="#status = :was AND #pardons = :before",
                pending=PENDING, error=None, pardons=again.pardons, **store.step(PENDING),
                was=submission.status, before=submission.pardons,
            ),
            store.queueing(again),
            *store.counting(submission.hotkey, 1, counted=submission.counted),
        ]
    )  # fmt: skip


def hand_over(claimed: Assignment, ready: Assignment) -> None:
    """28: review has named the architecture, and the validator's time begins; once."""
    first = "#status = :assigned AND #deadline_at = :was"
    before, after = store.lease_item(claimed), store.lease_item(ready)
    moved = [] if before == after else [table.deleting("LEASES", str(before["sk"])), table.putting(after)]
    change = table.updating(
        f"ASG#{ready.id}", "-", "SET #arch_hash = :hash, #deadline_at = :deadline", when=first,
        hash=ready.arch_hash, deadline=ready.deadline_at, assigned=ASSIGNED, was=claimed.deadline_at,
    )  # fmt: skip
    _write([change, *moved])


def close(lost: Assignment) -> None:
    """A lease whose submission has ended otherwise."""
    _write(_assignment_ended(lost))


def _ended(submission: Submission, ending: Ending) -> Write:
    change = "SET #status = :status, #holder = :nobody, #updated_at = :now, #error = :error, #hold_id = :hold"
    change += f", {store.NEXT_STEP}"
    values: Item = {
        "status": ending.status,
        "nobody": "",
        **store.step(ending.status),
        "error": ending.error,
        "hold": ending.hold[1].id if ending.hold and ending.status == HELD else submission.hold_id,
        "was": submission.status,
        "holder": submission.holder,
    }
    if ending.score is not None:
        change += ", #score = :score"
        values["score"] = dict(ending.score)
    if ending.component:
        change += ", #component = :component"
        values["component"] = dict(ending.component)
    when = "#status = :was AND #holder = :holder"
    return table.updating(f"SUB#{submission.id}", "-", change, when=when, **values)


def _assignment_ended(after: Assignment) -> list[Write]:
    """The lease in its last state, its validator free for another one."""
    change = "SET #status = :status, #error = :error, #metrics = :metrics"
    told = [table.putting(store.expired_item(after))] if after.status == EXPIRED else []
    return [
        table.updating(
            f"ASG#{after.id}", "-", change,
            when="#status IN (:assigned, :accepted, :running) AND #deadline_at = :deadline",
            deadline=after.deadline_at, status=after.status, error=after.error, metrics=after.metrics,
            assigned="assigned", accepted="accepted", running="running",
        ),
        table.deleting(
            f"SLOT#{after.validator_hotkey}", "-",
            when="attribute_not_exists(#pk) OR #assignment_id = :id", id=after.id,
        ),
        table.deleting("LEASES", str(store.lease_item(after)["sk"])),
        *told,
    ]  # fmt: skip


def _event(submission: Submission, number: int, event: Mapping[str, Any]) -> Item:
    now = clock.now()
    family = event.get("architecture_id") or f"SUB#{submission.id}"
    return {
        "pk": f"EVENTS#{family}",
        "sk": f"{micros(now)}#{submission.id}#{number}",
        "submission_id": submission.id,
        "at": now,
        **event,
    }


def _write(writes: Sequence[Write]) -> None:
    try:
        transact(writes)
    except ConditionFailed:
        raise Contended from None
