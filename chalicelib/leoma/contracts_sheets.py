"""What Leoma's table holds of samples and votes, as values and as bytes.

A *sheet* holds one validator's newest votes on one task, a *task sheet* those of all validators, a *batch* the samples
of one request exactly as they were stored (never changed, so it is the audit trail too), a *block* one miner's tasks.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import field
from typing import Any, NamedTuple

from chalicelib.kernel.values import frozen

BLOCK_TASKS = 128
TALLIED_MINERS = 4096
REMEMBERED_COMMITS = 256
PART_BYTES = 250_000
NEAR_TEXT_BYTES = 256

Votes = dict[str, "Vote"]
Texts = tuple[str | None, str | None, str | None]


class Commit(NamedTuple):
    """A batch that reached a sheet, and the mark of the request's signature."""

    number: int
    mark: str


class Vote(NamedTuple):
    """A validator's newest verdict on a miner in a task, and where the sample stands: batch and place in it."""

    id: int
    passed: bool
    latency_ms: int | None
    at: float
    batch: str
    place: int

    @property
    def number(self) -> int:
        return int(self.batch.partition(".")[0])


class Entry(NamedTuple):
    """A sample as it was stored; `texts` is None where they are too long to stand here."""

    task_key: str
    miner: str
    sample_id: str
    prompt: str
    s3_bucket: str
    s3_prefix: str
    passed: bool
    confidence: int | None
    reasoning: str | None
    latency_ms: int | None
    aspects: dict[str, int] | None
    overall: int | None
    texts: Texts | None


@frozen
class Sheet:
    """One validator's votes on one task; `signed` names the batch that came with the evaluation signature."""

    votes: Votes = field(default_factory=dict)
    version: str = ""
    commits: tuple[Commit, ...] = ()
    signature: str = ""
    verified: bool = False
    signed: str = ""


@frozen
class TaskSheet:
    """All votes on one task by validator."""

    voters: dict[str, Votes] = field(default_factory=dict)
    version: str = ""

    def of_miner(self, miner: str) -> dict[str, Vote]:
        return {voter: votes[miner] for voter, votes in self.voters.items() if miner in votes}

    def by_miner(self) -> dict[str, dict[str, Vote]]:
        found: dict[str, dict[str, Vote]] = {}
        for voter, votes in self.voters.items():
            for miner, vote in votes.items():
                found.setdefault(miner, {})[voter] = vote
        return found


@frozen
class TaskLine:
    """One task in a miner's list: who voted how, the newest answer's latency, the newest vote's time."""

    task: int
    votes: dict[str, bool]
    latency_ms: int | None
    updated: float


@frozen
class Totals:
    """A validator's samples over all time: [total, passed] per miner; beyond a bound new names are only counted."""

    miners: dict[str, tuple[int, int]] = field(default_factory=dict)
    others: tuple[int, int] = (0, 0)
    version: str = ""

    @property
    def samples(self) -> int:
        return self.others[0] + sum(total for total, _ in self.miners.values())

    def plus(self, before: Votes, after: Votes) -> Totals:
        """These totals after a sheet changed."""
        miners, others = dict(self.miners), self.others
        for miner in before.keys() | after.keys():
            total = (miner in after) - (miner in before)
            passed = (miner in after and after[miner].passed) - (miner in before and before[miner].passed)
            if miner in miners or len(miners) < TALLIED_MINERS:
                old = miners.get(miner, (0, 0))
                miners[miner] = (old[0] + total, old[1] + passed)
            else:
                others = (others[0] + total, others[1] + passed)
        return Totals(miners, others, self.version)


def pack(value: Any) -> bytes:
    return zlib.compress(json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode(), 6)


def unpack(body: bytes) -> Any:
    return json.loads(zlib.decompress(body))


def sheet_fields(sheet: Sheet) -> dict[str, Any]:
    body = pack({"names": list(sheet.votes), "columns": _columns(sheet.votes), "commits": sheet.commits})
    return {
        "version": sheet.version,
        "signature": sheet.signature,
        "verified": sheet.verified,
        "signed": sheet.signed,
        "body": body,
    }


def sheet_of(item: Mapping[str, Any] | None) -> Sheet:
    if not item:
        return Sheet()
    packed = unpack(item["body"])
    return Sheet(
        dict(zip(packed["names"], _votes(packed["columns"]), strict=True)),
        item["version"],
        tuple(Commit(*commit) for commit in packed["commits"]),
        item["signature"],
        item["verified"],
        item["signed"],
    )


def task_fields(task: TaskSheet) -> dict[str, Any]:
    names = sorted({miner for votes in task.voters.values() for miner in votes})
    index = {miner: number for number, miner in enumerate(names)}
    voters = {
        voter: {"of": [index[miner] for miner in votes], **_columns(votes)} for voter, votes in task.voters.items()
    }
    return {"version": task.version, "body": pack({"names": names, "voters": voters})}


def task_of(item: Mapping[str, Any] | None) -> TaskSheet:
    if not item:
        return TaskSheet()
    packed = unpack(item["body"])
    names = packed["names"]
    voters = {
        voter: dict(zip((names[number] for number in columns["of"]), _votes(columns), strict=True))
        for voter, columns in packed["voters"].items()
    }
    return TaskSheet(voters, item["version"])


def _columns(votes: Votes) -> dict[str, Any]:
    batches = list(dict.fromkeys(vote.batch for vote in votes.values()))
    number = {batch: index for index, batch in enumerate(batches)}
    return {
        "id": [vote.id for vote in votes.values()],
        "passed": "".join("01"[vote.passed] for vote in votes.values()),
        "latency": [vote.latency_ms for vote in votes.values()],
        "at": [vote.at for vote in votes.values()],
        "batches": batches,
        "batch": [number[vote.batch] for vote in votes.values()],
        "place": [vote.place for vote in votes.values()],
    }


def _votes(columns: Mapping[str, Any]) -> Iterator[Vote]:
    batches = columns["batches"]
    parallel = (columns[name] for name in ("id", "passed", "latency", "at", "batch", "place"))
    for number, passed, latency, at, batch, place in zip(*parallel, strict=True):
        yield Vote(number, passed == "1", latency, float(at), batches[batch], place)


def parts(entries: Iterable[Entry]) -> list[list[Entry]]:
    """The entries in order, cut so that each part fits into one item."""
    cut: list[list[Entry]] = [[]]
    size = 0
    for entry in entries:
        length = len(json.dumps(entry, ensure_ascii=False).encode())
        if size + length > PART_BYTES and cut[-1]:
            cut.append([])
            size = 0
        cut[-1].append(entry)
        size += length
    return cut


def entries_of(body: bytes) -> list[Entry]:
    rows = unpack(body)
    return [Entry._make([*row[:-1], tuple(row[-1]) if row[-1] is not None else None]) for row in rows]


def are_near(texts: Texts) -> bool:
    """Whether artifacts are short enough to stand beside their sample."""
    return sum(len(text.encode()) for text in texts if text) <= NEAR_TEXT_BYTES


def line(task: int, votes: Mapping[str, Vote]) -> TaskLine:
    """A miner's task from its votes: the newest vote that knows a latency tells it."""
    newest_first = sorted(votes.values(), key=lambda vote: (-vote.at, -vote.id))
    latency = next((vote.latency_ms for vote in newest_first if vote.latency_ms is not None), None)
    passed = {voter: vote.passed for voter, vote in votes.items()}
    return TaskLine(task, passed, latency, newest_first[0].at)


def block_number(task: int) -> str:
    return f"{task // BLOCK_TASKS:08d}"


def block_body(lines: Iterable[TaskLine]) -> bytes:
    voters: dict[str, int] = {}
    rows = []
    for entry in lines:
        numbers = {voter: voters.setdefault(voter, len(voters)) for voter in entry.votes}
        for_it = [numbers[voter] for voter, passed in entry.votes.items() if passed]
        against = [numbers[voter] for voter, passed in entry.votes.items() if not passed]
        rows.append([entry.task, entry.latency_ms, entry.updated, for_it, against])
    return pack({"voters": list(voters), "rows": rows})


def block_lines(body: bytes) -> list[TaskLine]:
    packed = unpack(body)
    voters = packed["voters"]
    return [
        TaskLine(
            task,
            {voters[n]: True for n in for_it} | {voters[n]: False for n in against},
            latency,
            float(updated),
        )
        for task, latency, updated, for_it, against in packed["rows"]
    ]


def totals_fields(totals: Totals) -> dict[str, Any]:
    return {"version": totals.version, "body": pack({"miners": totals.miners, "others": totals.others})}


def totals_of(item: Mapping[str, Any] | None) -> Totals:
    if not item:
        return Totals()
    packed = unpack(item["body"])
    miners = {miner: (total, passed) for miner, (total, passed) in packed["miners"].items()}
    return Totals(miners, tuple(packed["others"]), item["version"])
