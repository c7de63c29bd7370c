"""Leoma's access patterns, one function each.

Writes in units are for 100 samples of 0.35 KB; every figure is constant, whatever was stored before. `F` is the fold,
the job that turns batches into task sheets; a key's `{task}` is the padded task number, or `s:` and a legacy name.

| #  | question                              | key                              | consistency | cost                  |
|----|---------------------------------------|----------------------------------|-------------|-----------------------|
| 1  | is the caller blacklisted, registered | BL/{hotkey}, VAL/{hotkey}        | strong      | 1 batch get           |
| 2  | was this signature used elsewhere     | USED#SIG#{digest}                | conditional | 1 write               |
| 3  | the blacklist                         | BL                               | strong      | 1 query               |
| 4  | one blacklist entry                   | BL/{hotkey}                      | strong      | 1 get                 |
| 5  | add or replace an entry               | BL/{hotkey}                      | -           | 1 write               |
| 6  | remove an entry                       | BL/{hotkey}                      | conditional | 1 write               |
| 7  | a snapshot that a job wrote           | SNAP/{name}                      | strong      | 1 get                 |
| 8  | last miner validation                 | STATE/last_sync                  | strong      | 1 get                 |
| 9  | the latest task; publish one          | STATE/latest_task                | conditional | 1 get; 1 write        |
| 10 | what a batch is judged on             | #9, T#{task}/{validator}         | strong      | 1 batch get           |
| 11 | a number for a batch, within a quota  | WRITER/{validator}               | conditional | 1 write (1 unit)      |
| 12 | keep a batch's samples                | B#{validator}#{n/256}/{n}.{part} | -           | 1 put (<= 40 units)   |
| 13 | keep long texts                       | texts bucket                     | -           | 1 object              |
| 14 | move the sheets to a batch            | T#{task}/{validator}             | conditional | 1 transaction (<= 34) |
| 15 | samples by reference                  | B#...                            | immutable   | 1 batch get per 100   |
| 16 | a validator's newest batches          | WRITER/{validator}, B#...        | strong      | 1 get, 1-3 queries    |
| 17 | all votes on tasks                    | T#{task}/#                       | <= 1 fold   | 1 batch get per 100   |
| 18 | a miner's tasks                       | M#{miner}                        | <= 1 fold   | 1 query               |
| 19 | F: who wrote how much                 | WRITER                           | strong      | 1 query               |
| 20 | F: a task's sheets                    | T#{task}                         | strong      | 1 query               |
| 21 | F: move task sheets and totals        | T#{task}/#, TOTALS/{validator}   | conditional | 1 transaction (<= 72) |
| 22 | F: every validator's totals           | TOTALS                           | strong      | 1 query               |
| 23 | F: results that are still due         | DUE                              | strong      | 1 query, 1 write each |
| 24 | validators of the last sync           | VAL                              | strong      | 1 query               |
| 25 | a remembered look-up                  | LOOKUP#{kind}/{name}             | strong      | 1 get                 |
| 26 | one run at a time                     | LOCK/{name}                      | conditional | 1 write               |
"""

from __future__ import annotations

import functools
import json
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from chalicelib.kernel import clock, single_use
from chalicelib.kernel.blobs import Bucket
from chalicelib.kernel.errors import NotFound, TooMany
from chalicelib.kernel.tables import ConditionFailed, Table, Write, get_many, transact
from chalicelib.kernel.values import frozen
from chalicelib.kernel.wire import Item as Item  # noqa: PLC0414 - named by those who handle items

from .contracts import BlacklistEntry, LeomaSettings, Miner

table = Table("leoma")

ALL_VOTERS = "#"
BATCHES_PER_PARTITION = 256
IDS_PER_WRITER = 10**10
_SEEN_EVERY_SECONDS = 60
_REMEMBERED_BATCHES = 256


# --- callers and the blacklist


def standing(hotkey: str) -> tuple[bool, float | None]:
    """1: whether a hotkey is blacklisted, and when it was seen last; None where it is no registered validator."""
    listed, validator = get_many([(table, "BL", hotkey), (table, "VAL", hotkey)])
    return listed is not None, validator.get("last_seen_at", 0.0) if validator else None


def note_seen(hotkey: str, last_seen: float) -> None:
    """At most once a minute; a validator that left meanwhile does not come back by it."""
    if last_seen >= clock.now() - _SEEN_EVERY_SECONDS:
        return
    try:
        table.update("VAL", hotkey, "SET #last_seen_at = :now", when="attribute_exists(#pk)", now=clock.now())
    except ConditionFailed:
        return


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


def _entry(item: Item) -> BlacklistEntry:
    return BlacklistEntry(
        hotkey=item["sk"],
        reason=item["reason"],
        added_by=item["added_by"],
        created_at=clock.stamp(item["created_at"]),
    )


def _not_blacklisted() -> NotFound:
    return NotFound("Miner not blacklisted", code="not_blacklisted")


# --- snapshots and state


@frozen
class Snapshot:
    """What a job computed: its content, when, and at which block."""

    content: Any
    at: float
    block: int | None


def snapshot(name: str) -> Snapshot | None:
    """7: one snapshot; None before the first."""
    return snapshot_of(table.get("SNAP", name))


@frozen
class Rendered:
    """A snapshot as the bytes of its answer."""

    body: bytes
    at: float
    block: int | None


def rendered(name: str) -> Rendered | None:
    """7: one snapshot that is an answer already."""
    item = table.get("SNAP", name)
    return Rendered(zlib.decompress(item["body"]), item["at"], item["block"]) if item else None


def snapshots(*names: str) -> list[Snapshot | None]:
    """7: several at once."""
    return [snapshot_of(item) for item in get_many([(table, "SNAP", name) for name in names])]


def by_name(miner: str) -> str:
    """7: the snapshot of a miner's newest samples under legacy names."""
    return f"by-name#{miner}"


def snapshot_of(item: Item | None) -> Snapshot | None:
    return Snapshot(json.loads(zlib.decompress(item["body"])), item["at"], item["block"]) if item else None


def saving_snapshot(
    name: str, content: Any, *, at: float, block: int | None = None, instead_of: float | None = None
) -> Write:
    """`instead_of`: only while the one of that time stands."""
    body = zlib.compress(json.dumps(content, separators=(",", ":")).encode(), 6)
    item = {"pk": "SNAP", "sk": name, "body": body, "at": at, "block": block}
    return table.putting(item) if instead_of is None else table.putting(item, when="#at = :known", known=instead_of)


def keeping_snapshot(name: str, known: Snapshot | None) -> Write:
    """7: no write, but the premise of one: the snapshot is still the one that was read."""
    if known is None:
        return table.checking("SNAP", name, when="attribute_not_exists(#pk)")
    return table.checking("SNAP", name, when="#at = :known", known=known.at)


def miners() -> list[Miner]:
    """7: the miners of the last validation."""
    return miners_of(snapshot("miners"))


def miners_of(found: Snapshot | None) -> list[Miner]:
    return [Miner.model_validate(miner) for miner in found.content] if found else []


def stakes() -> dict[str, float]:
    """7: the stake of each validator of the last sync."""
    found = snapshot("stakes")
    return dict(found.content) if found else {}


def last_sync() -> float | None:
    """8: when miners were last validated."""
    item = table.get("STATE", "last_sync")
    return item["at"] if item else None


def latest_task() -> int | None:
    """9: the newest published task."""
    item = table.get("STATE", "latest_task")
    return item["task"] if item else None


def publish_task(task: int, prefix: str, description: str | None) -> bool:
    """9: only ever forward; False where the task, or a later one, was published before."""
    item = {"pk": "STATE", "sk": "latest_task", "task": task, "prefix": prefix, "description": description}
    try:
        table.put(item | {"at": clock.now()}, when="attribute_not_exists(#task) OR #task < :task", task=task)
    except ConditionFailed:
        return False
    return True


# --- samples


def intake(validator: str, task_keys: Sequence[str]) -> tuple[int, dict[str, Item | None]]:
    """10: the latest task (0 before the first), and the validator's sheet per task."""
    wanted = [(table, f"T#{key}", validator) for key in task_keys]
    latest, *found = get_many([(table, "STATE", "latest_task"), *wanted])
    return latest["task"] if latest else 0, dict(zip(task_keys, found, strict=True))


def sheet(validator: str, task_key: str) -> Item | None:
    """10: one validator's sheet of one task."""
    return table.get(f"T#{task_key}", validator)


def sheets(validator: str, task_keys: Sequence[str]) -> dict[str, Item | None]:
    """10: a validator's sheets."""
    return dict(zip(task_keys, get_many([(table, f"T#{key}", validator) for key in task_keys]), strict=True))


def next_batch(validator: str, samples: int, quota: int) -> tuple[int, int]:
    """11: a batch number and the first of as many sample ids; refused beyond the day's quota."""
    while True:
        day = int(clock.now() // 86400)
        values: dict[str, Any] = {"one": 1, "n": samples, "day": day, "room": quota - samples}
        try:
            counted = "ADD #batches :one, #ids :n, #used :n"
            item = table.update("WRITER", validator, counted, when="#day = :day AND #used <= :room", **values)
        except ConditionFailed as failure:
            if samples > quota or (failure.old and failure.old["day"] == day):
                wait = (day + 1) * 86400 - clock.now()
                raise TooMany("Daily sample quota reached", code="sample_quota", retry_after=wait) from None
            _open_day(validator, failure.old, day)
        else:
            return item["batches"], item["number"] * IDS_PER_WRITER + item["ids"] - samples + 1


def _open_day(validator: str, known: Item | None, day: int) -> None:
    """A new writer gets a number of its own; a known one a fresh allowance. Losing the race is as good."""
    try:
        if known:
            change = "SET #day = :day, #used = :none"
            table.update("WRITER", validator, change, when="#day = :known", day=day, none=0, known=known["day"])
        else:
            number = table.update("STATE", "writers", "ADD #count :one", one=1)["count"]
            fresh = {"number": number, "batches": 0, "ids": 0, "used": 0, "day": day}
            table.put_new({"pk": "WRITER", "sk": validator, **fresh})
    except ConditionFailed:
        return


def batch_names(number: int, parts: int) -> list[str]:
    """Unique for ever: an abandoned attempt of the same number is never mistaken for the one that counted."""
    mark = clock.new_hex(4)
    return [f"{number:010d}.{part}.{mark}" for part in range(parts)]


def batch_number(name: str) -> int:
    return int(name.partition(".")[0])


def save_batch(validator: str, names: Sequence[str], bodies: Sequence[bytes], task_keys: Sequence[str]) -> None:
    """12: before the sheets point to it, so that a crash leaves at most a batch that nobody finds."""
    items = [
        {**_batch_key(validator, name), "tasks": list(task_keys), "at": clock.now(), "body": body}
        for name, body in zip(names, bodies, strict=True)
    ]
    for item in items:
        table.put(item)


def _batch_key(validator: str, name: str) -> dict[str, str]:
    partition = batch_number(name) // BATCHES_PER_PARTITION
    return {"pk": f"B#{validator}#{partition:08d}", "sk": name}


def save_texts(validator: str, name: str, texts: Sequence[Any]) -> None:
    """13: the artifacts of a batch part, by place."""
    _texts().put(f"{validator}/{name}.json.z", zlib.compress(json.dumps(texts).encode(), 6))


@functools.lru_cache(maxsize=_REMEMBERED_BATCHES)
def far_texts(validator: str, name: str) -> list[Any]:
    """13: what `save_texts` kept; never changes."""
    raw = _texts().get(f"{validator}/{name}.json.z")
    return list(json.loads(zlib.decompress(raw))) if raw else []


def _texts() -> Bucket:
    return Bucket(LeomaSettings.current().texts_bucket)


def move_sheets(validator: str, changes: Mapping[str, tuple[str, Item]]) -> None:
    """14: every sheet of a batch at once, each as it was read; one alone needs no transaction."""
    writes = [replacing(f"T#{key}", validator, known, fields) for key, (known, fields) in changes.items()]
    if len(writes) > 1:
        transact(writes)
        return
    ((key, (known, fields)),) = changes.items()
    item, when, values = _replacement(f"T#{key}", validator, known, fields)
    table.put(item, when=when, **values)


def _replacement(pk: str, sk: str, known: str, fields: Item) -> tuple[Item, str, Item]:
    when = "#version = :known" if known else "attribute_not_exists(#pk)"
    return {"pk": pk, "sk": sk, **fields}, when, {"known": known} if known else {}


def replacing(pk: str, sk: str, known: str, fields: Item) -> Write:
    item, when, values = _replacement(pk, sk, known, fields)
    return table.putting(item, when=when, **values)


def batches(wanted: Iterable[tuple[str, str]]) -> dict[tuple[str, str], bytes]:
    """15: bodies of batches by (validator, name); they never change."""
    names = list(dict.fromkeys(wanted))
    keys = [_batch_key(validator, name) for validator, name in names]
    found = get_many([(table, key["pk"], key["sk"]) for key in keys], consistent=False)
    missing = [index for index, item in enumerate(found) if item is None]
    if missing:
        late = get_many([(table, keys[index]["pk"], keys[index]["sk"]) for index in missing])
        found = [item or late.pop(0) if item is None else item for item in found]
    return {name: item["body"] for name, item in zip(names, found, strict=True) if item}


def newest_batches(validator: str, most: int) -> Iterator[Item]:
    """16: a validator's batches, newest first, across partitions as far as needed."""
    writer = table.get("WRITER", validator)
    partition = writer["batches"] // BATCHES_PER_PARTITION if writer else -1
    while partition >= 0 and most > 0:
        pk = f"B#{validator}#{partition:08d}"
        for item in table.query_all(pk, descending=True, consistent=True, limit=min(most, 25)):
            yield item
            most -= 1
            if most <= 0:
                return
        partition -= 1


# --- what the fold makes of them (jobs write it through `store_jobs`)


def task_sheets(task_keys: Sequence[str], *, consistent: bool = False) -> dict[str, Item | None]:
    """17: every vote on each task."""
    wanted = [(table, f"T#{key}", ALL_VOTERS) for key in task_keys]
    return dict(zip(task_keys, get_many(wanted, consistent=consistent), strict=True))


def task_and_stakes(task_key: str) -> tuple[Item | None, dict[str, float]]:
    """17: every vote on a task, and what the voters' word weighs now."""
    item, held = get_many([(table, f"T#{task_key}", ALL_VOTERS), (table, "SNAP", "stakes")])
    found = snapshot_of(held)
    return item, dict(found.content) if found else {}


def blocks(miner: str) -> Iterator[bytes]:
    """18: a miner's packed tasks."""
    for item in table.query_all(f"M#{miner}"):
        yield item["body"]
