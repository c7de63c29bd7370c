"""Work: what a miner may do now. Handing it out is one transaction, decided again when somebody was faster."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, TypeVar

from pydantic import BaseModel

from chalicelib.kernel import chain, clock, flows
from chalicelib.kernel.http import Request, validated
from chalicelib.kernel.tables import until_decided
from chalicelib.kernel.values import frozen

from . import domain, store, store_work
from .contracts import Batch, Gossip, Lease, LeaseRequest, Parent, PoolSettings, Program, TaskRequest
from .contracts_records import Assignment, Board, Candidate, Miner, Seed
from .routes_auth import Caller, api, asking, reading

B = TypeVar("B", bound=BaseModel)
TIMERS = "pool-assignment"
ROUNDS = "pool-round"
ROUND_SECONDS = 3


def body_of(request: Request, contract: type[B]) -> B:
    """The body as its contract; an empty one means `{}`."""
    return request.read_body(contract) if request.body.strip() else validated(contract, {}, "body")


def current_window(head: chain.Head | None) -> int:
    return domain.window_at(head.block if head else 0, PoolSettings.current()).number


def start_round(now: float) -> None:
    """Credits and the leaderboard follow within seconds: one flow per slot of time serves all that ask for it."""
    slot = int(now // ROUND_SECONDS) + 1
    at = clock.stamp_seconds(slot * ROUND_SECONDS)
    flows.start_or_leave(ROUNDS, f"round-{slot}", {"at": at})


def start_timer(assignment: Assignment, attempt: int = 0) -> bool:
    at = clock.stamp_seconds(assignment.timeout_at + 1)
    return flows.start_or_leave(TIMERS, f"{assignment.id}-{attempt}", {"id": assignment.id, "at": at})


@frozen
class Offer:
    """What would be handed out, before anybody has confirmed it."""

    kind: str
    task_type: str
    candidates: Sequence[Candidate] = ()
    seeds: Sequence[Seed] = ()
    parents: Sequence[Seed] = ()
    gossip: Sequence[int] = ()
    budget: int = 0
    hidden: frozenset[int] = frozenset()

    @property
    def input_dim(self) -> int:
        shown: list[Candidate | Seed] = [*self.parents, *self.seeds, *self.candidates]
        return shown[0].input_dim if shown else domain.INPUT_DIMS[self.task_type]

    @property
    def authors(self) -> list[str]:
        return [work.author for work in self.candidates]

    @property
    def ids(self) -> list[int]:
        works: list[Candidate | Seed] = [*self.candidates, *self.seeds, *self.parents]
        return [work.id for work in works]


def hand_out(caller: Caller, miner: Miner, offer: Offer, window: int, *, now: float, seconds: int) -> Assignment:
    """Make the offer an assignment; places that expired holders still have are taken over."""
    assignment = Assignment(
        id=f"{'l' if offer.kind == 'lease' else 'b'}_{clock.new_hex(13)}",
        kind=offer.kind, hotkey=miner.hotkey, status="ACTIVE", task_type=offer.task_type, input_dim=offer.input_dim,
        window=window, issued_at=now, timeout_at=now + seconds,
        candidate_ids=tuple(work.id for work in offer.candidates),
        seed_ids=tuple(seed.id for seed in offer.seeds),
        parent_ids=tuple(seed.id for seed in offer.parents),
        gossip_ids=tuple(offer.gossip),
        scores={str(seed.id): seed.score for seed in (*offer.seeds, *offer.parents) if seed.score is not None},
        budget=offer.budget,
    )  # fmt: skip
    places = [(work, domain.instead_of(work, miner.hotkey, now)) for work in offer.candidates]
    store_work.issue(miner, assignment, places, caller.guard)
    start_timer(assignment)
    return assignment


class Asking:
    """One request for work: the first decision uses the record that the signature check read, later ones read anew."""

    def __init__(self, caller: Caller) -> None:
        self.caller = caller
        self.now = clock.now()
        self.secret = clock.new_hex(16).encode()
        self.kin: frozenset[str] = frozenset()
        self._first: Miner | None = caller.miner

    def miner(self) -> Miner:
        """The asker, registered and free; refused for the price of this one read."""
        found, self._first = self._first or store.miner(self.caller.hotkey), None
        domain.check_registered(found)
        domain.check_idle(found, self.now)
        return found

    def offered(self, board: Board, miner: Miner, count: int) -> list[Candidate]:
        return domain.offered(
            board, miner, count, kin=self.kin, now=self.now, settings=PoolSettings.current(), secret=self.secret
        )


@api.post("/api/v1/tasks/lease", auth=asking, body=LeaseRequest, refusals={400: "Busy.", 404: "No tasks."})
def lease(request: Request, caller: Caller) -> Lease:
    """Candidates to evaluate, seeds to evolve from, and what others gossip about."""
    asked, settings = body_of(request, LeaseRequest), PoolSettings.current()
    task = domain.lease_task(asked, settings)
    asking_now = Asking(caller)

    def decide() -> Lease:
        miner = asking_now.miner()
        early = chain.head() if settings.one_lease_per_window and miner.last_lease_window is not None else None
        if early:
            domain.check_lease_window(miner, domain.lease_window(asked, current_window(early), settings), settings)
        board = store_work.board(task)
        propose = functools.partial(_lease_offer, miner, asked, task, board, asking_now)
        offer, texts, head = _apart(asking_now, miner, [board], propose)
        window = domain.lease_window(asked, current_window(head), settings)
        domain.check_lease_window(miner, window, settings)
        gossip = _gossip(miner, asked, task, window)
        if not (offer.candidates or offer.seeds or offer.parents or offer.budget):
            raise domain.no_tasks()
        whole = replace(offer, gossip=gossip)
        found = hand_out(caller, miner, whole, window, now=asking_now.now, seconds=settings.lease_seconds)
        return _lease_answer(found, whole, texts)

    return until_decided(decide)


def _apart(
    asking_now: Asking, miner: Miner, boards: Iterable[Board], propose: Callable[[], Offer]
) -> tuple[Offer, dict[int, str], chain.Head | None]:
    """An offer with its programs; whoever by now is paid like an author gets another one, without any of such authors.

    Recipients change at any time, so the offer need not repeat this premise; but its maker must have looked.
    """
    settings = PoolSettings.current()
    offer = propose()
    texts, head, paid_to = store_work.texts_head_and_payees(offer.ids, offer.authors)
    if domain.kin_of(miner, paid_to, settings):
        everybody = {work.author for board in boards for work in board.candidates}
        asking_now.kin = domain.kin_of(miner, store_work.payees(everybody), settings)
        offer = propose()
        texts, head, _ = store_work.texts_head_and_payees(offer.ids, ())
    return offer, texts, head


def _lease_offer(miner: Miner, asked: LeaseRequest, task: str, board: Board, asking_now: Asking) -> Offer:
    settings = PoolSettings.current()
    wanted = min(asked.eval_batch_size or settings.lease_eval_batch_default, settings.lease_max_batch)
    parents = min(asked.seed_batch_size or settings.lease_seed_batch_default, settings.lease_max_batch)
    secret = asking_now.secret
    candidates = asking_now.offered(board, miner, wanted)
    return Offer(
        "lease",
        task,
        candidates=candidates,
        seeds=domain.filling_seeds(board, miner, len(candidates), wanted, secret=secret),
        parents=domain.parents_to_offer(board, parents, secret=secret),
        budget=domain.evolve_budget(board, miner, settings),
        hidden=domain.yet_to_judge(board, miner),
    )


def _gossip(miner: Miner, asked: LeaseRequest, task: str, window: int) -> list[int]:
    settings = PoolSettings.current()
    limit = settings.gossip_default if asked.gossip_limit is None else min(asked.gossip_limit, 50)
    return domain.gossip_for(store_work.recent_gossip(task), miner.hotkey, window, limit) if limit else []


def _lease_answer(found: Assignment, offer: Offer, texts: dict[int, str]) -> Lease:
    return Lease(
        lease_id=found.id,
        window_number=found.window,
        task_type=found.task_type,
        issued_at=clock.stamp_seconds(found.issued_at),
        timeout_at=clock.stamp_seconds(found.timeout_at),
        evolve_budget=offer.budget,
        evaluate_algorithms=_programs((*offer.candidates, *offer.seeds), texts),
        seed_algorithms=[
            Parent(**program.model_dump(), score=None if parent.id in offer.hidden else parent.score)
            for program, parent in zip(_programs(offer.parents, texts), offer.parents, strict=True)
        ],
        gossip=Gossip(task_type=found.task_type, algorithm_ids=list(offer.gossip)),
    )


def _programs(works: Iterable[Candidate | Seed], texts: dict[int, str]) -> list[Program]:
    """Without scores: who evaluates must not know what others found."""
    return [
        Program(id=work.id, algorithm_dsl=texts[work.id], task_type=work.task_type, input_dim=work.input_dim)
        for work in works
    ]


@api.post("/api/v1/tasks/request", auth=asking, body=TaskRequest, refusals={400: "Busy.", 404: "No tasks."})
def request_task(request: Request, caller: Caller) -> Batch:
    """A batch to evaluate, or programs to evolve from; evaluation comes first where both are possible."""
    asked, settings = body_of(request, TaskRequest), PoolSettings.current()
    asking_now = Asking(caller)

    def decide() -> Batch:
        miner = asking_now.miner()
        boards = {task: store_work.board(task) for task in settings.enabled_task_types if task in domain.INPUT_DIMS}
        propose = functools.partial(_batch_offer, miner, asked.task_type, boards, asking_now)
        offer, texts, head = _apart(asking_now, miner, boards.values(), propose)
        window = current_window(head)
        found = hand_out(caller, miner, offer, window, now=asking_now.now, seconds=settings.task_timeout_s)
        return Batch(
            batch_id=found.id,
            task_type=found.kind,
            algorithms=_programs((*offer.candidates, *offer.parents), texts),
            window_number=found.window,
            assigned_at=clock.stamp_seconds(found.issued_at),
            timeout_at=clock.stamp_seconds(found.timeout_at),
        )

    return until_decided(decide)


def _batch_offer(miner: Miner, kind: str | None, boards: Mapping[str, Board], asking_now: Asking) -> Offer:
    settings = PoolSettings.current()
    if kind != "evolve":
        for task, board in boards.items():
            found = asking_now.offered(board, miner, settings.eval_batch_size)
            if found:
                return Offer("evaluate", task, candidates=found)
    if kind != "evaluate":
        for task, board in boards.items():
            parents = domain.parents_to_offer(board, settings.evolve_seed_count, secret=asking_now.secret)
            if parents and domain.evolve_budget(board, miner, settings):
                return Offer("evolve", task, parents=parents)
    raise domain.no_tasks()


@api.get("/api/v1/tasks/pending_evaluations", auth=reading)
def pending_evaluations(caller: Caller) -> dict[str, Any]:
    """What the caller holds, and how many candidates it could be given now."""
    miner, now, settings = caller.miner, clock.now(), PoolSettings.current()
    domain.check_registered(miner)
    boards: list[Board] = [store_work.board(task) for task in settings.enabled_task_types if task in domain.INPUT_DIMS]
    works = [work for board in boards for work in board.candidates if domain.may_judge(work, miner, now, settings)]
    kin = domain.kin_of(miner, store_work.payees(work.author for work in works), settings)
    count = sum(work.author not in kin for work in works)
    held = []
    if miner.active and domain.is_busy(miner, now) and miner.active["kind"] != "evolve":
        ids = [*miner.active["candidates"], *miner.active["seeds"]]
        held = [
            {
                "id": miner.active["id"],
                "kind": miner.active["kind"],
                "algorithm_ids": ids,
                "timeout_at": clock.stamp_seconds(miner.active["until"]),
            }
        ]
    return {
        "has_pending_evaluations": bool(count or held),
        "pending_count": count,
        "assignments": held,
        "window_number": current_window(caller.head),
    }
