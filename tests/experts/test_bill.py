"""What `subnetctl cost` takes a slice and a checkpoint for."""

from __future__ import annotations

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
