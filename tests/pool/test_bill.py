"""What `subnetctl cost` takes a lease and its hand-in for."""

from __future__ import annotations

from subnetctl import costs
from tests.harness.budget import counted
from tests.pool.world import Pool


def test_a_lease_and_its_hand_in_cost_no_more_than_the_bill_says(pool: Pool) -> None:
    author, judge = pool.register("author", "judge")
    for number in range(3):
        pool.candidate(author, number)
    with counted() as spent:
        lease = pool.lease(judge, gossip_limit=0)
    budget = costs.budget("pool", "leases")
    assert spent.read_units <= budget.reads
    assert 0 < spent.write_units <= budget.writes

    scores = [{"algorithm_id": entry["id"], "score": 0.9} for entry in lease["evaluate_algorithms"]]
    with counted() as spent:
        assert pool.submit_lease(judge, lease["lease_id"], evaluations=scores).status == 200
    budget = costs.budget("pool", "hand-ins")
    assert spent.read_units <= budget.reads
    assert 0 < spent.write_units <= budget.writes
