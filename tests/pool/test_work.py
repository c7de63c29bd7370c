"""Leases, batches and what comes back."""

from __future__ import annotations

from tests.pool.world import Pool, program, settle


def test_a_miner_leases_evaluates_and_is_free_again(pool: Pool) -> None:
    (a,) = pool.register("a")
    lease = pool.lease(a)

    assert (lease["evolve_budget"], len(lease["evaluate_algorithms"]), len(lease["seed_algorithms"])) == (1, 8, 8)
    first = lease["evaluate_algorithms"][0]
    done = pool.submit_lease(a, lease["lease_id"], evaluations=[{"algorithm_id": first["id"], "score": 0.7}])

    assert (done.status, done.json["accepted_evaluations"]) == (200, 1)
    assert pool.submit_lease(a, lease["lease_id"]).json["detail"] == "Active lease assignment not found"
    assert first["id"] not in [entry["id"] for entry in pool.lease(a)["evaluate_algorithms"]]


def test_three_agree_and_the_fourth_is_an_outlier(pool: Pool) -> None:
    author, b, c, d = pool.register("author", "b", "c", "d")
    number = pool.candidate(author)
    pool.complete(number, [b, c, d])
    settle()

    assert [pool.stats(each)["miner"]["reputation"] for each in (b, c, d)] == [1.0, 1.0, 1.0]
    assert pool.get("/api/v1/results", b).json["results"] == []
    verified = pool.verify(b, number)
    assert (verified.status, verified.json["status"]) == (200, "verified")
    settle()
    assert pool.get("/api/v1/results/sota").json["sota_threshold"] == 0.91
    assert pool.stats(author)["miner"]["reputation"] == 41.0
    assert pool.get("/api/v1/results", b).json["results"][0]["algorithm_dsl"] == program(1)
