"""What evaluations add up to, whoever sends them in whichever order."""

from __future__ import annotations

import itertools
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chalicelib.pool import consensus, domain
from chalicelib.pool.contracts import PoolSettings
from chalicelib.pool.contracts_records import Algorithm, Board, Candidate, Credit, Miner, Seed, Sota, Vote

KNOBS = PoolSettings()
SCORES = st.floats(0, 1, allow_nan=False).map(lambda score: round(score, 6))


def votes(*scores: float, same: frozenset[int] = frozenset()) -> list[Vote]:
    return [Vote(f"m{n}", "shared" if n in same else f"m{n}", score, float(n), 0) for n, score in enumerate(scores)]


def score_of(*scores: float) -> float | None:
    return consensus.tally(votes(*scores), KNOBS).score


def test_the_median_of_the_tightest_three_decides() -> None:
    assert score_of(0.90, 0.91, 0.92) == 0.91
    assert score_of(0.90, 0.91, 0.50) is None
    assert score_of(0.90, 0.91, 0.50, 0.92) == 0.91
    assert score_of(0.0, 0.0, 0.0) == 0.0
    assert score_of(0.0, 0.0005, 0.002) is None


def test_the_edge_of_the_tolerance_agrees() -> None:
    assert score_of(1.0, 0.95, 0.905) == 0.95
    assert score_of(1.0, 0.95, 0.904) is None
    assert consensus.agrees(0.55, 0.5, 0.1)
    assert not consensus.agrees(0.5500001, 0.5, 0.1)


def test_one_more_place_opens_until_there_is_no_hope() -> None:
    apart = [0.1, 0.2, 0.4, 0.7, 0.9, 0.02, 0.3]

    found = [consensus.tally(votes(*apart[:count]), KNOBS) for count in range(1, 8)]
    assert [tally.capacity for tally in found] == [3, 3, 4, 5, 6, 7, 7]
    assert [tally.hopeless for tally in found] == [False] * 6 + [True]
    assert consensus.judgement(votes(*apart), found[-1], 0.0, KNOBS).status == "no_consensus"


def test_one_coldkey_has_one_vote_and_each_silent_one_opens_a_place() -> None:
    crowd = votes(0.2, 0.2, 0.2, 0.2, same=frozenset(range(4)))

    assert [vote.hotkey for vote in consensus.voting(crowd)] == ["m0"]
    assert consensus.tally(crowd, KNOBS).capacity == 6
    assert consensus.tally([*crowd, *votes(0.9, 0.9)], KNOBS).score is None


@given(st.lists(SCORES, min_size=3, max_size=7))
def test_the_order_of_arrival_changes_nothing(scores: list[float]) -> None:
    """The score that a set of votes has is the same for each of its permutations."""
    orders = list(itertools.islice(itertools.permutations(scores), 24))
    assert len({consensus.agreement(order, 3, 0.1) for order in orders}) == 1


@given(SCORES.filter(lambda score: score > 0.05), st.floats(0, 1).map(lambda lie: round(lie, 6)))
def test_two_liars_among_three_honest_never_decide(truth: float, lie: float) -> None:
    """Below k colluders cannot form a cluster of their own that is tighter than the honest one."""
    found = consensus.agreement([truth, truth, truth, lie, lie], 3, 0.1)
    assert found is not None
    assert consensus.agrees(found, truth, 0.1)


@given(st.lists(SCORES, min_size=2, max_size=2), SCORES)
def test_a_constant_voter_gains_only_where_he_is_right(honest: list[float], truth: float) -> None:
    everything = votes(*honest, 0.5)
    found = consensus.tally(everything, KNOBS)
    if found.score is None:
        return
    verdicts = dict(consensus.judgement(everything, found, 0.0, KNOBS).votes)
    assert verdicts[everything[-1]] == ("agree" if consensus.agrees(0.5, found.score, 0.1) else "disagree")


@given(st.lists(SCORES, min_size=3, max_size=7))
def test_whoever_is_in_the_deciding_run_agrees(scores: list[float]) -> None:
    found = consensus.agreement(scores, 3, 0.1)
    if found is not None:
        assert sum(consensus.agrees(score, found, 0.1) for score in scores) >= 2


def credit(amount: int, *, agrees: bool = True) -> Credit:
    return Credit(1, "m", "evaluator", amount, 0, agrees=agrees, judged=True)


@given(st.lists(st.integers(-3, 3), max_size=30))
def test_reputation_never_falls_below_nothing(steps: list[int]) -> None:
    miner = Miner("m", registered_at=1.0)
    for step in steps:
        miner = consensus.credited(miner, credit(step * consensus.MILLION, agrees=step > 0))
        assert miner.reputation >= 0
    assert sum(miner.counters.values()) == len(steps)


ALGORITHM = Algorithm(1, "t", 16, "a", "a", "lease", (2,), "", 0, 0.0, 0.85)


def test_an_evolution_is_paid_for_what_it_improves() -> None:
    assert consensus.evolver_credit(ALGORITHM, 0.91, {}, KNOBS).amount == 6 * consensus.MILLION
    assert consensus.evolver_credit(ALGORITHM, 0.80, {}, KNOBS).amount == 0
    penal = PoolSettings(repeat_penalty=1.0, repeat_scope="both")
    assert consensus.evolver_credit(ALGORITHM, 0.91, {"own": 1, "all": 2}, penal).amount == 3 * consensus.MILLION
    assert consensus.evolver_credit(ALGORITHM, 0.80, {"own": 1, "all": 2}, penal).amount == -3 * consensus.MILLION
    assert consensus.micro(Decimal("0.0000005")) == 0
    assert consensus.micro(Decimal("0.0000015")) == 2


def test_the_state_of_the_art_only_rises_and_remembers_the_window_before() -> None:
    first = Sota("t", 0.8, 1, "a", 1.0, 5, 0.5)
    risen = domain.better_sota(None, first, KNOBS)
    assert risen is not None
    assert risen.before == 0.5
    again = domain.better_sota(risen, Sota("t", 0.9, 2, "a", 2.0, 5, 0.5), KNOBS)
    assert again is not None
    assert (again.before, len(again.history)) == (0.5, 2)
    later = domain.better_sota(again, Sota("t", 0.95, 3, "a", 3.0, 6, 0.5), KNOBS)
    assert later is not None
    assert later.before == 0.9
    assert domain.better_sota(later, Sota("t", 0.95, 4, "a", 4.0, 6, 0.5), KNOBS) is None


@given(st.dictionaries(st.text("abcdef", min_size=1, max_size=3), st.integers(0, 10**12), max_size=40))
def test_payouts_never_exceed_budget_or_cap(reputations: dict[str, int]) -> None:
    paid = domain.payouts(reputations, KNOBS)

    assert sum(paid.values()) <= 950_000_000
    assert all(0 < amount <= 50_000_000 for amount in paid.values())
    assert paid == domain.payouts(dict(reversed(reputations.items())), KNOBS)


def test_payouts_follow_reputation_and_leave_nothing_over() -> None:
    wide = PoolSettings(max_share=1.0)
    paid = domain.payouts({"a": 1, "b": 1, "c": 1}, wide)

    assert sum(paid.values()) == 950_000_000
    assert paid == {"a": 316666667, "b": 316666667, "c": 316666666}
    assert domain.payouts({"a": 0}, wide) == {}
    capped = domain.payouts({"whale": 97, "b": 2, "c": 1}, PoolSettings(max_share=0.5))
    assert capped == {"whale": 500000000, "b": 300000000, "c": 150000000}


@pytest.mark.parametrize(("expired", "free", "may"), [(False, 0, False), (True, 0, True), (False, 1, True)])
def test_a_place_is_free_or_its_holder_s_time_is_over(expired: bool, free: int, may: bool) -> None:
    holders = {"x": {"assignment": "l", "until": 5.0 if expired else 50.0}}
    candidate = Candidate(1, "t", 16, "author", "author", 0.0, 3, free, holders=holders)

    assert domain.may_judge(candidate, Miner("m"), 10.0, KNOBS) is may
    assert not domain.may_judge(candidate, Miner("author"), 10.0, KNOBS)
    assert not domain.may_judge(candidate, Miner("m", recipient="author"), 10.0, KNOBS)
    assert domain.instead_of(candidate, "m", 10.0) == (None if free else "x" if expired else None)


def test_seeds_fill_a_batch_while_the_whole_pool_has_fewer_candidates() -> None:
    seeds = tuple(Seed(number, "t", 16) for number in range(9))
    few = tuple(Candidate(number, "t", 16, "m", "m", 0.0, 3, 3) for number in range(20, 23))
    miner = Miner("m", seeds_done=frozenset({0}))

    filled = domain.filling_seeds(Board(few, (), seeds), miner, 1, 5, secret=b"")
    assert len(filled) == 4
    assert 0 not in {seed.id for seed in filled}
    assert domain.filling_seeds(Board(few, (), seeds), miner, 0, 3, secret=b"") == []


def test_a_seed_that_has_its_score_judges_who_comes_late() -> None:
    judged = Seed(1, "t", 16, score=0.5, judged=True)
    for score, amount in ((0.5, consensus.MILLION), (0.9, -consensus.MILLION)):
        found = consensus.outcome(judged, votes(score)[0], 9.0, KNOBS)
        assert ([credit.amount for credit in found.credits], found.judgement) == ([amount], None)


def test_gossip_is_recent_of_others_and_about_others() -> None:
    entries = [
        {"window": 9, "by": "m", "authors": {"1": "x"}},
        {"window": 9, "by": "x", "authors": {"2": "m", "3": "x"}},
        {"window": 8, "by": "y", "authors": {"4": "x", "3": "x"}},
        {"window": 7, "by": "y", "authors": {"5": "x"}},
    ]
    assert domain.gossip_for(entries, "m", 9, 50) == [3, 4]
    assert domain.gossip_for(entries, "m", 9, 1) == [3]


@pytest.mark.parametrize(
    ("activity", "paid"),
    [
        ({"evaluations_considered": 3}, False),
        ({"evaluations_considered": 1, "agreements": 1}, True),
        ({"evolutions_considered": 1, "agreements": 1}, True),
        ({"agreements": 1}, False),
        ({}, False),
    ],
)
def test_a_window_pays_who_was_active_in_it_and_agreed(activity: dict[str, int], *, paid: bool) -> None:
    assert domain.may_be_paid(activity, KNOBS) is paid
