"""What each route costs: calls in sequence and write units, the same with a few results and with many."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from chalicelib.pool import store, store_work
from chalicelib.pool.contracts import MAX_GENOME_BYTES
from tests.harness.budget import Spent, counted
from tests.harness.client import Reply
from tests.harness.cloud import stock
from tests.harness.scale import scaled
from tests.pool.test_claims import ALICE, publish
from tests.pool.world import TASK, Pool, program, settle

Act = Callable[[], Reply]


def spent(act: Act, status: int = 200) -> Spent:
    with counted() as found:
        reply = act()
    assert reply.status == status, reply.json
    return found


def test_a_denial_costs_one_item(pool: Pool) -> None:
    (miner,) = pool.register("miner")
    lease = pool.lease(miner)["lease_id"]

    for act, status in (
        (lambda: pool.post("/api/v1/tasks/lease", miner), 400),
        (lambda: pool.post("/api/v1/tasks/request", miner), 400),
    ):
        assert dict(spent(act, status).calls) == {"dynamodb:GetItem": 1}
    assert dict(spent(lambda: pool.submit_lease(miner, "l_other"), 404).calls) == {"dynamodb:BatchGetItem": 1}
    assert lease


def test_an_unsigned_request_costs_nothing(pool: Pool) -> None:
    assert spent(lambda: pool.post("/api/v1/tasks/lease"), 401).total == 0
    forged = pool.headers(pool.register("a")[0]) | {"X-Signature": "00" * 64}
    assert spent(lambda: pool.client.post("/pool/api/v1/tasks/lease", {}, forged), 401).total == 0


def test_reads_are_one_round_trip_or_two(pool: Pool) -> None:
    publish()
    (miner,) = pool.register("miner")
    first_look = spent(lambda: pool.get(f"/claims/epoch/1144/proof/{ALICE}")).total
    assert first_look <= 2
    public = {
        "/health": 1, "/status": 1, "/api/v1/disclaimer": 0, "/disclaimer.md": 0, "/api/v1/miners/leaderboard": 1,
        f"/api/v1/miners/recipient-coldkey/{miner.hotkey}": 1, "/api/v1/results/sota": 1, "/api/v1/pool": 1,
        "/claims/health": 1, "/claims/epochs": 1, "/claims/epoch": 2, "/claims/epoch/1144": 1,
        f"/claims/epoch/1144/proof/{ALICE}": 1, f"/claims/epoch/proof/{ALICE}": 2, "/claims/ledger/1144": 2,
    }  # fmt: skip
    pool.recipient(miner, miner.hotkey)
    assert {path: spent(lambda path=path: pool.get(path)).total for path in public} == public  # type: ignore[misc] # as above
    signed = {
        "/api/v1/miners/stats": 2,
        "/api/v1/miners/recipient-coldkey": 1,
        "/api/v1/results": 2,
        "/api/v1/tasks/pending_evaluations": 2,
    }
    assert {path: spent(lambda path=path: pool.get(path, miner)).total for path in signed} == signed  # type: ignore[misc] # as above


def fill(count: int, text: str = "s0 = s1") -> None:
    """Verified results, as if all of it were long ago."""
    rows = (
        {
            "pk": "RESULTS#ALL", "sk": f"{10**15 // 2 + number:016d}#{number:012d}", "id": number, "dsl": text,
            "task_type": TASK, "input_dim": 16, "score": 0.5, "author": "x", "parents": [], "evaluations": 3,
            "window": 0, "completed_at": 1.0, "verified_at": 1.0, "verified_by": "y",
        }
        for number in range(count)
    )  # fmt: skip
    stock(store.table, rows)


def test_long_programs_never_make_an_answer_that_lambda_refuses(pool: Pool) -> None:
    (miner,) = pool.register("a")
    fill(200, text='"' * MAX_GENOME_BYTES)

    most = pool.get("/api/v1/results?limit=200", miner)
    assert most.status == 200
    assert 50 < most.json["count"] == len(most.json["results"]) < 200
    assert len(json.dumps(most.body.decode())) < 6 * 1024 * 1024
    assert pool.get("/api/v1/results", miner).json["count"] == 50


def day(pool: Pool, number: int) -> dict[str, tuple[int, float]]:
    """One of everything: what each step costs in calls and in write units."""
    names = [f"{name} {number}" for name in ("author", "b", "c", "d")]
    author, b, c, d = pool.register(*names)
    found: dict[str, tuple[int, float]] = {}

    def step(name: str, act: Act) -> Any:
        with counted() as cost:
            reply = act()
        assert reply.status == 200, reply.json
        found[name] = (cost.total, cost.write_units)
        return reply.json

    step("register", lambda: pool.post("/api/v1/miners/register", author))
    batch = step("request", lambda: pool.post("/api/v1/tasks/request", author, {"task_type": "evolve"}))["batch_id"]
    body = {"evolved_function": program(number), "parent_functions": []}
    new = step("evolution", lambda: pool.post(f"/api/v1/tasks/{batch}/submit_evolution", author, body))["algorithm_id"]
    lease = step("lease", lambda: pool.post("/api/v1/tasks/lease", b, {"gossip_limit": 0}))["lease_id"]
    entries = {"evaluations": [{"algorithm_id": new, "score": 0.9}]}
    step("submit", lambda: pool.submit_lease(b, lease, **entries))
    pool.evaluate(c, new, 0.9)
    pool.evaluate(d, new, 0.9)
    settle()
    step("verify", lambda: pool.verify(b, new))
    step("results", lambda: pool.get("/api/v1/results?limit=10", b))
    step("stats", lambda: pool.get("/api/v1/miners/stats", b))
    settle()
    return found


def test_costs_do_not_grow_with_history(pool: Pool) -> None:
    fill(100)
    few = day(pool, 1)
    fill(scaled(10_000))
    later = day(pool, 2)

    # Getting the record that the signature check needs is in every figure; flows are started besides.
    ceilings = {
        "register": (3, 8), "request": (5, 12), "evolution": (4, 40), "lease": (5, 60), "submit": (3, 30),
        "verify": (3, 60), "results": (2, 0), "stats": (2, 0),
    }  # fmt: skip
    for name, (calls, units) in ceilings.items():
        assert few[name][0] == later[name][0] <= calls, (name, few[name], later[name])
        assert later[name][1] <= units, (name, later[name])
        assert later[name][1] <= few[name][1] + 2, (name, few[name], later[name])


def test_a_whole_lease_fits_into_one_transaction(pool: Pool, configure: Any) -> None:
    """Thirty-two candidates that all complete, an evolution and gossip."""
    configure(LEASE_MAX_BATCH="32", EVAL_BATCH_SIZE="32", MAX_OPEN_CANDIDATES="50")
    author, b, c, d = pool.register("author", "b", "c", "d")
    numbers = [pool.candidate(author, number) for number in range(32)]
    for judge in (b, c):
        batch = pool.batch(judge, "evaluate")
        body = {"evaluations": [{"algorithm_id": number, "score": 0.9} for number in numbers]}
        assert pool.post(f"/api/v1/tasks/{batch['batch_id']}/submit_evaluation", judge, body).status == 200
    lease = pool.lease(d, eval_batch_size=32, seed_batch_size=32)
    done = pool.submit_lease(
        d, lease["lease_id"], evaluations=[{"algorithm_id": number, "score": 0.9} for number in numbers],
        evolutions=[{"parent_algorithm_ids": numbers[:3], "algorithm_dsl": program(900)}],
        gossip={"task_type": TASK, "algorithm_ids": numbers},
    )  # fmt: skip

    assert (done.status, done.json["accepted_evaluations"], done.json["gossip_accepted"]) == (200, 32, 32)
    settle()
    assert pool.stats(d)["miner"]["reputation"] == 32
    assert [work.author for work in store_work.board(TASK).candidates] == [d.hotkey]
    assert pool.lease(b)["gossip"]["algorithm_ids"] != []
    assert pool.lease(author)["gossip"]["algorithm_ids"] == []
