"""Bitrecs' access patterns: submissions, agents, and what operators set. Those of validators are in `store_work`.

| #  | question                           | key                          | consistency | cost                   |
|----|------------------------------------|------------------------------|-------------|------------------------|
| 1  | what is known before a submission  | 11 items, and the chain's    | strong      | 1 batch get            |
| 2  | is there room for this caller      | WINDOW#{what}                | conditional | 1 write, 2 at the edge |
| 3  | were these nonces used             | USED#NONCE#{hotkey}#…        | conditional | 1 write                |
| 4  | keep a look at a gist for a minute | GIST#{id}                    | -           | 1 write                |
| 5  | who was first with this content    | LOCK#CONTENT#{sha}           | strong      | 1 get                  |
| 6  | accept an agent                    | up to 14 items               | transaction | 1 object, 1 transact   |
| 7  | an agent                           | AGENT#{id}: META, ARTIFACT   | strong      | 1 batch get            |
| 8  | agents of a hotkey, newest first   | HOTKEY#{hotkey}, then 7      | strong      | 1 query, 1 batch get   |
| 9  | API key, ban, validator, switch    | KEYS, BAN, VALIDATORS, STATE | strong      | 1 get or 1 write       |
| 10 | the current set; open the next     | SETS/CURRENT, SETS/{n}       | strong      | 1 get; 1 transact      |
| 11 | audit of an attempt                | ATTEMPT#{day}                | -           | 1 write                |
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Mapping, Sequence
from typing import Any

from chalicelib.kernel import chain, clock, codec, limits, single_use, tokens
from chalicelib.kernel.blobs import Bucket
from chalicelib.kernel.tables import ConditionFailed, Table, Write, get_many, transact
from chalicelib.kernel.values import frozen
from chalicelib.kernel.wire import Item

from .contracts import BitrecsSettings, Gist

table = Table("bitrecs")

_MINUTE = 60
_DAY = 86_400
_MOST_BUCKETS = 100
_GIST_TTL_SECONDS = 3600
_ATTEMPT_TTL_SECONDS = 90 * 86_400
_TEMPORARY_KEY_SECONDS = 4 * 3600
_LARGEST_CACHED_GIST = 300_000
_NOT_FOR_A_KEY = "-"


@frozen
class Known:
    """1: everything that stands in the tables about a submission and the doors it passes."""

    enabled: bool | None
    current_set: Item | None
    live: Item
    accepted: int
    is_validator: bool
    ban: str | None
    hotkey_lock: Item | None
    gist_lock: Item | None
    gist: Item | None
    agents: int
    head: Item | None
    snapshot: Item | None


@frozen
class NewAgent:
    """6: what an accepted submission becomes."""

    meta: Item
    artifact: Item
    raw: bytes
    fingerprint: str
    vector: bytes
    queue_entry: Item
    bucket: int
    interval_seconds: int
    most_per_interval: int
    lock_scope: str
    content_is_unique: bool
    attempt: Item
    temporary_key: str | None


def bucket() -> Bucket:
    return Bucket(BitrecsSettings.current().artifacts_bucket)


def known(hotkey: str, gist_id: str, interval: int) -> Known:
    """1: one round trip for all of it; a hotkey that cannot be one is looked up as nobody."""
    name = hotkey or _NOT_FOR_A_KEY
    found = get_many(
        [
            (table, "STATE", "switch"),
            (table, "SETS", "CURRENT"),
            (table, "SESSIONS", "LIVE"),
            (table, f"RATE#{interval}", "-"),
            (table, "VALIDATORS", name),
            (table, "BAN", name),
            (table, f"LOCK#HOTKEY#{name}", "-"),
            (table, f"LOCK#GIST#{gist_id}", "-"),
            (table, f"GIST#{gist_id}", "-"),
            (table, "STATE", "counters"),
            chain.HEAD_KEY,
            chain.snapshot_key("bitrecs"),
        ]
    )
    switch, current, live, rate, validator, ban, hotkey_lock, gist_lock, gist, counters, head, snapshot = found
    return Known(
        enabled=switch["enabled"] if switch else None,
        current_set=current,
        live=live or {},
        accepted=rate["count"] if rate else 0,
        is_validator=validator is not None,
        ban=ban["reason"] if ban else None,
        hotkey_lock=hotkey_lock,
        gist_lock=gist_lock,
        gist=gist,
        agents=counters["agents"] if counters else 0,
        head=head,
        snapshot=snapshot,
    )


def wait_for(what: str, per_minute: int) -> float:
    """2: 0.0, or the seconds until this caller may come again."""
    return limits.wait_in_window(table, what, limits.Limit(per_minute, _MINUTE))


def burn_nonces(hotkey: str, nonce: str, t_nonce: str, *, seconds: int) -> bool:
    """3: once, for as long as the timestamp could be taken for fresh, and longer."""
    token = f"{hotkey}#{nonce}#{t_nonce}"
    return single_use.consume(table, "NONCE", token, expires_at=clock.now() + seconds)


def keep_gist(gist_id: str, gist: Gist | None, etag: str) -> None:
    """4: a look at a gist, or that there is none; one too large to keep is looked at again."""
    raw = codec.encode(gist) if gist else b""
    if len(raw) > _LARGEST_CACHED_GIST:
        return
    now = clock.now()
    ttl = int(now) + _GIST_TTL_SECONDS
    table.put({"pk": f"GIST#{gist_id}", "sk": "-", "gist": raw, "etag": etag, "at": now, "ttl": ttl})


def gist_of(item: Mapping[str, Any]) -> Gist | None:
    return Gist.model_validate_json(item["gist"]) if item["gist"] else None


def first_with(fingerprint: str) -> str | None:
    """5: the agent that had this content first."""
    item = table.get(f"LOCK#CONTENT#{fingerprint}", "-")
    return item["agent_id"] if item else None


def accept(new: NewAgent) -> None:
    """6: all of it or nothing; the conditions repeat what the decision rested on."""
    agent_id = new.meta["agent_id"]
    bucket().put(f"artifacts/{agent_id}/artifact.yaml", new.raw, content_type="application/yaml")
    transact(_acceptance(new))


def _acceptance(new: NewAgent) -> list[Write]:
    meta, now = new.meta, clock.now()
    agent_id, hotkey, set_id = meta["agent_id"], meta["miner_hotkey"], meta["set_id"]
    lock = {"sk": "-", "agent_id": agent_id, "set_id": set_id, "at": now}
    free = "attribute_not_exists(#pk)" + (" OR #set_id < :set_id" if new.lock_scope == "cycle" else "")
    values = {"set_id": set_id} if new.lock_scope == "cycle" else {}
    content = table.updating(
        f"LOCK#CONTENT#{new.fingerprint}", "-",
        "SET #agent_id = if_not_exists(#agent_id, :agent_id), #at = if_not_exists(#at, :now)",
        when="attribute_not_exists(#pk)" if new.content_is_unique else "", agent_id=agent_id, now=now,
    )  # fmt: skip
    writes = [
        table.putting({"pk": f"LOCK#HOTKEY#{hotkey}", **lock}, when=free, **values),
        table.putting({"pk": f"LOCK#GIST#{meta['gist_id']}", **lock}, when=free, **values),
        content,
        table.updating(
            f"RATE#{new.bucket}", "-", "SET #ttl = :ttl ADD #count :one",
            when="attribute_not_exists(#count) OR #count < :most",
            one=1, most=new.most_per_interval, ttl=int(now) + 2 * new.interval_seconds + _DAY,
        ),
        table.checking("BAN", hotkey, when="attribute_not_exists(#pk)"),
        table.putting_new({"pk": f"AGENT#{agent_id}", "sk": "META", **meta}),
        table.putting_new({"pk": f"AGENT#{agent_id}", "sk": "ARTIFACT", **new.artifact}),
        table.putting_new({"pk": f"HOTKEY#{hotkey}", "sk": f"{meta['created']}#{agent_id}", "agent_id": agent_id}),
        table.putting_new(new.queue_entry),
        table.putting_new(
            {"pk": "SIM#DELTA", "sk": f"{meta['created']}#{agent_id}", "agent_id": agent_id, "vector": new.vector}
        ),
        table.updating("STATE", "counters", "ADD #agents :one", one=1),
        table.putting(new.attempt),
    ]  # fmt: skip
    if new.temporary_key:
        writes.append(_keeping_temporary_key(agent_id, new.temporary_key, now))
    return writes


def _keeping_temporary_key(agent_id: str, key: str, now: float) -> Write:
    expires_at = now + _TEMPORARY_KEY_SECONDS
    item = {"pk": f"ORTK#{agent_id}", "sk": "-", "key": key, "expires_at": expires_at, "ttl": int(expires_at)}
    return table.putting(item)


def temporary_key(agent_id: str) -> str | None:
    item = table.get(f"ORTK#{agent_id}", "-")
    return item["key"] if item and item["expires_at"] > clock.now() else None


def attempt(kind: str, request_id: str, hotkey: str, status: int, error: str, *, ip: str, size: int = 0) -> Item:
    """11: the audit's record; the caller's address only as a hash."""
    now = clock.now()
    return {
        "pk": f"ATTEMPT#{clock.stamp(now)[:10]}",
        "sk": f"{clock.stamp(now)}#{request_id}",
        "type": kind,
        "success": not error,
        "hotkey": hotkey,
        "http_status": status,
        "error": error[:500],
        "size": size,
        "ip": hashlib.sha256(ip.encode()).hexdigest()[:16],
        "ttl": int(now) + _ATTEMPT_TTL_SECONDS,
    }


def record(item: Item) -> None:
    """11"""
    table.put(item)


def agent(agent_id: str) -> tuple[Item, Item] | None:
    """7: what may change, and what the artifact says."""
    meta, artifact = get_many([(table, f"AGENT#{agent_id}", "META"), (table, f"AGENT#{agent_id}", "ARTIFACT")])
    return (meta, artifact) if meta and artifact else None


def agents(agent_ids: Sequence[str]) -> list[Item]:
    """7: several, without their prompts."""
    return [found for found in get_many([(table, f"AGENT#{one}", "META") for one in agent_ids]) if found]


def agents_of(hotkey: str, *, limit: int) -> list[str]:
    """8"""
    page = table.query(f"HOTKEY#{hotkey}", descending=True, limit=limit, consistent=True)
    return [item["agent_id"] for item in page.items]


def api_key_works(key: str | None) -> bool:
    """9: keys are stored as their hash."""
    if not key:
        return False
    digest = tokens.digest(key)
    item = table.get("KEYS", digest)
    return item is not None and "revoked_at" not in item and hmac.compare_digest(item["sk"], digest)


def add_api_key(key: str, name: str) -> str:
    digest = tokens.digest(key)
    table.put_new({"pk": "KEYS", "sk": digest, "id": digest[:12], "name": name, "created_at": clock.now()})
    return digest[:12]


def api_keys() -> list[Item]:
    return list(table.query_all("KEYS", consistent=True))


def revoke_api_key(key_id: str) -> bool:
    """By its id; True when there was such a key."""
    matching = [item["sk"] for item in api_keys() if item["id"] == key_id]
    for digest in matching:
        table.update("KEYS", digest, "SET #revoked_at = :now", now=clock.now())
    return bool(matching)


def ban(hotkey: str, reason: str, by: str) -> None:
    """9: a repeat replaces the reason."""
    change = "SET #reason = :reason, #by = :by, #at = if_not_exists(#at, :now)"
    table.update("BAN", hotkey, change, reason=reason, by=by, now=clock.now())


def unban(hotkey: str) -> bool:
    return table.delete("BAN", hotkey) is not None


def bans() -> list[Item]:
    return list(table.query_all("BAN", consistent=True))


def banned(hotkeys: Sequence[str]) -> set[str]:
    """Which of these are banned."""
    found = get_many([(table, "BAN", hotkey) for hotkey in hotkeys])
    return {item["sk"] for item in found if item}


def add_validator(hotkey: str, name: str) -> None:
    item = {"pk": "VALIDATORS", "sk": hotkey, "name": name, "short_name": name[:16], "env": "", "at": clock.now()}
    table.put(item)


def remove_validator(hotkey: str) -> bool:
    return table.delete("VALIDATORS", hotkey) is not None


def validators() -> list[Item]:
    return list(table.query_all("VALIDATORS", consistent=True))


def validator(hotkey: str) -> Item | None:
    return table.get("VALIDATORS", hotkey or _NOT_FOR_A_KEY)


def switch_submissions(*, enabled: bool) -> None:
    table.put({"pk": "STATE", "sk": "switch", "enabled": enabled, "at": clock.now()})


def current_set() -> Item | None:
    """10"""
    return table.get("SETS", "CURRENT")


def open_set(after: int | None, problems: Sequence[Mapping[str, str]], *, first_block: int) -> Item:
    """10: the set that follows `after` (None: the first one); somebody who was faster has opened it already."""
    number = 1 if after is None else after + 1
    opened = {
        "set_id": number, "created_at": clock.now(), "first_block": first_block,
        "problems": [dict(problem) for problem in problems],
    }  # fmt: skip
    held = "attribute_not_exists(#pk)" if after is None else "#set_id = :after"
    values = {} if after is None else {"after": after}
    writes = [
        table.putting({"pk": "SETS", "sk": "CURRENT", **opened}, when=held, **values),
        table.putting_new({"pk": "SETS", "sk": f"{number:09d}", **opened}),
    ]
    try:
        transact(writes)
    except ConditionFailed:
        return current_set() or opened
    return opened


def accepted_in_a_day(interval: int, now: float) -> int:
    """The sum of the last day's intervals; of very short ones only the latest hundred."""
    last = int(now // interval)
    buckets = range(last - min(_MOST_BUCKETS, _DAY // interval) + 1, last + 1)
    found = get_many([(table, f"RATE#{bucket}", "-") for bucket in buckets])
    return sum(item["count"] for item in found if item)


def set_by_number(number: int) -> Item | None:
    return table.get("SETS", f"{number:09d}")


def doors() -> tuple[bool | None, Item, int, Item | None]:
    """What `/` and `/health` show: switch, live sessions, number of agents, the chain's copy."""
    switch, live, counters, snapshot = get_many(
        [
            (table, "STATE", "switch"),
            (table, "SESSIONS", "LIVE"),
            (table, "STATE", "counters"),
            chain.snapshot_key("bitrecs"),
        ]
    )
    return (switch["enabled"] if switch else None), live or {}, counters["agents"] if counters else 0, snapshot
