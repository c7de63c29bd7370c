"""The conformance table of the pool's specification, work and results: row numbers stand in the tests' names."""

from __future__ import annotations

from typing import Any

import pytest

import app as app_module
from chalicelib.pool import store_results, store_work, tasks
from tests.harness.client import Client
from tests.harness.race import all_at_once
from tests.harness.wallets import Wallet, wallet
from tests.pool.world import (
    ASK,
    LEASE,
    NOT_ACTIVE,
    NOW,
    REGISTER,
    Configure,
    Freeze,
    Pool,
    address,
    at_block,
    program,
    settle,
    told,
)


def leased(pool: Pool, name: str = "a", **body: Any) -> tuple[Any, dict[str, Any]]:
    (signer,) = pool.register(name)
    return signer, pool.lease(signer, **body)


def scored(lease: dict[str, Any], score: Any = 0.7, entry: int = 0) -> dict[str, Any]:
    return {"algorithm_id": lease["evaluate_algorithms"][entry]["id"], "score": score}


def test_31_32_an_evolution_batch_is_the_only_task(pool: Pool) -> None:
    (a,) = pool.register("a")
    batch = pool.batch(a, "evolve")

    assert isinstance(batch["batch_id"], str)
    assert [type(batch["algorithms"][0][name]) for name in ("id", "algorithm_dsl", "input_dim")] == [int, str, int]
    for path in (ASK, LEASE):
        assert told(pool.post(path, a)) == (400, "Miner already has active task")


def test_33_34_no_candidates_and_no_such_kind(pool: Pool) -> None:
    (a,) = pool.register("a")

    assert told(pool.post(ASK, a, {"task_type": "evaluate"})) == (404, "No tasks available")
    assert pool.post(ASK, a, {"task_type": "foo"}).status == 422
    assert pool.post(ASK, a, {"task_type": None}).json["task_type"] == "evolve"


@pytest.mark.parametrize(
    "body",
    [
        {"eval_batch_size": 1},
        {"seed_batch_size": 0},
        {"gossip_limit": -1},
        {"eval_batch_size": True},
        {"eval_batch_size": "8"},
        {"task_type": "titanic"},
        {"task_type": ""},
        {"sim_window_number": -1},
    ],
)
def test_35_36_a_lease_asks_within_bounds(pool: Pool, body: Any) -> None:
    (a,) = pool.register("a")

    assert pool.post(LEASE, a, body).status == 422
    assert pool.post(LEASE, a, {"gossip_limit": 51, "eval_batch_size": 1000}).status == 200


def test_37_38_a_simulated_window_is_for_development(pool: Pool, configure: Configure) -> None:
    (a, b) = pool.register("a", "b")

    assert pool.lease(a, sim_window_number=9000)["window_number"] == 9000
    configure(ENVIRONMENT="production")
    detail = "sim_window_number is disabled in production"
    assert told(pool.post(LEASE, b, {"sim_window_number": 9000})) == (400, detail)


def test_39_one_lease_per_window_where_windows_count(pool: Pool, configure: Configure) -> None:
    configure(LEASE_ENFORCE_WINDOW="true")
    a, lease = leased(pool)
    assert pool.submit_lease(a, lease["lease_id"]).status == 200

    refused = pool.post(LEASE, a)
    assert refused.status == 400
    assert "Lease already issued for this window" in refused.json["detail"]
    at_block(320)
    assert pool.post(LEASE, a).status == 200


def test_40_41_a_lease_is_submitted_once(pool: Pool) -> None:
    a, lease = leased(pool)
    done = pool.submit_lease(a, lease["lease_id"], evaluations=[scored(lease)], evolutions=[])

    assert (done.status, done.json["accepted_evaluations"]) == (200, 1)
    assert told(pool.submit_lease(a, lease["lease_id"])) == (404, NOT_ACTIVE)


def test_42_43_a_foreign_or_expired_lease_is_not_there(pool: Pool, freeze: Freeze) -> None:
    a, lease = leased(pool)
    (b,) = pool.register("b")

    assert told(pool.submit_lease(b, lease["lease_id"])) == (404, NOT_ACTIVE)
    freeze(NOW + 1800)
    assert told(pool.submit_lease(a, lease["lease_id"])) == (404, NOT_ACTIVE)
    assert pool.post(LEASE, a).status == 200


@pytest.mark.parametrize("score", ["NaN", "Infinity", "-Infinity", "1e999", '"0.5"', "true", "1.01", "-0.1", "null"])
def test_44_a_score_is_a_number_of_the_problem_s_range(pool: Pool, score: str) -> None:
    a, lease = leased(pool)
    number = lease["evaluate_algorithms"][0]["id"]
    raw = f'{{"evaluations": [{{"algorithm_id": {number}, "score": {score}}}]}}'.encode()

    assert pool.post(f"/api/v1/tasks/{lease['lease_id']}/submit_lease", a, raw).status == 422
    assert pool.stats(a)["miner"]["evaluations_submitted"] == 0
    assert pool.submit_lease(a, lease["lease_id"], evaluations=[scored(lease, -0.0)]).status == 200


def test_45_46_ids_are_those_of_the_lease_each_once(pool: Pool) -> None:
    a, lease = leased(pool)
    foreign = {
        number: pool.submit_lease(a, lease["lease_id"], evaluations=[{"algorithm_id": number, "score": 0.5}])
        for number in (999, -1, 10**18)
    }
    twice = pool.submit_lease(a, lease["lease_id"], evaluations=[scored(lease), scored(lease)])

    for number, refused in foreign.items():
        assert told(refused) == (400, f"algorithm_id {number} is not part of this assignment")
    assert twice.status == 400
    assert twice.json["detail"].startswith("Duplicate evaluation for algorithm_id")
    assert pool.stats(a)["miner"]["evaluations_submitted"] == 0


def test_47_48_a_lease_takes_one_evolution_and_says_why_not(pool: Pool) -> None:
    a, lease = leased(pool)
    parent = lease["seed_algorithms"][0]["id"]
    good = [{"parent_algorithm_ids": [parent, 999, -1], "algorithm_dsl": program(number)} for number in (1, 2)]
    gossip = {"task_type": "cifar10_binary", "algorithm_ids": [parent, 999, -1]}
    done = pool.submit_lease(a, lease["lease_id"], evolutions=good, gossip=gossip).json
    lease = pool.lease(a)
    bad = pool.submit_lease(a, lease["lease_id"], evolutions=[{"parent_algorithm_ids": [], "algorithm_dsl": "hi"}])

    assert (done["accepted_evolutions"], done["ignored_evolutions"], done["dropped_parent_ids"]) == (1, 1, [999, -1])
    assert done["gossip_accepted"] == 1
    evolved, *_ = store_results.program(done["algorithm_ids"][0])
    assert evolved
    assert evolved.parents == (parent,)
    assert (bad.status, bad.json["accepted_evolutions"], len(bad.json["rejected_evolutions"])) == (200, 0, 1)
    assert pool.stats(a)["miner"]["malformed_submissions"] == 1


def test_49_iterations_are_asked_for_where_set(pool: Pool, configure: Configure) -> None:
    configure(LEASE_MIN_ITERATIONS="1")
    a, lease = leased(pool)

    assert told(pool.submit_lease(a, lease["lease_id"])) == (400, "Insufficient iterations: got 0, need 1")
    assert pool.submit_lease(a, lease["lease_id"], iterations=1).status == 200


def test_50_51_the_body_s_address_is_the_signer_s(pool: Pool) -> None:
    a, lease = leased(pool)
    extra = {"signature": "00", "message": "x"}

    refused = pool.submit_lease(a, lease["lease_id"], public_address=address("b"), **extra)
    assert told(refused) == (401, "public_address does not match X-Key")
    assert pool.submit_lease(a, lease["lease_id"], public_address=a.hotkey, **extra).status == 200


def test_51_the_body_s_address_counts_however_its_name_is_spelled(pool: Pool) -> None:
    (a,) = pool.register("a")
    body = b'{"public\\u005faddress": "%s"}' % address("b").encode()

    refused = pool.post("/api/v1/miners/register", a, body)
    assert told(refused) == (401, "public_address does not match X-Key")


def test_the_score_of_a_seed_is_shown_to_those_who_have_judged_it(pool: Pool) -> None:
    *judges, late = pool.register("a", "b", "c", "late")
    for judge in judges:
        lease = pool.lease(judge, eval_batch_size=32)
        entries = [{"algorithm_id": entry["id"], "score": 0.75} for entry in lease["evaluate_algorithms"]]
        assert pool.submit_lease(judge, lease["lease_id"], evaluations=entries).status == 200

    def shown(signer: Wallet) -> set[float | None]:
        return {entry["score"] for entry in pool.lease(signer, seed_batch_size=32)["seed_algorithms"]}

    assert shown(judges[0]) == {0.75}
    assert shown(late) == {None}


def test_52_53_the_same_program_comes_in_once(pool: Pool) -> None:
    a, b = pool.register("a", "b")
    first = pool.evolve(a, program(1), [{"id": pool.seeds[0]}, pool.seeds[1], str(pool.seeds[2])]).json
    spaced = program(1).replace(" = ", "   =  ").replace("# learn", "#  LEARN ")
    second = pool.evolve(b, spaced).json

    assert (type(first["algorithm_id"]), first["duplicate"]) == (int, False)
    assert (second["status"], second["duplicate"]) == ("duplicate", True)
    assert second["algorithm_id"] == first["algorithm_id"]
    assert told(pool.evolve(a, program(2), [99999])) == (400, "Unknown parent function 99999")


@pytest.mark.parametrize("text", ["", "x" * 16385, None])
def test_54_a_program_has_a_size(pool: Pool, text: str | None) -> None:
    (a,) = pool.register("a")
    batch = pool.batch(a, "evolve")
    body: dict[str, Any] = {"parent_functions": []} | ({"evolved_function": text} if text is not None else {})

    assert pool.post(f"/api/v1/tasks/{batch['batch_id']}/submit_evolution", a, body).status == 422


def test_55_56_a_text_without_instructions_ends_the_batch_and_a_bad_line_does_not(pool: Pool) -> None:
    (a,) = pool.register("a")
    malformed = pool.evolve(a, "hello world")

    assert (malformed.status, malformed.json["detail"].startswith("Malformed evolved_function: ")) == (400, True)
    good_but_one = program(3) + "\n".join(f"s{number} = 0.5" for number in range(5)) + "\nv8[-1] = 0.3\n"
    assert pool.evolve(a, good_but_one).status == 200


def test_57_58_batches_are_of_one_kind_and_not_empty(pool: Pool) -> None:
    author, a = pool.register("author", "a")
    pool.candidate(author)
    batch = pool.batch(a, "evaluate")
    path = f"/api/v1/tasks/{batch['batch_id']}"
    evolution = {"evolved_function": program(2), "parent_functions": []}

    assert told(pool.post(f"{path}/submit_evolution", a, evolution)) == (404, "Active evolution assignment not found")
    assert told(pool.post(f"{path}/submit_evaluation", a, {"evaluations": []})) == (
        400,
        "evaluations must not be empty",
    )
    other = pool.post("/api/v1/tasks/b_none/submit_evaluation", a, {"evaluations": []})
    assert told(other) == (404, "Active evaluation assignment not found")


def test_59_60_nobody_judges_himself_or_twice(pool: Pool) -> None:
    author, a = pool.register("author", "a")
    number = pool.candidate(author)

    assert pool.post(ASK, author, {"task_type": "evaluate"}).status == 404
    assert pool.recipient(author, address("another coldkey")).status == 200
    assert pool.post(ASK, author, {"task_type": "evaluate"}).status == 404
    assert number not in [entry["id"] for entry in pool.lease(author)["evaluate_algorithms"]]
    assert pool.evaluate(a, number, 0.9).status == 200
    assert pool.post(ASK, a, {"task_type": "evaluate"}).status == 404


def test_a_seed_is_judged_once_by_each(pool: Pool) -> None:
    a, lease = leased(pool, eval_batch_size=9)
    done = [scored(lease, entry=entry) for entry in range(2)]
    assert pool.submit_lease(a, lease["lease_id"], evaluations=done).status == 200

    again = {entry["id"] for entry in pool.lease(a, eval_batch_size=9)["evaluate_algorithms"]}
    assert again == set(pool.seeds) - {entry["algorithm_id"] for entry in done}


def test_silent_votes_of_one_coldkey_end_somewhere(pool: Pool, configure: Configure) -> None:
    """Each opens a place for another voter; beyond twice the most evaluations no more of them are let in."""
    configure(MAX_EVALS="3")
    author, other, *family = pool.register("author", "other", *(f"twin {number}" for number in range(7)))
    for twin in family:
        assert pool.recipient(twin, address("family")).status == 200
    number = pool.candidate(author)
    for twin in family[:6]:
        assert pool.evaluate(twin, number, 0.5).status == 200

    assert pool.post(ASK, family[6], {"task_type": "evaluate"}).status == 404
    assert pool.evaluate(other, number, 0.5).status == 200


def test_answers_name_what_clients_read_and_nothing_else(pool: Pool) -> None:
    program_names = ["id", "algorithm_dsl", "task_type", "input_dim"]
    a, lease = leased(pool)
    names = ("lease_id", "window_number", "task_type", "issued_at", "timeout_at", "evolve_budget")
    assert list(lease) == [*names, "evaluate_algorithms", "seed_algorithms", "gossip"]
    assert list(lease["evaluate_algorithms"][0]) == program_names
    assert list(lease["seed_algorithms"][0]) == [*program_names, "score"]
    pool.submit_lease(a, lease["lease_id"])
    batch = pool.batch(a, "evolve")
    assert list(batch) == ["batch_id", "task_type", "algorithms", "window_number", "assigned_at", "timeout_at"]
    assert list(batch["algorithms"][0]) == program_names


def test_61_three_close_scores_make_one(pool: Pool) -> None:
    author, b, c, d = pool.register("author", "b", "c", "d")
    number = pool.candidate(author)
    pool.complete(number, [b, c, d])
    settle()

    assert [pool.stats(each)["miner"]["reputation"] for each in (b, c, d)] == [1, 1, 1]
    assert pool.stats(b)["pool"]["total_reputation"] == 3


def test_62_an_outlier_waits_for_a_fourth_and_pays(pool: Pool) -> None:
    author, b, c, d, e = pool.register("author", "b", "c", "d", "e")
    number = pool.candidate(author)
    pool.complete(number, [b, c, d], (0.90, 0.91, 0.50))
    settle()
    assert pool.stats(b)["miner"]["reputation"] == 0
    assert pool.verify(b, number).status == 400

    assert pool.evaluate(e, number, 0.92).status == 200
    settle()
    found = [pool.stats(each)["miner"] for each in (b, c, d, e)]
    assert [miner["reputation"] for miner in found] == [1, 1, 0, 1]
    assert found[2]["disagreements"] == 1


def test_74_a_signature_submits_once(pool: Pool) -> None:
    a, lease = leased(pool)
    signed = pool.headers(a)
    first = pool.client.post(f"/pool/api/v1/tasks/{lease['lease_id']}/submit_lease", {}, signed)
    second_lease = pool.lease(a)
    path = f"/pool/api/v1/tasks/{second_lease['lease_id']}/submit_lease"

    assert first.status == 200
    assert told(pool.client.post(path, {}, signed)) == (401, "Signature already used")
    assert pool.client.post(path, {}, pool.headers(a)).status == 200


def test_75_pending_evaluations_say_what_there_is(pool: Pool) -> None:
    author, a = pool.register("author", "a")
    path = "/api/v1/tasks/pending_evaluations"
    assert pool.get(path, a).json["has_pending_evaluations"] is False
    number = pool.candidate(author)

    assert pool.get(path, a).json["pending_count"] == 1
    batch = pool.batch(a, "evaluate")
    found = pool.get(path, a).json
    assert (found["has_pending_evaluations"], found["pending_count"]) == (True, 0)
    assert [(entry["id"], entry["algorithm_ids"]) for entry in found["assignments"]] == [(batch["batch_id"], [number])]
    assert told(pool.get(path, wallet("stranger"))) == (403, "Miner not registered")


def test_94_95_97_methods_sizes_and_paths_that_are_not_ours(pool: Pool) -> None:
    (a,) = pool.register("a")

    assert told(pool.client.call("DELETE", f"/pool{REGISTER}")) == (405, "Method Not Allowed")
    assert pool.post(REGISTER, a, b'{"x": "' + b"x" * 300 * 1024 + b'"}').status == 413
    assert pool.post(f"/api/v1/tasks/{a.hotkey}/request").status == 404


def test_96_two_leases_at_once_are_one(pool: Pool) -> None:
    (a,) = pool.register("a")
    replies = all_at_once([lambda: pool.post(LEASE, a)] * 2)

    assert sorted(reply.status for reply in replies) == [200, 400]


def test_an_expired_assignment_gives_its_places_back(pool: Pool, freeze: Freeze) -> None:
    author, a, b, c, d = pool.register("author", "a", "b", "c", "d")
    number = pool.candidate(author)
    held = pool.batch(a, "evaluate")
    for judge in (b, c):
        pool.batch(judge, "evaluate")
    assert pool.post(ASK, d, {"task_type": "evaluate"}).status == 404

    freeze(NOW + 10800)
    assert tasks.expire({"id": held["batch_id"]}, None) == {"expired": True}
    assert tasks.expire({"id": held["batch_id"]}, None) == {"expired": False}
    assert store_work.board("cifar10_binary").candidates[0].slots_open == 1
    batch = pool.batch(d, "evaluate")
    assert [entry["id"] for entry in batch["algorithms"]] == [number]


def test_the_pool_answers_alone_at_the_root(cloud: None, configure: Configure) -> None:
    configure(MOUNTS="pool=/")
    assert Client(app_module.build()).get("/health").status == 200
