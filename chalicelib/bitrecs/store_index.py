"""Bitrecs' access patterns of the similarity index: vectors that wait, segments, and the manifest that names them.

| # | question                             | key                        | consistency | cost                     |
|---|--------------------------------------|----------------------------|-------------|--------------------------|
| 1 | vectors not in the index yet         | SIM#DELTA                  | strong      | 1 query (4 KB per agent) |
| 2 | which segments make up the index     | SIM/MANIFEST               | strong      | 1 get, 1 write           |
| 3 | a segment                            | object sim/{version}/{id}  | -           | 1 object                 |
| 4 | how far a rebuild has come           | SIM/REBUILD                | strong      | 1 get, 1 write           |
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from chalicelib.kernel import clock
from chalicelib.kernel.tables import ConditionFailed
from chalicelib.kernel.wire import Item

from .store import bucket, table


def waiting(limit: int | None = None) -> list[Item]:
    """1: oldest first."""
    if limit:
        return table.query("SIM#DELTA", consistent=True, limit=limit).items
    return list(table.query_all("SIM#DELTA", consistent=True))


def forget(keys: Iterable[str]) -> None:
    """1: these are in the index now."""
    table.delete_many(("SIM#DELTA", key) for key in keys)


def manifest() -> Item:
    """2: an index that was never built is an empty one of no version."""
    return table.get("SIM", "MANIFEST") or {"version": 0, "segments": [], "rev": 0, "absorbed": [], "retired": []}


def save_manifest(
    before: Item, *, version: int, segments: Sequence[dict[str, Any]], absorbed: Sequence[str], retired: Sequence[str]
) -> bool:
    """2: False when another compaction was faster; `absorbed` are vectors to forget, `retired` objects to delete."""
    item = {
        "pk": "SIM", "sk": "MANIFEST", "version": version, "segments": list(segments), "rev": before["rev"] + 1,
        "absorbed": list(absorbed), "retired": list(retired), "at": clock.now(),
    }  # fmt: skip
    try:
        table.put(item, when="attribute_not_exists(#pk) OR #rev = :rev", rev=before["rev"])
    except ConditionFailed:
        return False
    return True


def segment(key: str) -> bytes | None:
    """3"""
    return bucket().get(key)


def add_segment(version: int, packed: bytes) -> str:
    key = f"sim/{version}/{clock.new_uuid()}.bin"
    bucket().put(key, packed)
    return key


def delete_segment(key: str) -> None:
    bucket().delete(key)


def artifact(agent_id: str) -> bytes | None:
    """What a rebuild makes vectors of."""
    return bucket().get(f"artifacts/{agent_id}/artifact.yaml")


def rebuild_progress(version: int) -> list[dict[str, Any]]:
    """4: the new segments so far, one per old one."""
    item = table.get("SIM", "REBUILD")
    return list(item["segments"]) if item and item["version"] == version else []


def save_rebuild_progress(version: int, segments: Sequence[dict[str, Any]]) -> None:
    table.put({"pk": "SIM", "sk": "REBUILD", "version": version, "segments": list(segments)})
