"""What `subnetctl cost` takes an upload and its review for."""

from __future__ import annotations

from subnetctl import costs
from tests.harness.budget import Spent, counted
from tests.prism.machine import Machines
from tests.prism.world import Prism


def within(spent: Spent, budget: costs.Budget) -> None:
    assert spent.read_units <= budget.reads
    assert 0 < spent.write_units <= budget.writes
    assert spent.calls["s3:PutObject"] <= budget.puts


def test_an_upload_and_its_review_cost_no_more_than_the_bill_says(prism: Prism, machines: Machines) -> None:
    assert machines
    with counted() as spent:
        prism.submitted()
    within(spent, costs.budget("prism", "uploads"))
    with counted() as spent:
        prism.process()
    within(spent, costs.budget("prism", "reviews and evaluations"))
