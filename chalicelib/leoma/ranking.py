"""Verdicts, scores, ranks and weights: IEEE doubles throughout, since exact numbers would crown other winners."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from chalicelib.kernel.values import frozen

HALF = 0.5
NEVER_COMMITTED = 2**31
_COMPLETENESS_SLACK = 1e-12


@frozen
class Entrant:
    """A miner's record over the ranking window."""

    hotkey: str
    passed: int
    evaluated: int
    block: int | None = None

    @property
    def pass_rate(self) -> float:
        return self.passed / self.evaluated if self.evaluated else 0.0


@frozen
class Place:
    """A rank of the list, 1 being the winner."""

    rank: int
    entrant: Entrant


@frozen
class Tally:
    """What one validator's samples say about one miner, over all time."""

    validator: str
    miner: str
    total: int
    passed: int

    @property
    def score(self) -> float:
        return self.passed / self.total


def passes(votes: Mapping[str, bool], stakes: Mapping[str, float]) -> bool:
    """More than half of the voters' stake, as it is now; a tie fails, and so does a vote without any stake."""
    stake = {voter: max(0.0, stakes.get(voter, 0.0)) for voter in sorted(votes)}
    total = sum(stake.values())
    in_favour = sum(stake[voter] for voter in stake if votes[voter])
    return total > 0 and in_favour / total > HALF


def ranking_window(newest: int, size: int) -> range:
    """The newest `size` task numbers, evaluated or not; nothing is ranked before there are that many."""
    return range(newest - size + 1, newest + 1) if newest >= size else range(0)


def display_window(newest: int, size: int) -> range:
    """The same, but whatever there is while the window is not full."""
    return range(max(1, newest - size + 1), newest + 1)


def records(
    tasks: Iterable[Mapping[str, Mapping[str, bool]]], stakes: Mapping[str, float]
) -> dict[str, tuple[int, int]]:
    """(passed, evaluated) per miner over tasks, each the votes per miner; a task counts once, whoever voted."""
    passed: dict[str, int] = {}
    evaluated: dict[str, int] = {}
    for task in tasks:
        for miner, votes in task.items():
            evaluated[miner] = evaluated.get(miner, 0) + 1
            passed[miner] = passed.get(miner, 0) + passes(votes, stakes)
    return {miner: (passed[miner], evaluated[miner]) for miner in evaluated}


def agreement(
    tasks: Iterable[Mapping[str, Mapping[str, bool]]], stakes: Mapping[str, float]
) -> dict[str, tuple[int, int]]:
    """(votes, votes that the verdict confirmed) per voter."""
    found: dict[str, tuple[int, int]] = {}
    for task in tasks:
        for votes in task.values():
            verdict = passes(votes, stakes)
            for voter, passed in votes.items():
                cast, confirmed = found.get(voter, (0, 0))
                found[voter] = (cast + 1, confirmed + (passed == verdict))
    return found


def is_eligible(evaluated: int, window: int, threshold: float) -> bool:
    return evaluated > 0 and evaluated / window >= threshold - _COMPLETENESS_SLACK


def dominance(entrants: Iterable[Entrant], threshold: float) -> list[Place]:
    """The latest committer who leads every earlier one by the threshold wins; the others follow by passed tasks."""
    by_commitment = sorted(entrants, key=_commitment)
    if not by_commitment:
        return []
    winner = by_commitment[0]
    for index in range(len(by_commitment) - 1, 0, -1):
        candidate = by_commitment[index]
        if all(candidate.pass_rate >= earlier.pass_rate + threshold for earlier in by_commitment[:index]):
            winner = candidate
            break
    others = sorted(
        (entrant for entrant in by_commitment if entrant is not winner),
        key=lambda entrant: (-entrant.passed, entrant.hotkey),
    )
    return [Place(rank, entrant) for rank, entrant in enumerate([winner, *others], start=1)]


def _commitment(entrant: Entrant) -> tuple[int, str]:
    return (NEVER_COMMITTED if entrant.block is None else entrant.block, entrant.hotkey)


def winner_uid(places: Sequence[tuple[str, int]], valid_uids: Mapping[str, int]) -> int:
    """The uid of rank 1 while that miner is valid; 0 burns."""
    winner = next((hotkey for hotkey, rank in places if rank == 1), None)
    return valid_uids.get(winner, 0) if winner is not None else 0


def weight(rank: int, uid: int, winner: int) -> float:
    """Everything for the winner; a winner with uid 0 looks like a burn and weighs nothing."""
    return 1.0 if rank == 1 and winner != 0 and uid == winner else 0.0


def ratio(part: int, whole: int) -> float:
    return part / whole if whole else 0.0


def mean(values: Sequence[float]) -> float:
    return sum(values) / len(values) if values else 0.0


def counted(tallies: Iterable[Tally], validators: Iterable[str], miners: Iterable[str]) -> list[Tally]:
    """The tallies that count: of validators registered now, about miners valid now."""
    registered, valid = set(validators), set(miners)
    kept = [t for t in tallies if t.total > 0 and t.validator in registered and t.miner in valid]
    return sorted(kept, key=lambda tally: (tally.validator, tally.miner))
