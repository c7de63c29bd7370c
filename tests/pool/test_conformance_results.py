"""The conformance table of the pool's specification, results and the state of the art."""

from __future__ import annotations

from typing import Any

from tests.pool.world import Configure, Pool, settle, told


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
    for unknown in (999999, -1, 0, 10**40):
        assert told(pool.verify(b, unknown)) == (404, "Result not found")
    assert pool.verify(b, "abc").status == 422
    assert told(pool.verify(b, pool.seeds[0])) == (404, "Result not found")


def test_a_program_that_nobody_agreed_on_is_never_verified(pool: Pool, configure: Configure) -> None:
    configure(MAX_EVALS="3")
    author, b, c, d = pool.register("author", "b", "c", "d")
    number = pool.candidate(author)
    for judge, score in ((b, 0.1), (c, 0.5), (d, 0.9)):
        pool.evaluate(judge, number, score)

    assert told(pool.verify(b, number)) == (400, "Result is not completed")


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
