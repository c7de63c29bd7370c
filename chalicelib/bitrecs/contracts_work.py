"""What validators and screeners send and get: sessions, work, runs, evaluations, and an agent's place in a queue."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from chalicelib.kernel.values import frozen

from .contracts import Contract, SetGroup, Uuid

RunStatus = Literal[
    "pending", "initializing_agent", "running_agent", "initializing_eval", "running_eval", "finished", "error"
]


@frozen
class Entry:
    """An agent's place in a queue: who works on it, what came out, how many may still take it."""

    agent_id: str
    hotkey: str
    stage: str
    created: str
    since: float
    free: int
    by: tuple[str, ...] = ()
    scores: tuple[float, ...] = ()
    total: int = 0
    rank: str = "0"
    screener_score: float | None = None
    rev: int = 0

    @property
    def place(self) -> str:
        return f"{self.rank}#{self.created}#{self.agent_id}"


@frozen
class Next:
    """What an ended evaluation does to its agent: a new entry, another status, a final score."""

    entry: Entry | None
    status: str
    final_score: float | None = None


class ValidatorRegistration(Contract):
    timestamp: int
    signed_timestamp: str = Field(max_length=1000)
    hotkey: str = Field(max_length=200)
    commit_hash: str = Field(max_length=200)


class ScreenerRegistration(Contract):
    name: str = Field(max_length=100)
    password: str = Field(max_length=1000)
    commit_hash: str = Field(max_length=200)


class Registered(Contract):
    session_id: str
    running_agent_timeout_seconds: int
    running_eval_timeout_seconds: int
    max_evaluation_run_log_size_bytes: int


class WorkRun(Contract):
    evaluation_run_id: str
    problem_name: str


class Work(Contract):
    agent_code: str = "ignored"
    evaluation_runs: list[WorkRun]


class Empty(Contract):
    pass


class Heartbeat(Contract):
    system_metrics: dict[str, Any] = Field(default_factory=dict)


class TestResult(Contract):
    name: str = Field(max_length=500)
    category: str = Field("default", max_length=100)
    status: Literal["pass", "fail", "skip"]
    score: float | None = Field(None, ge=0, le=1)
    duration: float | None = Field(None, ge=0, le=1e9)


class RunUpdate(Contract):
    evaluation_run_id: Uuid
    updated_status: RunStatus
    patch: str | None = None
    test_results: list[TestResult] | None = Field(None, max_length=200)
    agent_logs: str | None = None
    eval_logs: str | None = None
    error_code: int | None = Field(None, ge=1000, le=3999)
    error_message: str | None = None


class Disconnect(Contract):
    reason: str = Field("", max_length=1000)


class RunQuery(Contract):
    evaluation_run_id: Uuid


class LogQuery(Contract):
    evaluation_run_id: Uuid
    type: Literal["agent", "eval"]


class EvaluationRun(Contract):
    evaluation_run_id: str
    evaluation_id: str
    problem_name: str
    status: RunStatus
    patch: str | None = None
    test_results: list[TestResult] | None = None
    error_code: int | None = None
    error_message: str | None = None
    created_at: str
    started_initializing_agent_at: str | None = None
    started_running_agent_at: str | None = None
    started_initializing_eval_at: str | None = None
    started_running_eval_at: str | None = None
    finished_or_errored_at: str | None = None


class Evaluation(Contract):
    evaluation_id: str
    agent_id: str
    validator_hotkey: str
    set_id: int
    evaluation_set_group: SetGroup
    status: Literal["running", "success", "failure"]
    score: float | None = None
    created_at: str
    finished_at: str | None = None


class EvaluationWithRuns(Evaluation):
    runs: list[EvaluationRun]
