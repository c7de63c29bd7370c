"""Leoma's access patterns, one function each.

| # | question                              | key                          | consistency | cost             |
|---|---------------------------------------|------------------------------|-------------|------------------|
| 1 | is the caller blacklisted, registered | BL/{hotkey}, VAL/{hotkey}    | strong      | 1 batch get      |
| 2 | was this signature used elsewhere     | USED#SIG#{digest}            | conditional | 1 write          |
| 3 | the blacklist                         | BL                           | strong      | 1 query          |
| 4 | one blacklist entry                   | BL/{hotkey}                  | strong      | 1 get            |
| 5 | add or replace an entry               | BL/{hotkey}                  | -           | 1 write          |
| 6 | remove an entry                       | BL/{hotkey}                  | conditional | 1 write          |
| 7 | all miners                            | SNAP/miners                  | strong      | 1 get            |
| 8 | last miner validation                 | STATE/last_sync              | strong      | 1 get            |
"""

from __future__ import annotations

from chalicelib.kernel import clock, single_use
from chalicelib.kernel.errors import NotFound
from chalicelib.kernel.tables import ConditionFailed, Table, get_many
from chalicelib.kernel.wire import Item

from .contracts import BlacklistEntry, Miner

table = Table("leoma")


def standing(hotkey: str) -> tuple[bool, bool]:
    """1: whether a hotkey is blacklisted, and whether it is a registered validator."""
    listed, validator = get_many([(table, "BL", hotkey), (table, "VAL", hotkey)])
    return listed is not None, validator is not None


def claim_signature(digest: str, use: str, *, expires_at: float) -> bool:
    """2: bind a signature to its first use; the same use again is a client's retry."""
    return single_use.consume(table, "SIG", digest, expires_at=expires_at, use=use)


def blacklist() -> list[BlacklistEntry]:
    """3: the blacklist, oldest entry first."""
    items = list(table.query_all("BL", consistent=True))
    items.sort(key=lambda item: (item["created_at"], item["sk"]))
    return [_entry(item) for item in items]


def blacklist_entry(hotkey: str) -> BlacklistEntry:
    """4: one entry."""
    item = table.get("BL", hotkey)
    if not item:
        raise _not_blacklisted()
    return _entry(item)


def add_to_blacklist(hotkey: str, reason: str | None, added_by: str) -> BlacklistEntry:
    """5: a repeat replaces reason and author and keeps the date."""
    change = "SET #reason = :reason, #added_by = :by, #created_at = if_not_exists(#created_at, :now)"
    return _entry(table.update("BL", hotkey, change, reason=reason, by=added_by, now=clock.now()))


def remove_from_blacklist(hotkey: str) -> None:
    """6: gone, or it never was there."""
    try:
        table.delete("BL", hotkey, when="attribute_exists(#pk)")
    except ConditionFailed:
        raise _not_blacklisted() from None


def miners() -> list[Miner]:
    """7: the miners of the last validation."""
    item = table.get("SNAP", "miners")
    return [Miner.model_validate(miner) for miner in item["miners"]] if item else []


def last_sync() -> float | None:
    """8: when miners were last validated."""
    item = table.get("STATE", "last_sync")
    return item["at"] if item else None


def _entry(item: Item) -> BlacklistEntry:
    return BlacklistEntry(
        hotkey=item["sk"],
        reason=item["reason"],
        added_by=item["added_by"],
        created_at=clock.stamp(item["created_at"]),
    )


def _not_blacklisted() -> NotFound:
    return NotFound("Miner not blacklisted", code="not_blacklisted")
