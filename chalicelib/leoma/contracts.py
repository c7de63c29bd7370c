"""What Leoma's routes take and answer, and its knobs."""

from __future__ import annotations

import re
from typing import Annotated, Any, Self

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, model_validator
from pydantic_core import PydanticCustomError

from chalicelib.kernel import keys
from chalicelib.kernel.settings import Settings, knob

LARGEST_TASK = 2**31 - 1
_DIGITS = re.compile(r"-?[0-9]{1,38}")
_TASK_NUMBER = re.compile(r"[1-9][0-9]{0,8}")


def _ss58(text: str) -> str:
    if not keys.looks_like_ss58(text):
        raise ValueError("Invalid SS58 address format")
    return text


def _whole(value: Any) -> Any:
    """JSON integers and plain digits; the lenient spellings of the original server are not needed by any client."""
    if isinstance(value, bool) or (isinstance(value, str) and not _DIGITS.fullmatch(value)):
        raise PydanticCustomError("int_parsing", "Input should be a valid integer")
    return value


def _yes_or_no(value: Any) -> Any:
    if isinstance(value, bool) or value in (0, 1):
        return bool(value)
    raise PydanticCustomError("bool_parsing", "Input should be a valid boolean")


Hotkey = Annotated[str, AfterValidator(_ss58)]
Whole = Annotated[int, BeforeValidator(_whole)]
YesOrNo = Annotated[bool, BeforeValidator(_yes_or_no)]
TaskId = Annotated[Whole, Field(ge=1, le=LARGEST_TASK)]
Text4096 = Annotated[str, Field(max_length=4096)]
Text8192 = Annotated[str, Field(max_length=8192)]
EvaluationSignature = Annotated[str, Field(max_length=256)]


class LeomaSettings(Settings, system="leoma"):
    """Leoma's knobs."""

    signature_expiry_seconds: int = knob(300, "how far a signed request's timestamp may be from now", minimum=1)
    admin_hotkeys: tuple[str, ...] = knob((), "hotkeys that may edit the blacklist; empty: nobody")
    max_body_size: int = knob(2_097_152, "largest request body in bytes", minimum=1)
    cors_origins: tuple[str, ...] = knob(("*",), "origins that browsers may call from")
    replay_cache: bool = knob(True, "refuse a signed request that is replayed on another target")
    samples_bucket: str = knob("leoma-samples", "bucket of clips and evaluation results; empty: no clip URLs")
    texts_bucket: str = knob("leoma-texts", "bucket of samples' long texts")
    min_validator_stake: float = knob(1000.0, "least stake of a validator", minimum=0)
    validator_sync_interval: float = knob(600, "seconds between copies of validators and stakes", minimum=1)
    miner_validation_interval: float = knob(300, "seconds between miner validations", minimum=1)
    score_calculation_interval: float = knob(300, "seconds between score calculations", minimum=1)
    scorer_interval: float = knob(1800, "seconds between rank calculations", minimum=1)
    fold_interval: float = knob(2, "seconds until new samples stand in task lists", minimum=0.5)
    scorer_task_window: int = knob(100, "tasks that ranks look back on", minimum=1, maximum=1000)
    scorer_completeness_threshold: float = knob(0.8, "share of the window a ranked miner has", minimum=0, maximum=1)
    dominance_threshold: float = knob(0.05, "lead in pass rate over every earlier miner", minimum=0, maximum=1)
    task_id_ahead_max: int = knob(0, "how far a sample's task may be ahead of the latest", minimum=0)
    sample_edit_window_tasks: int = knob(200, "newest tasks whose samples may be replaced", minimum=0)
    sample_daily_quota: int = knob(36_864, "samples that a validator may send per UTC day", minimum=1)
    strict_eval_signature: bool = knob(False, "refuse samples whose evaluation signature does not verify")
    chutes_api_url: str = knob("https://api.chutes.ai", "where chutes are looked up")
    chutes_api_key: str = knob("", "bearer token of the chute look-ups", secret=True)
    hf_endpoint: str = knob("https://huggingface.co", "where models are looked up")
    hf_token: str = knob("", "bearer token of the model look-ups", secret=True)
    chute_cache_ttl: float = knob(300, "seconds that a chute look-up is remembered", minimum=0)
    model_hash_cache_ttl: float = knob(3600, "seconds that a model look-up is remembered", minimum=0)


class Contract(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore", defer_build=True)


class Health(Contract):
    status: str = Field(description="`healthy`, or `degraded` when the store does not answer")
    version: str
    database: bool
    metagraph_synced: bool
    last_sync: str | None = Field(description="when miners were last validated")


class NewBlacklistEntry(Contract):
    hotkey: Hotkey
    reason: Annotated[str, Field(max_length=255)] | None = None


class BlacklistEntry(Contract):
    hotkey: str
    reason: str | None
    added_by: str | None
    created_at: str | None


class BlacklistRemoval(Contract):
    success: bool
    message: str
    removed_by: str


class Miner(Contract):
    uid: int
    hotkey: str
    model_name: str | None = None
    model_revision: str | None = None
    model_hash: str | None = None
    chute_id: str | None = None
    chute_slug: str | None = None
    is_valid: bool = False
    invalid_reason: str | None = None
    block: int | None = None
    last_validated_at: str | None = None


class MinerList(Contract):
    miners: list[Miner]
    total: int
    valid_count: int


class NewSample(Contract):
    """One verdict of the signer about one miner's clip."""

    task_id: TaskId | None = None
    sample_id: Annotated[str, Field(max_length=64)] | None = Field(None, description="legacy name of the task")
    miner_hotkey: Hotkey
    prompt: Text4096
    s3_bucket: Annotated[str, Field(max_length=255)]
    s3_prefix: Annotated[str, Field(max_length=512)]
    passed: YesOrNo
    confidence: Annotated[Whole, Field(ge=0, le=100)] | None = None
    reasoning: Text4096 | None = None
    latency_ms: Annotated[Whole, Field(ge=0, le=2**53)] | None = Field(None, description="task to answer")
    original_artifacts: Text8192 | None = None
    generated_artifacts: Text8192 | None = None
    presentation_order: Annotated[str, Field(max_length=64)] | None = None
    evaluation_signature: EvaluationSignature | None = None

    @model_validator(mode="after")
    def _names_one_task(self) -> Self:
        if self.task_id is None and not self.sample_id:
            raise ValueError("task_id or sample_id is required")
        digits = self.sample_id if self.sample_id and re.fullmatch(r"[0-9]+", self.sample_id) else None
        if self.task_id is not None and digits is not None and int(digits) != self.task_id:
            raise ValueError("task_id and sample_id name different tasks")
        return self

    @property
    def task(self) -> int | None:
        """The task's number; None for a legacy name that is none."""
        if self.task_id is not None:
            return self.task_id
        return int(self.sample_id) if self.sample_id and _TASK_NUMBER.fullmatch(self.sample_id) else None

    @property
    def task_key(self) -> str:
        """What the store calls the task: its padded number, or the legacy name marked as one."""
        return task_key(self.task) if self.task is not None else f"s:{self.sample_id}"


def task_key(task: int) -> str:
    return f"{task:010d}"


def task_of(key: str) -> int | None:
    return None if key.startswith("s:") else int(key)


class NewBatch(Contract):
    signature: EvaluationSignature | None = None
    samples: list[NewSample]


class Sample(Contract):
    id: int
    sample_id: str
    validator_hotkey: str
    miner_hotkey: str
    prompt: str | None
    s3_bucket: str
    s3_prefix: str
    passed: bool
    confidence: int | None
    reasoning: str | None
    evaluated_at: str | None
    task_id: int | None
    latency_ms: int | None


class RecentQuery(Contract):
    limit: Annotated[Whole, Field(ge=1, le=500)] = Field(200, description="newest first")


class SampleListQuery(Contract):
    limit: Annotated[Whole, Field(ge=1, le=500)] = Field(100, description="newest first")


class TaskSamplesQuery(Contract):
    validator_hotkey: str
    task_id: Annotated[Whole, Field(ge=0, le=LARGEST_TASK)] | None = None
    sample_id: Annotated[str, Field(max_length=64)] | None = None

    @property
    def task_key(self) -> str | None:
        if self.task_id is not None:
            return task_key(self.task_id)
        if not self.sample_id:
            return None
        number = _TASK_NUMBER.fullmatch(self.sample_id)
        return task_key(int(self.sample_id)) if number else f"s:{self.sample_id}"


class MinerTasksQuery(Contract):
    miner_hotkey: str


class MinerTask(Contract):
    task_id: int
    passed: bool
    latency_ms: int | None
    updated: str | None


class TaskVerdict(Contract):
    validator_hotkey: str
    passed: bool
    stake: float | None
    evaluated_at: str | None
    confidence: int | None
    reasoning: str | None
    aspect_scores: dict[str, int] | None
    overall_score: int | None


class TaskMinerDetail(Contract):
    task_id: int
    miner_hotkey: str
    description: str | None
    s3_prefix: str
    first_frame_path: str
    original_clip_path: str
    generated_video_path: str
    first_frame_url: str | None
    original_clip_url: str | None
    generated_video_url: str | None
    validators: list[TaskVerdict]
    final_passed: bool
    latency_ms: int | None


class TaskMiner(Contract):
    miner_hotkey: str
    passed: bool
    validator_count: int
    latency_ms: int | None
    updated: str | None


class TaskDetail(Contract):
    task_id: int
    description: str | None
    s3_prefix: str
    first_frame_path: str
    original_clip_path: str
    first_frame_url: str | None
    original_clip_url: str | None
    miner_count: int
    validator_count: int
    miners: list[TaskMiner]


class LatestTask(Contract):
    task_id: int


class MinerAggregate(Contract):
    avg_score: float
    total_samples: int
    total_passed: int
    pass_rate: float
    validator_count: int


class AggregatedScores(Contract):
    scores: dict[str, MinerAggregate]
    total_validators: int
    updated_at: str | None


class ValidatorSummary(Contract):
    validator_hotkey: str
    total_samples: int
    total_passed: int
    avg_score: float
    pass_rate: float
    last_updated: str | None


class Agreement(Contract):
    validator_hotkey: str
    stake: float
    votes: int = Field(description="on miners' clips of the newest tasks")
    agreement: float = Field(description="share of them that the stake-weighted verdict confirmed")


class MinerRank(Contract):
    miner_hotkey: str
    uid: int | None
    rank: int
    passed_count: int
    pass_rate: float
    block: int | None
    eligible: bool = False


class Ranks(Contract):
    ranks: list[MinerRank]


class ScoreStats(Contract):
    total_validators: int
    total_miners: int
    total_samples: int
    total_score_entries: int
    overall_pass_rate: float


class ValidatorScore(Contract):
    validator_hotkey: str
    score: float
    total_samples: int
    total_passed: int
    pass_rate: float
    updated_at: str | None


class MinerScores(Contract):
    miner_hotkey: str
    by_validator: list[ValidatorScore]
    aggregated: MinerAggregate


class MinerScore(Contract):
    miner_hotkey: str
    score: float
    total_samples: int
    total_passed: int
    pass_rate: float
    updated_at: str | None


class ValidatorScores(Contract):
    validator_hotkey: str
    scores: list[MinerScore]
    total_miners: int


class MinerWeight(Contract):
    miner_hotkey: str
    uid: int
    pass_rate: float
    weight: float


class Weights(Contract):
    winner_uid: int
    miners: list[MinerWeight]
