"""Rows 44 to 58 and 100: the worker's claims, its failures, and how lost work is taken up again."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from chalicelib.kernel import clock
from chalicelib.kernel.errors import Refusal
from chalicelib.prism import store, tasks, tasks_claim
from tests.harness.race import all_at_once
from tests.prism.machine import Machines
from tests.prism.world import BOB, INTERNAL, NOW, SLUG, Configure, Freeze, Prism, model


def test_an_empty_queue_is_null(prism: Prism) -> None:
    assert prism.process() is None


def test_the_older_one_comes_first(prism: Prism) -> None:
    first, second = prism.submitted({"code": model(1)}), prism.submitted({"code": model(2)}, BOB)
    assert [prism.process(), prism.process(), prism.process()] == [first, second, None]


def test_a_good_project_completes_with_its_score(prism: Prism) -> None:
    found = prism.processed()
    assert (found["status"], found["error"]) == ("completed", None)
    assert (found["q_arch"], found["q_recipe"]) == (0.8, 0.7)
    assert 0.77 <= found["final_score"] <= 0.82
    entry = prism.get("/v1/leaderboard")["entries"][0]
    assert (entry["rank"], entry["submission_id"], entry["score"]) == (1, found["id"], found["final_score"])


@pytest.mark.parametrize(
    "error",
    [
        "Prism container evaluation failed: boom",
        "Prism container evaluation timed out",
        "Prism container evaluation did not return metrics",
    ],
)
def test_an_evaluation_that_fails_says_why(prism: Prism, machines: Machines, error: str) -> None:
    machines.evaluate = lambda _event: {"error": error}
    found = prism.processed()
    assert (found["status"], found["error"], found["final_score"]) == ("failed", error, None)


@pytest.mark.parametrize(
    ("metrics", "missing"),
    [
        ({}, "q_arch"),
        ({"q_recipe": 0.7, "train_loss": 1.0}, "q_arch"),
        ({"q_arch": None}, "metrics"),
        ({"q_arch": True}, "metrics"),
        ({"q_arch": "0.8"}, "metrics"),
        ({"q_arch": 0.8, "q_recipe": float("nan")}, "metrics"),
        ([0.8, 0.7], "metrics"),
    ],
)
def test_an_evaluator_that_leaves_out_its_measure_has_failed(
    prism: Prism, machines: Machines, metrics: Any, missing: str
) -> None:
    machines.evaluate = lambda _event: {"metrics": metrics}
    found = prism.processed()
    assert (found["status"], found["error"]) == ("failed", f"Prism container evaluation did not return {missing}")
    assert (found["final_score"], found["q_arch"], prism.weights()) == (None, None, {})


def test_an_evaluator_may_leave_out_the_rest(prism: Prism, machines: Machines) -> None:
    machines.evaluate = lambda _event: {"metrics": {"q_arch": 0.8}}
    found = prism.processed()
    assert (found["status"], found["q_arch"], found["q_recipe"]) == ("completed", 0.8, 0.5)


def test_an_evaluator_that_dies_ends_the_submission_too(prism: Prism, machines: Machines) -> None:
    from chalicelib.kernel.flows import TaskFailed  # noqa: PLC0415

    def die(_event: Any) -> dict[str, Any]:
        raise TaskFailed("prism-evaluate", "Sandbox.Timedout", "Task timed out")

    machines.evaluate = die
    found = prism.processed()
    assert found["status"] == "failed"
    assert found["error"].startswith("Prism container evaluation failed: ")


def test_poll_lists_what_ended_once(prism: Prism) -> None:
    path = "/prism/internal/v1/worker/poll"
    assert prism.client.post(path, b"", INTERNAL).json == {"completed_submission_ids": []}
    done = prism.processed()["id"]
    assert prism.client.post(path, b"", INTERNAL).json == {"completed_submission_ids": [done]}
    assert prism.client.post(path, b"", INTERNAL).json == {"completed_submission_ids": []}


def test_nothing_claims_by_itself(prism: Prism) -> None:
    submission_id = prism.submitted()
    tasks.jobs.tick({"run": "sweep"}, None)
    tasks.jobs.tick({}, None)
    assert prism.status(submission_id)["status"] == "pending"


def test_a_schedule_claims_when_the_operator_asks_for_one(prism: Prism, configure: Configure) -> None:
    configure(PRISM_WORKER_SCHEDULE_SECONDS="1")
    submission_id = prism.submitted()
    tasks.jobs.tick({}, None)
    assert prism.status(submission_id)["status"] == "completed"


def test_validators_only_leaves_the_queue_to_them(prism: Prism, configure: Configure) -> None:
    configure(PRISM_EXECUTION_BACKEND="validators_only")
    prism.submitted()
    assert prism.process() is None
    assert prism.next() is not None


def test_a_start_that_got_lost_is_made_up_for(prism: Prism, machines: Machines) -> None:
    submission_id = prism.submitted()
    machines.at_once = False
    prism.process()
    machines.states.clear()
    machines.at_once = True
    tasks_claim.recover()
    assert prism.status(submission_id)["status"] == "completed"
    assert store.runs() == []


def test_a_dead_execution_is_followed_by_the_next_and_three_are_enough(prism: Prism, machines: Machines) -> None:
    submission_id = prism.submitted()
    machines.at_once = False
    prism.process()
    for number in (1, 2, 3):
        name = f"{submission_id}-{number}"
        assert machines.states[name] == "RUNNING"
        tasks_claim.recover()
        assert store.get(submission_id).holder == name
        machines.states[name] = "FAILED"
        tasks_claim.recover()
    found = prism.status(submission_id)
    assert (found["status"], found["error"]) == ("failed", "evaluation attempts exhausted")


def lost(prism: Prism, machines: Machines) -> str:
    """A submission whose three runs all died."""
    submission_id = prism.submitted()
    machines.at_once = False
    prism.process()
    for number in (1, 2, 3):
        machines.states[f"{submission_id}-{number}"] = "FAILED"
        tasks_claim.recover()
    machines.at_once = True
    assert prism.status(submission_id)["status"] == "failed"
    return submission_id


def test_an_operator_takes_back_what_was_lost_and_it_runs_under_a_new_name(prism: Prism, machines: Machines) -> None:
    submission_id = lost(prism, machines)
    tasks_claim.pardon(submission_id)
    found = prism.status(submission_id)
    assert (found["status"], found["error"]) == ("pending", None)
    assert prism.process() == submission_id
    assert prism.status(submission_id)["status"] == "completed"
    assert machines.states[f"{submission_id}-4"] == "SUCCEEDED"


def test_a_pardon_allows_as_many_leases_again(prism: Prism, machines: Machines) -> None:
    submission_id = lost(prism, machines)
    tasks_claim.pardon(submission_id)
    for _ in range(6):
        prism.assignment(prism.next("a")["id"], "reject", {})
    assert prism.status(submission_id)["error"] == "validator assignment attempts exhausted"
    tasks_claim.pardon(submission_id)
    assert prism.next("a")["attempt"] == 7


def test_only_what_was_lost_is_taken_back_and_once(prism: Prism, machines: Machines) -> None:
    submission_id = lost(prism, machines)
    outcomes = all_at_once([lambda: refused(lambda: tasks_claim.pardon(submission_id))] * 6)
    assert sorted(outcomes) == ["", *["not_exhausted"] * 5]
    assert len(list(store.queue())) == 1
    assert prism.process() == submission_id
    assert refused(lambda: tasks_claim.pardon(submission_id)) == "not_exhausted"
    assert refused(lambda: tasks_claim.pardon("nobody")) == "submission_not_found"


def refused(call: Callable[[], None]) -> str:
    try:
        call()
    except Refusal as refusal:
        return refusal.code
    return ""


def test_a_stuck_execution_is_given_up_after_its_time(prism: Prism, machines: Machines, freeze: Freeze) -> None:
    submission_id = prism.submitted()
    machines.at_once = False
    prism.process()
    freeze(clock.now() + 1799)
    tasks_claim.recover()
    assert store.get(submission_id).runs == 1
    freeze(clock.now() + 2)
    tasks_claim.recover()
    assert store.get(submission_id).runs == 2


def test_an_execution_that_was_given_up_changes_nothing(prism: Prism, machines: Machines) -> None:
    submission_id = prism.submitted()
    machines.at_once = False
    prism.process()
    machines.states[f"{submission_id}-1"] = "FAILED"
    tasks_claim.recover()
    machines.run(f"{submission_id}-1")
    assert prism.status(submission_id)["status"] == "running"
    machines.run(f"{submission_id}-2")
    assert prism.status(submission_id)["status"] == "completed"


def test_the_leaderboard_has_fifty_ranks_of_this_epoch(prism: Prism, configure: Configure, freeze: Freeze) -> None:
    configure(PRISM_PLAGIARISM_ENABLED="0", PRISM_COMPONENT_REWARDS_ENABLED="0")
    for _ in range(51):
        prism.processed()
    entries = prism.get("/v1/leaderboard")["entries"]
    assert [entry["rank"] for entry in entries] == list(range(1, 51))
    scores = [entry["score"] for entry in entries]
    assert scores == sorted(scores, reverse=True)
    freeze(NOW + 21_600)
    assert prism.get("/v1/leaderboard")["entries"] == []
    assert prism.client.get("/prism/internal/v1/get_weights", INTERNAL | SLUG).json["weights"] == {}
