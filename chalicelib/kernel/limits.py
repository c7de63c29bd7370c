"""Rate limits as one arrival time per bucket: two conditional updates at most, and the refusal says the true wait."""

from __future__ import annotations

from dataclasses import dataclass

from . import clock
from .tables import ConditionFailed, Table

_TTL_SLACK_SECONDS = 60


@dataclass(frozen=True)
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
            f"LIMIT#{bucket}", "-", change, when="#arrival <= :latest", step=limit.step, ttl=ttl, latest=latest
        )
    except ConditionFailed as full:
        return max(0.001, (full.old or {})["arrival"] - latest) if full.old else 0.001
    return 0.0
