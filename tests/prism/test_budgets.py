"""What every route costs: AWS calls in sequence, constant whatever the history."""

from __future__ import annotations

import pytest

from tests.harness.budget import counted
from tests.prism.machine import Machines
from tests.prism.world import BOB, CAROL, INTERNAL, SLUG, Configure, Prism, model, recipe, two_parts

READS = {
    "/health": 0,
    "/version": 0,
    "/v1/epochs/current": 0,
    "/v1/leaderboard": 1,
    "/v1/architectures": 1,
    "/v1/training-variants": 1,
    "/internal/v1/component-review/holds": 1,
}


@pytest.mark.parametrize("history", [1, 6])
def test_reads_cost_one_call_whatever_the_history(prism: Prism, configure: Configure, history: int) -> None:
    configure(PRISM_PLAGIARISM_ENABLED="0")
    done = [prism.processed(two_parts(model(number), recipe(number)))["id"] for number in range(history)]
    for path, most in READS.items():
        with counted() as spent:
            prism.get(path)
        assert spent.total == most, path
    with counted() as spent:
        prism.status(done[0])
    assert spent.total == 1
    prism.weights()
    with counted() as spent:
        prism.weights()
    assert spent.total == 1


def test_an_upload_is_a_nonce_an_object_and_a_transaction(prism: Prism) -> None:
    with counted() as spent:
        prism.submitted()
    assert dict(spent.calls) == {
        "dynamodb:PutItem": 1,
        "s3:PutObject": 1,
        "dynamodb:TransactWriteItems": 1,
    }
    with counted() as spent:
        assert prism.submit(timestamp="1").status == 401
    assert spent.total == 0


@pytest.mark.parametrize("history", [1, 6])
def test_review_claims_and_results_cost_the_same_with_every_history(
    prism: Prism, machines: Machines, configure: Configure, history: int
) -> None:
    configure(PRISM_COMPONENT_REWARDS_ENABLED="0")
    for number in range(history):
        assert prism.processed({"code": model(number)})["status"] == "completed"
    machines.at_once = False
    prism.submitted({"code": model(99)}, BOB)
    with counted() as spent:
        assert prism.process()
    assert spent.total <= 14, spent.calls
    prism.submitted({"code": model(98)}, CAROL)
    with counted() as spent:
        lease = prism.next()
    assert spent.total <= 20, spent.calls
    with counted() as spent:
        prism.result(lease["id"], q_arch=0.5)
    assert spent.total <= 4, spent.calls


def test_an_unsigned_flood_costs_nothing(prism: Prism) -> None:
    with counted() as spent:
        for path in ("/prism/internal/v1/get_weights", "/prism/internal/v1/component-review/holds"):
            assert prism.client.get(path, SLUG).status == 401
        assert prism.client.post("/prism/v1/submissions", b"{}").status == 422
        assert prism.client.post("/prism/internal/v1/worker/process-next").status == 401
    assert spent.total == 0
    assert INTERNAL
