"""Many miners at once: what may be handed out once is handed out once, and nothing is lost."""

from __future__ import annotations

import functools
from typing import Any

import pytest

from chalicelib.kernel import tables
from chalicelib.pool import store_work
from tests.harness.race import all_at_once
from tests.harness.scale import scaled
from tests.harness.wallets import Wallet
from tests.pool.world import ASK, LEASE, TASK, Pool, program, settle


@pytest.fixture(autouse=True)
def _patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A hundred threads on a busy machine may take longer than a request does; who wins is what counts here."""
    monkeypatch.setattr(tables, "_CONTENTION_SECONDS", 300.0)


def asks(pool: Pool, signer: Wallet, kind: str) -> Any:
    return lambda: pool.post(ASK, signer, {"task_type": kind})


def places() -> tuple[int, int]:
    """Free places and held ones over the whole board."""
    candidates = store_work.board(TASK).candidates
    return sum(work.slots_open for work in candidates), sum(len(work.holders) for work in candidates)


@pytest.mark.parametrize("seed", range(scaled(3)))
def test_a_hundred_miners_take_ten_places_once_each(pool: Pool, seed: int, configure: Any) -> None:
    configure(EVAL_BATCH_SIZE="1", CONSENSUS_K="5", MAX_EVALS="7")
    author, *miners = pool.register("author", *(f"miner {seed} {number}" for number in range(100)))
    for number in (1, 2):
        pool.candidate(author, number)

    replies = all_at_once([asks(pool, miner, "evaluate") for miner in miners])

    statuses = [reply.status for reply in replies]
    assert (statuses.count(200), statuses.count(404)) == (10, 90)
    assert places() == (0, 10)
    holders = [hotkey for work in store_work.board(TASK).candidates for hotkey in work.holders]
    assert len(set(holders)) == 10
    assert author.hotkey not in holders


@pytest.mark.parametrize("seed", range(scaled(3)))
def test_thirty_leases_of_one_miner_are_one(pool: Pool, seed: int) -> None:
    author, miner = pool.register("author", f"miner {seed}")
    pool.candidate(author)

    replies = all_at_once([lambda: pool.post(LEASE, miner)] * 30)

    statuses = [reply.status for reply in replies]
    assert (statuses.count(200), statuses.count(400)) == (1, 29)
    assert {reply.json["detail"] for reply in replies if reply.status == 400} == {"Miner already has active task"}
    assert places() == (2, 1)


def test_twenty_submissions_of_one_lease_are_one(pool: Pool) -> None:
    author, miner = pool.register("author", "miner")
    pool.candidate(author)
    lease = pool.lease(miner)
    number = lease["evaluate_algorithms"][0]["id"]
    body = {"evaluations": [{"algorithm_id": number, "score": 0.9}]}

    replies = all_at_once([lambda: pool.submit_lease(miner, lease["lease_id"], **body)] * 20)

    assert sorted(reply.status for reply in replies) == [200] + [404] * 19
    assert pool.stats(miner)["miner"]["evaluations_submitted"] == 1


def test_votes_that_arrive_together_make_one_judgement(pool: Pool) -> None:
    author, *judges = pool.register("author", "b", "c", "d")
    numbers = [pool.candidate(author, number) for number in (1, 2, 3)]
    batches = [(judge, pool.batch(judge, "evaluate")) for judge in judges]

    def submit(judge: Wallet, batch: dict[str, Any]) -> Any:
        body = {"evaluations": [{"algorithm_id": number, "score": 0.9} for number in numbers]}
        return lambda: pool.post(f"/api/v1/tasks/{batch['batch_id']}/submit_evaluation", judge, body)

    assert [reply.status for reply in all_at_once([submit(*entry) for entry in batches])] == [200] * 3
    settle()
    assert store_work.board(TASK).candidates == ()
    assert [pool.stats(judge)["miner"]["reputation"] for judge in judges] == [3, 3, 3]
    assert pool.stats(author)["pool"]["algorithms_in_evaluation"] == 0


def test_two_rounds_at_once_pay_every_credit_once(pool: Pool) -> None:
    author, *judges = pool.register("author", "b", "c", "d")
    pool.complete(pool.candidate(author), judges)

    all_at_once([settle] * 8)

    assert [pool.stats(judge)["miner"]["reputation"] for judge in judges] == [1, 1, 1]
    assert pool.stats(author)["pool"]["total_reputation"] == 3


def test_the_same_program_from_ten_miners_is_one(pool: Pool) -> None:
    miners = pool.register(*(f"miner {number}" for number in range(10)))
    batches = [(miner, pool.batch(miner, "evolve")) for miner in miners]
    body = {"evolved_function": program(1), "parent_functions": []}

    def submit(miner: Wallet, batch: dict[str, Any]) -> Any:
        return lambda: pool.post(f"/api/v1/tasks/{batch['batch_id']}/submit_evolution", miner, body)

    replies = all_at_once([submit(*entry) for entry in batches])

    assert [reply.status for reply in replies] == [200] * 10
    assert len({reply.json["algorithm_id"] for reply in replies}) == 1
    assert [reply.json["duplicate"] for reply in replies].count(False) == 1
    assert len(store_work.board(TASK).candidates) == 1


def test_five_verifiers_at_once_are_one(pool: Pool) -> None:
    author, *judges = pool.register("author", "b", "c", "d")
    number = pool.candidate(author)
    pool.complete(number, judges)

    replies = all_at_once([functools.partial(pool.verify, judge, number) for judge in (*judges, *judges)])

    assert {reply.status for reply in replies} == {200}
    assert len({reply.json["verified_by"] for reply in replies}) == 1
    settle()
    assert pool.stats(author)["miner"]["reputation"] == 41
    assert pool.stats(author)["pool"]["results_verified"] == 1
