"""A part of Experts' access patterns: rounds that end, and the merges that closed ones owe.

| #  | question                 | key                 | consistency | cost             |
|----|--------------------------|---------------------|-------------|------------------|
| 12 | merges that are owed     | MERGES/{cycle}      | strong      | 1 query or write |
| 18 | since when it is over    | OVER/{cycle}        | conditional | 1 write          |
| 19 | who is closed already    | index round, CLOSED | eventual    | 1 query          |
"""

from __future__ import annotations

from chalicelib.kernel import clock
from chalicelib.kernel.tables import ConditionFailed, Table
from chalicelib.kernel.wire import Item

from .store import CLOSED

table = Table("experts")

OWED = "owed"
KEPT_SECONDS = 30 * 24 * 3600


def owe_merge(cycle: int, block: int, chosen: dict[str, list[str]]) -> None:
    """12: a closed round's winners per group; a second closing of the round changes nothing."""
    try:
        table.put_new({
            "pk": "MERGES", "sk": f"{cycle:012d}", "state": OWED, "block": block, "winners": chosen, "attempt": 0,
            "owed_at": clock.now(), "ttl": int(clock.now()) + KEPT_SECONDS,
        })  # fmt: skip
    except ConditionFailed:
        return


def owed_merges() -> list[Item]:
    return [item for item in table.query_all("MERGES", consistent=True) if item["state"] == OWED]


def owed_merge(cycle: int) -> Item | None:
    return table.get("MERGES", f"{cycle:012d}")


def next_merge_attempt(cycle: int, seen: int) -> bool:
    try:
        table.update(
            "MERGES", f"{cycle:012d}", "SET #attempt = :next", when="#attempt = :seen", next=seen + 1, seen=seen
        )
    except ConditionFailed:
        return False
    return True


def merge_done(cycle: int, outcome: str) -> None:
    table.update("MERGES", f"{cycle:012d}", "SET #state = :outcome", outcome=outcome)


def over_since(cycle: int) -> float:
    """18: when a round was first seen past its submit phase."""
    now = clock.now()
    try:
        table.put_new({"pk": "OVER", "sk": f"{cycle:012d}", "since": now, "ttl": int(now) + KEPT_SECONDS})
    except ConditionFailed as known:
        return float((known.old or {})["since"])
    return now


def closed_of(cycle: int) -> list[Item]:
    """19: submissions of a round that a closing, killed before its end, has closed."""
    return list(
        table.query_all(
            CLOSED, index="round", where="begins_with(#round_sk, :cycle)", values={"cycle": f"{cycle:012d}#"}
        )
    )
