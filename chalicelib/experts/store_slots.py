"""A part of Experts' access patterns: who fetches from strangers now.

| #  | question              | key           | consistency | cost             |
|----|-----------------------|---------------|-------------|------------------|
| 17 | who is fetching now   | FETCHING/NOW  | strong      | 1 get or 1 write |
"""

from __future__ import annotations

from chalicelib.kernel.errors import Contended
from chalicelib.kernel.tables import ConditionFailed, Table
from chalicelib.kernel.wire import Item

table = Table("experts")

_KEY = ("FETCHING", "NOW")


def leases() -> tuple[dict[str, Item], int]:
    """17: the leases by hotkey, and the turn that a change of them has to name."""
    item = table.get(*_KEY) or {}
    return item.get("held", {}), item.get("turn", 0)


def save_leases(held: dict[str, Item], *, turn: int) -> None:
    """17: other leases, unless somebody else changed them since they were read."""
    try:
        table.update(
            *_KEY, "SET #held = :held, #turn = :next", when="attribute_not_exists(#turn) OR #turn = :turn",
            held=held, turn=turn, next=turn + 1,
        )  # fmt: skip
    except ConditionFailed:
        raise Contended from None
