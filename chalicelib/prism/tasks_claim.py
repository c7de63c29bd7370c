"""Who works on what: the worker's claims and their recovery, validators' leases and their end. Part of `tasks`.

Nothing here starts by itself: process-next, assignments/next and the operator's command claim; the sweep only takes up
again what was claimed and lost.
"""

from __future__ import annotations

import contextlib
import dataclasses
import threading

from chalicelib.kernel import clock, flows, telemetry
from chalicelib.kernel.errors import NotFound, Unavailable
from chalicelib.kernel.tables import until_decided
from chalicelib.kernel.wire import Item

from . import domain, store, store_commit, tasks_finish
from .contracts import ASSIGNED, FAILED, GONE, PASSED, REJECTED, RUNNING, Assignment, PrismSettings, Submission

EVALUATION, LEASE = "prism-evaluation", "prism-lease"
_CLAIM_TRIES = 6
_CLAIM_SECONDS = 10.0
_SPREAD = 4.0
_ENOUGH = 25
_REVIEW_SECONDS = 12.0
# A laptop serves everybody from one process: a few reviewers that are warm beat dozens that all start at once.
_reviewers = threading.BoundedSemaphore(3)
_LIVE_STATES = {"RUNNING", "PENDING_REDRIVE"}
_TIMER_SLACK_SECONDS = 0.1
_EXPIRE_SECONDS = 8.0


def process_next() -> str | None:
    """Claim the oldest pending submission, review it, start its evaluation; its id, whatever comes of it."""
    settings = PrismSettings.current()
    if settings.execution_backend == "validators_only":
        return None
    for entry in store.queue():
        submission_id = str(entry["submission_id"])
        execution = f"{submission_id}-{entry['runs'] + 1}"
        if store.claim_for_worker(entry, execution, until=clock.now() + settings.worker_claim_timeout_seconds):
            if _review(submission_id, execution) not in {REJECTED, GONE}:
                start_evaluation(submission_id, execution)
            return submission_id
    return None


def start_evaluation(submission_id: str, execution: str) -> None:
    """A start that does not succeed now is made up for by the sweep."""
    flows.start_or_leave(EVALUATION, execution, {"submission_id": submission_id, "holder": execution})


def _review(submission_id: str, holder: str) -> str:
    """In a function of its own, so that nothing a project holds can hurt the API. Empty when it did not answer."""
    if not _reviewers.acquire(timeout=_REVIEW_SECONDS):
        return ""
    try:
        payload = {"submission_id": submission_id, "holder": holder}
        answer = flows.invoke("prism-review", payload, seconds=_REVIEW_SECONDS)
    except (flows.TaskFailed, Unavailable) as error:
        telemetry.log("review failed", submission_id=submission_id, error=str(error))
        return ""
    finally:
        _reviewers.release()
    return str(answer["outcome"])


def next_assignment(validator: str) -> Assignment | None:
    """The lease that the validator holds, else a new one of the oldest submission that passes review."""
    deadline = clock.monotonic() + _CLAIM_SECONDS
    for _ in range(_CLAIM_TRIES):
        lease = store.slot(validator) or _claim(validator)
        if lease is None:
            return None
        ready = lease if lease.arch_hash else _prepared(lease)
        if ready or clock.monotonic() > deadline:
            return ready
    return None


def _claim(validator: str) -> Assignment | None:
    """The oldest; whoever loses a race looks again and aims elsewhere, so that many callers spread over the queue."""
    deadline = clock.monotonic() + _CLAIM_SECONDS
    spread = 1.0
    while (entries := _suitable(validator)) and clock.monotonic() < deadline:
        aim = int(clock.jitter(spread)) if spread > 1 else 0
        entry = entries[min(aim, len(entries) - 1)]
        lease = _lease_of(entry, validator)
        try:
            if store.claim_for_validator(entry, lease):
                return lease
        except store.SlotTaken:
            return store.slot(validator)
        spread *= _SPREAD
    return None


def _suitable(validator: str) -> list[Item]:
    """Never the validator's own; those that it has not failed yet come first."""
    fresh: list[Item] = []
    failed: list[Item] = []
    for entry in store.queue():
        if entry["hotkey"] != validator:
            (failed if validator in entry["failed_by"] else fresh).append(entry)
        if len(fresh) == _ENOUGH:
            break
    return fresh + failed


def _lease_of(entry: Item, validator: str) -> Assignment:
    """Held for as long as review may take besides: the validator's own time begins when it is handed over."""
    return Assignment(
        id=clock.new_uuid(),
        submission_id=str(entry["submission_id"]),
        validator_hotkey=validator,
        status=ASSIGNED,
        attempt=int(entry["assignments"]) + 1,
        deadline_at=_deadline() + _REVIEW_SECONDS,
    )


def _prepared(lease: Assignment) -> Assignment | None:
    """Reviewed and timed; None when review rejected the submission (or did not answer: the next call tries again)."""
    if _review(lease.submission_id, lease.id) != PASSED:
        return None
    arch_hash = str(store.get_reviewed(lease.submission_id).review["family_hash"])
    ready = dataclasses.replace(lease, arch_hash=arch_hash, deadline_at=_deadline())
    store_commit.hand_over(lease, ready)
    at = clock.stamp(ready.deadline_at + _TIMER_SLACK_SECONDS)
    flows.start_or_leave(LEASE, ready.id, {"assignment_id": ready.id, "at": at})
    return ready


def _deadline() -> float:
    return clock.now() + PrismSettings.current().validator_assignment_timeout_seconds


def expire_overdue() -> None:
    """Take back what validators let pass the deadline; what time does not suffice for is left to the next sweep."""
    deadline = clock.monotonic() + _EXPIRE_SECONDS
    for assignment_id in store.overdue(clock.now()):
        with contextlib.suppress(NotFound):
            tasks_finish.expire_assignment(assignment_id)
        if clock.monotonic() > deadline:
            return


def expired_submissions() -> list[str]:
    """Who lost a validator since this was asked last, whether a timer, the sweep or this call took the lease."""
    deadline = clock.monotonic() + 2 * _EXPIRE_SECONDS
    expire_overdue()
    found: dict[str, None] = {}
    for submission_id in store.take_expired():
        found[submission_id] = None
        if clock.monotonic() > deadline:
            break
    return list(found)


def recover() -> None:
    """Take up again what the worker claimed and no execution works on; after three tries it has failed."""
    for run in store.runs():
        until_decided(lambda run=run: _recover(run))  # type: ignore[misc] # the default binds this turn's run


def _recover(run: Item) -> None:
    submission_id, execution = str(run["sk"]), str(run["execution"])
    submission = store.get(submission_id)
    if submission.status != RUNNING or submission.holder != execution:
        store.forget_run(submission_id, execution)
        return
    state = flows.status(EVALUATION, execution)
    if state is None:
        start_evaluation(submission_id, execution)
    elif state not in _LIVE_STATES or clock.now() > _patience(run):
        _run_again(submission, execution)


def pardon(submission_id: str) -> None:
    """An operator's word that it was not the project's fault: back to its old place, with as many attempts again."""

    def decide() -> None:
        submission = store.get(submission_id)
        domain.check_pardonable(submission)
        store_commit.take_back(submission)

    until_decided(decide)


def _patience(run: Item) -> float:
    """An execution that reports itself running is given its whole wall clock beyond the claim."""
    return float(run["claimed_until"]) + PrismSettings.current().platform_eval_timeout_seconds


def _run_again(submission: Submission, execution: str) -> None:
    if not domain.may_try_again(submission.runs, domain.MAX_RUNS, submission.pardons):
        store_commit.commit(submission, store_commit.Ending(FAILED, domain.RUNS_EXHAUSTED, execution=execution))
        return
    again = f"{submission.id}-{submission.runs + 1}"
    until = clock.now() + PrismSettings.current().worker_claim_timeout_seconds
    if store.renew_run(submission.id, execution, again, runs_before=submission.runs, until=until):
        start_evaluation(submission.id, again)
