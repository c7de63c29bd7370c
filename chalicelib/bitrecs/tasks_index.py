"""The similarity index at work: segments in S3 that a container loads once, and the newest vectors from the table.

The table is read before the manifest, so a vector that moves into a segment in between is seen in one of both.
"""

from __future__ import annotations

import base64
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any, ClassVar

from chalicelib.kernel import clock
from chalicelib.kernel.wire import Item

from . import domain_artifact, similarity, store_index
from .contracts import BitrecsSettings

SEGMENT_ROWS = 2048
_MOST_ABSORBED = 2000
_REBUILD_SECONDS = 480
_LOADERS = 8


class IndexOutdated(RuntimeError):
    """The stored vectors have another version; the search waits for the rebuild."""


class IndexIncomplete(RuntimeError):
    """A segment that the manifest names is not there; an answer would miss agents."""


class _Loaded:
    """What this container holds: one index, and the segments that are in it."""

    lock = threading.Lock()
    index: similarity.Index | None = None
    segments: ClassVar[set[str]] = set()
    version = 0


def search(event: dict[str, Any]) -> dict[str, Any]:
    """The agents nearer than any distance that matters."""
    settings = BitrecsSettings.current()
    newest = store_index.waiting()
    with _Loaded.lock:
        index = _current(settings.vector_version)
        fresh = [item for item in newest if item["agent_id"] not in index]
        index.add([item["agent_id"] for item in fresh], b"".join(item["vector"] for item in fresh))
        found = index.nearest(
            base64.b64decode(event["vector"]), below=_below(settings), limit=settings.similarity_max_results + 1
        )
    return {"near": [[agent, distance] for agent, distance in found], "agents": len(index.ids)}


def search_few(vector: bytes) -> list[list[Any]]:
    """The search of a small index in the caller's own process: what a cold container would have answered."""
    settings = BitrecsSettings.current()
    found = {item["agent_id"]: item["vector"] for item in store_index.waiting()}
    manifest = store_index.manifest()
    if manifest["segments"] and manifest["version"] != settings.vector_version:
        raise IndexOutdated(f"the index has version {manifest['version']}, not {settings.vector_version}")
    size = similarity.DIMENSIONS * 4
    for part in manifest["segments"]:
        packed = store_index.segment(part["key"])
        if packed is None:
            raise IndexIncomplete(part["key"])
        ids, rows = similarity.unpack(packed)
        found |= {agent: rows[at * size : (at + 1) * size] for at, agent in enumerate(ids)}
    near = similarity.nearest_of_few(
        vector, list(found), b"".join(found.values()), below=_below(settings), limit=settings.similarity_max_results + 1
    )
    return [[agent, distance] for agent, distance in near]


def _below(settings: BitrecsSettings) -> float:
    return max(settings.similarity_report_distance, settings.similarity_reject_distance)


def load() -> dict[str, Any]:
    """Have the index in memory before the first question."""
    with _Loaded.lock:
        return {"agents": len(_current(BitrecsSettings.current().vector_version).ids)}


def _current(version: int) -> similarity.Index:
    manifest = store_index.manifest()
    if manifest["segments"] and manifest["version"] != version:
        raise IndexOutdated(f"the index has version {manifest['version']}, not {version}")
    if _Loaded.index is None or _Loaded.version != version:
        _Loaded.index, _Loaded.segments, _Loaded.version = similarity.Index(), set(), version
    missing = [part["key"] for part in manifest["segments"] if part["key"] not in _Loaded.segments]
    if missing:
        with ThreadPoolExecutor(_LOADERS) as pool:
            for key, packed in zip(missing, pool.map(store_index.segment, missing), strict=True):
                if packed is None:
                    raise IndexIncomplete(key)
                _Loaded.index.add(*similarity.unpack(packed))
                _Loaded.segments.add(key)
    return _Loaded.index


def forget_loaded() -> None:
    """As in a fresh container."""
    with _Loaded.lock:
        _Loaded.index, _Loaded.segments, _Loaded.version = None, set(), 0


def is_due() -> bool:
    """Whether vectors wait, or the index has to be made anew."""
    manifest = store_index.manifest()
    outdated = manifest["segments"] and manifest["version"] != BitrecsSettings.current().vector_version
    return bool(outdated or manifest["absorbed"] or store_index.waiting(limit=1))


def compact() -> dict[str, Any]:
    """One step: forget what is in, rebuild if the version changed, then take in what waits."""
    version = BitrecsSettings.current().vector_version
    manifest = store_index.manifest()
    store_index.forget(manifest["absorbed"])
    for key in manifest["retired"]:
        store_index.delete_segment(key)
    if manifest["segments"] and manifest["version"] != version:
        return _rebuild(manifest, version)
    waiting = store_index.waiting()[:_MOST_ABSORBED]
    if not waiting:
        return {"absorbed": 0, "rebuilt": 0}
    segments, retired = _absorb(manifest["segments"], waiting, version)
    keys = [item["sk"] for item in waiting]
    saved = store_index.save_manifest(manifest, version=version, segments=segments, absorbed=keys, retired=retired)
    if saved:
        store_index.forget(keys)
    return {"absorbed": len(keys) if saved else 0, "rebuilt": 0}


def _absorb(
    segments: list[dict[str, Any]], waiting: list[Item], version: int
) -> tuple[list[dict[str, Any]], list[str]]:
    """The last segment grows until it is full; its former object is deleted a round later, when nobody loads it."""
    kept, retired = list(segments), []
    ids = [item["agent_id"] for item in waiting]
    rows = b"".join(item["vector"] for item in waiting)
    if kept and kept[-1]["rows"] < SEGMENT_ROWS:
        last = kept.pop()
        packed = store_index.segment(last["key"])
        if packed is None:
            raise IndexIncomplete(last["key"])
        old_ids, old_rows = similarity.unpack(packed)
        ids, rows = old_ids + ids, old_rows + rows
        retired.append(last["key"])
    size = similarity.DIMENSIONS * 4
    for first in range(0, len(ids), SEGMENT_ROWS):
        part = ids[first : first + SEGMENT_ROWS]
        packed = similarity.pack(part, rows[first * size : (first + len(part)) * size])
        kept.append({"key": store_index.add_segment(version, packed), "rows": len(part)})
    return kept, retired


def _rebuild(manifest: Item, version: int) -> dict[str, Any]:
    """Old segment by old segment, from the artifacts themselves; what is not done now, the next round does."""
    deadline = clock.monotonic() + _REBUILD_SECONDS
    done = store_index.rebuild_progress(version)
    for old in manifest["segments"][len(done) :]:
        if clock.monotonic() > deadline:
            return {"absorbed": 0, "rebuilt": len(done), "left": len(manifest["segments"]) - len(done)}
        packed = store_index.segment(old["key"])
        if packed is None:
            raise IndexIncomplete(old["key"])
        ids, _ = similarity.unpack(packed)
        with ThreadPoolExecutor(_LOADERS) as pool:
            rows = b"".join(pool.map(_vector_of, ids))
        done.append({"key": store_index.add_segment(version, similarity.pack(ids, rows)), "rows": len(ids)})
        store_index.save_rebuild_progress(version, done)
    retired = [old["key"] for old in manifest["segments"]]
    store_index.save_manifest(manifest, version=version, segments=done, absorbed=[], retired=retired)
    return {"absorbed": 0, "rebuilt": len(done), "left": 0}


def _vector_of(agent_id: str) -> bytes:
    raw = store_index.artifact(agent_id)
    if raw is None:
        raise IndexIncomplete(agent_id)
    return bytes(similarity.vector(similarity.pieces_of(domain_artifact.parse(raw.decode()))))
