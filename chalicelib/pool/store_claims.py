"""Pool's access patterns of payouts: windows, epochs, their leaves, claims.

| #  | question or effect               | key                               | consistency | cost                      |
| -- | -------------------------------- | --------------------------------- | ----------- | ------------------------- |
| 30 | which epochs are published       | EPOCHS/LIST                       | strong      | 1 get                     |
| 31 | an epoch                         | EPOCH#{n}/META                    | strong      | 1 get                     |
| 32 | a proof                          | EPOCH#{n}/META, LEAF#{n}#{hotkey} | strong      | 1 batch get, 2 at first   |
| 33 | write leaves                     | LEAF#{n}#{hotkey}/{digest}        | -           | 1 write each, 25 a call   |
| 34 | publish                          | EPOCH#{n}/META, EPOCHS/LIST       | transaction | 1 (2 writes)              |
| 35 | claim                            | EPOCH#{n}/CLAIM#{index}, META     | transaction | 1 batch get, 1 (3 writes) |
| 36 | ledger                           | EPOCH#{n}/CLAIM#                  | strong      | 1 get, 1 query            |
| 37 | how far a publication got        | PUBLISHING#{n}/{digest}           | strong      | 1 get or write            |
| 38 | activity of a window, its miners | WINDOW#{n}, MINER#                | strong      | 1 query, 1 batch per 100  |
| 39 | recipients of hotkeys            | MINER#                            | strong      | 1 batch get per 100       |
| 40 | windows that may have to be paid | WINDOWS/OPEN                      | strong      | 1 get, 1 write            |
| 41 | whether a window is done with    | PAYOUT#{n}/SETTLED                | strong      | 1 get or write            |
| 42 | what a window pays               | PAYOUT#{n}/FROZEN                 | conditional | 1 get, 1 write            |
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from chalicelib.kernel.blobs import Bucket
from chalicelib.kernel.errors import Conflict
from chalicelib.kernel.tables import ConditionFailed, Key, get_many, transact
from chalicelib.kernel.wire import Item

from .contracts import Claim, PoolSettings
from .contracts_records import Contract, Epoch, Miner
from .store import contract_of, epochs_of, miner_key, miner_of, table

_WRITERS = 8
_LEAVES_PER_WRITER = 200
_CONTRACT = (table, "CONTRACT", "STATE")
_MOST_DIGESTS = 10_000
_digests: dict[int, str] = {}


def epochs() -> dict[int, float]:
    """30: when each published epoch opens, ascending."""
    return epochs_of(table.get("EPOCHS", "LIST"))


def epoch(number: int) -> Epoch | None:
    """31: one epoch."""
    item = table.get(f"EPOCH#{number}", "META")
    return _epoch_of(number, item) if item else None


def proof(number: int, hotkey: str) -> tuple[Epoch | None, Item | None]:
    """32: a leaf counts only among the claims that were published; which these are is known after the first reading."""
    known = _digests.get(number, "")
    meta, leaf = get_many([(table, f"EPOCH#{number}", "META"), (table, *_leaf_key(number, hotkey, known))])
    if not meta:
        return None, None
    if meta["digest"] != known:
        if len(_digests) >= _MOST_DIGESTS:
            _digests.clear()
        _digests[number] = meta["digest"]
        leaf = table.get(*_leaf_key(number, hotkey, meta["digest"]))
    return _epoch_of(number, meta), leaf


def leaf_item(number: int, hotkey: str, digest: str, content: Mapping[str, Any]) -> Item:
    """Publications of other claims for the same epoch never touch each other's leaves."""
    pk, sk = _leaf_key(number, hotkey, digest)
    return {"pk": pk, "sk": sk, **content}


def _leaf_key(number: int, hotkey: str, digest: str) -> Key:
    return f"LEAF#{number}#{hotkey}", digest or "-"


def write_leaves(items: Sequence[Item]) -> None:
    """33: idempotent, several batches at once."""
    parts = [items[first : first + _LEAVES_PER_WRITER] for first in range(0, len(items), _LEAVES_PER_WRITER)]
    with ThreadPoolExecutor(_WRITERS) as pool:
        list(pool.map(table.put_many, parts))


def publish(found: Epoch, scheme: str, amount_mode: str) -> bool:
    """34: the epoch exists from here on; False when it did before."""
    meta = {
        "pk": f"EPOCH#{found.number}", "sk": "META", "root": found.root, "leaves": found.leaves,
        "total_units": found.total_units, "claimed_units": 0, "scheme": scheme, "amount_mode": amount_mode,
        "published_at": found.published_at, "claims_open_at": found.claims_open_at, "uri": found.uri,
        "digest": found.digest,
    }  # fmt: skip
    listing = table.updating("EPOCHS", "LIST", f"SET #e{found.number} = :opens", opens=found.claims_open_at)
    try:
        transact([table.putting_new(meta), listing])
    except ConditionFailed:
        return False
    return True


def standing(number: int) -> tuple[Epoch | None, Contract]:
    """An epoch, and whether its contract lets claims through."""
    meta, contract = get_many([(table, f"EPOCH#{number}", "META"), _CONTRACT])
    return (_epoch_of(number, meta) if meta else None), contract_of(contract)


def claim(found: Epoch, body: Claim, now: float) -> None:
    """35: one claim per leaf, never more than the epoch holds, none under a veto."""
    row = {
        "pk": f"EPOCH#{found.number}", "sk": f"CLAIM#{body.index:010d}", "index": body.index, "hotkey": body.hotkey,
        "recipient": body.recipient_coldkey, "amount": body.amount_units, "claimed_at": now,
    }  # fmt: skip
    spending = table.updating(
        f"EPOCH#{found.number}", "META", "SET #claimed_units = #claimed_units + :amount",
        when="#claimed_units <= :most", amount=body.amount_units, most=found.total_units - body.amount_units,
    )  # fmt: skip
    no_veto = table.checking(*_CONTRACT[1:], when="attribute_not_exists(#vetoes) OR #vetoes = :none", none=0)
    try:
        transact([table.putting_new(row), spending, no_veto])
    except ConditionFailed as failure:
        raise _refusal(failure.failed) from None


def _refusal(failed: Iterable[int]) -> Conflict:
    if 2 in failed:  # noqa: PLR2004 - the third write of the transaction
        return vetoed()
    if 0 in failed:
        return Conflict("Already claimed", code="already_claimed")
    return Conflict("Epoch budget exceeded", code="budget_exceeded")


def vetoed() -> Conflict:
    return Conflict("Claims are locked by an active veto", code="veto_active")


def ledger(number: int, after: int, limit: int) -> list[Item]:
    """36: claims by index."""
    bounds = {"first": f"CLAIM#{after + 1:010d}", "last": "CLAIM#~"}
    where = "#sk BETWEEN :first AND :last"
    return table.query(f"EPOCH#{number}", where=where, values=bounds, limit=limit, consistent=True).items


def progress(number: int, digest: str) -> int:
    """37: how many leaves of this publication are written."""
    item = table.get(f"PUBLISHING#{number}", digest)
    return item["next"] if item else 0


def note_progress(number: int, digest: str, following: int) -> None:
    table.put({"pk": f"PUBLISHING#{number}", "sk": digest, "next": following})


def activity(window: int) -> dict[str, Item]:
    """38: what each miner did in a window."""
    rows = table.query_all(f"WINDOW#{window}", consistent=True)
    return {row["sk"].removeprefix("MINER#"): row for row in rows if row["sk"].startswith("MINER#")}


def first_open_window(*, default: int) -> int:
    """40: the oldest window that may still have to be paid out."""
    item = table.get("WINDOWS", "OPEN")
    return item["first"] if item else default


def note_open_window(number: int) -> None:
    table.put({"pk": "WINDOWS", "sk": "OPEN", "first": number})


def settle_window(number: int) -> None:
    """41: a window is done with: its epoch is published, or nobody is paid."""
    table.put({"pk": f"PAYOUT#{number}", "sk": "SETTLED"})


def is_settled(number: int) -> bool:
    return table.get(f"PAYOUT#{number}", "SETTLED") is not None


def next_attempt(number: int) -> int:
    """A number for the name of the next flow."""
    return int(table.update(f"PAYOUT#{number}", "FLOW", "ADD #attempt :one", one=1)["attempt"])


def frozen(number: int) -> Item | None:
    """42: what a window pays, as it was computed the first time."""
    item = table.get(f"PAYOUT#{number}", "FROZEN")
    return item["staged"] if item else None


def freeze(number: int, staged: Item) -> Item:
    """The first preparation stands, whoever comes second."""
    try:
        table.put_new({"pk": f"PAYOUT#{number}", "sk": "FROZEN", "staged": staged})
    except ConditionFailed as failure:
        return dict((failure.old or {})["staged"])
    return staged


def miners(hotkeys: Sequence[str]) -> Iterator[Miner]:
    """39: records of many hotkeys, in their order."""
    for hotkey, item in zip(hotkeys, get_many([miner_key(hotkey) for hotkey in hotkeys]), strict=True):
        yield miner_of(hotkey, item)


def bucket() -> Bucket:
    """Where epochs are kept as they were computed."""
    return Bucket(PoolSettings.current().epochs_bucket)


def _epoch_of(number: int, item: Item) -> Epoch:
    return Epoch(
        number=number,
        root=item["root"],
        leaves=item["leaves"],
        total_units=item["total_units"],
        claimed_units=item["claimed_units"],
        published_at=float(item["published_at"]),
        claims_open_at=float(item["claims_open_at"]),
        uri=item["uri"],
        digest=item["digest"],
    )
