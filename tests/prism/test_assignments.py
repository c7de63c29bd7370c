"""Rows 79 to 98: validators' leases, from next to their end, and what hostile validators try."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from chalicelib.kernel import clock, flows
from chalicelib.kernel.errors import Contended
from chalicelib.prism import store, store_commit, store_families, tasks, tasks_claim
from chalicelib.prism.store import table
from tests.harness.history import put_alike
from tests.harness.race import all_at_once
from tests.prism.machine import Machines
from tests.prism.world import ALICE, BOB, INTERNAL, MODEL, NOW, VALIDATORS, Configure, Freeze, Prism, model

TERMINAL = ("completed", "failed", "rejected")


def expire(prism: Prism) -> list[str]:
    found: list[str] = prism.client.post(f"{VALIDATORS}/expire", b"", INTERNAL).json["expired_submission_ids"]
    return found


def test_a_validator_says_who_it_is(prism: Prism, configure: Configure) -> None:
    reply = prism.client.post(f"{VALIDATORS}/next", b"", INTERNAL)
    assert (reply.status, reply.json["detail"][0]["loc"]) == (422, ["header", "x-validator-hotkey"])
    configure(PRISM_VALIDATOR_HOTKEYS="a,b")
    reply = prism.client.post(f"{VALIDATORS}/next", b"", INTERNAL | {"X-Validator-Hotkey": "c"})
    assert (reply.status, reply.json["detail"]) == (403, "validator is not allowed")
    assert prism.next("a") is None


def test_a_lease_is_the_same_until_it_ends_and_nobody_else_s(prism: Prism) -> None:
    submission_id = prism.submitted()
    lease = prism.next("a")
    assert lease == prism.next("a")
    assert prism.next("b") is None
    assert (lease["attempt"], lease["status"], lease["submission_id"]) == (1, "assigned", submission_id)
    assert (lease["code"], lease["filename"], lease["metadata"]) == (MODEL, "model.py", {})
    assert len(lease["arch_hash"]) == len(lease["code_hash"]) == 64
    assert lease["deadline_at"] == "2026-05-28T20:41:40.001000Z"
    assert prism.status(submission_id)["status"] == "running"


def test_accept_is_idempotent_and_keeps_the_deadline(prism: Prism) -> None:
    prism.submitted()
    lease = prism.next()
    for _ in range(2):
        assert prism.assignment(lease["id"], "accept").json == {"status": "accepted"}
    assert prism.next() == lease | {"status": "accepted"}


def test_a_result_completes_with_multiplier_one_and_no_bonus(prism: Prism) -> None:
    submission_id = prism.submitted()
    lease = prism.next()
    assert prism.result(lease["id"], q_arch=0.8, q_recipe=0.7, train_loss=1).json == {"status": "completed"}
    found = prism.status(submission_id)
    assert (found["status"], found["q_arch"]) == ("completed", 0.8)
    assert found["final_score"] == pytest.approx(0.77, abs=1e-9)
    assert prism.weights() == {ALICE.hotkey: 1.0}
    assert prism.next() is None


@pytest.mark.parametrize(
    ("metrics", "final"),
    [
        ({"q_arch": 0.8, "q_recipe": 0.6}, 0.74),
        ({}, 0.15),
        ({"q_arch": 9e99, "q_recipe": -5}, 0.7),
        ({"q_arch": 1, "q_recipe": 1, "penalty": -100}, 1.0),
        ({"q_arch": 1, "q_recipe": 1, "penalty": 100}, 0.0),
    ],
)
def test_scores_follow_the_formula_whatever_is_sent(prism: Prism, metrics: dict[str, float], final: float) -> None:
    submission_id = prism.submitted()
    assert prism.result(prism.next()["id"], **metrics).status == 200
    assert prism.status(submission_id)["final_score"] == pytest.approx(final, abs=1e-9)


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"metrics": None},
        {"metrics": []},
        {"metrics": {"q_arch": None}},
        {"metrics": {"q_arch": "0.9"}},
        {"metrics": {"q_arch": True}},
        {"metrics": {"q_arch": [1]}},
        {"metrics": {"q_arch": 1e200}},
        {"metrics": {f"m{n}": 1 for n in range(201)}},
        {"metrics": {"m" * 65: 1}},
        b'{"metrics": {"q_arch": NaN}}',
        b'{"metrics": {"q_arch": Infinity}}',
        b'{"metrics": {"q_arch": 1e999}}',
        b"{",
        b"",
    ],
    ids=str,
)
def test_hostile_metrics_are_refused_and_change_nothing(prism: Prism, body: Any) -> None:
    submission_id = prism.submitted()
    lease = prism.next()
    assert prism.assignment(lease["id"], "result", body).status == 422
    assert prism.status(submission_id)["status"] == "running"
    assert prism.result(lease["id"], q_arch=0.5).status == 200


@pytest.mark.parametrize(("verb", "body"), [("accept", b""), ("reject", {}), ("result", {"metrics": {"q_arch": 1}})])
def test_an_unknown_assignment_is_not_found(prism: Prism, verb: str, body: Any) -> None:
    reply = prism.assignment("nope", verb, body)
    assert (reply.status, reply.json["detail"]) == (404, "assignment not found")


def test_a_rejected_lease_goes_to_another_one_three_times(prism: Prism) -> None:
    submission_id = prism.submitted()
    lease = prism.next("a")
    assert prism.assignment(lease["id"], "reject").status == 422
    assert prism.assignment(lease["id"], "reject", {"reason": "busy"}).json == {"status": "rejected"}
    assert prism.assignment(lease["id"], "reject", {}).json == {"status": "rejected"}
    assert prism.status(submission_id)["status"] == "pending"
    second = prism.next("b")
    assert (second["submission_id"], second["attempt"]) == (submission_id, 2)
    prism.assignment(second["id"], "reject", {})
    third = prism.next("c")
    prism.assignment(third["id"], "reject", {})
    found = prism.status(submission_id)
    assert (found["status"], found["error"]) == ("failed", "validator assignment attempts exhausted")
    assert prism.next("d") is None


def test_the_timeline_tells_every_step_and_its_time(prism: Prism, freeze: Freeze) -> None:
    submission_id = prism.submitted()
    for second in (10, 20):
        freeze(NOW + second)
        lease = prism.next()
        freeze(NOW + second + 1)
        prism.assignment(lease["id"], "reject", {})
    freeze(NOW + 30)
    prism.result(prism.next()["id"], q_arch=0.5)
    steps = prism.get(f"/v1/submissions/{submission_id}/timeline")
    assert [step["status"] for step in steps] == ["pending", "running"] * 3 + ["completed"]
    assert [step["at"][17:19] for step in steps] == ["40", "50", "51", "00", "01", "10", "10"]
    assert prism.client.get("/prism/v1/submissions/nope/timeline").status == 404


def test_one_that_failed_it_gets_another_first(prism: Prism) -> None:
    first, second = prism.submitted(), prism.submitted({"code": model(3)}, BOB)
    lease = prism.next("a")
    assert lease["submission_id"] == first
    prism.assignment(lease["id"], "reject", {})
    assert prism.next("a")["submission_id"] == second


def test_nobody_validates_an_own_submission(prism: Prism) -> None:
    prism.submitted()
    assert prism.next(ALICE.hotkey) is None
    assert prism.next(BOB.hotkey) is not None


def test_an_overdue_lease_is_taken_back_once(prism: Prism, freeze: Freeze) -> None:
    submission_id = prism.submitted()
    lease = prism.next()
    freeze(clock.now() + 900)
    assert expire(prism) == []
    freeze(clock.now() + 0.01)
    assert prism.next() == lease
    assert expire(prism) == [submission_id]
    assert expire(prism) == []
    assert prism.status(submission_id)["status"] == "pending"
    assert prism.assignment(lease["id"], "accept").status == 409
    assert prism.result(lease["id"], q_arch=1).json["detail"] == "assignment is not active"


def test_a_late_result_counts_until_somebody_expires_it(prism: Prism, freeze: Freeze) -> None:
    submission_id = prism.submitted()
    lease = prism.next()
    freeze(clock.now() + 1000)
    assert prism.result(lease["id"], q_arch=0.5).status == 200
    assert expire(prism) == []
    assert prism.status(submission_id)["status"] == "completed"


def test_three_overdue_leases_are_the_end(prism: Prism, freeze: Freeze) -> None:
    submission_id = prism.submitted()
    for validator in "abc":
        assert prism.next(validator)
        freeze(clock.now() + 901)
        tasks.jobs.tick({"run": "sweep"}, None)
    assert prism.status(submission_id)["error"] == "validator assignment attempts exhausted"


def test_the_timer_ends_a_lease_and_nothing_that_ended(prism: Prism, machines: Machines, freeze: Freeze) -> None:
    submission_id = prism.submitted()
    lease = prism.next()
    assert machines.started[lease["id"]]["input"]["at"] == "2026-05-28T20:41:40.101000Z"
    machines.run(lease["id"])
    assert prism.status(submission_id)["status"] == "running"
    freeze(clock.now() + 901)
    machines.run(lease["id"])
    assert prism.status(submission_id)["status"] == "pending"
    machines.run(lease["id"])
    assert (expire(prism), expire(prism)) == ([submission_id], [])


def test_what_a_timer_and_the_sweep_took_is_told_once(prism: Prism, machines: Machines, freeze: Freeze) -> None:
    first, second = prism.submitted({"code": model(1)}), prism.submitted({"code": model(2)})
    lease = prism.next("a")
    freeze(clock.now() + 901)
    machines.run(lease["id"])
    assert [prism.next(validator)["submission_id"] for validator in "bc"] == [first, second]
    freeze(clock.now() + 901)
    tasks.jobs.tick({"run": "sweep"}, None)
    assert expire(prism) == [first, second]
    assert expire(prism) == []


def test_a_validator_s_time_begins_when_review_is_done(
    prism: Prism, machines: Machines, freeze: Freeze, configure: Configure, monkeypatch: pytest.MonkeyPatch
) -> None:
    def slow(task: str, payload: Any, *, seconds: float) -> Any:
        freeze(clock.now() + seconds)
        tasks.jobs.tick({"run": "sweep"}, None)
        return machines.invoke(task, payload)

    configure(PRISM_VALIDATOR_ASSIGNMENT_TIMEOUT_SECONDS="5")
    monkeypatch.setattr(flows, "invoke", slow)
    submission_id = prism.submitted()
    lease = prism.next()
    assert (lease["attempt"], lease["deadline_at"]) == (1, clock.stamp(clock.now() + 5))
    assert machines.started[lease["id"]]["input"]["at"] == clock.stamp(clock.now() + 5.1)
    assert [found.deadline_at for found in store.leases()] == [clock.now() + 5]
    freeze(clock.now() + 5.01)
    assert (expire(prism), store.leases()) == ([submission_id], [])


def test_a_lease_that_was_handed_over_meanwhile_is_not_ended_by_its_former_deadline(
    prism: Prism, monkeypatch: pytest.MonkeyPatch
) -> None:
    prism.submitted()
    with monkeypatch.context() as broken:
        broken.setattr(tasks_claim, "_review", lambda *_: "")
        assert prism.next() is None
    claimed = store.slot("v1")
    assert claimed
    lease = prism.next()
    with pytest.raises(Contended):
        store_commit.close(dataclasses.replace(claimed, status="expired"))
    with pytest.raises(Contended):
        store_commit.hand_over(claimed, dataclasses.replace(claimed, deadline_at=claimed.deadline_at + 1))
    assert prism.next() == lease


def test_no_number_of_overdue_leases_hides_one(prism: Prism, freeze: Freeze) -> None:
    submission_id = prism.submitted()
    assert prism.next()
    put_alike(table, {"pk": "LEASES", "assignment_id": "gone"}, (f"0{number:04d}" for number in range(150)))
    freeze(clock.now() + 901)
    assert expire(prism) == [submission_id]


def test_what_is_completed_stays_completed(prism: Prism) -> None:
    submission_id = prism.submitted()
    lease = prism.next()
    prism.result(lease["id"], q_arch=0.8)
    assert prism.assignment(lease["id"], "reject", {}).status == 409
    assert prism.assignment(lease["id"], "accept").json["detail"] == "assignment is not active"
    assert prism.result(lease["id"], q_arch=0.8).json == {"status": "completed"}
    other = prism.result(lease["id"], q_arch=0.9)
    assert (other.status, other.json["detail"]) == (409, "assignment already completed")
    assert prism.status(submission_id)["q_arch"] == 0.8


@pytest.mark.parametrize(("verb", "body"), [("accept", b""), ("reject", {}), ("result", {"metrics": {"q_arch": 1}})])
def test_a_lease_obeys_its_holder_alone(prism: Prism, configure: Configure, verb: str, body: Any) -> None:
    prism.submitted()
    lease = prism.next("a")
    reply = prism.assignment(lease["id"], verb, body, **{"X-Validator-Hotkey": "b"})
    assert (reply.status, reply.json["detail"]) == (403, "assignment belongs to another validator")
    configure(PRISM_ASSIGNMENTS_REQUIRE_VALIDATOR_HEADER="1")
    assert prism.assignment(lease["id"], verb, body).status == 422
    assert prism.assignment(lease["id"], verb, body, **{"X-Validator-Hotkey": "a"}).status == 200


def test_what_review_refuses_is_passed_over(prism: Prism) -> None:
    bad = prism.submitted({"code": "import os\n"})
    good = prism.submitted({"code": MODEL}, BOB)
    assert prism.next()["submission_id"] == good
    assert prism.status(bad)["status"] == "rejected"


def test_up_to_five_further_ones_are_looked_at(prism: Prism) -> None:
    for number in range(5):
        prism.submitted({"code": f"import os{number}\n"})
    good = prism.submitted({"code": MODEL}, BOB)
    assert prism.next()["submission_id"] == good


def test_a_review_that_does_not_answer_leaves_the_lease_to_be_asked_for_again(
    prism: Prism, machines: Machines, monkeypatch: pytest.MonkeyPatch
) -> None:
    from chalicelib.kernel import flows  # noqa: PLC0415

    submission_id = prism.submitted()

    def silent(task: str, _payload: Any, **_: Any) -> Any:
        raise flows.TaskFailed(task, "Sandbox.Timedout", "too slow")

    monkeypatch.setattr(flows, "invoke", silent)
    assert prism.next("a") is None
    monkeypatch.setattr(flows, "invoke", machines.invoke)
    lease = prism.next("a")
    assert (lease["submission_id"], lease["attempt"]) == (submission_id, 1)


def test_a_hundred_calls_at_once_never_share_a_submission(prism: Prism, configure: Configure) -> None:
    configure(PRISM_PLAGIARISM_ENABLED="0")
    submitted = {prism.submitted() for _ in range(20)}
    leases = all_at_once([lambda n=n: prism.next(f"v{n}") for n in range(100)])  # type: ignore[misc] # binds n
    handed_out = [lease["submission_id"] for lease in leases if lease]
    assert sorted(handed_out) == sorted(submitted)


def test_one_validator_in_a_hurry_holds_one_lease(prism: Prism, configure: Configure) -> None:
    configure(PRISM_PLAGIARISM_ENABLED="0")
    for _ in range(5):
        prism.submitted()
    leases = [lease for lease in all_at_once([lambda: prism.next("hasty")] * 12) if lease]
    assert len({lease["id"] for lease in leases}) == 1
    assert len(list(store.queue())) == 4


def test_parallel_results_all_count_and_leave_one_current_best(prism: Prism, configure: Configure) -> None:
    configure(PRISM_PLAGIARISM_ENABLED="0")
    for _ in range(12):
        prism.submitted()
    leases = [prism.next(f"v{n}") for n in range(12)]
    calls = [lambda n=n, lease=lease: prism.result(lease["id"], q_arch=0.3 + n / 20) for n, lease in enumerate(leases)]
    assert {reply.status for reply in all_at_once(calls)} == {200}
    (family,) = prism.get("/v1/architectures")
    assert family["q_arch_best"] == pytest.approx(0.85)
    assert sum(found["is_current_best"] for found in prism.get("/v1/training-variants")) == 1
    assert len(prism.get("/v1/leaderboard")["entries"]) == 12
    assert len(store_families.families([family["id"]])) == 1


def test_reject_result_and_expiry_at_once_have_one_winner(prism: Prism, freeze: Freeze) -> None:
    submission_id = prism.submitted()
    lease = prism.next()
    freeze(clock.now() + 901)
    calls = [
        lambda: prism.result(lease["id"], q_arch=0.5).status,
        lambda: prism.assignment(lease["id"], "reject", {}).status,
        lambda: len(expire(prism)),
    ] * 3
    all_at_once(calls)
    status = prism.status(submission_id)["status"]
    assert status in {"completed", "pending"}
    assert (len(list(store.queue())) == 1) == (status == "pending")
    assert store.assignment(lease["id"]).status in {"completed", "rejected", "expired"}
