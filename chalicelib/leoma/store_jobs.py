"""The access patterns of Leoma's background work, numbered as in `store`."""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from chalicelib.kernel import clock
from chalicelib.kernel.tables import ConditionFailed, Write, get_many, transact
from chalicelib.kernel.wire import Item

from .store import ALL_VOTERS, BATCHES_PER_PARTITION, batch_number, replacing, saving_snapshot, table


def save_snapshots(contents: Mapping[str, Any], *, at: float, block: int | None = None) -> None:
    """7: all of them or none, so that no reader sees two runs mixed."""
    transact([saving_snapshot(name, content, at=at, block=block) for name, content in contents.items()])


def synced(at: float) -> Write:
    return table.putting({"pk": "STATE", "sk": "last_sync", "at": at})


def state(name: str) -> Any:
    """A job's memory of its last run."""
    item = table.get("STATE", name)
    return json.loads(zlib.decompress(item["body"])) if item else None


def save_state(name: str, content: Any) -> None:
    table.put({"pk": "STATE", "sk": name, "body": zlib.compress(json.dumps(content).encode(), 6)})


def blocks_at(keys: Sequence[tuple[str, str]]) -> dict[tuple[str, str], bytes]:
    """18: some blocks by (miner, number)."""
    found = get_many([(table, f"M#{miner}", number) for miner, number in keys])
    return {key: item["body"] for key, item in zip(keys, found, strict=True) if item}


def save_blocks(bodies: Mapping[tuple[str, str], bytes]) -> None:
    table.put_many({"pk": f"M#{miner}", "sk": number, "body": body} for (miner, number), body in bodies.items())


def writers() -> dict[str, int]:
    """19: the number of each writer's newest batch."""
    return {item["sk"]: item["batches"] for item in table.query_all("WRITER", consistent=True)}


def batch_tasks(validator: str, after: int, upto: int) -> dict[int, list[str]]:
    """19: which tasks the batches after a number touch."""
    found: dict[int, list[str]] = {}
    for partition in range((after + 1) // BATCHES_PER_PARTITION, upto // BATCHES_PER_PARTITION + 1):
        pk = f"B#{validator}#{partition:08d}"
        options: dict[str, Any] = {"where": "#sk > :after", "values": {"after": f"{after + 1:010d}"}}
        for item in table.query_all(pk, fields=("sk", "tasks"), consistent=True, **options):
            found.setdefault(batch_number(item["sk"]), []).extend(item["tasks"])
    return found


def task_rows(task_key: str) -> tuple[Item | None, dict[str, Item]]:
    """20: the task sheet as folded last, and every validator's sheet."""
    rows = {item["sk"]: item for item in table.query_all(f"T#{task_key}", consistent=True)}
    return rows.pop(ALL_VOTERS, None), rows


def move_tasks(tasks: Mapping[str, tuple[str, Item]], totals: Mapping[str, tuple[str, Item]]) -> None:
    """21: task sheets and the totals that follow from them, at once: nothing counts twice after a crash."""
    writes = [replacing(f"T#{key}", ALL_VOTERS, known, fields) for key, (known, fields) in tasks.items()]
    writes += [replacing("TOTALS", validator, known, fields) for validator, (known, fields) in totals.items()]
    transact(writes)


def totals() -> dict[str, Item]:
    """22: the totals of every validator that ever wrote."""
    return {item["sk"]: item for item in table.query_all("TOTALS", consistent=True)}


def totals_of(validators: Sequence[str]) -> dict[str, Item | None]:
    """22: the totals of some."""
    return dict(zip(validators, get_many([(table, "TOTALS", name) for name in validators]), strict=True))


def note_results_due(due: Iterable[tuple[str, str]]) -> None:
    """23"""
    table.put_many({"pk": "DUE", "sk": f"{key}#{validator}"} for key, validator in due)


def results_due() -> list[tuple[str, str]]:
    """23: (task, validator) whose result object could not be written."""
    return [tuple(item["sk"].rsplit("#", 1)) for item in table.query_all("DUE", consistent=True)]


def result_written(task_key: str, validator: str) -> None:
    table.delete("DUE", f"{task_key}#{validator}")


# --- validators, look-ups, locks


def validators() -> dict[str, Item]:
    """24: the validators of the last sync."""
    return {item["sk"]: item for item in table.query_all("VAL", consistent=True)}


def save_validators(found: Mapping[str, tuple[int, float]], gone: Iterable[str], *, block: int) -> None:
    """24: who counts from now on; the stakes move last, in one item."""
    for hotkey, (uid, stake) in found.items():
        table.update("VAL", hotkey, "SET #uid = :uid, #stake = :stake", uid=uid, stake=stake)
    table.delete_many([("VAL", hotkey) for hotkey in gone])
    content = {hotkey: stake for hotkey, (_, stake) in sorted(found.items())}
    save_snapshots({"stakes": content}, at=clock.now(), block=block)


def remembered(kind: str, name: str) -> tuple[Any] | None:
    """25: a look-up's answer (None inside for a failure) while it is fresh by our own clock."""
    item = table.get(f"LOOKUP#{kind}", name)
    return (json.loads(item["body"]),) if item and item["expires_at"] > clock.now() else None


def remember(kind: str, name: str, answer: Any, seconds: float) -> None:
    until = clock.now() + seconds
    table.put(
        {"pk": f"LOOKUP#{kind}", "sk": name, "body": json.dumps(answer), "expires_at": until, "ttl": int(until) + 1}
    )


@contextmanager
def lock(name: str, seconds: float) -> Iterator[bool]:
    """26: whether this run is the only one; a crashed holder's lock ends by itself."""
    owner, now = clock.new_hex(8), clock.now()
    try:
        free = "attribute_not_exists(#pk) OR #until < :now"
        table.put({"pk": "LOCK", "sk": name, "owner": owner, "until": now + seconds}, when=free, now=now)
    except ConditionFailed:
        yield False
        return
    try:
        yield True
    finally:
        release(name, owner)


def release(name: str, owner: str) -> None:
    try:
        table.delete("LOCK", name, when="#owner = :owner", owner=owner)
    except ConditionFailed:
        return
