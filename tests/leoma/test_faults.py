"""AWS that loses answers or throttles: a batch is stored once, and its answer is the one of an untroubled run."""

from __future__ import annotations

import pytest

from chalicelib.leoma import contracts_sheets, store_jobs, tasks_fold
from tests.harness import faults
from tests.harness.client import Client

from .world import ALICE, get, miner, sample, send

pytestmark = pytest.mark.usefixtures("world")

TASKS = (7, 8)
BATCH = [sample(task, miner(n)) for task in TASKS for n in (1, 2)]


def stored() -> dict[str, tuple[int, int]]:
    tasks_fold.fold()
    return contracts_sheets.totals_of(store_jobs.totals_of([ALICE.hotkey])[ALICE.hotkey]).miners


@pytest.mark.parametrize("step", range(1, 8))
@pytest.mark.parametrize("fault", [faults.answer_lost(), faults.never_sent(), faults.refused("ThrottlingException")])
def test_one_fault_anywhere_is_overcome(client: Client, step: int, fault: faults.Fault) -> None:
    with faults.trouble(faults.script({step: fault})):
        reply = send(client, ALICE, BATCH)

    assert reply.status == 200, reply.json
    assert [one["miner_hotkey"] for one in reply.json] == [one["miner_hotkey"] for one in BATCH]
    assert stored() == {miner(1): (2, 2), miner(2): (2, 2)}


def test_a_conflict_of_transactions_is_decided_again(client: Client) -> None:
    send(client, ALICE, [sample(1, miner(3))])
    conflict = faults.cancelled("TransactionConflict", "None")
    with faults.trouble(faults.script({6: conflict})) as happened:
        reply = send(client, ALICE, BATCH)

    assert (reply.status, happened.operations.count("transact_write_items")) == (200, 2)
    assert stored() == {miner(1): (2, 2), miner(2): (2, 2), miner(3): (1, 1)}


@pytest.mark.parametrize(
    "path", ["/weights", "/scores", "/tasks/latest", "/samples/list", f"/tasks?miner_hotkey={miner(1)}"]
)
def test_a_store_that_stays_away_is_a_503_that_says_when_to_come_back(client: Client, path: str) -> None:
    with faults.trouble(faults.always(faults.refused("ThrottlingException"))):
        reply = get(client, path)

    assert (reply.status, reply.json["code"]) == (503, "store_busy")
    assert reply.header("Retry-After") == "1"
