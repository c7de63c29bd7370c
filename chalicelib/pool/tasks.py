"""Pool's background work: expiry, credits and the leaderboard, payouts of windows.

Every flow is a speed-up of a job here: what it must do stands in the table first.
"""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from chalicelib.kernel import chain, clock, flows
from chalicelib.kernel.jobs import Jobs
from chalicelib.kernel.tables import until_decided

from . import domain, merkle, store, store_claims, store_results, store_work, tasks_epochs
from .contracts import PoolSettings
from .store import table

jobs = Jobs("pool", __name__, table, PoolSettings.current)
tick = jobs.tick

TIMERS = "pool-assignment"
PAYOUTS = "pool-epoch"
_MOST_WINDOWS = 20


@jobs.task("expire", timeout=60)
def expire(event: dict[str, Any]) -> dict[str, Any]:
    """What an assignment's timer does."""
    return {"expired": _expire(event["id"])}


def _expire(number: str) -> bool:
    return until_decided(lambda: store_work.expire(number, clock.now()))


@jobs.task("round", timeout=300)
def settle(_event: dict[str, Any]) -> dict[str, Any]:
    """Pay what is owed, and show it."""
    paid = tasks_epochs.pay_credits()
    store.refresh_leaderboard(clock.now())
    return {"paid": paid}


@jobs.every("rounds_interval")
def rounds() -> None:
    """The same without a flow, and what nobody else tidies up."""
    tasks_epochs.pay_credits()
    store.refresh_leaderboard(clock.now())
    store_results.trim_elites()
    store.forget_old_minutes(clock.now())


@jobs.every("timers_interval")
def timers() -> None:
    """Expire what is past its time, and start timers that are not running again, each under its next name."""
    now = clock.now()
    for item in list(store_work.due(now)):
        _expire(item["pk"].removeprefix("ASSIGN#"))
    waiting = list(store_work.due())
    running = flows.running(TIMERS) if waiting else set()
    for item in waiting:
        number, attempt = item["pk"].removeprefix("ASSIGN#"), item.get("timer", 0)
        if f"{number}-{attempt}" in running:
            continue
        at = clock.stamp_seconds(float(item["due_sk"].partition("#")[0]) + 1)
        store_work.note_timer(number, attempt + 1)
        flows.start_or_leave(TIMERS, f"{number}-{attempt + 1}", {"id": number, "at": at})


@jobs.every("windows_interval")
def close_windows() -> None:
    """Pay out every window that is over, in flows that are started again until their epoch is published."""
    settings, head = PoolSettings.current(), chain.head()
    if head is None:
        return
    window = domain.window_at(head.block, settings)
    since_start = (head.block - window.start_block) * settings.block_seconds
    last = window.number - 1 if since_start >= settings.epoch_grace_s else window.number - 2
    first = domain.first_window_to_close(store_claims.first_open_window(default=last), last)
    for number in range(first, min(last, first + _MOST_WINDOWS) + 1):
        if not _settle_window(number):
            return
        store_claims.note_open_window(number + 1)


def _settle_window(number: int) -> bool:
    """Whether a window needs nothing more; if not, its flow runs."""
    if store_claims.is_settled(number) or not store_claims.activity(number):
        return True
    attempt = store_claims.next_attempt(number)
    running = flows.running(PAYOUTS)
    if not any(name.startswith(f"window-{number}-") for name in running):
        flows.start_or_leave(PAYOUTS, f"window-{number}-{attempt}", {"window": number})
    return False


@jobs.task("epoch-prepare", timeout=900, memory=2048)
def prepare_epoch(event: dict[str, Any]) -> dict[str, Any]:
    """Freeze what a window pays and stage its tree; a second preparation answers the first one's."""
    window = event["window"]
    frozen = store_claims.frozen(window)
    if frozen is None:
        tasks_epochs.pay_credits()
        records = tasks_epochs.window_records(window)
        if not records or store_claims.epoch(window):
            store_claims.settle_window(window)
            return {"window": window, "done": True, "nothing": True}
        staged, _ = tasks_epochs.stage(window, merkle.in_order(records))
        frozen = store_claims.freeze(window, asdict(staged))
    return {"window": window, "staged": frozen, "next": 0, "done": False, "nothing": False}


@jobs.task("epoch-write", timeout=900, memory=2048)
def write_epoch(event: dict[str, Any]) -> dict[str, Any]:
    """Write the leaves of one chunk."""
    staged = tasks_epochs.Staged(**event["staged"])
    following = tasks_epochs.write_chunk(staged, event["next"])
    return event | {"next": following, "done": following >= staged.leaves}


@jobs.task("epoch-publish", timeout=60)
def publish_epoch(event: dict[str, Any]) -> dict[str, Any]:
    """Make the epoch exist; again is nothing."""
    published = tasks_epochs.publish(tasks_epochs.Staged(**event["staged"]))
    store_claims.settle_window(event["window"])
    return {"window": event["window"], "published": published}
