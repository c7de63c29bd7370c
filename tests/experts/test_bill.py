"""What slices and checkpoints cost, and what `subnetctl cost` takes them for."""

from __future__ import annotations

import pytest

from subnetctl import costs
from tests.experts.conftest import World, submission
from tests.harness.budget import counted


def test_a_slice_and_a_checkpoint_cost_no_more_than_the_bill_says(served: World) -> None:
    with counted() as spent:
        assert served.partial().status in {200, 307}
    budget = costs.budget("experts", "slices")
    assert spent.read_units <= budget.reads
    assert spent.write_units <= budget.writes
    assert spent.calls["s3:GetObject"] <= budget.gets

    with counted() as spent:
        assert served.submit(submission()).status == 202
    budget = costs.budget("experts", "checkpoints")
    assert spent.read_units <= budget.reads
    assert 0 < spent.write_units <= budget.writes


READ, LOOK = {"dynamodb:BatchGetItem": 1}, {"dynamodb:GetItem": 1}
GRANT = {"dynamodb:TransactWriteItems": 1}


@pytest.mark.parametrize(
    ("asked", "calls", "writes"),
    [
        ({}, READ | {"s3:GetObject": 1}, 0),
        ({"Range": "bytes=0-9"}, READ | {"s3:GetObject": 1}, 0),
        ({"If_None_Match": "*"}, READ, 0),
        ({"If_Match": '"no"'}, READ, 0),
        ({"group": "9"}, READ, 0),
        ({"Accept": "application/json"}, READ | GRANT, 4),
        ({"X_Hotkey": "no"}, {}, 0),
        ({"Authorization": "Bearer no"}, LOOK, 0),
    ],
)
def test_what_a_slice_costs(served: World, asked: dict[str, str], calls: dict[str, int], writes: int) -> None:
    served.partial(Accept="application/json")
    with counted() as spent:
        served.partial(**asked)

    assert (spent.calls, spent.write_units) == (calls, writes)
    assert spent.read_units <= 8


@pytest.mark.parametrize(("method", "calls"), [("GET", READ | GRANT), ("HEAD", READ)])
def test_what_a_redirect_costs(served: World, method: str, calls: dict[str, int]) -> None:
    served.configure(EXPERTS_INLINE_MAX_BYTES="0")
    served.partial()
    with counted() as spent:
        assert served.partial(method=method).status == 307

    assert spent.calls == calls


def test_what_the_other_reads_cost(served: World) -> None:
    for path in ("/overview", "/submission/00000000-0000-4000-8000-000000000000"):
        with counted() as spent:
            served.get(path)
        assert spent.calls == LOOK
    with counted() as spent:
        served.get("/submission/none")
    assert spent.calls == {}
