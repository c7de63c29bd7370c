"""How evaluations become a score, and a score reputation: functions of votes, in exact decimal arithmetic.

Split from `domain` because it is a subject of its own, and the one that the pool's fairness rests on.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from decimal import ROUND_HALF_EVEN, Decimal
from statistics import median

from chalicelib.kernel.values import frozen

from .contracts import PoolSettings
from .contracts_records import Algorithm, Candidate, Credit, Judgement, Miner, Outcome, Seed, Vote

MILLION = 10**6
_LEAST_SCALE = Decimal("0.01")


@frozen
class Tally:
    """What the votes say: an accepted score, or how many places for votes there have to be."""

    score: float | None
    capacity: int
    hopeless: bool = False


def voting(votes: Iterable[Vote]) -> list[Vote]:
    """One vote per coldkey that is paid: the earliest stands."""
    standing: dict[str, Vote] = {}
    for vote in sorted(votes, key=lambda vote: (vote.at, vote.hotkey)):
        standing.setdefault(vote.recipient, vote)
    return list(standing.values())


def tally(votes: Sequence[Vote], settings: PoolSettings) -> Tally:
    """The tightest run of k votes decides if it is tight enough; otherwise one more place, as long as there is hope."""
    counted = voting(votes)
    silent = len(votes) - len(counted)
    needed = settings.consensus_k
    if len(counted) < needed:
        return Tally(None, needed + silent)
    score = agreement([vote.score for vote in counted], needed, settings.tolerance_ratio)
    if score is not None:
        return Tally(score, len(votes))
    most = max(settings.max_evals, needed)
    return Tally(None, len(votes) + 1) if len(counted) < most else Tally(None, len(votes), hopeless=True)


def agreement(scores: Iterable[float], needed: int, ratio: float) -> float | None:
    """The median of the tightest run of `needed` scores, if its spread is within the tolerance."""
    exact = sorted(Decimal(repr(score)) for score in scores)
    runs = [exact[first : first + needed] for first in range(len(exact) - needed + 1)]
    best = min(runs, key=lambda run: run[-1] - run[0])
    centre = median(best)
    return float(centre) if best[-1] - best[0] <= _tolerance(centre, ratio) else None


def agrees(score: float, consensus: float, ratio: float) -> bool:
    centre = Decimal(repr(consensus))
    return abs(Decimal(repr(score)) - centre) <= _tolerance(centre, ratio)


def _tolerance(centre: Decimal, ratio: float) -> Decimal:
    return Decimal(repr(ratio)) * max(abs(centre), _LEAST_SCALE)


def judgement(votes: Sequence[Vote], found: Tally, now: float, settings: PoolSettings) -> Judgement:
    """Every stored evaluation gets its verdict, voting or not; without agreement nobody is judged."""
    if found.score is None:
        return Judgement("no_consensus", None, tuple((vote, "none") for vote in votes), now)
    consensus = found.score
    verdicts = tuple(
        (vote, "agree" if agrees(vote.score, consensus, settings.tolerance_ratio) else "disagree") for vote in votes
    )
    return Judgement("completed", consensus, verdicts, now)


def evaluator_credit(algorithm: int, vote: Vote, verdict: str, settings: PoolSettings) -> Credit:
    amount = micro(Decimal(repr(settings.evaluator_weight)) * (1 if verdict == "agree" else -1))
    return Credit(algorithm, vote.hotkey, "evaluator", amount, vote.window, agrees=verdict == "agree", judged=True)


def evolver_credit(algorithm: Algorithm, score: float, repeats: Mapping[str, int], settings: PoolSettings) -> Credit:
    """Improvement over the baseline, less what repetitions cost, which may be more than was gained."""
    gain = max(Decimal(0), Decimal(repr(score)) - Decimal(repr(algorithm.baseline)))
    own, everybody = repeats.get("own", 0), repeats.get("all", 0)
    count = {"miner": own, "global": everybody, "both": own + everybody}[settings.repeat_scope]
    reward = gain * Decimal(repr(settings.evolver_weight)) - Decimal(repr(settings.repeat_penalty)) * count
    return Credit(algorithm.id, algorithm.author, "evolver", micro(reward), algorithm.window)


def micro(amount: Decimal) -> int:
    return int((amount * MILLION).quantize(Decimal(1), ROUND_HALF_EVEN))


def credited(miner: Miner, credit: Credit) -> Miner:
    """The miner after a credit: reputation never falls below zero."""
    counters = dict(miner.counters)
    if credit.judged:
        name = "agreements" if credit.agrees else "disagreements"
        counters[name] = counters.get(name, 0) + 1
    if credit.role == "evolver":
        counters["evolutions_verified"] = counters.get("evolutions_verified", 0) + 1
    return replace(miner, reputation=max(0, miner.reputation + credit.amount), counters=counters)


def outcome(work: Candidate | Seed, vote: Vote, now: float, settings: PoolSettings) -> Outcome:
    """What one more evaluation does to a program: it waits for others, or it decides."""
    if isinstance(work, Seed) and (work.judged or len(work.votes) >= 2 * settings.max_evals):
        return Outcome(work, vote, credits=late_credits(work, vote, settings))
    votes = (*work.votes, vote)
    found = tally(votes, settings)
    if found.score is None and not found.hopeless:
        known = work.capacity if isinstance(work, Candidate) else 0
        return Outcome(work, vote, capacity=max(found.capacity, known))
    ended = judgement(votes, found, now, settings)
    owed = tuple(
        evaluator_credit(work.id, each, verdict, settings) for each, verdict in ended.votes if verdict != "none"
    )
    return Outcome(work, vote, capacity=len(votes), judgement=ended, credits=owed)


def late_credits(work: Seed, vote: Vote, settings: PoolSettings) -> tuple[Credit, ...]:
    """Who comes after the consensus is judged against it and changes nothing."""
    if work.score is None:
        return ()
    verdict = "agree" if agrees(vote.score, work.score, settings.tolerance_ratio) else "disagree"
    return (evaluator_credit(work.id, vote, verdict, settings),)
