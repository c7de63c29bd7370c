"""Who fetches now: a few in all, of one hotkey never two, and no slot is lost for good."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from chalicelib.experts import store, tasks_rounds, tasks_slots
from tests.experts import models
from tests.experts.conftest import MINER, NOW, SECOND, START, World
from tests.experts.flows import walk
from tests.experts.submissions import Files, hand_in
from tests.harness.race import all_at_once


def goes(submission_id: str) -> str:
    return str(tasks_rounds.begin(submission_id)["go"])


@pytest.mark.parametrize("limit", [1, 2])
def test_no_more_than_a_few_fetch_at_once(cloud: None, configure: Callable[..., None], limit: int) -> None:
    configure(EXPERTS_FETCH_CONCURRENCY=str(limit))

    def taking(number: int) -> Callable[[], bool]:
        return lambda: tasks_slots.take(f"key-{number}", f"submission-{number}")

    taken = all_at_once([taking(number) for number in range(8)])

    assert sum(taken) == limit
    assert [tasks_slots.take(f"key-{number}", f"submission-{number}") for number in range(8)] == taken


def test_a_hotkey_has_one_slot_until_its_fetch_is_over(served: World) -> None:
    older = hand_in(served, "x.pt", block=START + 19)
    assert goes(older) == "fetch"
    newer = hand_in(served, "x.pt", block=START + 20)
    assert (goes(newer), store.submission(newer)["state"]) == ("wait", "accepted")

    tasks_rounds.refuse(older, "Unacceptable", '{"errorMessage": "too_slow: 5 bytes in 300 seconds"}')
    assert goes(newer) == "fetch"


def test_who_waited_fetches_when_a_fetch_is_over(served: World, tiny: models.Model, files: Files) -> None:
    served.configure(EXPERTS_FETCH_CONCURRENCY="1")
    files["x.safetensors"] = models.scaled(tiny, "0", 0.5)
    first, second = (hand_in(served, "x.safetensors", signer) for signer in (MINER, SECOND))
    assert [goes(first), goes(second)] == ["fetch", "wait"]

    assert walk("experts-submission", {"submission_id": first})[-2:] == ["Evaluate", "Done"]
    assert goes(second) == "fetch"


def test_a_slot_outlives_a_dead_flow_by_no_more_than_its_fetch(served: World, freeze: Callable[[float], None]) -> None:
    served.configure(EXPERTS_FETCH_CONCURRENCY="1", EXPERTS_FETCH_TOTAL_S="100")
    dead, next_one = (hand_in(served, "x.pt", signer) for signer in (MINER, SECOND))
    assert goes(dead) == "fetch"
    for seconds, found in ((259, "wait"), (261, "fetch")):
        freeze(NOW + seconds)
        assert goes(next_one) == found
    assert goes(dead) == "wait"
