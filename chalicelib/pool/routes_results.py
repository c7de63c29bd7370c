"""Verified results, the state of the art, and how a result becomes verified."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from typing import Any

from chalicelib.kernel import clock
from chalicelib.kernel.errors import Invalid, NotFound
from chalicelib.kernel.http import problem
from chalicelib.kernel.tables import until_decided
from chalicelib.kernel.wire import Item

from . import consensus, domain, store_results
from .contracts import MAX_ID, PoolSettings, Result, Results, ResultsQuery, SotaQuery
from .contracts_records import Algorithm, Sota
from .routes_auth import Caller, api, reading, submitting
from .routes_tasks import start_round

_MOST_BYTES = 5 * 1024 * 1024  # of programs in an answer: Lambda's has at most 6 MB
_RESULT_ID = re.compile(r"-?[0-9]+")


@api.get("/api/v1/results", auth=reading)
def results(query: ResultsQuery) -> Results:
    """Verified results, the best first; fewer than asked for where long programs would not fit into one answer."""
    found = store_results.results(query.task_type, query.limit, query.min_score)
    rows = [_result(item) for item in _that_fit(found)]
    return Results(results=rows, count=len(rows))


def _that_fit(items: Iterable[Item]) -> Iterator[Item]:
    """Counted as they are sent: quoted in our JSON, which Lambda quotes once more."""
    left = _MOST_BYTES
    for item in items:
        left -= len(json.dumps(json.dumps(item["dsl"])))
        if left < 0:
            return
        yield item


def _result(item: Item) -> Result:
    return Result(
        result_id=item["id"],
        algorithm_id=item["id"],
        task_type=item["task_type"],
        input_dim=item["input_dim"],
        algorithm_dsl=item["dsl"],
        score=float(item["score"]),
        miner_hotkey=item["author"],
        parent_algorithm_ids=item["parents"],
        evaluations=item["evaluations"],
        window_number=item["window"],
        status="verified",
        completed_at=clock.stamp_seconds(item["completed_at"]),
        verified_at=clock.stamp_seconds(item["verified_at"]),
        verified_by=item["verified_by"],
    )


@api.get("/api/v1/results/sota", fresh_for=0, refusals={404: "No such problem."})
def sota(query: SotaQuery) -> dict[str, Any]:
    """The best verified score of a problem, and how it rose."""
    settings = PoolSettings.current()
    if query.task_type not in settings.enabled_task_types:
        raise NotFound("Unknown task_type", code="unknown_task_type")
    found = store_results.sota(query.task_type)
    history = [
        {"score": entry["score"], "result_id": entry["result_id"], "at": clock.stamp_seconds(entry["at"])}
        for entry in (found.history if found else ())
    ]
    return {
        "task_type": query.task_type,
        "sota_threshold": found.score if found else settings.sota_floor,
        "result_id": found.result_id if found else None,
        "miner_hotkey": found.miner if found else None,
        "updated_at": clock.stamp_seconds(found.at) if found else None,
        "source": "verified_results" if found else "floor",
        "history": history,
    }


@api.post(
    "/api/v1/results/verify/{result_id}",
    auth=submitting,
    refusals={400: "Not completed.", 404: "Unknown.", 422: "Not a number."},
)
def verify(result_id: str, caller: Caller) -> dict[str, Any]:
    """Confirm a completed result; the first to do so counts."""
    if not _RESULT_ID.fullmatch(result_id):
        raise Invalid([problem("int_parsing", ["path", "result_id"], "Input should be an integer")])
    if result_id.startswith("-") or len(result_id) > len(str(MAX_ID)):
        raise _unknown()
    return until_decided(lambda: _verify(int(result_id), caller))


def _unknown() -> NotFound:
    return NotFound("Result not found", code="result_not_found")


def _verify(number: int, caller: Caller) -> dict[str, Any]:
    settings, now = PoolSettings.current(), clock.now()
    algorithm, text, state, sotas = store_results.program(number)
    if algorithm is None or algorithm.origin == "seed":
        raise _unknown()
    domain.check_verifier(caller.miner, algorithm, state, settings)
    assert state is not None
    if state.status == "verified":
        return _verified(algorithm, state.verified_by or "", state.verified_at or 0.0)
    assert state.score is not None
    found = Sota(algorithm.task_type, state.score, number, algorithm.author, now, algorithm.window, settings.sota_floor)
    current = sotas.get(algorithm.task_type)
    repeats = store_results.repeats(algorithm) if settings.repeat_penalty else {}
    credit = consensus.evolver_credit(algorithm, state.score, repeats, settings)
    try:
        store_results.verify(
            algorithm, text, state, caller.miner, now=now,
            sota=(current, domain.better_sota(current, found, settings)), credit=credit, guard=caller.guard,
        )  # fmt: skip
    except store_results.OwnResult:
        raise domain.own_result() from None
    start_round(now)
    return _verified(algorithm, caller.hotkey, now)


def _verified(algorithm: Algorithm, verifier: str, at: float) -> dict[str, Any]:
    return {
        "status": "verified",
        "result_id": algorithm.id,
        "verified_by": verifier,
        "verified_at": clock.stamp_seconds(at),
    }
