"""What each route costs, in calls and units: the same at a hundred records and at a hundred thousand."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
from moto.backends import get_backend
from moto.core.models import DEFAULT_ACCOUNT_ID
from moto.dynamodb.models.dynamo_type import DynamoType

from chalicelib.bitrecs import store, tasks, tasks_index
from tests.bitrecs.world import Configure, Evaluator, Miner, World, screened, status_of
from tests.harness.budget import counted
from tests.harness.client import Reply
from tests.harness.wallets import wallet

SIZES = (100, 10_000, 100_000)
LISTED = 100
Cost = tuple[int, float, float]


def crowd(pk: str, *, before: bool, size: int) -> None:
    """Copies of a partition's first item under other sort keys, up to so many; no request could tell them apart."""
    items = get_backend("dynamodb")[DEFAULT_ACCOUNT_ID]["us-east-1"].tables[store.table.name].items
    partition = items[DynamoType({"S": pk})]
    sample = next(iter(partition.values()))
    for number in range(len(partition), size):
        key = DynamoType({"S": f"{'!' if before else '~'}{number:09d}"})
        partition[key] = copy.copy(sample)
        partition[key].range_key = key


def spread(prefix: str, sk: str, size: int) -> None:
    """Copies of one item in partitions of their own."""
    items = get_backend("dynamodb")[DEFAULT_ACCOUNT_ID]["us-east-1"].tables[store.table.name].items
    sample = next(held for key, held in items.items() if key.value.startswith(prefix))[DynamoType({"S": sk})]
    for number in range(size):
        key = DynamoType({"S": f"{prefix}{number:09d}"})
        if key not in items:
            items[key] = {DynamoType({"S": sk}): sample}


def grow(miner: Miner, size: int) -> None:
    """So many agents of everybody and of one miner, so many in a queue, so many scores of the set."""
    crowd(f"HOTKEY#{miner.hotkey}", before=True, size=size)
    crowd("QUEUE#screener_1", before=False, size=size)
    crowd("SCORE#1", before=False, size=size)
    spread("AGENT#", "META", size)
    store.table.update("STATE", "counters", "SET #agents = :agents", agents=size)


def cost(ask: Callable[[], Reply], status: int = 200) -> Cost:
    with counted() as spent:
        reply = ask()
    assert reply.status == status, reply.body[:300]
    return spent.total, spent.read_units, spent.write_units


@pytest.fixture
def crowded(world: World, configure: Configure) -> tuple[World, Miner, Evaluator]:
    """A finished agent with scores, one that validators may take, a queue longer than what is listed, a ban."""
    configure(BITRECS_RATE_LIMIT_SUBMIT_PER_MIN="100000", BITRECS_ARTIFACTS_PER_INTERVAL="100000")
    both = screened(world, "first", "second")
    for validator in world.validators:
        validator.evaluate(0.8)
    (finished,) = [miner for miner in both if status_of(world, miner) == "finished"]
    waiting = world.miner("waiting")
    assert waiting.submit().status == 201
    (entry,) = store.table.query("QUEUE#screener_1").items
    (meta,) = store.agents([entry["agent_id"]])
    for number in range(LISTED):
        other, hotkey = f"{number:08d}-0000-4000-8000-000000000000", f"5{number:047d}"
        store.table.put({**meta, "pk": f"AGENT#{other}", "agent_id": other})
        store.table.put({**entry, "sk": f"{entry['sk']}{number:03d}", "agent_id": other, "hotkey": hotkey})
    store.ban(wallet("banned").hotkey, "spam", "tests")
    tasks.snapshots()
    return world, finished, world.screener("screener-1-7")


def reads(miner: Miner, agent_id: str, run_id: str) -> list[str]:
    return [
        "/",
        "/health",
        f"/retrieval/agent-by-id?agent_id={agent_id}",
        f"/retrieval/agent-by-hotkey?miner_hotkey={miner.hotkey}",
        "/retrieval/queue?stage=screener_1",
        f"/retrieval/evaluations-for-agent?agent_id={agent_id}",
        f"/retrieval/agent-code?agent_id={agent_id}",
        "/retrieval/top-agents",
        "/retrieval/network-statistics",
        "/retrieval/miner-blocks",
        f"/agent/get-by-evaluation-run-id?evaluation_run_id={run_id}",
        f"/agent/get-gist-info?agent_id={agent_id}",
        f"/evaluation-run/get-by-id?evaluation_run_id={run_id}",
        f"/evaluation-run/get-logs-by-id?type=agent&evaluation_run_id={run_id}",
        f"/evaluation/get-by-evaluation-run-id?evaluation_run_id={run_id}",
        "/evaluation-sets/all-latest-set-problems",
        "/scoring/latest-set-info",
        "/scoring/screener-info",
        "/scoring/constants",
        "/scoring/latest",
        "/scoring/pareto",
        "/scoring/wta",
        "/statistics/problem-statistics?set_id=1",
        "/metagraph/info",
        "/validator/connected-validators-info",
    ]


def costs(world: World, miner: Miner, screener: Evaluator, size: int) -> dict[str, Cost]:
    """Every route once; what a request changes belongs to itself, so the next size finds the same."""
    (agent_id,) = store.agents_of(miner.hotkey, limit=1)
    evaluation = world.client.get(f"/bitrecs/retrieval/evaluations-for-agent?agent_id={agent_id}").json[0]
    run_id = evaluation["runs"][0]["evaluation_run_id"]
    found = {}
    for path in reads(miner, agent_id, run_id):
        world.client.get(f"/bitrecs{path}")  # the first of a minute opens its window
        found[path.partition("?")[0]] = cost(lambda path=path: world.client.get(f"/bitrecs{path}"))  # type: ignore[misc]
    warm, new = world.miner(f"warm {size:06d}"), world.miner(f"new {size:06d}")
    tasks_index.compact()
    assert warm.check().status == 200  # the index is loaded, the minute's windows are open
    found["/check"] = cost(new.check)
    found["/submit"] = cost(new.submit, 201)
    claimed: list[Any] = []
    found["/validator/request-evaluation"] = cost(lambda: _kept(claimed, screener.post("request-evaluation")))
    run = claimed[0].json["evaluation_runs"][0]["evaluation_run_id"]
    found["/validator/heartbeat"] = cost(lambda: screener.post("heartbeat", {"system_metrics": {}}))
    found["/validator/update-evaluation-run"] = cost(lambda: screener.update(run, "initializing_agent"))
    screener.update(run, "error", error_code=2000, error_message="m")
    found["/validator/finish-evaluation"] = cost(lambda: screener.post("finish-evaluation"))
    return found


def _kept(held: list[Any], reply: Reply) -> Reply:
    held.append(reply)
    return reply


def test_no_route_costs_more_when_more_is_stored(crowded: tuple[World, Miner, Evaluator]) -> None:
    world, miner, screener = crowded
    found = {}
    for size in SIZES:
        grow(miner, size)
        found[size] = costs(world, miner, screener, size)

    assert found[SIZES[1]] == found[SIZES[0]]
    assert found[SIZES[2]] == found[SIZES[0]]
