"""What validators send has a ceiling too: no update outgrows its item, no answer the gateway's six megabytes."""

from __future__ import annotations

import json
from typing import Any

import pytest

from chalicelib.bitrecs import domain_stages, store, store_work
from chalicelib.kernel import codec
from local.gateway import MAX_ANSWER_BYTES
from tests.bitrecs.world import KEY, Evaluator, World, told

LONG = "\U0001f600"
MOST_EVALUATIONS = 100


def results(count: int) -> list[dict[str, Any]]:
    return [{"name": LONG * 50, "category": "c", "status": "pass", "score": 0.5} for _ in range(count)]


def sent(body: bytes) -> int:
    """As Lambda counts an answer."""
    return len(json.dumps(body.decode()))


@pytest.fixture
def run(world: World) -> tuple[Evaluator, str]:
    """A screener at its first run."""
    world.miner("a").submit()
    screener = world.screener("screener-1-1")
    work = screener.claim()
    assert work
    return screener, work["evaluation_runs"][0]["evaluation_run_id"]


def test_long_texts_are_cut_and_never_a_fault_of_ours(run: tuple[Evaluator, str]) -> None:
    screener, run_id = run
    screener.update(run_id, "initializing_agent")
    screener.update(run_id, "running_agent")
    reply = screener.update(run_id, "initializing_eval", patch=LONG * 60_000, agent_logs=LONG)
    message = "\x00" * 100_000
    failed = screener.update(run_id, "error", error_code=1000, error_message=message)

    stored = store_work.run(run_id)

    assert (reply.status, failed.status) == (200, 200)
    assert stored
    assert 0 < sent(codec.encode(stored["patch"])) <= domain_stages.MOST_PATCH_BYTES
    assert 0 < sent(codec.encode(stored["error_message"])) <= domain_stages.MOST_MESSAGE_BYTES


@pytest.mark.parametrize(("count", "status"), [(40, 200), (80, 422)])
def test_results_decide_so_too_many_are_refused(run: tuple[Evaluator, str], count: int, status: int) -> None:
    screener, run_id = run
    store_work.advance_run(run_id, "pending", {"status": "running_eval"})

    assert screener.update(run_id, "finished", test_results=results(count), eval_logs="l").status == status


def test_every_evaluation_of_an_agent_fits_one_answer(world: World) -> None:
    """As many evaluations as are listed, each with as many runs as large as they may become, full of quotes."""
    agent_id = world.miner("a").submit().json["artifact_id"]
    largest: dict[str, Any] = {
        "patch": domain_stages.cut('"' * domain_stages.MOST_PATCH_BYTES, domain_stages.MOST_PATCH_BYTES),
        "error_message": domain_stages.cut('"' * domain_stages.MOST_MESSAGE_BYTES, domain_stages.MOST_MESSAGE_BYTES),
    }
    one = {"name": '"' * 500, "category": "c", "status": "pass", "score": 0.5}
    most = [one] * (domain_stages.MOST_RESULTS_BYTES // sent(codec.encode(one)))
    groups = ["validator"] * 9 + ["screener_2"] * 3 + ["screener_1"] * (MOST_EVALUATIONS - 12)
    items: list[dict[str, Any]] = []
    for number, group in enumerate(groups):
        runs = {"validator": 7, "screener_2": 3, "screener_1": 1}[group]
        common: dict[str, Any] = {"evaluation_id": f"{number}", "agent_id": agent_id, "created_at": 1.0}
        ids = [f"{number}-{at}" for at in range(runs)]
        results = most if group != "screener_1" else None
        for run_id in ids:
            run: dict[str, Any] = {
                "evaluation_run_id": run_id,
                "problem_name": "p",
                "status": "error",
                "test_results": results,
            }
            items.append({"pk": f"RUN#{run_id}", "sk": "-", **common, **run, **largest})
        items.append(
            {"pk": f"AGENT#{agent_id}", "sk": f"EVAL#{number}", **common, "validator_hotkey": "v", "set_id": 1,
             "evaluation_set_group": group, "status": "failure", "run_ids": ids}
        )  # fmt: skip
    store.table.put_many(items)

    reply = world.client.get(f"/bitrecs/retrieval/evaluations-for-agent?agent_id={agent_id}", {"X-API-Key": KEY})

    assert reply.status == 200, told(reply)
    assert len(reply.json) == MOST_EVALUATIONS
    assert MAX_ANSWER_BYTES / 2 < sent(reply.body) < MAX_ANSWER_BYTES
