"""Pool's access patterns, one function each; miners, counters and health here, the rest in its parts.

| # | question or effect               | key                               | consistency | cost                 |
| - | -------------------------------- | --------------------------------- | ----------- | -------------------- |
| 1 | a miner                          | MINER#{hotkey}/META               | strong      | 1 get (every denial) |
| 2 | a miner and a spent signature    | + USED#SIG#{digest}               | strong      | 1 batch get          |
| 3 | register or refresh              | MINER, STATS/{shard}              | transaction | 1 (2 writes)         |
| 4 | set a recipient                  | MINER, MINER/RECIPIENT#{ts}       | transaction | 1 (2 writes)         |
| 5 | a miner's and the pool's figures | WINDOW, STATS/*, SOTA/*, SNAP/TOP | strong      | 1 batch get          |
| 6 | the leaderboard                  | SNAP/TOP                          | strong      | 1 batch get          |
| 7 | rewrite the leaderboard          | index rank, SNAP/TOP              | index       | 1 query, 1 write     |
| 8 | health                           | chain head, CONTRACT, EPOCHS, JOB | strong      | 1 batch get          |
| 9 | ban, lift a ban                  | MINER                             | -           | 1 write              |

`store_work`: the board of a problem, assignments, programs, judgements, credits, results.
`store_claims`: windows, epochs, leaves, claims.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from typing import Any

from chalicelib.kernel import chain, single_use
from chalicelib.kernel.errors import Conflict, Contended, Unauthenticated
from chalicelib.kernel.tables import ConditionFailed, Table, Write, get_many, transact
from chalicelib.kernel.values import frozen
from chalicelib.kernel.wire import Item

from .contracts import TASK_TYPES
from .contracts_records import Contract, Miner, Sota, Vitals
from .store_items import sota_of

table = Table("pool")

COUNTERS = (
    "evaluations_submitted", "agreements", "disagreements", "evolutions_submitted", "evolutions_verified",
    "malformed_submissions", "expired",
)  # fmt: skip
POOL_COUNTERS = ("miners", "reputation", "algorithms", "evaluating", "verified")
BOARD_SIZE = 100
_SHARDS = 16
_ACTIVE_MINUTES = 60
_MOST_REPUTATION = 10**18
_MOST_AGREEMENTS = 10**9
_SIGNATURE = "SIG"


def miner(hotkey: str) -> Miner:
    """1: what stands about a hotkey; an empty record for one that never was here."""
    return miner_of(hotkey, table.get(f"MINER#{hotkey}", "META"))


def miner_and_signature(hotkey: str, token: str, now: float) -> tuple[Miner, bool]:
    """2: the miner, and whether the signature was spent."""
    used = (table, f"USED#{_SIGNATURE}#{token}", "-")
    found, spent = get_many([miner_key(hotkey), used])
    return miner_of(hotkey, found), spent is not None and float(spent["expires_at"]) >= now


def miner_and_head(hotkey: str) -> tuple[Miner, chain.Head | None]:
    """2: the miner and the chain's head, for readers that tell of a window."""
    found, head = get_many([miner_key(hotkey), chain.HEAD_KEY])
    return miner_of(hotkey, found), chain.head_of(head)


def spending(token: str, *, expires_at: float) -> Write:
    """Use a signature up together with its effect."""
    return single_use.consuming(table, _SIGNATURE, token, expires_at=expires_at)


def register(known: Miner, now: float, guard: Write | None) -> Miner:
    """3: the first call counts the miner, every call moves `last_seen_at`."""
    created = known.registered_at is None
    registered_at = now if known.registered_at is None else known.registered_at
    change, values = seen(known, now)
    values |= {"registered_at": registered_at, "rank_pk": "RANK"}
    change += ", #registered_at = :registered_at, #rank_pk = :rank_pk"
    premise = "attribute_not_exists(#registered_at)" if created else "#seen_minute = :was_seen"
    if created:
        del values["was_seen"]
        zeros = dict.fromkeys(("reputation", *COUNTERS), 0)
        change += "".join(f", #{name} = :zero" for name in zeros) + ", #rank_sk = :rank_sk"
        values |= {"zero": 0, "rank_sk": rank_key(known.hotkey, 0, 0, registered_at)}
    writes = [table.updating(*miner_key(known.hotkey)[1:], change, when=premise, **values)]
    writes += counting(known, now, miners=int(created))
    commit(writes, guard)
    return miner(known.hotkey)


def set_recipient(hotkey: str, recipient: str, timestamp: int, now: float) -> None:
    """4: later signatures win; history is kept."""
    newer = (
        "attribute_not_exists(#recipient_ts) OR #recipient_ts < :ts OR (#recipient_ts = :ts AND #recipient = :address)"
    )
    change = "SET #recipient = :address, #recipient_at = :now, #recipient_ts = :ts"
    history = {"pk": f"MINER#{hotkey}", "sk": f"RECIPIENT#{timestamp:012d}", "recipient": recipient, "at": now}
    update = table.updating(*miner_key(hotkey)[1:], change, when=newer, address=recipient, ts=timestamp, now=now)
    try:
        transact([update, table.putting(history)])
    except ConditionFailed:
        raise Conflict("Stale recipient update", code="stale_update") from None


@frozen
class Figures:
    """What stats are made of."""

    activity: Item
    shards: list[Item]
    sotas: list[Sota]
    top: Item
    head: chain.Head | None


def figures(hotkey: str = "-", window: int = 0) -> Figures:
    """5: the miner's window, the counters of all shards, every state of the art, the leaderboard, the chain's head."""
    wanted = [(table, f"WINDOW#{window}", f"MINER#{hotkey}"), (table, "SNAP", "TOP"), chain.HEAD_KEY]
    shards = [(table, "STATS", f"{shard:02d}") for shard in range(_SHARDS)]
    sotas = [(table, "SOTA", task) for task in TASK_TYPES]
    activity, top, head, *rest = get_many([*wanted, *shards, *sotas])
    counters = [item for item in rest[:_SHARDS] if item]
    found = [sota_of(item) for item in rest[_SHARDS:] if item]
    return Figures(activity or {}, counters, found, top or {"entries": []}, chain.head_of(head))


def totals(shards: Iterable[Item], now: float) -> dict[str, int]:
    """The pool's counters, and how many miners were seen within the hour."""
    minute = int(now // 60)
    names = {*POOL_COUNTERS, *(f"a{number}" for number in range(minute - _ACTIVE_MINUTES + 1, minute + 1))}
    found = dict.fromkeys(POOL_COUNTERS, 0) | {"active": 0}
    for shard in shards:
        for name in names & shard.keys():
            found["active" if name not in POOL_COUNTERS else name] += int(shard[name])
    return found


def forget_old_minutes(now: float) -> None:
    """Shards keep no minutes that nobody asks for any more."""
    oldest = int(now // 60) - 2 * _ACTIVE_MINUTES
    for shard in range(_SHARDS):
        item = table.get("STATS", f"{shard:02d}") or {}
        old = [name for name in item if name.startswith("a") and name[1:].isdigit() and int(name[1:]) < oldest]
        if old:
            table.update("STATS", f"{shard:02d}", "REMOVE " + ", ".join(f"#{name}" for name in old[:200]))


def leaderboard() -> tuple[Item, chain.Head | None]:
    """6: the best, as of the last change of anybody's reputation; and the chain's head."""
    top, head = get_many([(table, "SNAP", "TOP"), chain.HEAD_KEY])
    return top or {"entries": [], "at": 0.0}, chain.head_of(head)


def refresh_leaderboard(now: float) -> None:
    """7: a page of the index becomes the snapshot; an older refresh never replaces a newer one."""
    found = table.query("RANK", index="rank", limit=BOARD_SIZE).items
    entries = [
        {
            "hotkey": item["pk"].removeprefix("MINER#"),
            "reputation": item["reputation"],
            "agreements": item["agreements"],
            "evolutions_verified": item["evolutions_verified"],
        }
        for item in found
    ]
    snapshot = {"pk": "SNAP", "sk": "TOP", "entries": entries, "at": now}
    try:
        table.put(snapshot, when="attribute_not_exists(#at) OR #at <= :now", now=now)
    except ConditionFailed:
        return


def vitals() -> Vitals:
    """8: what health tells."""
    job = (table, "JOB", "close-windows")
    head, contract, epochs, publisher = get_many(
        [chain.HEAD_KEY, (table, "CONTRACT", "STATE"), (table, "EPOCHS", "LIST"), job]
    )
    seen_head = chain.head_of(head)
    return Vitals(
        block=seen_head.block if seen_head else None,
        observed_at=seen_head.observed_at if seen_head else 0.0,
        contract=contract_of(contract),
        epochs=epochs_of(epochs),
        published_at=(publisher or {}).get("last_success_at"),
    )


def set_ban(hotkey: str, *, banned: bool) -> None:
    """9: a banned miner is refused from the next request on and leaves the leaderboard."""
    found = miner(hotkey)
    if banned:
        table.update(*miner_key(hotkey)[1:], "SET #banned = :yes REMOVE #rank_pk", yes=True)
    elif found.registered_at is None:
        table.update(*miner_key(hotkey)[1:], "REMOVE #banned")
    else:
        table.update(*miner_key(hotkey)[1:], "SET #rank_pk = :rank REMOVE #banned", rank="RANK")


def set_contract(vetoes: int, *, paused: bool, read_error: str | None, now: float) -> None:
    """What a reader of the chain, or the operator, says of the claim contract."""
    state = {"vetoes": vetoes, "paused": paused, "read_error": read_error, "read_at": now}
    table.put({"pk": "CONTRACT", "sk": "STATE"} | state)


# ---- parts of transactions


def miner_key(hotkey: str) -> tuple[Table, str, str]:
    return table, f"MINER#{hotkey}", "META"


def seen(known: Miner, now: float) -> tuple[str, dict[str, Any]]:
    """The beginning of every update of a miner: when it was seen, and the minute that the counters hold for it."""
    values = {"now": now, "minute": int(now // 60), "was_seen": known.seen_minute}
    return "SET #last_seen_at = :now, #seen_minute = :minute", values


def counting(known: Miner, now: float, **amounts: int) -> list[Write]:
    """Counters that a miner's request moves, in the shard of its hotkey; nothing to move, no write."""
    minute = int(now // 60)
    if known.seen_minute != minute:
        amounts[f"a{minute}"] = amounts.get(f"a{minute}", 0) + 1
        if known.seen_minute > minute - 2 * _ACTIVE_MINUTES:
            amounts[f"a{known.seen_minute}"] = amounts.get(f"a{known.seen_minute}", 0) - 1
    return counting_pool(known.hotkey, amounts)


def counting_pool(hotkey: str, amounts: Mapping[str, int]) -> list[Write]:
    moved: dict[str, Any] = {name: amount for name, amount in amounts.items() if amount}
    if not moved:
        return []
    change = "ADD " + ", ".join(f"#{name} :{name}" for name in moved)
    shard = hashlib.sha256(hotkey.encode()).digest()[0] % _SHARDS
    return [table.updating("STATS", f"{shard:02d}", change, **moved)]


def commit(writes: list[Write], guard: Write | None) -> None:
    """All or nothing: a spent signature is told, any other lost premise means to decide again."""
    everything = [guard, *writes] if guard else writes
    try:
        transact(everything)
    except ConditionFailed as failure:
        if guard and 0 in failure.failed:
            raise already_used() from None
        raise Contended from None


def already_used() -> Unauthenticated:
    return Unauthenticated("Signature already used", code="signature_replayed")


def rank_key(hotkey: str, reputation: int, agreements: int, registered_at: float) -> str:
    """Sorts by reputation, then agreements, then age, then hotkey."""
    best = f"{_MOST_REPUTATION - reputation:019d}#{_MOST_AGREEMENTS - agreements:010d}"
    return f"{best}#{registered_at:017.6f}#{hotkey}"


# ---- items as values


def miner_of(hotkey: str, item: Item | None) -> Miner:
    if not item:
        return Miner(hotkey)
    return Miner(
        hotkey=hotkey,
        registered_at=item.get("registered_at"),
        last_seen_at=item.get("last_seen_at", 0.0),
        seen_minute=item.get("seen_minute", 0),
        reputation=item.get("reputation", 0),
        counters={name: item.get(name, 0) for name in COUNTERS},
        banned=item.get("banned", False),
        active=item.get("active"),
        last_lease_window=item.get("last_lease_window"),
        recipient=item.get("recipient"),
        recipient_at=item.get("recipient_at", 0.0),
        recipient_ts=item.get("recipient_ts", 0),
        seeds_done=frozenset(int(number) for number in item.get("seeds_done", ())),
    )


def contract_of(item: Item | None) -> Contract:
    if not item:
        return Contract()
    return Contract(item["vetoes"], item["paused"], item["read_error"], item["read_at"])


def epochs_of(item: Item | None) -> dict[int, float]:
    """When each epoch opens for claims."""
    known = {name[1:]: value for name, value in (item or {}).items() if name.startswith("e") and name[1:].isdigit()}
    return {int(number): float(known[number]) for number in sorted(known, key=int)}
