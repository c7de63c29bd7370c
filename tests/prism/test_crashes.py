"""Killed between any two calls and run again: every evaluation, resolution and result ends where it would have."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import pytest

import app as app_module
from chalicelib.kernel import clock, flows
from chalicelib.prism import store, store_families, tasks_claim, tasks_finish
from chalicelib.prism.contracts import Resolution
from tests.harness import crash
from tests.harness.client import Client
from tests.prism.machine import GOOD, Machines
from tests.prism.world import CAROL, NOW, TOKEN, Configure, Freeze, Prism, model, recipe, two_parts

_DIFFERS = ("updated_at", "created_at", "metrics")


@pytest.fixture
def numbered(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """Ids that are the same in every run."""

    def start() -> None:
        counter = itertools.count()
        monkeypatch.setattr(clock, "new_uuid", lambda: f"00000000-0000-4000-8000-{next(counter):012d}")

    return start


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch, freeze: Freeze, configure: Configure, numbered: Callable[[], None]) -> Any:
    """A fresh service on whatever cloud stands."""
    freeze(NOW)
    configure(PRISM_SHARED_TOKEN=TOKEN)

    def fresh() -> tuple[Prism, Machines]:
        freeze(NOW)
        numbered()
        machines = Machines()
        for name in ("start", "status", "invoke"):
            monkeypatch.setattr(flows, name, getattr(machines, name))
        monkeypatch.setattr(flows, "start_or_leave", machines.start)
        return Prism(Client(app_module.build()), freeze), machines

    return fresh


def outcome() -> dict[str, Any]:
    """What everybody can see of the world."""
    return {
        "statuses": sorted(
            (item["status"], item.get("error") or "", item["score"].get("final_score", 0.0))
            for key, item in crash.tables("prism").items()
            if key.startswith("prism: SUB#") and key.endswith("/ -")
        ),
        "families": [
            (found.owner_hotkey, found.q_arch_best, bool(found.best_variant))
            for found in store_families.architectures(50)
        ],
        "variants": [
            (found.owner_hotkey, found.is_current_best) for found in store_families.training_variants(None, 50)
        ],
        "holds": [hold.status for hold in store_families.holds(None, 50)],
        "queue": len(list(store.queue())),
        "runs": len(store.runs()),
    }


def run_to_its_end(step: Callable[[], object]) -> Callable[[], None]:
    """A step, then what the sweep makes of what it left."""

    def act() -> None:
        step()
        tasks_claim.recover()
        tasks_claim.recover()

    return act


def test_an_evaluation_killed_anywhere_ends_as_if_nothing_had_happened(world: Any) -> None:
    state: dict[str, Any] = {}

    def prepare() -> None:
        state["prism"], state["machines"] = world()
        state["prism"].submitted(two_parts(model(1), recipe(1)))

    def act() -> None:
        machines = state["machines"]
        for name, status in list(machines.states.items()):
            if status == "RUNNING":  # its process is gone
                machines.states[name] = "FAILED"
        tasks_claim.process_next()
        tasks_claim.recover()

    expected = crash.undisturbed(prepare, act, outcome)
    assert expected["statuses"][0][0] == "completed"
    found = list(crash.endings(prepare, act, outcome))
    assert len(found) > 20
    for ending in found:
        assert ending.state["statuses"][0][0] == "completed", ending
        assert ending.state["families"] == expected["families"], ending
        assert ending.state["variants"] == expected["variants"], ending
        assert (ending.state["queue"], ending.state["runs"]) == (0, 0), ending


def test_a_resolution_killed_anywhere_is_done_once(world: Any) -> None:
    state: dict[str, Any] = {}

    def prepare() -> None:
        prism, machines = world()
        machines.evaluate = lambda _event: {"metrics": GOOD}
        prism.processed(two_parts(model(1), recipe(1)))
        unknown = "00000000-0000-4000-8000-00000000ffff"
        prism.processed(two_parts(model(9), recipe(9), family=unknown), CAROL)
        state["hold"] = prism.holds()[0]["id"]

    def act() -> None:
        if store_families.holds("pending", 10):
            tasks_finish.resolve(state["hold"], Resolution(architecture_action="new", training_action="new"))

    expected = crash.undisturbed(prepare, act, outcome)
    assert [status for status, _, _ in expected["statuses"]] == ["completed", "completed"]
    for ending in crash.endings(prepare, act, outcome):
        assert ending.state == expected, ending


def test_a_lease_and_its_result_killed_anywhere_count_once(world: Any) -> None:
    state: dict[str, Any] = {}

    def prepare() -> None:
        state["prism"], _ = world()
        state["prism"].submitted(two_parts(model(1), recipe(1)))

    def act() -> None:
        lease = tasks_claim.next_assignment("v1")
        if lease:
            tasks_finish.finish_assignment(lease.id, "v1", {"q_arch": 0.5})

    expected = crash.undisturbed(prepare, act, outcome)
    for ending in crash.endings(prepare, act, outcome):
        assert ending.state == expected, ending
