"""What readers see of agents, evaluations, runs and the chain, made of what is stored."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from .contracts import Agent, BitrecsSettings, ScoredAgent, ScoreRow
from .contracts_work import Evaluation, EvaluationRun, EvaluationWithRuns

Stored = Mapping[str, Any]

_HIDDEN = ("system_prompt_template", "user_prompt_template", "fewshot_examples")
_STATED = (
    "started_initializing_agent_at", "started_running_agent_at", "started_initializing_eval_at",
    "started_running_eval_at", "finished_or_errored_at",
)  # fmt: skip


def stamp(at: float | None) -> str | None:
    return None if at is None else datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def agent(meta: Stored, artifact: Stored | None = None, *, shown: bool = False) -> Agent:
    """Without its artifact, or with it; prompts only where the caller may see them."""
    return Agent.model_validate(_agent_fields(meta, artifact or {}, shown=shown))


def scored_agent(meta: Stored, final: Stored) -> ScoredAgent:
    fields = _agent_fields(meta, {}, shown=False)
    counts = {"approved": True, "validator_count": final["validator_count"], "final_score": final["score"]}
    return ScoredAgent.model_validate(fields | counts)


def _agent_fields(meta: Stored, artifact: Stored, *, shown: bool) -> dict[str, Any]:
    withheld = {} if shown else dict.fromkeys(_HIDDEN)
    stated = {"created_at": stamp(meta["created_at"]), "ip_address": meta["request_id"]}
    return {**meta, **artifact, **stated, **withheld}


def gist_info(meta: Stored) -> dict[str, Any]:
    return {
        "agent_id": meta["agent_id"],
        "hotkey": meta["miner_hotkey"],
        "gist_id": meta["gist_id"],
        "github_account": meta["github_account"],
        "gist_created_at": meta["gist_created_at"],
        "commit_sha": meta["commit_sha"],
        "content_sha256": meta["content_sha256"],
        "gist_url": f"https://gist.github.com/{meta['github_account']}/{meta['gist_id']}",
        "first_block": meta["reveal_block"],
    }


def run(found: Stored) -> EvaluationRun:
    times = {name: stamp(found.get(name)) for name in _STATED}
    return EvaluationRun.model_validate({**found, **times, "created_at": stamp(found["created_at"])})


def evaluation(found: Stored) -> Evaluation:
    return Evaluation.model_validate(_evaluation_fields(found))


def evaluations(found: Iterable[Stored], runs: Iterable[Stored]) -> list[EvaluationWithRuns]:
    """Each with its runs, in the order in which they were handed out."""
    by_id = {one["evaluation_run_id"]: run(one) for one in runs}
    return [
        EvaluationWithRuns.model_validate(
            _evaluation_fields(one) | {"runs": [by_id[run_id] for run_id in one["run_ids"] if run_id in by_id]}
        )
        for one in found
    ]


def _evaluation_fields(found: Stored) -> dict[str, Any]:
    return {**found, "created_at": stamp(found["created_at"]), "finished_at": stamp(found.get("finished_at"))}


def connected(session: Stored, running: Stored | None, worked_on: Stored | None) -> dict[str, Any]:
    """One line of the connected validators."""
    return {
        "name": session["label"],
        "hotkey": session["name"],
        "time_connected": stamp(session["connected_at"]),
        "time_last_heartbeat": stamp(session["heartbeat_at"]),
        "system_metrics": json.loads(session["metrics"]) if session.get("metrics") else None,
        "evaluation": evaluation(running) if running else None,
        "agent": agent(worked_on) if worked_on else None,
    }


def constants(settings: BitrecsSettings) -> dict[str, float]:
    return {
        "MIN_THRESHOLD_GAP": settings.min_threshold_gap,
        "MAX_THRESHOLD_GAP": settings.max_threshold_gap,
        "DEFAULT_Z_SCORE": settings.z_score,
        "DEFAULT_EPISODES_PER_ENV": 100,
        "MIN_EPSILON": settings.min_epsilon,
        "MAX_EPSILON": settings.max_epsilon,
        "MINER_EMISSION_PORTION": settings.miner_emission_portion,
        "GRACE_PERIOD_DAYS": settings.grace_period_days,
        "DECAY_FACTOR": settings.decay_factor,
        "DECAY_FLOOR": settings.decay_floor,
    }


def screener_info(
    settings: BitrecsSettings, scores: Mapping[str, float], waits: Mapping[str, float]
) -> dict[str, float | None]:
    return {
        "screener_1_threshold": settings.screener_1_threshold,
        "screener_2_threshold": settings.screener_2_threshold,
        "prune_threshold": settings.prune_threshold,
        **{f"{group}_average_score": scores.get(group) for group in ("screener_1", "screener_2", "validator")},
        **{f"{group}_average_wait_time": waits.get(group) for group in ("screener_1", "screener_2", "validator")},
    }


def problem_statistics(rows: Sequence[ScoreRow], set_id: int, created: float) -> dict[str, Any]:
    """Per problem: how many runs, how many of them succeeded, mean and best score."""
    by_task: dict[str, list[ScoreRow]] = {}
    for row in rows:
        by_task.setdefault(row.task_name, []).append(row)
    stats = [
        {
            "problem_name": task,
            "total_num_evaluation_runs": len(own),
            "num_finished_evaluation_runs": sum(row.success for row in own),
            "average_score": math.fsum(row.score for row in own) / len(own),
            "best_score": max(row.score for row in own),
            "average_time": math.fsum(row.duration for row in own) / len(own),
        }
        for task, own in sorted(by_task.items())
    ]
    return {"problem_stats": stats, "problem_set_id": set_id, "problem_set_created_at": stamp(created)}


def metagraph(block: int, synced_at: str, subnet: Any) -> dict[str, Any]:
    return {
        "netuid": subnet.netuid,
        "block": block,
        "synced_at": synced_at,
        "neurons": [
            {
                "uid": one.uid,
                "hotkey": one.hotkey,
                "coldkey": one.coldkey,
                "stake_rao": str(one.stake_rao),
                "validator_permit": one.validator_permit,
            }
            for one in subnet.neurons
        ],
    }
