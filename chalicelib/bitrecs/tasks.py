"""Bitrecs' background work: the similarity index, watches over evaluations, sweeps, snapshots."""

from __future__ import annotations

from typing import Any

from chalicelib.kernel import clock, flows, telemetry
from chalicelib.kernel.jobs import Jobs

from . import store, store_work, tasks_index, tasks_sessions, tasks_sets, tasks_snapshots
from .contracts import BitrecsSettings

jobs = Jobs("bitrecs", __name__, store.table, BitrecsSettings.current)
tick = jobs.tick


@jobs.task("similarity", timeout=60, memory=3008, layers=("numeric",))
def similarity(event: dict[str, Any]) -> dict[str, Any]:
    """The agents near a vector, for /check and /submit; a wake-up only loads the index."""
    return tasks_index.load() if event.get("wake") else tasks_index.search(event)


@jobs.task("compact", timeout=600, memory=2048, layers=("numeric",))
def compact(_event: dict[str, Any]) -> dict[str, Any]:
    """Move accepted vectors into the index; rebuild it when the vectors have a new version."""
    return tasks_index.compact()


@jobs.task("watch", timeout=60)
def watch(event: dict[str, Any]) -> dict[str, Any]:
    """Whether an evaluation still runs; one whose session is dead goes back to the queue."""
    settings = BitrecsSettings.current()
    evaluation = store_work.evaluation(event["agent_id"], event["evaluation_id"])
    if not evaluation or evaluation["status"] != "running":
        return {**event, "done": True}
    session = store_work.session(event["session_id"])
    if session and not tasks_sessions.is_alive(session, settings):
        tasks_sessions.close(event["session_id"])
        return {**event, "done": True}
    heard = session["heartbeat_at"] if session else clock.now()
    left = heard + settings.validator_heartbeat_timeout_seconds - clock.now()
    return {**event, "done": False, "seconds": max(1, int(left) + 1)}


@jobs.every("validator_sweep_seconds")
def lost_sessions() -> None:
    """Close the sessions that were heard of too long ago, whether their watch runs or not."""
    settings = BitrecsSettings.current()
    live = store_work.live_sessions(store_work.live())
    found = {session["session_id"]: session for session in store_work.sessions([one for one, _ in live.values()])}
    for slot, (session_id, _) in live.items():
        session = found.get(session_id)
        if session is None:
            store_work.clear_slot(slot, session_id)
        elif not tasks_sessions.is_alive(session, settings):
            tasks_sessions.close(session_id)
            telemetry.log("session lost", system="bitrecs", session=session_id)


@jobs.every("snapshot_seconds", on=("sweep", "snapshots", "stream"), awake=False)
def snapshots() -> None:
    """Lists, scores and weights, whenever something they show has changed."""
    tasks_snapshots.refresh()


@jobs.every("compact_seconds")
def vectors() -> None:
    """New vectors into the index."""
    if tasks_index.is_due():
        flows.invoke("bitrecs-compact", {})


@jobs.every("similarity_wake_seconds", on=())
def warm_index() -> None:
    """Where validators are connected a miner may come at any time, and the index has to answer within seconds."""
    if store_work.live_sessions(store_work.live()):
        flows.wake("bitrecs-similarity")


@jobs.every("evaluation_set_seconds", on=())
def sets() -> None:
    """A new evaluation set, where they follow the clock."""
    tasks_sets.next_set()
