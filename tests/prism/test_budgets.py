"""What every route costs: AWS calls in sequence and units, constant whatever the history."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from chalicelib.prism.store import table
from subnetctl.costs import budget
from tests.harness.budget import Spent, counted
from tests.harness.history import put_alike
from tests.prism.machine import Machines
from tests.prism.world import BOB, CAROL, INTERNAL, NOW, SLUG, Configure, Prism, model, recipe, two_parts

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


def after(records: int, prism: Prism) -> dict[str, str]:
    """A family, a variant, a hold, a submission and whatever else lists grow with, each as if there had been many."""
    done = prism.processed(two_parts(model(1), recipe(1)))["id"]
    family = prism.get("/v1/architectures")[0]["id"]
    unknown = "00000000-0000-4000-8000-000000000000"
    held = prism.processed(two_parts(model(9), recipe(9), family=unknown), CAROL)["id"]
    grown = {"ARCH": "f", "VARS": "1", f"VARS#{family}": "1", f"BOARD#{NOW // 21600}": "f", "HOLDS": "0"}
    grown |= {"HOLDS#pending": "0", "RECENT": "0", f"EVENTS#{family}": "0", "LEASES": "9", "DONE": "9"}
    for pk, first in grown.items():
        (sample,) = table.query(pk, limit=1, descending=True).items or [{"pk": pk, "assignment_id": "x"}]
        put_alike(table, sample, (f"{first}{number:016d}" for number in range(records)))
    put_alike(table, {"pk": "EARNED", "architecture": 10**15, "training": 0}, (f"owner-{n}" for n in range(256)))
    queued = {"pk": "QUEUE", "submission_id": "x", "hotkey": "x", "failed_by": [], "assignments": 0, "counted": False}
    put_alike(table, queued, (f"9{number:016d}" for number in range(records)))
    return {"done": done, "held": held, "family": family, "hold": prism.holds()[-1]["id"]}


def spent_on(work: Callable[[], object]) -> Spent:
    with counted() as spent:
        work()
    return spent


# Calls, and units at most.
COSTS = {
    "/v1/leaderboard": (1, 8),
    "/v1/architectures?limit=50": (1, 10),
    "/v1/training-variants?limit=50": (1, 8),
    "/v1/training-variants?limit=100": (1, 16),
    "/v1/training-variants?architecture_id={family}": (1, 16),
    "/v1/architectures/{family}/history": (1, 12),
    "/v1/submissions/{done}": (1, 1),
    "/v1/submissions/{done}/timeline": (1, 1),
    "/internal/v1/component-review/holds": (1, 16),
    "/internal/v1/component-review/holds?status=pending": (1, 16),
}


@pytest.mark.parametrize("records", [100, 10_000])
def test_no_cost_grows_with_the_records(prism: Prism, machines: Machines, records: int) -> None:
    known = after(records, prism)
    costs = {path: spent_on(lambda path=path: prism.get(path.format(**known))) for path in COSTS}  # type: ignore[misc] # binds path
    assert {path: spent.total for path, spent in costs.items()} == {path: calls for path, (calls, _) in COSTS.items()}
    assert {path: spent.read_units for path, spent in costs.items() if spent.read_units > COSTS[path][1]} == {}
    look = sum(costs[path].read_units for path in list(COSTS)[:3])
    assert look <= budget("prism", "dashboards").reads
    changed = spent_on(prism.weights)
    assert (changed.total, changed.write_units <= 16, changed.read_units <= 10) == (3, True, True), changed
    assert spent_on(prism.weights).total == 1
    upload = spent_on(lambda: prism.submit({"code": model(2)}, BOB))
    assert (upload.total, upload.write_units <= 20) == (3, True), upload
    table.delete("QUEUE", "90000000000000000")
    lease = spent_on(lambda: prism.next("v1"))
    assert lease.total <= 20, lease.calls
    assert (lease.read_units <= 64, lease.write_units <= 110) == (True, True), lease
    result = spent_on(lambda: prism.result(prism.next("v1")["id"], q_arch=0.5))
    assert result.total <= 14, result.calls
    assert (result.read_units <= 30, result.write_units <= 70) == (True, True), result
    resolved = spent_on(lambda: prism.resolve(known["hold"], "existing", "new", architecture_id=known["family"]))
    assert resolved.total <= 10, resolved.calls
    assert (resolved.read_units <= 20, resolved.write_units <= 70) == (True, True), resolved
    assert prism.status(known["held"])["status"] == "completed"


def test_a_hundred_thousand_records_cost_what_a_hundred_do(prism: Prism) -> None:
    """The lists that everybody polls, and the weights after a change."""
    prism.processed(two_parts(model(1), recipe(1)))
    for pk in ("ARCH", f"BOARD#{NOW // 21600}"):
        (sample,) = table.query(pk, limit=1).items
        put_alike(table, sample, (f"f{number:016d}" for number in range(100_000)))
    for path in ("/v1/leaderboard", "/v1/architectures?limit=50"):
        spent = spent_on(lambda path=path: prism.get(path))  # type: ignore[misc] # binds path
        assert (spent.total, spent.read_units <= COSTS[path][1]) == (1, True), (path, spent)
    assert (spent_on(prism.weights).total, spent_on(prism.weights).total) == (3, 1)
