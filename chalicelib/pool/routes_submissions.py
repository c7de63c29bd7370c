"""What miners hand in. An assignment ends once: its evaluations, its program and the miner's freedom are one effect."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from chalicelib.kernel import clock
from chalicelib.kernel.errors import Malformed
from chalicelib.kernel.tables import until_decided
from chalicelib.kernel.values import frozen
from chalicelib.kernel.wire import Item

from . import consensus, domain, genome, store, store_submissions, store_work
from .contracts import Evaluation, EvaluationSubmission, EvolutionSubmission, Gossip, LeaseSubmission, PoolSettings
from .contracts_records import Algorithm, Assignment, Candidate, Discovery, Miner, Outcome, Vote
from .routes_auth import Caller, api, submitting
from .routes_tasks import start_round

_GOSSIP_SECONDS = 3 * 86400


@dataclass
class Submission:
    """One hand-in: what the caller holds, and everything it touches, read again whenever a competitor was faster."""

    caller: Caller
    id: str
    kind: str
    now: float = field(default_factory=clock.now)
    holder: Miner = field(init=False)
    touched: store_submissions.Touched = field(init=False)
    _reads: int = 0

    def hold(self) -> Miner:
        """The caller's record with this assignment in its hands, or the one refusal that tells nothing more."""
        self.holder = self.caller.miner if not self._reads else store.miner(self.caller.hotkey)
        self._reads += 1
        active = self.holder.active
        if not active or (active["id"], active["kind"]) != (self.id, self.kind) or active["until"] <= self.now:
            raise domain.not_active(self.kind)
        return self.holder

    def read(
        self, evaluations: Sequence[Evaluation] = (), programs: Iterable[int] = (), fingerprint: str | None = None
    ) -> Assignment:
        evaluated = [entry.algorithm_id for entry in evaluations]
        self.touched = store_submissions.read(self.holder, evaluated, list(dict.fromkeys(programs)), fingerprint)
        found = self.touched.assignment
        if found is None or found.status != "ACTIVE":
            raise domain.not_active(self.kind)
        return found

    @property
    def active(self) -> dict[str, Any]:
        return dict(self.holder.active or {})

    @property
    def assigned(self) -> list[int]:
        """The ids that may be evaluated."""
        return [*self.active["candidates"], *self.active["seeds"]]

    def outcomes(self, evaluations: Sequence[Evaluation], assignment: Assignment) -> list[Outcome]:
        settings, found = PoolSettings.current(), []
        for entry in evaluations:
            work = self.touched.works.get(entry.algorithm_id)
            if work is None or (isinstance(work, Candidate) and not self.holds(work)):
                continue
            vote = Vote(self.caller.hotkey, self.holder.paid_to, entry.score, self.now, assignment.window)
            found.append(consensus.outcome(work, vote, self.now, settings))
        return found

    def holds(self, work: Candidate) -> bool:
        return bool(work.holders.get(self.caller.hotkey, {}).get("assignment") == self.id)

    def unused(self, outcomes: Iterable[Outcome]) -> list[int]:
        """Candidates that the caller held and did not evaluate."""
        done = {outcome.work.id for outcome in outcomes}
        works = [work for work in self.touched.works.values() if isinstance(work, Candidate)]
        return [work.id for work in works if work.id not in done and self.holds(work)]

    def discovery(self, text: str, parsed: genome.Genome, parents: Sequence[int], assignment: Assignment) -> Discovery:
        """The program as a new one under the next id, or as one that is known."""
        twin, settings = self.touched.twin, PoolSettings.current()
        algorithm = Algorithm(
            id=twin["id"] if twin else store_work.next_id(),
            task_type=assignment.task_type,
            input_dim=assignment.input_dim,
            author=self.caller.hotkey,
            author_recipient=self.holder.paid_to,
            origin="lease" if assignment.kind == "lease" else "evolution",
            parents=tuple(parents),
            fingerprint=parsed.fingerprint(assignment.task_type, assignment.input_dim),
            window=assignment.window,
            created_at=self.now,
            baseline=domain.baseline_of(parents, assignment, self.touched.sota, assignment.window, settings),
        )
        return Discovery(algorithm, text, twin["id"] if twin else None, twin["author"] if twin else None)


def _parsed(text: str, input_dim: int) -> genome.Genome:
    settings = PoolSettings.current()
    limits = genome.Limits(settings.max_dsl_bytes, settings.max_dsl_lines, settings.max_bad_line_ratio)
    return genome.parse(text, input_dim, limits)


def _fingerprint(parsed: genome.Genome | None, active: dict[str, Any]) -> str | None:
    return parsed.fingerprint(active["task_type"], active["input_dim"]) if parsed else None


def _credit_soon(outcomes: Iterable[Outcome], now: float) -> None:
    if any(outcome.credits for outcome in outcomes):
        start_round(now)


@api.post("/api/v1/tasks/{assignment_id}/submit_lease", auth=submitting, refusals={400: "Broken rule.", 404: "Ended."})
def submit_lease(assignment_id: str, body: LeaseSubmission, caller: Caller) -> dict[str, Any]:
    """Hand in a lease: evaluations, at most one evolution, gossip."""
    submission = Submission(caller, assignment_id, "lease")

    def decide() -> tuple[dict[str, Any], list[Outcome]]:
        submission.hold()
        domain.check_iterations(body.iterations, PoolSettings.current())
        domain.check_evaluations(body.evaluations, submission.assigned)
        evolution = _first_evolution(body, submission.active)
        gossiped = body.gossip.algorithm_ids if body.gossip else []
        fingerprint = _fingerprint(evolution.genome, submission.active)
        assignment = submission.read(body.evaluations, gossiped, fingerprint)
        outcomes = submission.outcomes(body.evaluations, assignment)
        parents, dropped = _lease_parents(evolution.parents, assignment)
        discovery = None
        if evolution.genome:
            discovery = submission.discovery(evolution.text, evolution.genome, parents, assignment)
        gossip = _gossip_item(body.gossip, submission, assignment)
        store_work.complete(
            submission.holder, assignment, outcomes, submission.now, unused=submission.unused(outcomes),
            discovery=discovery, slots=PoolSettings.current().consensus_k, gossip=gossip,
            malformed=len(evolution.rejected), guard=caller.guard,
        )  # fmt: skip
        is_new = discovery is not None and discovery.known_id is None
        return {
            "status": "completed",
            "lease_id": assignment.id,
            "accepted_evaluations": len(outcomes),
            "accepted_evolutions": int(is_new),
            "ignored_evolutions": max(0, len(body.evolutions) - assignment.budget),
            "rejected_evolutions": evolution.rejected,
            "algorithm_ids": [discovery.algorithm.id] if discovery else [],
            "duplicates": int(discovery is not None and not is_new),
            "dropped_parent_ids": dropped,
            "gossip_accepted": len(gossip["authors"]) if gossip else 0,
            "window_number": assignment.window,
        }, outcomes

    answer, outcomes = until_decided(decide)
    _credit_soon(outcomes, submission.now)
    return answer


@frozen
class FirstEvolution:
    """The one evolution that a lease's budget covers, read; or why it is not a program."""

    text: str = ""
    genome: genome.Genome | None = None
    parents: tuple[int, ...] = ()
    rejected: list[dict[str, Any]] = field(default_factory=list)


def _first_evolution(body: LeaseSubmission, active: dict[str, Any]) -> FirstEvolution:
    if not body.evolutions or not active["budget"]:
        return FirstEvolution()
    first = body.evolutions[0]
    try:
        parsed = _parsed(first.algorithm_dsl, active["input_dim"])
    except genome.MalformedGenome as error:
        return FirstEvolution(rejected=[{"index": 0, "reason": str(error)}])
    return FirstEvolution(first.algorithm_dsl, parsed, tuple(dict.fromkeys(first.parent_algorithm_ids)))


def _lease_parents(named: Sequence[int], assignment: Assignment) -> tuple[list[int], list[int]]:
    """Parents are programs that the lease showed; others are dropped and reported."""
    shown = {*assignment.candidate_ids, *assignment.seed_ids, *assignment.parent_ids, *assignment.gossip_ids}
    return [number for number in named if number in shown], [number for number in named if number not in shown]


def _gossip_item(gossip: Gossip | None, submission: Submission, assignment: Assignment) -> Item | None:
    """Ids of known programs of the same problem; wrong ones are dropped without a word."""
    if not gossip or gossip.task_type not in PoolSettings.current().enabled_task_types:
        return None
    known = submission.touched.programs
    named = [known[number] for number in dict.fromkeys(gossip.algorithm_ids) if number in known]
    authors = {str(found.id): found.author for found in named if found.task_type == gossip.task_type}
    if not authors:
        return None
    return {
        "pk": f"GOSSIP#{gossip.task_type}",
        "sk": f"{assignment.window:012d}#{submission.now:017.6f}#{submission.caller.hotkey}",
        "by": submission.caller.hotkey,
        "window": assignment.window,
        "authors": authors,
        "ttl": int(submission.now) + _GOSSIP_SECONDS,
    }


@api.post(
    "/api/v1/tasks/{assignment_id}/submit_evolution", auth=submitting, refusals={400: "No program.", 404: "Ended."}
)
def submit_evolution(assignment_id: str, body: EvolutionSubmission, caller: Caller) -> dict[str, Any]:
    """Hand in an evolved program; one that is no program ends the batch too, so that the miner is free again."""
    submission = Submission(caller, assignment_id, "evolve")
    parents = list(dict.fromkeys(body.parent_functions))

    def decide() -> dict[str, Any]:
        submission.hold()
        parsed, reason = None, ""
        try:
            parsed = _parsed(body.evolved_function, submission.active["input_dim"])
        except genome.MalformedGenome as error:
            reason = str(error)
        assignment = submission.read((), parents, _fingerprint(parsed, submission.active))
        unknown = [number for number in parents if number not in submission.touched.programs]
        if unknown:
            raise Malformed(f"Unknown parent function {unknown[0]}", code="unknown_parent")
        if parsed is None:
            store_work.complete(submission.holder, assignment, (), submission.now, status="FAILED", malformed=1)
            raise Malformed(f"Malformed evolved_function: {reason}", code="malformed_program")
        discovery = submission.discovery(body.evolved_function, parsed, parents, assignment)
        slots = PoolSettings.current().consensus_k
        store_work.complete(
            submission.holder, assignment, (), submission.now, discovery=discovery, slots=slots, guard=caller.guard
        )
        number, known = discovery.algorithm.id, discovery.known_id is not None
        status = "duplicate" if known else "accepted"
        return {
            "status": status, "batch_id": assignment.id, "algorithm_id": number, "result_id": number,
            "duplicate": known,
        }  # fmt: skip

    return until_decided(decide)


@api.post(
    "/api/v1/tasks/{assignment_id}/submit_evaluation", auth=submitting, refusals={400: "Wrong ids.", 404: "Ended."}
)
def submit_evaluation(assignment_id: str, body: EvaluationSubmission, caller: Caller) -> dict[str, Any]:
    """Hand in the scores of an evaluation batch; a part of it is enough."""
    submission = Submission(caller, assignment_id, "evaluate")

    def decide() -> tuple[dict[str, Any], list[Outcome]]:
        submission.hold()
        if not body.evaluations:
            raise Malformed("evaluations must not be empty", code="no_evaluations")
        domain.check_evaluations(body.evaluations, submission.assigned)
        assignment = submission.read(body.evaluations)
        outcomes = submission.outcomes(body.evaluations, assignment)
        store_work.complete(
            submission.holder, assignment, outcomes, submission.now, unused=submission.unused(outcomes),
            guard=caller.guard,
        )  # fmt: skip
        return {
            "status": "completed",
            "batch_id": assignment.id,
            "accepted_evaluations": len(outcomes),
            "window_number": assignment.window,
        }, outcomes

    answer, outcomes = until_decided(decide)
    _credit_soon(outcomes, submission.now)
    return answer
