"""Many at the same moment: one submission is stored, one place is claimed once, one session ends once."""

from __future__ import annotations

import functools

import pytest

import app as app_module
from chalicelib.bitrecs import store, store_work, tasks_sessions
from chalicelib.kernel.tables import ConditionFailed
from tests.bitrecs.world import Configure, World, screened, told
from tests.harness.client import Client
from tests.harness.race import all_at_once
from tests.harness.wallets import wallet

COPIES = 50


def clients(count: int) -> list[Client]:
    """One app each, as in Lambda."""
    return [Client(app_module.build()) for _ in range(count)]


def test_fifty_parallel_copies_of_one_submission_store_one_agent(world: World, configure: Configure) -> None:  # S65
    configure(BITRECS_RATE_LIMIT_SUBMIT_PER_MIN="1000", BITRECS_GIST_FETCHES_PER_MIN="1000")
    miner = world.miner("a")
    assert miner.check().status == 200

    replies = all_at_once([functools.partial(miner.submit, client) for client in clients(COPIES)])

    statuses = sorted(reply.status for reply in replies)
    assert statuses == [201] + [409] * (COPIES - 1)
    assert len(store.agents_of(miner.hotkey, limit=9)) == 1
    assert len(store_work.queue("screener_1")[0]) == 1


@pytest.mark.parametrize("exact", [True, False], ids=["exact copy", "near copy"])
def test_a_copy_that_looked_before_its_twin_was_accepted_is_told_that_it_is_a_repetition(
    world: World, monkeypatch: pytest.MonkeyPatch, exact: bool
) -> None:
    assert world.miner("earlier").submit().status == 201
    miner = world.miner("a")
    known, first_with = store.known, store.first_with
    before = known(miner.hotkey, miner.gist_id, 0)
    assert miner.submit().status == 201
    looks = [before]
    monkeypatch.setattr(store, "known", lambda *words: looks.pop() if looks else known(*words))
    monkeypatch.setattr(store, "first_with", first_with if exact else lambda _: None)

    assert told(miner.submit()) == (409, "This upload request was already processed")
    assert looks == []


def test_of_one_hotkey_s_many_gists_one_is_stored(world: World, configure: Configure) -> None:
    configure(BITRECS_RATE_LIMIT_SUBMIT_PER_MIN="1000", BITRECS_COMMITMENT_CHECK="false")
    miners = [world.miner(name, signer=wallet("one")) for name in "abcdefgh"]
    for miner in miners:
        assert miner.check().status == 200

    calls = [functools.partial(m.submit, client) for m, client in zip(miners, clients(8), strict=True)]
    replies = all_at_once(calls)

    assert sorted(reply.status for reply in replies) == [201] + [400] * 7, [reply.body for reply in replies]
    assert len(store.agents_of(wallet("one").hotkey, limit=9)) == 1


def test_of_two_hotkeys_with_one_content_one_is_stored(world: World, configure: Configure) -> None:
    configure(BITRECS_RATE_LIMIT_SUBMIT_PER_MIN="1000")
    miners = [
        world.miner(name, system_prompt_template="One {{sku}} for all.", user_prompt_template="Same {{persona}}.")
        for name in "abcdefgh"
    ]
    for miner in miners:
        assert miner.check().status == 200

    calls = [functools.partial(m.submit, client) for m, client in zip(miners, clients(8), strict=True)]
    replies = all_at_once(calls)

    assert sorted(reply.status for reply in replies) == [201] + [409] * 7
    assert len(store_work.queue("screener_1")[0]) == 1


def test_the_interval_s_last_place_goes_to_one(world: World, configure: Configure) -> None:
    configure(BITRECS_RATE_LIMIT_SUBMIT_PER_MIN="1000", BITRECS_ARTIFACTS_PER_INTERVAL="2")
    miners = [world.miner(name) for name in "abcdef"]
    for miner in miners:
        assert miner.check().status == 200

    calls = [functools.partial(m.submit, client) for m, client in zip(miners, clients(6), strict=True)]
    replies = all_at_once(calls)

    assert sorted(reply.status for reply in replies) == [201] * 2 + [429] * 4


def test_a_claim_is_never_handed_out_twice(world: World) -> None:
    for name in "abc":
        assert world.miner(name).submit().status == 201
    screeners = [world.screener(f"screener-1-{number}") for number in range(5)]

    work = all_at_once([screener.claim for screener in screeners])

    found = [one for one in work if one]
    assert len(found) == 3
    runs = {run["evaluation_run_id"] for one in found for run in one["evaluation_runs"]}
    assert len({(store_work.run(run) or {})["agent_id"] for run in runs}) == 3


def test_a_session_that_was_idle_when_it_was_looked_at_takes_no_second_evaluation(world: World) -> None:
    for name in "ab":
        assert world.miner(name).submit().status == 201
    (first, second), _ = store_work.queue("screener_1")
    session = {"session_id": world.screener("screener-1-1").session_id, "name": "screener-1-1"}

    store_work.claim(first, session, {"evaluation_id": "1"}, [])
    with pytest.raises(ConditionFailed) as lost:
        store_work.claim(second, session, {"evaluation_id": "2"}, [])

    assert set(lost.value.failed) == {store_work.CLAIM_OF_SESSION}


def test_a_ban_between_the_look_at_a_queue_and_the_claim_wins(world: World) -> None:
    miner = world.miner("a")
    assert miner.submit().status == 201
    ((entry,), _) = store_work.queue("screener_1")
    session = {"session_id": world.screener("screener-1-1").session_id, "name": "screener-1-1"}
    store.ban(miner.hotkey, "spam", "tests")

    with pytest.raises(ConditionFailed) as lost:
        store_work.claim(entry, session, {"evaluation_id": "1"}, [])

    assert store_work.CLAIM_OF_BAN in lost.value.failed


def test_validators_that_finish_at_the_same_time_both_count(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    screened(world, "a")
    first, second, _ = world.validators
    for validator in (first, second):
        for run in (validator.claim() or {})["evaluation_runs"]:
            validator.run_through(run["evaluation_run_id"], 0.8)
    settle = store_work.settle

    def settle_behind_the_other(settled: store_work.Settlement) -> None:
        monkeypatch.setattr(store_work, "settle", settle)
        assert second.post("finish-evaluation").status == 200
        settle(settled)

    monkeypatch.setattr(store_work, "settle", settle_behind_the_other)
    assert first.post("finish-evaluation").status == 200

    ((entry,), _) = store_work.queue("validator")
    assert len(entry.scores) == 2


def test_no_more_than_three_validators_evaluate_an_agent(world: World) -> None:
    screened(world, "a")
    validators = list(world.validators)
    for number in range(5):
        signer = wallet(f"more {number}")
        store.add_validator(signer.hotkey, f"more {number}")
        validators.append(world.validator(signer))

    work = all_at_once([validator.claim for validator in validators])

    assert sum(one is not None for one in work) == 3


def test_a_session_that_many_close_gives_its_place_back_once(world: World) -> None:
    world.miner("a").submit()
    screener = world.screener("screener-1-1")
    assert screener.claim()

    all_at_once([functools.partial(tasks_sessions.close, screener.session_id)] * 8)

    ((entry,), _) = store_work.queue("screener_1")
    assert (entry.free, entry.by, entry.total) == (1, (), 1)
