"""A part of Experts' access patterns: the merges that closed rounds owe.

| #  | question             | key            | consistency | cost             |
|----|----------------------|----------------|-------------|------------------|
| 12 | merges that are owed | MERGES/{cycle} | strong      | 1 query or write |
"""

from __future__ import annotations

from chalicelib.kernel import clock
from chalicelib.kernel.tables import ConditionFailed, Table
from chalicelib.kernel.wire import Item

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
