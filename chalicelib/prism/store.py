"""PRISM's access patterns, one function each: submissions, queue, leases. See also `store_review` (9-13),
`store_families` (14-22, 25) and `store_commit` (23-24, 26, 28), which the same file would not hold.

| #  | question                           | key                               | consistency | cost                    |
|----|------------------------------------|-----------------------------------|-------------|-------------------------|
| 1  | was this nonce used                | USED#NONCE#{hotkey}#{nonce}       | conditional | 1 write                 |
| 2  | keep a project under its hash      | code/{sha256}                     | -           | 1 object                |
| 3  | a new submission                   | SUB, QUEUE, CODE, MINER, UNREAD   | conditional | 1 transaction of 5 or 6 |
| 4  | one submission, with its review    | SUB#{id}                          | strong      | 1 get / 1 batch get     |
| 5  | the oldest pending                 | QUEUE                             | strong      | 1 query of 25           |
| 6  | take one for the worker            | QUEUE, SUB, RUNS                  | conditional | 1 transaction of 3      |
| 7  | take one for a validator           | QUEUE, SUB, ASG, SLOT, LEASES     | conditional | 1 transaction of 5      |
| 8  | a validator's own lease            | SLOT#{hotkey}, ASG#{id}           | strong      | 2 gets                  |
| 9  | what review found                  | SUB#{id}/REVIEW                   | -           | 1 write                 |
| 10 | members of index entries           | IX#{key}                          | strong      | 1 batch get of ~20      |
| 11 | enter the index                    | IX#{key}                          | -           | 1 transaction of ~30    |
| 11a| earlier ones that nobody read yet  | UNREAD                            | strong      | 1 query of 8, 1 delete  |
| 12 | a print, to compare exactly        | prints/{id}                       | -           | 1 object                |
| 13 | the diversity sample               | STATE/gallery                     | strong      | 1 get                   |
| 14 | families to compare with           | FAMHASH, RECENT, FAM              | strong      | 3 calls                 |
| 15 | variants of a family               | VARS#{family}, FAM#{family}/T#    | strong      | 2 calls                 |
| 16 | architectures, best first          | ARCH                              | strong      | 1 query                 |
| 17 | variants, current best first       | VARS or VARS#{family}             | strong      | 1 query                 |
| 18 | the leaderboard of an epoch        | BOARD#{epoch}                     | strong      | 1 query of 50           |
| 19 | weights                            | STATE/weights, SNAP/weights       | strong      | 1 batch get             |
| 19a| what owners earned, if it changed  | EARNED or EARNED#{epoch}          | strong      | 1 query, a row an owner |
| 20 | holds, newest first                | HOLDS or HOLDS#{status}           | strong      | 1 query of 100          |
| 21 | one hold                           | HOLD#{id}                         | strong      | 1 get                   |
| 22 | what a resolution refers to        | FAM, FAMHASH, VARID, FAM#/T#      | strong      | 2 batch gets            |
| 23 | end a submission, all effects      | SUB, ASG, FAM, VAR, BOARD, ...    | conditional | 1 transaction of 5-35   |
| 24 | give a submission back             | SUB, QUEUE, ASG, SLOT, LEASES     | conditional | 1 transaction of 5      |
| 25 | the history of a family            | EVENTS#{family}                   | strong      | 1 query of 100          |
| 26 | take a failed submission back      | SUB, QUEUE                        | conditional | 1 transaction of 2      |
| 27 | leases that the clock ended        | EXPIRED                           | strong      | queries of 100, deletes |
| 28 | a lease is ready to be handed out  | ASG, LEASES                       | conditional | 1 transaction of 3      |

Nothing is read from an index of DynamoDB's: every list is a partition of its own, written with what it lists.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Iterator

from chalicelib.kernel import clock, single_use
from chalicelib.kernel.blobs import Bucket
from chalicelib.kernel.errors import Contended, NotFound, TooMany
from chalicelib.kernel.tables import ConditionFailed, Table, Write, get_many, transact
from chalicelib.kernel.wire import Item

from .contracts import PENDING, RUNNING, Assignment, PrismSettings, Submission
from .store_records import item_of, micros, unpacked, values_of

table = Table("prism")

_QUEUE_PAGE = 25
_QUEUE_PAGES = 8
_REQUEST_SECONDS = 86_400
_TOLD_SECONDS = 604_800
NEXT_STEP = "#timeline = list_append(#timeline, :step)"


class SlotTaken(Exception):
    """The validator holds another assignment by now."""


@functools.cache
def _bucket(name: str) -> Bucket:
    return Bucket(name)


def bucket() -> Bucket:
    return _bucket(PrismSettings.current().projects_bucket)


def consume_nonce(hotkey: str, nonce: str, *, expires_at: float) -> bool:
    """1: used up for good, whatever becomes of the request."""
    return single_use.consume(table, "NONCE", f"{hotkey}#{nonce}", expires_at=expires_at)


def keep_code(key: str, code: str) -> None:
    """2: content under its own hash; a repeat changes nothing."""
    bucket().put_new(key, code.encode("utf-8", "surrogatepass"), content_type="text/plain; charset=utf-8")


def code(key: str) -> str:
    raw = bucket().get(key)
    if raw is None:
        raise RuntimeError(f"the project {key} is not in the bucket")
    return raw.decode("utf-8", "surrogatepass")


def create(submission: Submission, *, request_id: str = "", max_pending: int = 0) -> Submission:
    """3: pending, in the queue, and first of its exact content; a repeated request id gets the first answer."""
    first = [[submission.status, submission.created_at]]
    record = dataclasses.replace(submission, counted=bool(max_pending), timeline=first)
    writes = [
        table.putting_new(item_of(f"SUB#{record.id}", "-", record, without=("review",))),
        table.putting_new(_queue_item(record)),
        _first_of_its_content(record),
        _seen(record, max_pending),
    ]
    if request_id:
        writes.append(_remembered(record, request_id))
    writes.append(table.putting_new({"pk": "UNREAD", "sk": record.place, "submission_id": record.id}))
    try:
        transact(writes)
    except ConditionFailed as failure:
        if 3 in failure.failed:  # noqa: PLR2004 - the miner's row
            raise TooMany("too many pending submissions", code="too_many_pending", retry_after=60) from None
        old = failure.failed.get(4)
        if old is None:
            raise
        return dataclasses.replace(get(str(old["submission_id"])), status=PENDING)
    return record


def _remembered(record: Submission, request_id: str) -> Write:
    expires = record.created_at + _REQUEST_SECONDS
    item = {
        "pk": f"REQUEST#{record.hotkey}#{request_id}",
        "sk": "-",
        "submission_id": record.id,
        "expires_at": expires,
        "ttl": int(expires) + 1,
    }
    return table.putting(item, when="attribute_not_exists(#pk) OR #expires_at < :now", now=record.created_at)


def _seen(record: Submission, max_pending: int) -> Write:
    """When a miner was seen first and last; how many are pending only where a limit asks."""
    change = "SET #first_seen = if_not_exists(#first_seen, :now), #last_seen = :now"
    if not max_pending:
        return table.updating(f"MINER#{record.hotkey}", "-", change, now=record.created_at)
    room = "attribute_not_exists(#pending) OR #pending < :most"
    return table.updating(
        f"MINER#{record.hotkey}", "-", change + " ADD #pending :one",
        when=room, now=record.created_at, most=max_pending, one=1,
    )  # fmt: skip


def counting(hotkey: str, by: int, *, counted: bool) -> list[Write]:
    """The miner's number of pending ones, where the submission was counted."""
    return [table.updating(f"MINER#{hotkey}", "-", "ADD #pending :by", by=by)] if counted else []


def member(submission: Submission) -> str:
    """How an index entry names a submission: its place in the order, then whose it is."""
    return f"{submission.place}#{submission.hotkey}"


def _first_of_its_content(record: Submission) -> Write:
    change = "SET #first = if_not_exists(#first, :me)"
    return table.updating(f"IX#CODE#{record.code_hash}", "-", change, me=member(record))


def entering(key: str, name: str) -> Write:
    """A set of strings takes a repeat without effect."""
    return table.updating(f"IX#{key}", "-", "ADD #members :one", one={name})


def get(submission_id: str) -> Submission:
    """4: one submission without its review."""
    item = table.get(f"SUB#{submission_id}", "-")
    if not item:
        raise NotFound("submission not found", code="submission_not_found")
    return _submission(item)


def get_reviewed(submission_id: str) -> Submission:
    """4: with what review found, empty before it ran."""
    item, review = get_many([(table, f"SUB#{submission_id}", "-"), (table, f"SUB#{submission_id}", "REVIEW")])
    if not item:
        raise NotFound("submission not found", code="submission_not_found")
    found = (review or {}).get("found", {})
    read = {name: unpacked(value) if isinstance(value, bytes) else value for name, value in found.items()}
    return dataclasses.replace(_submission(item), review=read)


def _submission(item: Item) -> Submission:
    values = values_of(Submission, item)
    return Submission(**values | {"failed_by": tuple(item.get("failed_by", ()))})


def _queue_item(submission: Submission) -> Item:
    return {
        "pk": "QUEUE",
        "sk": submission.place,
        "submission_id": submission.id,
        "hotkey": submission.hotkey,
        "failed_by": list(submission.failed_by),
        "runs": submission.runs,
        "assignments": submission.assignments,
        "counted": submission.counted,
    }


def queueing(submission: Submission) -> Write:
    return table.putting_new(_queue_item(submission))


def queue(*, pages: int = _QUEUE_PAGES) -> Iterator[Item]:
    """5: pending submissions, the oldest first, a bounded number."""
    start = None
    for _ in range(pages):
        page = table.query("QUEUE", limit=_QUEUE_PAGE, consistent=True, start=start)
        yield from page.items
        start = page.next_key
        if not start:
            return


def step(status: str) -> Item:
    """The values of `NEXT_STEP`: what a submission becomes, and when."""
    now = clock.now()
    return {"now": now, "step": [[status, now]]}


def claim_for_worker(entry: Item, execution: str, *, until: float) -> bool:
    """6: pending to running, once; False when somebody else was faster."""
    submission_id = str(entry["submission_id"])
    change = f"SET #status = :running, #holder = :holder, #updated_at = :now, #runs = :runs, {NEXT_STEP}"
    return _claimed(
        [
            table.deleting("QUEUE", str(entry["sk"]), when="attribute_exists(#pk)"),
            table.updating(
                f"SUB#{submission_id}", "-", change, when="#status = :pending",
                running=RUNNING, pending=PENDING, holder=execution, runs=entry["runs"] + 1, **step(RUNNING),
            ),
            running(submission_id, execution, until=until),
            *_no_longer_pending(entry),
        ]
    )  # fmt: skip


def _no_longer_pending(entry: Item) -> list[Write]:
    return counting(str(entry["hotkey"]), -1, counted=bool(entry["counted"]))


def running(submission_id: str, execution: str, *, until: float) -> Write:
    item = {"pk": "RUNS", "sk": submission_id, "execution": execution, "claimed_until": until}
    return table.putting(item)


def claim_for_validator(entry: Item, assignment: Assignment) -> bool:
    """7: the same for a lease; a validator has one slot. SlotTaken when it is in use."""
    change = f"SET #status = :running, #holder = :holder, #updated_at = :now, #assignments = :attempt, {NEXT_STEP}"
    free = "#status = :pending AND #assignments = :before"
    writes = [
        table.deleting("QUEUE", str(entry["sk"]), when="attribute_exists(#pk)"),
        table.updating(
            f"SUB#{assignment.submission_id}", "-", change, when=free,
            running=RUNNING, pending=PENDING, holder=assignment.id, **step(RUNNING),
            attempt=assignment.attempt, before=assignment.attempt - 1,
        ),
        table.putting_new({"pk": f"SLOT#{assignment.validator_hotkey}", "sk": "-", "assignment_id": assignment.id}),
        table.putting_new(item_of(f"ASG#{assignment.id}", "-", assignment)),
        table.putting_new(lease_item(assignment)),
        *_no_longer_pending(entry),
    ]  # fmt: skip
    try:
        transact(writes)
    except ConditionFailed as failure:
        if 2 in failure.failed:  # noqa: PLR2004 - the slot
            raise SlotTaken from None
        return False
    except Contended:
        return False
    return True


def lease_item(assignment: Assignment) -> Item:
    return {"pk": "LEASES", "sk": f"{micros(assignment.deadline_at)}#{assignment.id}", "assignment_id": assignment.id}


def _claimed(writes: list[Write]) -> bool:
    try:
        transact(writes)
    except (ConditionFailed, Contended):
        return False
    return True


def slot(validator: str) -> Assignment | None:
    """8: the assignment that a validator holds."""
    item = table.get(f"SLOT#{validator}", "-")
    if not item:
        return None
    found = table.get(f"ASG#{item['assignment_id']}", "-")
    return _assignment(found) if found else None


def assignment(assignment_id: str) -> Assignment:
    item = table.get(f"ASG#{assignment_id}", "-")
    if not item:
        raise NotFound("assignment not found", code="assignment_not_found")
    return _assignment(item)


def _assignment(item: Item) -> Assignment:
    return Assignment(**values_of(Assignment, item))


def accept(found: Assignment, status: str) -> None:
    """Accepted, if it still is as it was read."""
    try:
        table.update(
            f"ASG#{found.id}", "-", "SET #status = :status", when="#status = :was", status=status, was=found.status
        )
    except ConditionFailed:
        raise Contended from None


def overdue(now: float) -> Iterator[str]:
    """Assignments whose deadline lies strictly before now, the earliest first."""
    before = {"now": micros(now)}
    for item in table.query_all("LEASES", where="#sk < :now", values=before, limit=100, consistent=True):
        yield str(item["assignment_id"])


def leases() -> list[Assignment]:
    """The first hundred that will end, the earliest first."""
    ids = [str(item["assignment_id"]) for item in table.query("LEASES", limit=100, consistent=True).items]
    found = get_many([(table, f"ASG#{assignment_id}", "-") for assignment_id in ids])
    return [_assignment(item) for item in found if item]


def runs() -> list[Item]:
    """What the worker claimed and has not ended."""
    return list(table.query_all("RUNS", consistent=True))


def renew_run(submission_id: str, before: str, execution: str, *, runs_before: int, until: float) -> bool:
    """Claim a stuck submission again under the next execution's name."""
    change = "SET #holder = :holder, #runs = :runs, #updated_at = :now"
    return _claimed(
        [
            table.updating(
                f"SUB#{submission_id}", "-", change, when="#status = :running AND #holder = :before",
                running=RUNNING, holder=execution, before=before, runs=runs_before + 1, now=clock.now(),
            ),
            running(submission_id, execution, until=until),
        ]
    )  # fmt: skip


def forget_run(submission_id: str, execution: str) -> None:
    """A row of a submission that has ended otherwise."""
    try:
        table.delete("RUNS", submission_id, when="#execution = :execution", execution=execution)
    except ConditionFailed:
        return


def done_item(submission_id: str) -> Item:
    return _to_be_told("DONE", submission_id, submission_id)


def expired_item(assignment: Assignment) -> Item:
    return _to_be_told("EXPIRED", assignment.id, assignment.submission_id)


def _to_be_told(pk: str, key: str, submission_id: str) -> Item:
    now = clock.now()
    ttl = int(now) + _TOLD_SECONDS
    return {"pk": pk, "sk": f"{micros(now)}#{key}", "submission_id": submission_id, "ttl": ttl}


def take_done() -> list[str]:
    """Ids that ended since the last poll; each goes to one caller only."""
    ended = table.query("DONE", limit=100, consistent=True).items
    return [str(item["submission_id"]) for item in ended if table.delete("DONE", str(item["sk"]))]


def take_expired() -> Iterator[str]:
    """27: submissions that lost a lease to the clock, the earliest first; each goes to one caller only."""
    for item in table.query_all("EXPIRED", limit=100, consistent=True):
        if table.delete("EXPIRED", str(item["sk"])):
            yield str(item["submission_id"])
