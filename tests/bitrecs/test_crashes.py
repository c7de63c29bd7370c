"""A submission, a claim and a verdict killed between any two calls, and what each of them may cost."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

import app as app_module
from chalicelib.bitrecs import store, store_work
from tests.bitrecs.github import GitHub
from tests.bitrecs.world import KEY, NOW, PASSWORD, Configure, Evaluator, Freeze, Miner, World, screened
from tests.harness.budget import counted
from tests.harness.client import Client
from tests.harness.crash import endings, undisturbed

Make = Callable[[], World]


@pytest.fixture
def make(started: list[Any], github: GitHub, freeze: Freeze, configure: Configure) -> Make:
    """A world in whatever cloud there is now."""
    freeze(NOW)
    configure(
        BITRECS_GITHUB_API_URL=github.url, BITRECS_SCREENER_PASSWORD=PASSWORD, BITRECS_RATE_LIMIT_SUBMIT_PER_MIN="1000"
    )

    def made() -> World:
        github.gists.clear()
        store.add_api_key(KEY, "tests")
        world = World(Client(app_module.build()), github)
        world.sync()
        world.validators = world.connect()
        return world

    return made


def stored(hotkey: str) -> dict[str, Any]:
    """What stands in the tables about a miner, without what is drawn anew each time."""
    agents = store.agents(store.agents_of(hotkey, limit=9))
    entries, _ = store_work.queue("screener_1")
    locks = {kind: store.table.get(f"LOCK#HOTKEY#{hotkey}", "-") for kind in ("hotkey",)}
    return {
        "agents": [(agent["status"], agent["final_score"]) for agent in agents],
        "waiting": [(entry.free, len(entry.by), entry.total) for entry in entries],
        "locked": [lock["agent_id"] == agents[0]["agent_id"] for lock in locks.values() if lock and agents],
    }


def test_a_submission_killed_anywhere_and_sent_again_is_stored_once(make: Make) -> None:
    current: dict[str, Miner] = {}

    def prepare() -> None:
        current["miner"] = make().miner("a")

    def act() -> None:
        current["miner"].submit()

    def state() -> Any:
        return stored(current["miner"].hotkey)

    wanted = undisturbed(prepare, act, state)

    assert wanted["agents"] == [("screening_1", None)]
    assert [end for end in endings(prepare, act, state) if end.state != wanted] == []


def test_a_verdict_killed_anywhere_and_sent_again_counts_once(make: Make) -> None:
    current: dict[str, Any] = {}

    def prepare() -> None:
        world = make()
        current["miner"] = world.miner("a")
        current["miner"].submit()
        screener = world.screener("screener-1-1")
        work = screener.claim()
        assert work
        screener.run_through(work["evaluation_runs"][0]["evaluation_run_id"], 0.9)
        current["screener"] = screener

    def act() -> None:
        screener: Evaluator = current["screener"]
        screener.post("finish-evaluation")

    def state() -> Any:
        second, _ = store_work.queue("screener_2")
        return stored(current["miner"].hotkey) | {"second": [(entry.free, entry.total) for entry in second]}

    wanted = undisturbed(prepare, act, state)

    assert (wanted["agents"], wanted["second"]) == ([("screening_2", None)], [(1, 0)])
    assert [end for end in endings(prepare, act, state) if end.state != wanted] == []


def test_a_submission_costs_what_its_steps_need(world: World) -> None:
    assert world.miner("first").submit().status == 201
    miner = world.miner("a")

    with counted() as spent:
        assert miner.submit().status == 201

    calls = dict(spent.calls)
    assert calls.pop("dynamodb:BatchGetItem") == 1
    assert calls.pop("dynamodb:TransactWriteItems") == 1
    assert calls.pop("s3:PutObject") == 1
    assert spent.total <= 16, calls


def test_a_read_is_one_look_besides_its_limit(world: World) -> None:
    (miner,) = screened(world, "a")
    agent_id = store.agents_of(miner.hotkey, limit=1)[0]

    with counted() as spent:
        assert world.client.get(f"/bitrecs/retrieval/agent-by-id?agent_id={agent_id}").status == 200

    assert dict(spent.calls) == {"dynamodb:UpdateItem": 2, "dynamodb:BatchGetItem": 1}


def test_a_claim_is_one_transaction_besides_looking(world: World) -> None:
    screened(world, "a")

    with counted() as spent:
        assert world.validators[0].claim()

    assert spent.calls["dynamodb:TransactWriteItems"] == 1
    assert spent.total <= 5
