"""How evaluations end, wherever the end comes from: a validator that finishes, one that leaves, or one that died."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from chalicelib.kernel import clock
from chalicelib.kernel.errors import Contended
from chalicelib.kernel.tables import ConditionFailed, until_decided
from chalicelib.kernel.wire import Item

from . import domain_stages as stages
from . import store, store_work
from .contracts import BitrecsSettings, ScoreRow


def is_alive(session: Mapping[str, Any], settings: BitrecsSettings) -> bool:
    """A session is as alive as its last heartbeat is young; no sweep has to say so."""
    return clock.now() - float(session["heartbeat_at"]) <= settings.validator_heartbeat_timeout_seconds


def finish(session: Mapping[str, Any]) -> None:
    """Every run has ended: the evaluation counts, or it failed and its place is free again."""

    def decide() -> None:
        found = store_work.session(session["session_id"])
        if not found or "evaluation_id" not in found:
            raise stages.none_running()
        _settle(found, ends_session=False)

    until_decided(decide)


def close(session_id: str) -> None:
    """End a session: what it ran failed on the platform's account and goes back to the queue."""

    def decide() -> None:
        found = store_work.session(session_id)
        if not found:
            return
        if "evaluation_id" in found:
            _settle(found, ends_session=True)
            store_work.leave_slot(found)
        elif not store_work.end_idle_session(found):
            raise Contended

    until_decided(decide)


def _settle(session: Item, *, ends_session: bool) -> None:
    settings = BitrecsSettings.current()
    evaluation = store_work.evaluation(session["agent_id"], session["evaluation_id"])
    assert evaluation is not None
    runs = store_work.runs_of([evaluation])
    unfinished = [run for run in runs if run["status"] not in stages.ENDED]
    if unfinished and not ends_session:
        raise stages.not_all_ended()
    score = None if unfinished else stages.evaluation_score(runs)
    try:
        store_work.settle(_settlement(session, evaluation, runs, score, settings, ends_session=ends_session))
    except ConditionFailed:
        raise Contended from None


def _settlement(
    session: Item,
    evaluation: Item,
    runs: Sequence[Item],
    score: float | None,
    settings: BitrecsSettings,
    *,
    ends_session: bool,
) -> store_work.Settlement:
    group = evaluation["evaluation_set_group"]
    entry = store_work.entry(group, evaluation["place"])
    found = store.agent(evaluation["agent_id"])
    assert found is not None
    meta = found[0]
    top = store_work.top_score(evaluation["set_id"]) if group != "screener_1" else None
    status = meta["status"]
    following = stages.after(entry, session["name"], score, top, settings, clock.now()) if entry else None
    lost = {
        run["evaluation_run_id"]: (
            run["status"],
            stages.platform_error(run["status"]),
            "The session was lost while the run was " + run["status"],
        )
        for run in runs
        if run["status"] not in stages.ENDED
    }
    return store_work.Settlement(
        evaluation=evaluation,
        status="failure" if score is None else "success",
        score=score,
        before=entry,
        entry=following.entry if following else None,
        agent_before=status,
        agent_after=following.status if following else status,
        final_score=following.final_score if following else None,
        top=top,
        scores=_score_rows(meta, evaluation, runs) if group == "validator" and score is not None else [],
        lost_runs=lost,
        session_id=session["session_id"],
        ends_session=ends_session,
    )


def _score_rows(meta: Item, evaluation: Item, runs: Sequence[Item]) -> list[ScoreRow]:
    now = clock.now()
    return [
        ScoreRow(
            run_id=run["evaluation_run_id"],
            uid=meta["miner_uid"],
            hotkey=meta["miner_hotkey"],
            task_name=run["problem_name"],
            score=stages.run_score(run),
            success=run["status"] == "finished",
            duration=max(0.0, run.get("finished_or_errored_at", now) - run["created_at"]),
            created_at=clock.stamp(now),
            evaluation_set_id=evaluation["set_id"],
            sample_size=max(1, len(run.get("test_results") or [])),
            validator_hotkey=evaluation["validator_hotkey"],
            agent_id=meta["agent_id"],
            first_block=meta["reveal_block"] or 0,
        )
        for run in runs
    ]
