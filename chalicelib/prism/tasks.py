"""PRISM's background work: the steps of an evaluation, the end of leases, the sweep.

Split by what is done: `tasks_review`, `tasks_claim`, `tasks_finish`; here is what a Lambda function or a job is.
"""

from __future__ import annotations

import os
import resource
from typing import Any

from chalicelib.kernel.errors import NotFound
from chalicelib.kernel.jobs import Jobs

from . import domain, store, tasks_claim, tasks_finish
from .contracts import PASSED, PrismSettings
from .store import table

jobs = Jobs("prism", __name__, table, PrismSettings.current)
tick = jobs.tick
_REVIEW_BYTES = 2 * 1024**3


@jobs.task("review", timeout=30, memory=2048)
def review(event: dict[str, Any]) -> dict[str, Any]:
    """Read a stranger's project without running it; `ship` asks for what the evaluator needs."""
    from . import tasks_review  # noqa: PLC0415 - the API never parses strangers' code

    _limit_memory()
    submission_id, holder = str(event["submission_id"]), str(event["holder"])
    outcome = tasks_review.review(submission_id, holder)
    if outcome != PASSED or not event.get("ship"):
        return {"outcome": outcome}
    settings = PrismSettings.current()
    project = tasks_review.read_project(store.get(submission_id), settings)
    return {"outcome": outcome, "project": tasks_review.shipped(project), "run": _run_settings(settings)}


@jobs.task("evaluate", timeout=900, memory=10_240, image="evaluator")
def evaluate(event: dict[str, Any]) -> dict[str, Any]:
    """Run a stranger's project in the sandbox; metrics are the harness's, and every failure is an answer."""
    from layers.evaluator import judge  # noqa: PLC0415 - shipped in the evaluator's image, and on the laptop

    found: dict[str, Any] = judge.evaluate(str(event["submission_id"]), str(event["project"]), event["run"])
    return found


@jobs.task("score", timeout=30)
def score(event: dict[str, Any]) -> dict[str, Any]:
    """Multiplier and bonus of an evaluation; a failed one has none."""
    evaluation = event["evaluation"]
    if domain.fault_of(evaluation):
        return {"multiplier": 0.0, "bonus": 0.0}
    submission = store.get_reviewed(str(event["submission_id"]))
    if not submission.review:
        return {"multiplier": 0.0, "bonus": 0.0}
    found = tasks_finish.score_of(submission, evaluation["metrics"])
    return {"multiplier": found.multiplier, "bonus": found.bonus}


@jobs.task("finish", timeout=60)
def finish(event: dict[str, Any]) -> dict[str, Any]:
    """Attribute and end the submission in one transaction; without its metrics it has failed."""
    submission_id, holder = str(event["submission_id"]), str(event["holder"])
    evaluation = event.get("evaluation") or {}
    fault = domain.fault_of(evaluation, str(event.get("cause", ""))[-1800:])
    if fault:
        return {"status": tasks_finish.fail_evaluation(submission_id, holder, fault)}
    worth = event["worth"]
    return {
        "status": tasks_finish.finish_evaluation(
            submission_id,
            holder,
            evaluation["metrics"],
            multiplier=float(worth["multiplier"]),
            bonus=float(worth["bonus"]),
        )
    }


@jobs.task("expire", timeout=30)
def expire(event: dict[str, Any]) -> dict[str, Any]:
    """A lease's timer has run down."""
    try:
        return {"submission_id": tasks_finish.expire_assignment(str(event["assignment_id"]))}
    except NotFound:
        return {"submission_id": None}


@jobs.every("sweep_seconds", on=("sweep", "start"))
def leases() -> None:
    """Timers are a speed-up of this."""
    tasks_claim.expire_overdue()


@jobs.every("sweep_seconds", on=("sweep", "start"))
def runs() -> None:
    """Executions can be lost."""
    tasks_claim.recover()


@jobs.every("worker_schedule_seconds", on=())
def worker() -> None:
    """Off unless the operator asks for it: nothing claims by itself."""
    tasks_claim.process_next()


def _run_settings(settings: PrismSettings) -> dict[str, Any]:
    """What a run is given besides the project."""
    return {
        "sequence_length": settings.sequence_length,
        "max_layers": settings.max_layers,
        "max_parameters": settings.max_parameters,
        "steps": settings.evaluation_steps,
        "seconds": settings.platform_eval_timeout_seconds,
        "memory": settings.platform_eval_memory,
        "processes": settings.platform_eval_pids_limit,
        "threads": int(settings.platform_eval_cpus),
        "python": settings.evaluator_python,
    }


def _limit_memory() -> None:
    """In a function of its own only; an emulator does not limit memory, so the process does."""
    if "AWS_LAMBDA_FUNCTION_NAME" in os.environ:
        resource.setrlimit(resource.RLIMIT_AS, (_REVIEW_BYTES, resource.RLIM_INFINITY))
