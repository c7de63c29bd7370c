"""What Pool's tables hold, as values: the words that store and decisions share."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field
from typing import Any

from chalicelib.kernel.values import frozen


@frozen
class Miner:
    """What stands about a hotkey; a recipient may be set for one that never registered. Reputation in millionths."""

    hotkey: str
    registered_at: float | None = None
    last_seen_at: float = 0.0
    seen_minute: int = 0
    reputation: int = 0
    counters: Mapping[str, int] = field(default_factory=dict)
    banned: bool = False
    active: Mapping[str, Any] | None = None
    last_lease_window: int | None = None
    recipient: str | None = None
    recipient_at: float = 0.0
    recipient_ts: int = 0
    seeds_done: frozenset[int] = frozenset()

    @property
    def paid_to(self) -> str:
        return self.recipient or self.hotkey


@frozen
class Vote:
    """One stored evaluation."""

    hotkey: str
    recipient: str
    score: float
    at: float
    window: int


@frozen
class Candidate:
    """An unfinished program: who judged it, who holds a place to judge it, and how many places there are in all."""

    id: int
    task_type: str
    input_dim: int
    author: str
    author_recipient: str
    created_at: float
    capacity: int
    slots_open: int
    votes: tuple[Vote, ...] = ()
    holders: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)


@frozen
class Seed:
    """A program to evolve from: an operator's, which may be judged, or a verified result (an elite), which was."""

    id: int
    task_type: str
    input_dim: int
    score: float | None = None
    votes: tuple[Vote, ...] = ()
    judged: bool = False
    elite: bool = False


@frozen
class Board:
    """One problem's open work: candidates in the order of their ids, elites, seeds."""

    candidates: tuple[Candidate, ...] = ()
    elites: tuple[Seed, ...] = ()
    seeds: tuple[Seed, ...] = ()


@frozen
class Assignment:
    """A lease or batch as it was handed out."""

    id: str
    kind: str
    hotkey: str
    status: str
    task_type: str
    input_dim: int
    window: int
    issued_at: float
    timeout_at: float
    candidate_ids: tuple[int, ...] = ()
    seed_ids: tuple[int, ...] = ()
    parent_ids: tuple[int, ...] = ()
    gossip_ids: tuple[int, ...] = ()
    scores: Mapping[str, float] = field(default_factory=dict)
    budget: int = 0


@frozen
class Algorithm:
    """What never changes about a program, but for its text."""

    id: int
    task_type: str
    input_dim: int
    author: str
    author_recipient: str
    origin: str
    parents: tuple[int, ...]
    fingerprint: str
    window: int
    created_at: float
    baseline: float


@frozen
class Judgement:
    """How a program's evaluation ended; votes keep their verdicts."""

    status: str
    score: float | None
    votes: tuple[tuple[Vote, str], ...]
    completed_at: float
    verified_at: float | None = None
    verified_by: str | None = None


@frozen
class Sota:
    """The best verified score of a problem, since when, and what it was before the window in which it was set."""

    task_type: str
    score: float
    result_id: int
    miner: str
    at: float
    window: int
    before: float
    history: tuple[Mapping[str, Any], ...] = ()


@frozen
class Credit:
    """Reputation owed for one role in one program; paid once."""

    algorithm_id: int
    hotkey: str
    role: str
    amount: int
    window: int
    agrees: bool = False
    judged: bool = False


@frozen
class Outcome:
    """What one stored evaluation changes: a further vote, or a judgement; and who is owed for it."""

    work: Candidate | Seed
    vote: Vote
    capacity: int = 0
    judgement: Judgement | None = None
    credits: tuple[Credit, ...] = ()


@frozen
class Discovery:
    """A program that was handed in: new, or one that is known under `known_id`."""

    algorithm: Algorithm
    text: str
    known_id: int | None = None
    known_author: str | None = None


@frozen
class Epoch:
    """A published epoch."""

    number: int
    root: str
    leaves: int
    total_units: int
    claimed_units: int
    published_at: float
    claims_open_at: float
    uri: str
    digest: str


@frozen
class Contract:
    """What is known of the claim contract on chain."""

    vetoes: int = 0
    paused: bool = False
    read_error: str | None = None
    read_at: float | None = None


@frozen
class Vitals:
    """What health is made of, in one round trip."""

    block: int | None
    observed_at: float
    contract: Contract
    epochs: Mapping[int, float]
    published_at: float | None
