"""What `subnetctl cost` takes a submission, its five evaluations and a heartbeat for."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from chalicelib.bitrecs import tasks_index
from subnetctl import costs
from tests.bitrecs.world import World
from tests.harness.budget import counted
from tests.harness.client import Client, Reply


@contextmanager
def budgeted(name: str) -> Iterator[None]:
    """What is done inside, its requests among it, costs no more than the bill says, and no less than half of it."""
    budget, sent, call = costs.budget("bitrecs", name), list[str](), Client.call

    def noted(client: Client, method: str, path: str, *more: object, **named: object) -> Reply:
        sent.append(path)
        return call(client, method, path, *more, **named)  # type: ignore[arg-type]

    with counted() as spent, pytest.MonkeyPatch.context() as patched:
        patched.setattr(Client, "call", noted)
        yield
    for found, most in (
        (len(sent), budget.requests),
        (spent.read_units, budget.reads),
        (spent.write_units, budget.writes),
        (spent.calls["s3:PutObject"], budget.puts),
        (spent.calls["s3:GetObject"], budget.gets),
    ):
        assert most / 2 <= found <= most, (name, found, most)


def test_bitrecs_costs_what_the_bill_says(world: World) -> None:
    miner = world.miner("first")
    with budgeted("submissions"):
        assert miner.check().status == 200
        assert miner.submit().status == 201
        tasks_index.compact()
    evaluators = (world.screener("screener-1-1"), world.screener("screener-2-1"), *world.validators)
    with budgeted("evaluations"):
        for evaluator in evaluators:
            assert evaluator.evaluate(0.9)
    with budgeted("heartbeats"):
        assert evaluators[0].post("heartbeat", {"system_metrics": {}}).status == 200
