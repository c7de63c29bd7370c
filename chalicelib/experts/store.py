"""Experts' access patterns, one function each.

| #  | question                             | key                           | consistency | cost             |
|----|--------------------------------------|-------------------------------|-------------|------------------|
| 1  | whose token is this                  | TOKEN#{digest}/T              | strong      | 1 get            |
| 2  | head, model, assignment, metagraph   | CHAIN, MODEL, SNAP#experts    | strong      | 1 batch get      |
| 3  | hand out a URL                       | GRANT#{id}, GRANTS#…          | conditional | 1 transaction    |
| 4  | what a submission is decided on      | 2, SUB#…, QUEUE/STATS         | strong      | 1 batch get      |
| 5  | accept a submission                  | SUB#…, CYC#…, SUBMISSION#{id} | conditional | 1 transaction    |
| 6  | one submission                       | SUBMISSION#{id}/S             | strong      | 1 get            |
| 7  | move a submission on                 | SUBMISSION#{id}/S             | conditional | 1 write          |
| 8  | submissions of rounds not closed     | index round, OPEN             | eventual    | 1 query          |
| 9  | publish: switch the pointer          | VERSIONS/{id}, MODEL/CURRENT  | conditional | 1 transaction    |
| 10 | published versions                   | VERSIONS                      | strong      | 1 query          |
| 11 | how far a publication is             | PUBLICATION#{id}/{object}     | strong      | 1 get or write   |
| 13 | the dashboard's summary              | VIEW/OVERVIEW                 | strong      | 1 get            |
| 14 | one full-model signature, once       | USED#FULL#…                   | conditional | 1 write          |
| 15 | the submission queue's estimate      | QUEUE/STATS                   | -           | 1 write          |
| 16 | is a published object still there    | the bucket                    | ≤ 60 s      | 1 head a minute  |

What rounds end with (12, 18) stands in `store_merges`, who fetches now (17) in `store_slots`.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Sequence
from typing import Any

from chalicelib.kernel import chain, clock, single_use
from chalicelib.kernel.blobs import Bucket
from chalicelib.kernel.errors import Contended, NotFound
from chalicelib.kernel.tables import ConditionFailed, Table, get_many, transact, until_decided
from chalicelib.kernel.values import frozen
from chalicelib.kernel.wire import Item

from .contracts import ExpertsSettings, FetchSettings

table = Table("experts")

SYSTEM = "experts"
READY = "READY"
OPEN, CLOSED = "OPEN", "CLOSED"
_KEPT_SECONDS = 30 * 24 * 3600
_PUBLICATION_SECONDS = 7 * 24 * 3600
_FINAL = ("scored", "rejected", "failed")
_SECONDS_BETWEEN_LOOKS = 60
_MOST_LOOKS = 1000
LOOKS: dict[str, tuple[float, bool]] = {}
SEEN: dict[str, tuple[chain.Head | None, Item | None]] = {}


@frozen
class World:
    """What a request is decided on, read at one moment."""

    head: chain.Head | None
    model: Item | None
    groups: frozenset[int] | None
    metagraph: chain.Snapshot | None


@frozen
class Intake:
    """What else a submission is decided on."""

    earlier: str | None
    waiting: int
    seconds_each: float | None


def models() -> Bucket:
    return Bucket(ExpertsSettings.current().model_bucket)


def quarantine() -> Bucket:
    return Bucket(FetchSettings.current().quarantine_bucket)


def token(digest: str) -> Item | None:
    """1: the registered token, unless it has expired."""
    item = table.get(f"TOKEN#{digest}", "T")
    return item if item and (item["expires_at"] is None or item["expires_at"] > clock.now()) else None


def register_token(digest: str, hotkey: str | None, expires_at: float | None) -> None:
    table.put({"pk": f"TOKEN#{digest}", "sk": "T", "hotkey": hotkey, "expires_at": expires_at})


def revoke_token(digest: str) -> None:
    try:
        table.delete(f"TOKEN#{digest}", "T", when="attribute_exists(#pk)")
    except ConditionFailed:
        raise NotFound("There is no such token", code="token_not_found") from None


_WORLD = ((table, "MODEL", "CURRENT"), (table, "MODEL", "ASSIGNMENT"))


def world() -> World:
    """2: head, model, assignment and metagraph in one read."""
    return _world(get_many([chain.HEAD_KEY, chain.snapshot_key(SYSTEM), *_WORLD]))


def head_and_model() -> tuple[chain.Head | None, Item | None]:
    """2, for `/health`: no metagraph."""
    head, model = get_many([chain.HEAD_KEY, _WORLD[0]])
    SEEN["health"] = chain.head_of(head), model
    return SEEN["health"]


def last_seen() -> tuple[chain.Head | None, Item | None]:
    """What this process read when the tables last answered."""
    return SEEN.get("health", (None, None))


def _world(items: Sequence[Item | None]) -> World:
    head, snapshot, model, assignment = items
    known = model or assignment
    groups = frozenset(known["groups"]) if known else None
    return World(chain.head_of(head), model, groups, chain.snapshot_of(SYSTEM, snapshot))


def grant(who: str, cycle: int, limit: int, ttl: int, record: Item) -> str | None:
    """3: a grant's id; None when this caller has had its URLs of the cycle."""
    grant_id = clock.new_uuid()
    key = (f"GRANTS#{cycle}#{hashlib.sha256(who.encode()).hexdigest()}", "N")
    writes = [
        table.updating(
            *key, "SET #ttl = :ttl ADD #count :one",
            when="attribute_not_exists(#count) OR #count < :limit", one=1, limit=limit, ttl=ttl,
        ),
        table.putting_new({"pk": f"GRANT#{grant_id}", "sk": "G", "ttl": ttl, **record}),
    ]  # fmt: skip

    def decide() -> str | None:
        try:
            transact(writes)
        except ConditionFailed:
            return None
        return grant_id

    return until_decided(decide)


def stands(key: str) -> bool:
    """16: whether nobody has deleted a published object by hand; a process looks once a minute."""
    looked_at, found = LOOKS.get(key, (-math.inf, False))
    if clock.now() - looked_at >= _SECONDS_BETWEEN_LOOKS:
        if len(LOOKS) >= _MOST_LOOKS:
            LOOKS.clear()
        found = models().head(key) is not None
        LOOKS[key] = (clock.now(), found)
    return found


def use_signature(hotkey: str, timestamp: str, *, expires_at: float) -> bool:
    """14: a signature for the full model counts once per hotkey and timestamp."""
    return single_use.consume(table, "FULL", f"{hotkey}#{timestamp}", expires_at=expires_at)


def intake(pubkey: str, block_number: int) -> tuple[World, Intake]:
    """4: everything that a submission is decided on."""
    head, snapshot, model, assignment, earlier, stats = get_many([
        chain.HEAD_KEY, chain.snapshot_key(SYSTEM), *_WORLD,
        (table, f"SUB#{pubkey}#{block_number}", "S"), (table, "QUEUE", "STATS"),
    ])  # fmt: skip
    found = _world((head, snapshot, model, assignment))
    stats = stats or {}
    return found, Intake(
        earlier["submission_id"] if earlier and earlier["ttl"] > clock.now() else None,
        int(stats.get("waiting", 0)),
        stats.get("ewma_seconds"),
    )


class Duplicate(Exception):
    """This hotkey has submitted for this block before."""

    def __init__(self, submission_id: str) -> None:
        super().__init__(submission_id)
        self.submission_id = submission_id


class OverLimit(Exception):
    """This hotkey has had its submissions of the cycle."""


def accept(record: Item, *, dedupe_ttl: int, limit: int) -> None:
    """5: the claim on hotkey and block, the cycle's counter and the record itself, all or nothing."""
    pubkey, submission_id, cycle = record["pubkey"], record["submission_id"], record["cycle"]
    now = clock.now()
    claim = {"pk": f"SUB#{pubkey}#{record['block_number']}", "sk": "S", "submission_id": submission_id}
    order = f"{cycle:012d}#{now:017.6f}#{submission_id}"
    item = {
        **record, "pk": f"SUBMISSION#{submission_id}", "sk": "S", "state": "accepted", "created_at": now,
        "updated_at": now, "attempt": 0, "ttl": int(now) + _KEPT_SECONDS, "round_pk": OPEN, "round_sk": order,
    }  # fmt: skip
    writes = [
        table.putting(
            claim | {"ttl": dedupe_ttl}, when="attribute_not_exists(#pk) OR #ttl < :now", now=int(now)
        ),
        table.updating(
            f"CYC#{pubkey}#{cycle}", "C", "SET #latest = :id, #ttl = :ttl ADD #count :one",
            when="attribute_not_exists(#count) OR #count < :limit",
            id=submission_id, one=1, limit=limit, ttl=dedupe_ttl,
        ),
        table.putting_new(item),
    ]  # fmt: skip
    try:
        transact(writes)
    except ConditionFailed as failure:
        if 0 in failure.failed:
            raise Duplicate((failure.failed[0] or {})["submission_id"]) from None
        raise OverLimit from None


def latest_of_cycle(pubkey: str, cycle: int) -> str | None:
    """The submission that supersedes a miner's earlier ones of the cycle."""
    item = table.get(f"CYC#{pubkey}#{cycle}", "C")
    return item["latest"] if item else None


def submission(submission_id: str) -> Item:
    """6: one submission."""
    item = table.get(f"SUBMISSION#{submission_id}", "S")
    if not item:
        raise NotFound("There is no such submission", code="submission_not_found")
    return item


def move(submission_id: str, state: str, **values: Any) -> bool:
    """7: a submission's next state; one that is final stays as it is."""
    names = "".join(f", #{name} = :{name}" for name in values)
    try:
        table.update(
            f"SUBMISSION#{submission_id}", "S", f"SET #state = :state, #updated_at = :now{names}",
            when="attribute_exists(#pk) AND NOT (#state IN (:scored, :rejected, :failed))",
            state=state, now=clock.now(), scored=_FINAL[0], rejected=_FINAL[1], failed=_FINAL[2], **values,
        )  # fmt: skip
    except ConditionFailed:
        return False
    return True


def next_attempt(submission_id: str, seen: int) -> bool:
    """7: take the right to start a submission's flow again."""
    try:
        table.update(
            f"SUBMISSION#{submission_id}", "S", "SET #attempt = :next", when="#attempt = :seen", next=seen + 1,
            seen=seen,
        )  # fmt: skip
    except ConditionFailed:
        return False
    return True


def open_submissions() -> list[Item]:
    """8: the submissions of rounds that are not closed, oldest first."""
    return list(table.query_all(OPEN, index="round"))


def closed_submissions(limit: int) -> list[Item]:
    return table.query(CLOSED, index="round", descending=True, limit=limit).items


def note_evaluation(seconds: float) -> None:
    """15: the running mean of an evaluation's seconds; a lost update costs an estimate, nothing else."""
    stats = table.get("QUEUE", "STATS") or {}
    mean = 0.8 * stats.get("ewma_seconds", seconds) + 0.2 * seconds
    table.update("QUEUE", "STATS", "SET #ewma_seconds = :mean", mean=mean)


def count_in(waiting: int = 1) -> None:
    """15: one more waits; the rounds' job sets the number right."""
    table.update("QUEUE", "STATS", "ADD #waiting :more", more=waiting)


def set_waiting(waiting: int) -> None:
    table.update("QUEUE", "STATS", "SET #waiting = :waiting", waiting=waiting)


def close_submission(submission_id: str, **values: Any) -> None:
    """7: rank and flags of a closed round; the order among submissions stays."""
    names = "".join(f", #{name} = :{name}" for name in values)
    table.update(
        f"SUBMISSION#{submission_id}", "S", f"SET #round_pk = :closed{names}", when="attribute_exists(#pk)",
        closed=CLOSED, **values,
    )  # fmt: skip


def note_merge(submission_id: str, model_version: str) -> None:
    table.update(
        f"SUBMISSION#{submission_id}", "S", "SET #merged_into = :into, #updated_at = :now",
        into=model_version, now=clock.now(),
    )  # fmt: skip


def round_seed(cycle: int, fresh: str) -> str:
    """A round's seed: the first one that is offered counts for everybody."""
    try:
        table.put_new({"pk": f"SEED#{cycle}", "sk": "S", "seed": fresh, "ttl": int(clock.now()) + _KEPT_SECONDS})
    except ConditionFailed as taken:
        return str((taken.old or {})["seed"])
    return fresh


def current() -> Item | None:
    """The version that is served."""
    return table.get("MODEL", "CURRENT")


def note_assignment(groups: Iterable[int]) -> None:
    """Which groups there will be, known before the first version is whole."""
    table.put({"pk": "MODEL", "sk": "ASSIGNMENT", "groups": sorted(groups)})


class Overtaken(Exception):
    """Another version was published in between, or has as high a block."""


def flip(manifest: Item, *, base: str | None, force: bool = False) -> None:
    """9: make a version the served one, if the one it was built upon still is and its block is higher."""
    version_id = manifest["version_id"]
    item = {"pk": "VERSIONS", "sk": version_id, "status": READY, "published_at": clock.now(), **manifest}
    pointer = {**manifest, "pk": "MODEL", "sk": "CURRENT", "status": READY, "prev": base, "flipped_at": clock.now()}
    if base is None:
        when, values = "attribute_not_exists(#pk)", {}
    elif force:
        when, values = "#version_id = :base", {"base": base}
    else:
        when = "#version_id = :base AND #block_number < :block"
        values = {"base": base, "block": manifest["block_number"]}

    def decide() -> None:
        try:
            transact([table.putting(item), table.putting(pointer, when=when, **values)])
        except ConditionFailed as failure:
            if (failure.old or {}).get("version_id") == version_id:
                return
            raise Overtaken from None

    until_decided(decide)


def version(version_id: str) -> Item | None:
    """10: one published version."""
    return table.get("VERSIONS", version_id)


def versions() -> list[Item]:
    """10: every published version, oldest first."""
    return sorted(table.query_all("VERSIONS", consistent=True), key=lambda item: (item["published_at"], item["sk"]))


def retire(version_id: str) -> bool:
    """10: take a version out of the list, unless it is the served one."""
    try:
        transact([
            table.deleting("VERSIONS", version_id),
            table.putting({"pk": "RETIRING", "sk": version_id}),
            table.checking("MODEL", "CURRENT", when="#version_id <> :id", id=version_id),
        ])  # fmt: skip
    except (ConditionFailed, Contended):
        return False
    return True


def retiring() -> list[str]:
    """10: versions that are out of the list, and whose objects may still be there."""
    return [item["sk"] for item in table.query_all("RETIRING", consistent=True)]


def note_retired(version_id: str) -> None:
    table.delete("RETIRING", version_id)


def progress(version_id: str, name: str) -> Item | None:
    """11: what a step of a publication made, if it is done."""
    return table.get(f"PUBLICATION#{version_id}", name)


def all_progress(version_id: str) -> dict[str, Item]:
    """11: everything that a publication has made so far."""
    return {item["sk"]: item for item in table.query_all(f"PUBLICATION#{version_id}", consistent=True)}


def note_progress(version_id: str, name: str, made: Item) -> None:
    item = {**made, "pk": f"PUBLICATION#{version_id}", "sk": name}
    table.put(item | {"ttl": int(clock.now()) + _PUBLICATION_SECONDS})


def overview() -> Item | None:
    """13: the dashboard's summary."""
    return table.get("VIEW", "OVERVIEW")


def save_overview(raw: bytes) -> None:
    table.put({"pk": "VIEW", "sk": "OVERVIEW", "raw": raw})
