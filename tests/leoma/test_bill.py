"""What `subnetctl cost` takes a hundred samples for."""

from __future__ import annotations

import pytest

from chalicelib.leoma import tasks_fold
from subnetctl import costs
from tests.harness.budget import counted
from tests.harness.client import Client

from .test_budgets import MOST_UNITS, batch_of, history
from .world import ALICE, send

pytestmark = pytest.mark.usefixtures("world")


def test_a_hundred_samples_cost_no_more_than_the_bill_says(client: Client) -> None:
    history(10**4)
    with counted() as spent:
        assert send(client, ALICE, batch_of(7)).status == 200
        tasks_fold.fold()

    budget = costs.budget("leoma", "samples, by the hundred")
    assert spent.read_units <= budget.reads
    assert spent.write_units <= budget.writes
    assert budget.writes == MOST_UNITS
