"""Bitrecs' decisions on evaluations: what a run may do next, what an evaluation came to, where its agent goes."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from chalicelib.kernel.errors import Conflict, Forbidden, Invalid, Malformed, NotFound, Unauthenticated

from .contracts import BitrecsSettings
from .contracts_work import Entry, Next, RunUpdate, TestResult

RUN_ORDER = ("pending", "initializing_agent", "running_agent", "initializing_eval", "running_eval", "finished")
ENDED = frozenset({"finished", "error"})
FIRST_VALIDATOR_ERROR = 2000
# So that a hundred evaluations with all their runs are one answer.
MOST_PATCH_BYTES = 16_000
MOST_RESULTS_BYTES = 32_000
MOST_MESSAGE_BYTES = 4_000
_DIGITS = 12
_PLATFORM_ERRORS = {
    "pending": 3000,
    "initializing_agent": 3010,
    "running_agent": 3020,
    "initializing_eval": 3030,
    "running_eval": 3040,
}
_COMPANIONS = {
    "initializing_eval": ("patch", "agent_logs"),
    "finished": ("test_results", "eval_logs"),
    "error": ("error_code", "error_message"),
}
STARTED_AT = {
    "initializing_agent": "started_initializing_agent_at",
    "running_agent": "started_running_agent_at",
    "initializing_eval": "started_initializing_eval_at",
    "running_eval": "started_running_eval_at",
    "finished": "finished_or_errored_at",
    "error": "finished_or_errored_at",
}
STAGE_OF_STATUS = {"screening_1": "screener_1", "screening_2": "screener_2", "evaluating": "validator"}
STATUS_OF_STAGE = {stage: status for status, stage in STAGE_OF_STATUS.items()}

_FIXED_PROBLEMS = {
    "screener_1": ("bitrecs_basic_daily",),
    "screener_2": ("bitrecs_safe_daily", "bitrecs_haystack_daily", "bitrecs_qos_daily"),
    "validator": (
        "bitrecs_predict_daily",
        "bitrecs_prompt_daily",
        "bitrecs_reason_daily",
        "bitrecs_sku_daily",
    ),
}
_CATEGORIES = ("beauty", "books", "electronics", "fashion", "grocery", "home_kitchen", "sports", "toys_games")
_SIZES = (100, 500, 1000)
OPTIONAL_PROBLEMS = tuple(f"amazon_{category}_{size}" for category in _CATEGORIES for size in _SIZES)
OPTIONAL_PER_SET = 3


def problems_of_set(chosen: Sequence[str]) -> list[dict[str, str]]:
    """The fixed problems of each group, and those drawn for this set."""
    groups = _FIXED_PROBLEMS | {"validator": (*_FIXED_PROBLEMS["validator"], *chosen)}
    return [{"set_group": group, "problem_name": name} for group, names in groups.items() for name in names]


def connected_validators(live: Mapping[str, tuple[str, float]], now: float, timeout: float) -> int:
    """Sessions with a young heartbeat that are no screeners."""
    return sum(1 for slot, (_, at) in live.items() if now - at <= timeout and not slot.startswith("s_screener"))


def first_entry(agent_id: str, hotkey: str, created: str, now: float) -> Entry:
    return Entry(agent_id, hotkey, "screener_1", created, since=now, free=1)


def after(  # noqa: PLR0917 - what ended, and what it is measured by
    entry: Entry, evaluator: str, score: float | None, top: float | None, settings: BitrecsSettings, now: float
) -> Next:
    """An evaluation ended: with a score it succeeded, without one it failed and its place is free again."""
    ended = replace(entry, total=entry.total + 1, rev=entry.rev + 1)
    if entry.stage == "validator":
        return _after_validator(ended, evaluator, score, settings)
    if score is None:
        back = replace(ended, free=ended.free + 1, by=_without(ended.by, evaluator))
        if entry.stage == "screener_2" and back.total >= settings.max_screener_2_attempts:
            return Next(None, "failed_screening_2")
        return Next(back, STATUS_OF_STAGE[entry.stage])
    if entry.stage == "screener_1":
        return _after_first_screener(ended, score, settings, now)
    needed = max(settings.screener_2_threshold, settings.prune_threshold * (top or 0.0))
    if not _reaches(score, needed):
        return Next(None, "failed_screening_2")
    best_first = f"{1 - min(1.0, score):.9f}"
    place = Entry(
        entry.agent_id, entry.hotkey, "validator", entry.created, since=now,
        free=settings.num_evals_per_agent, rank=best_first, screener_score=score,
    )  # fmt: skip
    return Next(place, "evaluating")


def _after_first_screener(entry: Entry, score: float, settings: BitrecsSettings, now: float) -> Next:
    if not _reaches(score, settings.screener_1_threshold):
        return Next(None, "failed_screening_1")
    return Next(Entry(entry.agent_id, entry.hotkey, "screener_2", entry.created, since=now, free=1), "screening_2")


def _after_validator(entry: Entry, evaluator: str, score: float | None, settings: BitrecsSettings) -> Next:
    if score is None:
        entry = replace(entry, free=entry.free + 1, by=_without(entry.by, evaluator))
    else:
        entry = replace(entry, scores=(*entry.scores, score))
    enough = len(entry.scores) >= settings.num_evals_per_agent
    if enough or entry.total >= settings.max_total_evals_per_agent:
        return Next(None, "finished", final_score=mean(entry.scores))
    return Next(entry, "evaluating")


def _without(names: Iterable[str], name: str) -> tuple[str, ...]:
    return tuple(other for other in names if other != name)


def _reaches(score: float, needed: float) -> bool:
    """0.72 reaches 0.9 x 0.8, whatever binary fractions make of it."""
    return score >= needed - 1e-9


def mean(values: Sequence[float]) -> float:
    """Three times 0.8 is 0.8, whatever binary fractions make of it."""
    return round(math.fsum(values) / len(values), _DIGITS) if values else 0.0


def check_transition(current: str, wanted: str) -> None:
    """One step forward at a time; an error from any state that is not the last."""
    forward = RUN_ORDER.index(current) + 1 if current in RUN_ORDER[:-1] else None
    if forward is None or wanted not in {RUN_ORDER[forward], "error"}:
        raise Malformed(f"The evaluation run is {current} and cannot become {wanted}.", code="wrong_transition")


def check_companions(update: RunUpdate) -> None:
    missing = [name for name in _COMPANIONS.get(update.updated_status, ()) if getattr(update, name) is None]
    if missing:
        raise Invalid(f"The status {update.updated_status} needs {' and '.join(missing)}.", code="companions_missing")


def kept_of(update: RunUpdate) -> dict[str, Any]:
    """What a run keeps of an update: texts up to their limits; results count, so too many of them are refused."""
    found = update.model_dump(include={"test_results", "error_code"}, exclude_none=True, mode="json")
    if _size(found.get("test_results")) > MOST_RESULTS_BYTES:
        raise Invalid(f"test_results are larger than {MOST_RESULTS_BYTES} bytes.", code="results_too_large")
    for name, most in (("patch", MOST_PATCH_BYTES), ("error_message", MOST_MESSAGE_BYTES)):
        if (text := getattr(update, name)) is not None:
            found[name] = cut(text, most)
    return found


def cut(text: str, most: int) -> str:
    """As much of a text as fits into so many bytes of an answer."""
    while (size := _size(text)) > most:
        text = text[: len(text) * most // size]
    return text


def _size(value: Any) -> int:
    """As Lambda counts an answer: it quotes our JSON once more, in ASCII."""
    return len(json.dumps(json.dumps(value, ensure_ascii=False)))


def platform_error(state: str) -> int:
    """The error code of a run whose session was lost in this state."""
    return _PLATFORM_ERRORS[state]


def run_score(run: Mapping[str, Any]) -> float:
    """The mean of its results; a result without a number counts by pass or fail; an agent's error counts nothing."""
    if run["status"] != "finished":
        return 0.0
    results = [TestResult.model_validate(result) for result in run.get("test_results") or []]
    return mean([_result_score(result) for result in results if result.status != "skip"])


def _result_score(result: TestResult) -> float:
    return result.score if result.score is not None else float(result.status == "pass")


def evaluation_score(runs: Sequence[Mapping[str, Any]]) -> float | None:
    """None when a validator or the platform failed; else the mean of the runs."""
    if any((run.get("error_code") or 0) >= FIRST_VALIDATOR_ERROR for run in runs):
        return None
    return mean([run_score(run) for run in runs])


def bad_session_id() -> Invalid:
    return Invalid("Invalid session ID format (expected a UUID).", code="bad_session_id")


def unknown_session() -> Unauthenticated:
    return Unauthenticated("Session ID not found or expired.", code="session_unknown")


def already_running() -> Conflict:
    return Conflict("This session is already running an evaluation.", code="evaluation_running")


def none_running() -> Conflict:
    return Conflict("This session is not running an evaluation.", code="no_evaluation")


def not_all_ended() -> Conflict:
    return Conflict("Not all evaluation runs are either finished or errored.", code="runs_not_ended")


def unknown_run(run_id: str) -> NotFound:
    return NotFound(f"Evaluation run with ID {run_id} does not exist.", code="run_not_found")


def not_your_run(run_id: str) -> Forbidden:
    return Forbidden(f"Evaluation run with ID {run_id} belongs to another session.", code="run_not_yours")
