"""Killed at any call, answered late or twice: what stands is whole, and a second run ends where the first would."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from chalicelib.kernel import aws
from chalicelib.pool import domain, merkle, store, store_claims, store_work, tasks, tasks_epochs
from tests.harness.wallets import wallet
from tests.pool.test_claims import claim, package, publish
from tests.pool.world import TASK, Configure, Pool, add_seeds, at_block, program, settle

_WATCHED = ("dynamodb", "s3")


class Killed(BaseException):
    """The process is gone; nothing catches this."""


@contextmanager
def killed_at(step: int, *, after: bool) -> Iterator[None]:
    """Die at the n-th call: before it is sent, or after it took effect and before its answer is heard."""
    seen = 0

    def strike(**_: Any) -> None:
        nonlocal seen
        seen += 1
        if seen == step:
            raise Killed

    event = "after-call.*" if after else "before-call.*"
    for service in _WATCHED:
        aws.client(service).meta.events.register(event, strike, unique_id="strike")
    try:
        yield
    finally:
        for service in _WATCHED:
            aws.client(service).meta.events.unregister(event, unique_id="strike")


def survives(run: Callable[[], Any]) -> bool:
    """Whether the run came to its end."""
    try:
        run()
    except Killed:
        return False
    return True


@pytest.mark.parametrize("after", [False, True])
def test_a_submission_killed_anywhere_happened_or_did_not(pool: Pool, after: bool) -> None:
    author, *judges = pool.register("author", "b", "c", "d")
    first = pool.candidate(author)
    pool.complete(first, judges[:2], (0.90, 0.91))
    judge = judges[2]
    lease = pool.lease(judge)
    body = {
        "evaluations": [{"algorithm_id": first, "score": 0.92}],
        "evolutions": [{"parent_algorithm_ids": [first], "algorithm_dsl": "# predict\ns0 = s1 + s2\n"}],
    }
    for step in range(1, 20):
        with killed_at(step, after=after):
            ended = survives(lambda: pool.submit_lease(judge, lease["lease_id"], **body))
        is_done = store_work.assignment(lease["lease_id"]).status == "COMPLETED"  # type: ignore[union-attr] # it exists
        board = store_work.board(TASK).candidates
        assert [work.id for work in board if work.id == first] == ([] if is_done else [first])
        assert len(store_work.owed(10)) == (1 if is_done else 0)
        assert (store.miner(judge.hotkey).active is None) is is_done
        assert sum(work.author == judge.hotkey for work in board) == int(is_done)
        if ended or is_done:
            break
    assert is_done
    retried = pool.submit_lease(judge, lease["lease_id"], **body)
    assert (retried.status, retried.json["detail"]) == (404, "Active lease assignment not found")
    settle()
    assert [pool.stats(each)["miner"]["reputation"] for each in judges] == [1, 1, 1]


@pytest.mark.parametrize("after", [False, True])
def test_an_evolution_killed_anywhere_happened_or_did_not(pool: Pool, after: bool) -> None:
    (author,) = pool.register("author")
    batch = pool.batch(author, "evolve")["batch_id"]
    body = {"evolved_function": program(1), "parent_functions": pool.seeds[:2]}
    for step in range(1, 20):
        with killed_at(step, after=after):
            ended = survives(lambda: pool.post(f"/api/v1/tasks/{batch}/submit_evolution", author, body))
        found = store_work.assignment(batch)
        assert found is not None
        is_done = found.status == "COMPLETED"
        assert (store.miner(author.hotkey).active is None) is is_done
        assert len(store_work.board(TASK).candidates) == int(is_done)
        if ended or is_done:
            break
    assert is_done
    again = pool.evolve(author, program(1)).json
    assert (again["duplicate"], again["algorithm_id"]) == (True, store_work.board(TASK).candidates[0].id)


@pytest.mark.parametrize("after", [False, True])
def test_a_claim_killed_anywhere_is_paid_once_or_not_at_all(pool: Pool, after: bool) -> None:
    publish()
    body = package(pool)
    for step in range(1, 10):
        with killed_at(step, after=after):
            ended = survives(lambda: claim(pool, body))
        ledger = pool.get("/claims/ledger/1144").json
        assert ledger["claimed_units"] == sum(row["amount_units"] for row in ledger["claims"])
        if ended:
            break
    assert ended
    assert claim(pool, body).status == 409
    assert pool.get("/claims/ledger/1144").json["claimed_units"] == body["amount_units"]


@pytest.mark.parametrize("after", [False, True])
def test_a_lease_killed_anywhere_is_held_whole_or_not_at_all(pool: Pool, after: bool) -> None:
    author, miner = pool.register("author", "miner")
    number = pool.candidate(author)
    for step in range(1, 20):
        with killed_at(step, after=after):
            ended = survives(lambda: pool.post("/api/v1/tasks/lease", miner))
        active = store.miner(miner.hotkey).active
        held = store_work.board(TASK).candidates[0].holders
        assert (miner.hotkey in held) is (active is not None)
        if active:
            found = store_work.assignment(active["id"])
            assert found is not None
            assert (found.status, found.candidate_ids) == ("ACTIVE", (number,))
        if ended or active:
            return
    raise AssertionError("the lease never came through")


@pytest.mark.parametrize("after", [False, True])
def test_credits_killed_anywhere_are_paid_once_in_the_end(pool: Pool, after: bool) -> None:
    author, *judges = pool.register("author", "b", "c", "d")
    pool.complete(pool.candidate(author), judges)
    for step in range(1, 60):
        with killed_at(step, after=after):
            if survives(settle):
                break
    settle()

    assert [pool.stats(judge)["miner"]["reputation"] for judge in judges] == [1, 1, 1]
    assert pool.stats(author)["pool"]["total_reputation"] == 3
    assert store_work.owed(10) == []


@pytest.mark.parametrize("after", [False, True])
def test_a_publication_killed_anywhere_goes_on_and_ends_the_same(pool: Pool, after: bool, configure: Configure) -> None:
    configure(PUBLISH_CHUNK="2")
    hotkeys = [wallet(f"m{number}").hotkey for number in range(5)]
    records = [tasks_epochs.record(hotkey, hotkey, number + 1) for number, hotkey in enumerate(hotkeys)]

    def publish() -> None:
        staged, tree = tasks_epochs.stage(7, merkle.in_order(records))
        following = store_claims.progress(7, staged.digest)
        while following < staged.leaves:
            following = tasks_epochs.write_chunk(staged, following, tree)
        tasks_epochs.publish(staged)

    for step in range(1, 60):
        with killed_at(step, after=after):
            ended = survives(publish)
        proofs = [pool.get(f"/claims/epoch/7/proof/{hotkey}").status for hotkey in hotkeys]
        assert proofs in ([404] * 5, [200] * 5)
        if ended:
            break
    assert proofs == [200] * 5
    assert pool.get("/claims/epoch/7").json["total_units"] == 15


@pytest.mark.parametrize("after", [False, True])
def test_an_expiry_killed_anywhere_gives_places_back_once(pool: Pool, after: bool, freeze: Any) -> None:
    author, miner = pool.register("author", "miner")
    pool.candidate(author)
    held = pool.batch(miner, "evaluate")
    freeze(1_800_000_000 + 10_800)
    for step in range(1, 20):
        with killed_at(step, after=after):
            if survives(lambda: tasks.expire({"id": held["batch_id"]}, None)):
                break
    tasks.expire({"id": held["batch_id"]}, None)

    (candidate,) = store_work.board(TASK).candidates
    assert (candidate.slots_open, candidate.holders) == (3, {})
    assert store.miner(miner.hotkey).counters["expired"] == 1


def paid_window(pool: Pool, block: int = 320 + 5) -> list[str]:
    """Three miners with work and reputation in window 0, which is over."""
    author, *judges = pool.register("author", "b", "c", "d")
    pool.complete(pool.candidate(author), judges)
    settle()
    at_block(block)
    return [judge.hotkey for judge in judges]


def run_window(window: int = 0) -> dict[str, Any]:
    """What the payout's state machine does."""
    state = tasks.prepare_epoch({"window": window}, None)
    while not state.get("nothing") and not state["done"]:
        state = tasks.write_epoch(state, None)
    return state if state.get("nothing") else dict(tasks.publish_epoch(state, None))


def test_a_window_whose_epoch_the_operator_published_stages_nothing(pool: Pool) -> None:
    paid_window(pool)
    publish(0)

    assert run_window() == {"window": 0, "done": True, "nothing": True}
    assert store_claims.frozen(0) is None
    assert store_claims.is_settled(0)


def test_a_window_is_paid_out_after_its_grace_and_once(pool: Pool, started: Any) -> None:
    hotkeys = paid_window(pool, 320 + 4)
    tasks.close_windows()
    assert [name for machine, name, _ in started if machine == "pool-epoch"] == []
    at_block(320 + 5)
    tasks.close_windows()
    tasks.close_windows()

    assert [name for machine, name, _ in started if machine == "pool-epoch"] == ["window-0-1"]
    assert run_window() == {"window": 0, "published": True}
    assert run_window() == {"window": 0, "published": False}
    amounts = [pool.get(f"/claims/epoch/0/proof/{hotkey}").json["amount_units"] for hotkey in hotkeys]
    assert amounts == [50_000_000] * 3
    tasks.close_windows()
    assert store_claims.first_open_window(default=9) == 1


def test_a_banned_miner_is_paid_for_no_window(pool: Pool) -> None:
    banned, *others = paid_window(pool)
    store.set_ban(banned, banned=True)
    run_window()

    statuses = [pool.get(f"/claims/epoch/0/proof/{hotkey}").status for hotkey in (banned, *others)]
    assert statuses == [404, 200, 200]


def test_a_lost_payout_is_started_again_under_the_next_name(pool: Pool, started: Any) -> None:
    paid_window(pool)
    tasks.close_windows()
    started[:] = [(machine, name, payload) for machine, name, payload in started if machine != "pool-epoch"]
    tasks.close_windows()

    assert [name for machine, name, _ in started if machine == "pool-epoch"] == ["window-0-2"]


@pytest.mark.parametrize("after", [False, True])
def test_a_payout_killed_anywhere_goes_on_and_ends_the_same(pool: Pool, after: bool, configure: Configure) -> None:
    configure(PUBLISH_CHUNK="2")
    hotkeys = paid_window(pool)
    for step in range(1, 60):
        with killed_at(step, after=after):
            ended = survives(run_window)
        proofs = [pool.get(f"/claims/epoch/0/proof/{hotkey}") for hotkey in hotkeys]
        assert [proof.status for proof in proofs] in ([404] * 3, [200] * 3)
        if ended:
            break
    assert ended
    assert [proof.json["amount_units"] for proof in proofs] == [50_000_000] * 3
    assert store_claims.is_settled(0)


def test_what_a_window_pays_is_frozen_by_the_first_preparation(pool: Pool) -> None:
    hotkeys = paid_window(pool)
    first = tasks.prepare_epoch({"window": 0}, None)
    pool.recipient(wallet("b"), wallet("cold").hotkey)

    assert tasks.prepare_epoch({"window": 0}, None)["staged"] == first["staged"]
    run_window()
    assert pool.get(f"/claims/epoch/0/proof/{hotkeys[0]}").json["recipient_coldkey"] == hotkeys[0]


def test_a_window_without_agreement_publishes_nothing(pool: Pool) -> None:
    author, judge = pool.register("author", "judge")
    pool.evaluate(judge, pool.candidate(author), 0.5)
    at_block(400)
    tasks.close_windows()

    assert run_window()["nothing"] is True
    assert pool.get("/claims/epochs").json["epochs"] == []
    tasks.close_windows()
    assert store_claims.first_open_window(default=9) == 1


@pytest.mark.parametrize(("noted", "first"), [(100, 100), (101, 101), (0, 0), (102, 100), (5000, 100)])
def test_windows_of_another_length_do_not_stop_payouts(noted: int, first: int) -> None:
    assert domain.first_window_to_close(noted, 100) == first
    assert domain.first_window_to_close(7, 1000) == 1000


def test_a_timer_that_is_not_running_is_started_under_the_next_name(pool: Pool, started: Any) -> None:
    (miner,) = pool.register("miner")
    lease = pool.lease(miner)["lease_id"]
    assert [name for machine, name, _ in started if machine == "pool-assignment"] == [f"{lease}-0"]
    tasks.timers()
    started.clear()
    tasks.timers()
    tasks.timers()

    assert [name for machine, name, _ in started if machine == "pool-assignment"] == [f"{lease}-1"]


def test_the_sweep_expires_what_no_timer_did(pool: Pool, freeze: Any) -> None:
    author, miner = pool.register("author", "miner")
    pool.candidate(author)
    pool.lease(miner)
    freeze(1_800_000_000 + 1800)
    tasks.timers()

    (candidate,) = store_work.board(TASK).candidates
    assert candidate.slots_open == 3
    assert list(store_work.due()) == []


def test_boards_keep_the_best_elites_alone(pool: Pool) -> None:
    rows = [{"pk": f"WORK#{TASK}", "sk": f"E#{n:016d}#1", "id": n, "input_dim": 16, "score": 0.5} for n in range(70)]
    store.table.put_many(rows)
    add_seeds(0)
    tasks.rounds()

    assert [elite.id for elite in store_work.board(TASK).elites] == list(range(64))
