"""The conformance table of the pool's specification, work and results: row numbers stand in the tests' names."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

import app as app_module
from chalicelib.kernel import keys
from chalicelib.pool import store_work, tasks
from tests.harness.client import Client, Reply
from tests.harness.race import all_at_once
from tests.harness.wallets import wallet
from tests.pool.world import NOW, Pool, address, at_block, program, settle

REGISTER = "/api/v1/miners/register"
RECIPIENT = "/api/v1/miners/recipient-coldkey"
LEASE = "/api/v1/tasks/lease"
ASK = "/api/v1/tasks/request"
NOT_ACTIVE = "Active lease assignment not found"

Configure = Callable[..., None]
Freeze = Callable[[float], None]


def told(reply: Reply) -> tuple[int, Any]:
    return reply.status, reply.json["detail"]


def register(pool: Pool, at: float = NOW, headers: dict[str, str] | None = None) -> Reply:
    return pool.client.post(f"/pool{REGISTER}", {}, pool.headers(wallet("a"), at=at) | (headers or {}))


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
    foreign = pool.submit_lease(a, lease["lease_id"], evaluations=[{"algorithm_id": 999, "score": 0.5}])
    twice = pool.submit_lease(a, lease["lease_id"], evaluations=[scored(lease), scored(lease)])

    assert told(foreign) == (400, "algorithm_id 999 is not part of this assignment")
    assert twice.status == 400
    assert twice.json["detail"].startswith("Duplicate evaluation for algorithm_id")
    assert pool.stats(a)["miner"]["evaluations_submitted"] == 0


def test_47_48_a_lease_takes_one_evolution_and_says_why_not(pool: Pool) -> None:
    a, lease = leased(pool)
    parent = lease["seed_algorithms"][0]["id"]
    good = [{"parent_algorithm_ids": [parent, 999], "algorithm_dsl": program(number)} for number in (1, 2)]
    done = pool.submit_lease(a, lease["lease_id"], evolutions=good).json
    lease = pool.lease(a)
    bad = pool.submit_lease(a, lease["lease_id"], evolutions=[{"parent_algorithm_ids": [], "algorithm_dsl": "hi"}])

    assert (done["accepted_evolutions"], done["ignored_evolutions"], done["dropped_parent_ids"]) == (1, 1, [999])
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
    assert number not in [entry["id"] for entry in pool.lease(author)["evaluate_algorithms"]]
    assert pool.evaluate(a, number, 0.9).status == 200
    assert pool.post(ASK, a, {"task_type": "evaluate"}).status == 404


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


def test_63_to_66_a_result_is_verified_by_the_first_who_is_not_its_author(pool: Pool) -> None:
    author, b, c, d = pool.register("author", "b", "c", "d")
    number = pool.candidate(author)
    pool.complete(number, [b, c, d])

    assert pool.get("/api/v1/results", b).json["count"] == 0
    assert told(pool.verify(author, number)) == (403, "Cannot verify own result")
    first = pool.verify(b, number).json
    assert first["verified_by"] == b.hotkey
    settle()
    reputation = pool.stats(author)["miner"]["reputation"]
    assert pool.verify(c, number).json == first
    settle()
    assert pool.stats(author)["miner"]["reputation"] == reputation == 41.0
    assert pool.get("/api/v1/results", c).json["results"][0]["result_id"] == number


def test_67_68_only_a_completed_result_is_verified(pool: Pool) -> None:
    author, b = pool.register("author", "b")
    number = pool.candidate(author)

    assert told(pool.verify(b, number)) == (400, "Result is not completed")
    assert told(pool.verify(b, 999999)) == (404, "Result not found")
    assert pool.verify(b, "abc").status == 422
    assert told(pool.verify(b, pool.seeds[0])) == (404, "Result not found")


def two_results(pool: Pool) -> tuple[Any, int, int]:
    author, b, c, d = pool.register("author", "b", "c", "d")
    best, other = pool.candidate(author, 1), pool.candidate(author, 2)
    for judge, scores in ((b, (0.90, 0.84)), (c, (0.91, 0.85)), (d, (0.92, 0.86))):
        batch = pool.batch(judge, "evaluate")
        entries = [{"algorithm_id": n, "score": s} for n, s in zip((best, other), scores, strict=True)]
        body = {"evaluations": entries}
        assert pool.post(f"/api/v1/tasks/{batch['batch_id']}/submit_evaluation", judge, body).status == 200
    assert pool.verify(b, best).status == pool.verify(b, other).status == 200
    return b, best, other


def test_69_to_73_results_and_the_state_of_the_art(pool: Pool) -> None:
    b, best, other = two_results(pool)

    assert pool.get("/api/v1/results/sota").json["sota_threshold"] == 0.91
    assert told(pool.get("/api/v1/results/sota?task_type=nope")) == (404, "Unknown task_type")
    listed = pool.get("/api/v1/results/", b)
    assert listed.json == pool.get("/api/v1/results", b).json
    assert [row["result_id"] for row in listed.json["results"]] == [best, other]
    filtered = pool.get("/api/v1/results?min_score=0.9&limit=1", b).json["results"]
    assert [row["score"] for row in filtered] == [0.91]
    assert pool.get("/api/v1/results?task_type=nope", b).json == {"results": [], "count": 0}
    assert pool.get("/api/v1/results").status == 401


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


def test_the_identity_key_signs_nothing(pool: Pool) -> None:
    zero = keys.address(bytes(32))

    assert told(register(pool, headers={"X-Key": zero, "X-Signature": "00" * 63 + "80"})) == (401, "Invalid signature")


def test_the_pool_answers_alone_at_the_root(cloud: None, configure: Configure) -> None:
    configure(MOUNTS="pool=/")
    assert Client(app_module.build()).get("/health").status == 200
