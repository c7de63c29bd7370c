"""Verdicts, windows, ranks and weights as pure functions: the specification's worked numbers, and what always holds."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chalicelib.leoma import ranking
from chalicelib.leoma.ranking import Entrant

STAKES = {"A": 100.0, "B": 60.0, "C": 40.0}
HALVES = {"A": 18680.4, "B": 3527.2, "C": 22207.6}


@pytest.mark.parametrize(
    ("votes", "stakes", "verdict"),
    [
        ({"A": True, "B": False, "C": False}, STAKES, False),
        ({"A": True, "B": False, "C": True}, STAKES, True),
        ({"D": True}, STAKES, False),
        ({"A": True, "B": True, "C": False}, HALVES, True),
        ({}, STAKES, False),
        ({"A": True}, {"A": -5.0}, False),
        ({"A": True, "B": False}, {"A": 5e-324, "B": 0.0}, True),
    ],
)
def test_a_verdict_needs_more_than_half_of_the_stake(
    votes: dict[str, bool], stakes: dict[str, float], verdict: bool
) -> None:
    assert ranking.passes(votes, stakes) is verdict


def entrants(*rows: tuple[str, int, int, int | None]) -> list[Entrant]:
    return [Entrant(*row) for row in rows]


def order(found: list[Entrant], threshold: float = 0.05) -> str:
    return "".join(place.entrant.hotkey for place in ranking.dominance(found, threshold))


@pytest.mark.parametrize(
    ("found", "ranks"),
    [
        (entrants(("A", 50, 100, 100), ("B", 56, 100, 200), ("C", 60, 100, 300)), "BCA"),
        (entrants(("A", 80, 100, 100), ("B", 85, 100, 200)), "AB"),
        (entrants(("A", 70, 100, 100), ("B", 75, 100, 200)), "BA"),
        (entrants(("A", 0, 100, 100)), "A"),
        (entrants(("A", 0, 100, 100), ("B", 4, 100, 200)), "AB"),
        (entrants(("A", 50, 100, None), ("B", 50, 100, 100)), "BA"),
        (entrants(("A", 60, 100, 100), ("B", 60, 100, 100)), "AB"),
        (entrants(("A", 90, 100, 100), ("B", 72, 80, 90), ("C", 95, 100, 80)), "CAB"),
        (
            entrants(
                ("A", 50, 100, 100), ("B", 55, 100, 200), ("C", 60, 100, 300), ("D", 65, 100, 400), ("E", 70, 100, 500)
            ),
            "DECBA",
        ),
        (entrants(("A", 80, 100, 300), ("B", 76, 80, 400), ("C", 79, 100, 100)), "BAC"),
        ([], ""),
    ],
)
def test_the_worked_rank_lists(found: list[Entrant], ranks: str) -> None:
    assert order(found) == ranks


def test_a_lead_of_exactly_five_points_loses_where_doubles_say_so() -> None:
    losing = [
        base
        for base in range(96)
        if order(entrants(("A", base, 100, 1), ("B", base + 5, 100, 2)))[0] == "A"
    ]  # fmt: skip
    assert losing == [1, 7, 10, 16, 17, 52, 53, 54, 55, 56, 64, 65, 66, 67, 68, 77, 78, 79, 80, 81, 89, 90, 91, 92, 93]


@pytest.mark.parametrize(("evaluated", "eligible"), [(80, True), (79, False), (100, True), (0, False)])
def test_eligibility_is_four_fifths_of_the_window(evaluated: int, eligible: bool) -> None:
    assert ranking.is_eligible(evaluated, 100, 0.8) is eligible


@pytest.mark.parametrize(
    ("newest", "ranked", "shown"),
    [(250, (151, 250), (151, 250)), (100, (1, 100), (1, 100)), (99, None, (1, 99)), (0, None, None)],
)
def test_windows(newest: int, ranked: tuple[int, int] | None, shown: tuple[int, int] | None) -> None:
    def ends(window: range) -> tuple[int, int] | None:
        return (window[0], window[-1]) if window else None

    assert ends(ranking.ranking_window(newest, 100)) == ranked
    assert ends(ranking.display_window(newest, 100)) == shown


@pytest.mark.parametrize(
    ("valid", "winner", "weight"), [({"A": 17}, 17, 1.0), ({"B": 3}, 0, 0.0), ({"A": 0}, 0, 0.0), ({}, 0, 0.0)]
)
def test_only_a_valid_winner_with_a_uid_gets_weight(valid: dict[str, int], winner: int, weight: float) -> None:
    found = ranking.winner_uid([("A", 1), ("B", 2)], valid)

    assert found == winner
    assert ranking.weight(1, valid.get("A", 0), found) == weight
    assert ranking.weight(2, valid.get("B", 0), found) == 0.0


NAMES = st.sampled_from("ABCDEFGH")
VOTES = st.dictionaries(NAMES, st.booleans(), max_size=8)
SOME_STAKES = st.dictionaries(NAMES, st.floats(0, 1e9), max_size=8)
MINERS = st.lists(
    st.tuples(st.integers(0, 60), st.integers(60, 100), st.none() | st.integers(0, 9)), min_size=1, max_size=8
).map(lambda rows: [Entrant("ABCDEFGH"[n], *row) for n, row in enumerate(rows)])


@given(VOTES, SOME_STAKES, st.randoms(use_true_random=False))
def test_the_order_of_arrival_never_changes_a_verdict(
    votes: dict[str, bool], stakes: dict[str, float], chance: random.Random
) -> None:
    shuffled = list(votes.items())
    chance.shuffle(shuffled)

    assert ranking.passes(dict(shuffled), stakes) == ranking.passes(votes, stakes)


@given(VOTES, SOME_STAKES)
def test_a_verdict_and_its_opposite_never_both_pass(votes: dict[str, bool], stakes: dict[str, float]) -> None:
    opposite = {voter: not passed for voter, passed in votes.items()}

    assert not (ranking.passes(votes, stakes) and ranking.passes(opposite, stakes))


@given(VOTES, SOME_STAKES, NAMES)
def test_a_vote_in_favour_never_turns_a_pass_into_a_fail(
    votes: dict[str, bool], stakes: dict[str, float], voter: str
) -> None:
    assert ranking.passes(votes | {voter: True}, stakes) >= ranking.passes({**votes, voter: False}, stakes)


@given(MINERS, st.randoms(use_true_random=False))
def test_ranks_do_not_depend_on_the_order_of_the_input(found: list[Entrant], chance: random.Random) -> None:
    shuffled = list(found)
    chance.shuffle(shuffled)

    assert ranking.dominance(shuffled, 0.05) == ranking.dominance(found, 0.05)


@given(MINERS)
def test_there_is_one_winner_and_everybody_has_one_rank(found: list[Entrant]) -> None:
    places = ranking.dominance(found, 0.05)
    earlier = [
        e for e in found if (e.block is None, e.block) < (places[0].entrant.block is None, places[0].entrant.block)
    ]

    assert [place.rank for place in places] == list(range(1, len(found) + 1))
    assert {place.entrant for place in places} == set(found)
    assert all(places[0].entrant.pass_rate >= entrant.pass_rate + 0.05 for entrant in earlier)


@given(st.lists(st.dictionaries(NAMES, VOTES.filter(bool), max_size=4), max_size=6), SOME_STAKES)
def test_a_task_counts_once_per_miner_whoever_voted(
    tasks: list[dict[str, dict[str, bool]]], stakes: dict[str, float]
) -> None:
    found = ranking.records(tasks, stakes)

    assert found == ranking.records(reversed(tasks), stakes)
    assert {miner: record[1] for miner, record in found.items()} == {
        miner: sum(miner in task for task in tasks) for task in tasks for miner in task
    }
    assert all(0 <= passed <= evaluated for passed, evaluated in found.values())
