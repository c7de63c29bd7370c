"""Samples on their way in and out: a batch is written first and counts when its sheets point to it."""

from __future__ import annotations

import functools
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import TypeVar

from chalicelib.kernel import clock, codec, keys
from chalicelib.kernel.errors import Contended, Invalid, NotFound
from chalicelib.kernel.http import Answer
from chalicelib.kernel.tables import ConditionFailed, until_decided

from . import contracts_sheets, domain, domain_views, store
from .contracts import LeomaSettings, MinerTask, NewBatch, Sample, TaskDetail, TaskMinerDetail, task_key
from .contracts_sheets import Commit, Entry, Sheet, TaskLine, TaskSheet, Texts, Vote
from .store_samples import Found, located, texts_at

Row = TypeVar("Row", Sample, MinerTask)

_LARGEST_ANSWER = 5 * 1024 * 1024  # Lambda's has at most 6 MB
_BATCHES_LOOKED_AT = 600
_TASKS_AT_A_TIME = 10


# --- in


def submit(validator: str, batch: NewBatch, mark: str, *, loc: Sequence[object]) -> list[Sample]:
    """Store a batch, all or nothing; a competitor's change of the same sheets lets the merge run again."""
    if not batch.samples:
        return []
    settings = LeomaSettings.current()
    wanted = list(dict.fromkeys(sample.task_key for sample in batch.samples))
    latest, items = store.intake(validator, wanted)
    known = {key: contracts_sheets.sheet_of(item) for key, item in items.items()}
    domain.check_published(batch, latest, settings.task_id_ahead_max, loc)
    domain.check_editable(batch, known, latest, settings.sample_edit_window_tasks)
    domain.check_not_superseded(batch, known, mark)
    signatures = _signatures(validator, batch)
    number, first_id = store.next_batch(validator, len(batch.samples), settings.sample_daily_quota)
    submission = _Submission(validator, batch, Commit(number, mark), first_id, signatures, known)
    return until_decided(submission.settle)


@dataclass
class _Submission:
    """A batch that passed every check, on its way into the sheets as they were read last."""

    validator: str
    batch: NewBatch
    commit: Commit
    first_id: int
    signatures: dict[str, tuple[str, bool]]
    known: dict[str, Sheet]
    written: tuple[list[Entry], list[tuple[str, int]]] | None = None

    def settle(self) -> list[Sample]:
        kept = {place: texts_at(self.validator, *place) for place in domain.kept_places(self.batch, self.known)}
        stored = domain.store_batch(self.batch, self.known, kept, first_id=self.first_id, now=clock.now())
        stored = domain.placed(stored, self._write(stored), self.commit)
        try:
            store.move_sheets(self.validator, {key: self._change(key, sheet) for key, sheet in stored.sheets.items()})
        except ConditionFailed:
            found = store.sheets(self.validator, list(self.known))
            self.known = {key: contracts_sheets.sheet_of(item) for key, item in found.items()}
            raise Contended from None
        pairs = zip(stored.entries, stored.votes, strict=True)
        return [domain_views.sample(self.validator, entry, vote) for entry, vote in pairs]

    def _write(self, stored: domain.Stored) -> list[tuple[str, int]]:
        """Where each entry stands; another attempt writes again only what came out differently."""
        if self.written and self.written[0] == stored.entries:
            return self.written[1]
        cut = contracts_sheets.parts(stored.entries)
        names = store.batch_names(self.commit.number, len(cut))
        refs = [(name, place) for name, part in zip(names, cut, strict=True) for place in range(len(part))]
        _save_texts(self.validator, refs, stored)
        store.save_batch(self.validator, names, [contracts_sheets.pack(part) for part in cut], list(self.known))
        self.written = (stored.entries, refs)
        return refs

    def _change(self, key: str, sheet: Sheet) -> tuple[str, store.Item]:
        new = replace(sheet, version=clock.new_hex(6))
        if key in self.signatures:
            signature, verified = self.signatures[key]
            new = replace(new, signature=signature, verified=verified, signed=f"{self.commit.number:010d}")
        return self.known[key].version, contracts_sheets.sheet_fields(new)


def _signatures(validator: str, batch: NewBatch) -> dict[str, tuple[str, bool]]:
    """Per task the evaluation signature that came last, and whether it verifies."""
    found = {}
    if batch.signature:
        found[batch.samples[0].task_key] = (
            batch.signature,
            _verifies(validator, batch.signature, domain.evaluation_digest(batch.samples)),
        )
    for sample in batch.samples:
        if sample.evaluation_signature:
            digest = domain.evaluation_digest([sample])
            verified = _verifies(validator, sample.evaluation_signature, digest)
            found[sample.task_key] = (sample.evaluation_signature, verified)
    if LeomaSettings.current().strict_eval_signature and not all(verified for _, verified in found.values()):
        raise Invalid("The evaluation signature does not verify", code="evaluation_signature_invalid")
    return found


def _verifies(validator: str, signature: str, digest: bytes) -> bool:
    try:
        raw = keys.signature_from_hex(signature)
        return keys.verify(keys.public_key(validator), digest, raw, schemes=(keys.SR25519,))
    except (keys.BadSignature, keys.BadAddress):
        return False


def _save_texts(validator: str, refs: Sequence[tuple[str, int]], stored: domain.Stored) -> None:
    """One object per batch part, for those samples whose texts are long."""
    far: dict[str, list[Texts | None]] = {}
    for (name, _), entry, texts in zip(refs, stored.entries, stored.texts, strict=True):
        far.setdefault(name, []).append(texts if entry.texts is None else None)
    for name, texts_of_part in far.items():
        if any(texts_of_part):
            store.save_texts(validator, name, texts_of_part)


# --- out


def fitting(rows: list[Row], *, whole: bool = True) -> list[Row]:
    """The first rows that a function may return in one answer; `X-Truncated` tells a reader that there are more."""
    body = codec.encode(rows)
    while _as_lambda_counts(body) > _LARGEST_ANSWER:
        rows, whole = rows[: len(rows) * 3 // 4], False
        body = codec.encode(rows)
    return Answer(body, headers={} if whole else {"X-Truncated": "true"})  # type: ignore[return-value] # their bytes


def _as_lambda_counts(body: bytes) -> int:
    """It quotes our JSON once more, in ASCII: a quote weighs four bytes, an emoji twelve, no byte more than three."""
    return 3 * len(body) if 3 * len(body) <= _LARGEST_ANSWER else len(json.dumps(body.decode()))


def newest(limit: int) -> list[Sample]:
    """The newest samples of everybody, as the last fold saw them."""
    return _samples(located(_votes(store.snapshot("recent"))[:limit]))


def _samples(found: Sequence[Found]) -> list[Sample]:
    return [domain_views.sample(*one) for one in found]


def _votes(kept: store.Snapshot | None) -> list[tuple[str, Vote]]:
    """What a list of newest samples holds: whose vote, and the vote."""
    return [(row[0], Vote(*row[2:])) for row in kept.content] if kept else []


def of_task(validator: str, key: str) -> list[Sample]:
    """A validator's samples of one task, as of now, by miner."""
    votes = contracts_sheets.sheet_of(store.sheet(validator, key)).votes
    return _samples(located([(validator, votes[miner]) for miner in sorted(votes)]))


def of_validator(validator: str, limit: int) -> tuple[list[Sample], bool]:
    """A validator's newest samples as of now: batches backwards, skipping what was replaced since. And whether that
    is all: who replaced samples over and over may have older ones further back.
    """
    found: list[Found] = []
    pending: list[store.Item] = []
    batches = store.newest_batches(validator, _BATCHES_LOOKED_AT + 1)
    for item in islice(batches, _BATCHES_LOOKED_AT):
        pending.append(item)
        if sum(len(batch["tasks"]) for batch in pending) < _TASKS_AT_A_TIME:
            continue
        found += _still_valid(validator, pending)
        pending = []
        if len(found) >= limit:
            break
    found += _still_valid(validator, pending)
    whole = len(found) >= limit or next(batches, None) is None
    found.sort(key=lambda one: (-one[2].at, -one[2].id))
    return _samples(found[:limit]), whole


def _still_valid(validator: str, items: Sequence[store.Item]) -> list[Found]:
    tasks = list(dict.fromkeys(key for item in items for key in item["tasks"]))
    read = (
        {key: contracts_sheets.sheet_of(item) for key, item in store.sheets(validator, tasks).items()} if tasks else {}
    )
    found = []
    for item in items:
        for place, entry in enumerate(contracts_sheets.entries_of(item["body"])):
            vote = read[entry.task_key].votes.get(entry.miner)
            if vote and (vote.batch, vote.place) == (item["sk"], place):
                found.append((validator, entry, vote))
    return found


def of_miner(miner: str, limit: int) -> list[Sample]:
    """The newest samples about a miner: tasks by their newest vote, until no older task can matter."""
    held, named = store.snapshots("open", store.by_name(miner))
    found = _votes(named)
    lines = sorted(_lines(miner, held), key=lambda line: -line.updated)
    for first in range(0, min(len(lines), limit), _TASKS_AT_A_TIME):
        if len(found) >= limit and found[limit - 1][1].at >= lines[first].updated:
            break
        some = store.task_sheets([task_key(line.task) for line in lines[first : first + _TASKS_AT_A_TIME]])
        for item in some.values():
            found += contracts_sheets.task_of(item).of_miner(miner).items()
        found.sort(key=lambda one: (-one[1].at, -one[1].id))
    return _samples(located(found[:limit]))


# --- tasks


@functools.lru_cache(maxsize=64)
def _task_sheet(version: str, body: bytes) -> TaskSheet:
    """Unpacked once per version."""
    return contracts_sheets.task_of({"version": version, "body": body})


def _unpacked(item: store.Item | None) -> TaskSheet:
    return _task_sheet(item["version"], item["body"]) if item else TaskSheet()


def _lines(miner: str, held: store.Snapshot | None) -> Iterator[TaskLine]:
    """A miner's tasks: the settled ones from its blocks, the open ones from their task sheets."""
    keys_of_open = held.content["tasks"] if held else []
    open_tasks = store.task_sheets(keys_of_open) if keys_of_open else {}
    for body in store.blocks(miner):
        yield from (line for line in contracts_sheets.block_lines(body) if task_key(line.task) not in open_tasks)
    for key, item in open_tasks.items():
        votes = _unpacked(item).of_miner(miner)
        if votes:
            yield contracts_sheets.line(int(key), votes)


def tasks_of_miner(miner: str) -> list[MinerTask]:
    """Verdicts under the stakes of now."""
    held, stakes = store.snapshots("open", "stakes")
    return domain_views.miner_tasks(_lines(miner, held), stakes.content if stakes else {})


def task(number: int, address: domain_views.Address) -> TaskDetail:
    """Every miner of one task."""
    key = task_key(number)
    item, stakes = store.task_and_stakes(key)
    votes = _unpacked(item)
    if not votes.voters:
        raise NotFound("Task not found", code="task_not_found")
    oldest = min(
        ((voter, vote) for voter, of_voter in votes.voters.items() for vote in of_voter.values()),
        key=lambda one: (one[1].at, one[1].id),
    )
    ((_, entry, _),) = located([oldest])
    return domain_views.task(number, votes, entry.prompt, stakes, address)


def task_of_miner(number: int, miner: str, address: domain_views.Address) -> TaskMinerDetail:
    """One miner's clip of one task with every verdict on it."""
    key = task_key(number)
    item, stakes = store.task_and_stakes(key)
    votes = _unpacked(item).of_miner(miner)
    if not votes:
        raise NotFound("No evaluations for this task/miner", code="no_evaluations")
    found = {validator: entry for validator, entry, _ in located(list(votes.items()))}
    return domain_views.task_miner(number, miner, votes, entries=found, stakes=stakes, address=address)
