"""Rate limits: two conditional updates at most, and the refusal says the true wait.

`wait_before` spreads requests by one arrival time per bucket; `wait_in_window` counts them from the first one on.
"""

from __future__ import annotations

from . import clock
from .tables import ConditionFailed, Table
from .values import frozen

_TTL_SLACK_SECONDS = 60
_ROUNDING_SECONDS = 1e-5  # the table adds decimals, we add doubles


@frozen
class Limit:
    """`count` requests per `seconds`, all of which may come at once."""

    count: int
    seconds: float

    @property
    def step(self) -> float:
        return self.seconds / self.count


def wait_before(table: Table, bucket: str, limit: Limit) -> float:
    """Take one place in the bucket: 0.0 when there was one, else the seconds until there is."""
    now = clock.now()
    values = {"now": now, "first": now + limit.step, "ttl": int(now + limit.seconds) + _TTL_SLACK_SECONDS}
    try:
        idle = "attribute_not_exists(#arrival) OR #arrival <= :now"
        table.update(f"LIMIT#{bucket}", "-", "SET #arrival = :first, #ttl = :ttl", when=idle, **values)
    except ConditionFailed:
        return _take_another(table, bucket, limit, now)
    return 0.0


def _take_another(table: Table, bucket: str, limit: Limit, now: float) -> float:
    latest = now + limit.seconds - limit.step
    ttl = int(now + 2 * limit.seconds) + _TTL_SLACK_SECONDS
    change = "SET #arrival = #arrival + :step, #ttl = :ttl"
    try:
        table.update(
            f"LIMIT#{bucket}",
            "-",
            change,
            when="#arrival <= :latest",
            step=limit.step,
            ttl=ttl,
            latest=latest + _ROUNDING_SECONDS,
        )
    except ConditionFailed as full:
        return max(0.001, (full.old or {})["arrival"] - latest) if full.old else 0.001
    return 0.0


def wait_in_window(table: Table, bucket: str, limit: Limit) -> float:
    """Take one of the window's places; the window opens with its first request. 0.0, or the seconds until it closes."""
    now = clock.now()
    change = "SET #taken = #taken + :one"
    try:
        table.update(
            f"WINDOW#{bucket}", "-", change, when="#closes_at > :now AND #taken < :count",
            now=now, one=1, count=limit.count,
        )  # fmt: skip
    except ConditionFailed as closed:
        return _open_window(table, bucket, limit, now, (closed.old or {}).get("closes_at", 0.0))
    return 0.0


def _open_window(table: Table, bucket: str, limit: Limit, now: float, closes_at: float) -> float:
    if closes_at > now:
        return float(closes_at - now)
    closes_at = now + limit.seconds
    change = "SET #taken = :one, #closes_at = :closes_at, #ttl = :ttl"
    try:
        table.update(
            f"WINDOW#{bucket}", "-", change, when="attribute_not_exists(#closes_at) OR #closes_at <= :now",
            now=now, one=1, closes_at=closes_at, ttl=int(closes_at) + _TTL_SLACK_SECONDS,
        )  # fmt: skip
    except ConditionFailed:
        return wait_in_window(table, bucket, limit)
    return 0.0
