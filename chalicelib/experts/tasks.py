"""Experts' background work: the steps of its flows, and its periodic jobs."""

from __future__ import annotations

from typing import Any

from chalicelib.kernel.jobs import Jobs

from . import tasks_fetching, tasks_publishing, tasks_rounds
from .contracts import ExpertsSettings
from .store import table

jobs = Jobs("experts", __name__, table, ExpertsSettings.current)
tick = jobs.tick

Event = dict[str, Any]


@jobs.task("begin")
def begin(event: Event) -> Event:
    """First step of a submission: what is to be fetched, if anything."""
    return tasks_rounds.begin(event["submission_id"])


@jobs.task("fetch", timeout=900, memory=1024)
def fetch(event: Event) -> Event:
    """The only task that talks to strangers; it may write to quarantine and to nothing else."""
    return tasks_fetching.fetch(event["url"], event["key"], event["cap"])


@jobs.task("validate", timeout=900, memory=1024)
def validate(event: Event) -> None:
    tasks_rounds.validate(event["submission_id"], event.get("fetched"))


@jobs.task("evaluate", timeout=900, memory=3008, layers=("numeric",))
def evaluate(event: Event) -> None:
    tasks_rounds.evaluate(event["submission_id"])


@jobs.task("refuse")
def refuse(event: Event) -> None:
    """A flow that did not get through: say so to the miner."""
    tasks_rounds.refuse(event["submission_id"], event["error"]["Error"], event["error"].get("Cause", ""))


@jobs.task("merge", timeout=900, memory=3008, layers=("numeric",))
def merge(event: Event) -> Event:
    return {"outcome": tasks_rounds.merge(event["cycle"])}


@jobs.task("plan", timeout=300, memory=2048)
def plan(event: Event) -> Event:
    """First step of a publication: read the headers, decide everything."""
    made = tasks_publishing.plan(
        event["model"],
        event["assignment"],
        model_version=event["version"],
        block_number=event["block"],
        base_model=event.get("base_model", ""),
    )
    return {"version_id": made.version_id, "objects": tasks_publishing.objects(made)}


@jobs.task("build", timeout=900, memory=1024)
def build(event: Event) -> Event:
    """One object of a publication."""
    tasks_publishing.build(tasks_publishing.load_plan(event["version_id"]), event["object"])
    return {"built": event["object"]}


@jobs.task("flip", timeout=300, memory=1024)
def flip(event: Event) -> Event:
    """Last step of a publication: verify, then let readers see it."""
    manifest = tasks_publishing.finish(tasks_publishing.load_plan(event["version_id"]))
    return {"version_id": manifest["version_id"]}


@jobs.every("round_seconds", on=("sweep", "start"), awake=False)
def close_rounds() -> None:
    tasks_rounds.close_rounds()


@jobs.every("housekeeping_seconds", on=("sweep", "start"))
def housekeeping() -> None:
    """Lost flows start again; versions that nobody needs any more go."""
    tasks_rounds.restart_lost_work()
    tasks_rounds.retire()


@jobs.every("never", on=("sweep",))
def await_flows() -> None:
    tasks_rounds.await_flows()


@jobs.every("overview_seconds", on=("sweep", "start"), awake=False)
def overview() -> None:
    tasks_rounds.write_overview()
