"""What PRISM's routes take and answer, its knobs, and the records that its modules hand to each other."""

from __future__ import annotations

from dataclasses import field
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StrictFloat, StrictInt, field_validator

from chalicelib.kernel.settings import Settings, knob
from chalicelib.kernel.values import frozen

MAX_HOTKEY = 128
MAX_ERROR = 2000
MAX_LIMIT = 500
MAX_METRICS = 200
MAX_METRIC_NAME = 64
MAX_FILENAME = 255
FILENAME = r"^[A-Za-z0-9_.-]+\.(py|zip)$"

PENDING, RUNNING, COMPLETED = "pending", "running", "completed"
FAILED, REJECTED, HELD = "failed", "rejected", "held"
ASSIGNED, ACCEPTED, EXPIRED = "assigned", "accepted", "expired"
PASSED, GONE, RESOLVED = "passed", "gone", "resolved"
FULL, ARCHITECTURE_ONLY, TRAINING_FOR_ARCH = "full", "architecture_only", "training_for_arch"


class PrismSettings(Settings, system="prism", prefixed_only=True):
    """PRISM's knobs; read with their prefix only, for NAME and VERSION mean other things elsewhere."""

    slug: str = knob("prism", "challenge slug, checked on get_weights")
    name: str = knob("Prism", "display title")
    version: str = knob("0.1.0", "challenge version in /health and /version")
    api_version: str = knob("1.0", "in /version")
    sdk_version: str = knob("platform-challenge-1", "in /version")
    capabilities: tuple[str, ...] = knob(("get_weights", "proxy_routes", "nas", "dynamodb"), "in /version")
    shared_token: str = knob("", "internal bearer token; unset: the file's; empty: none", secret=True)
    shared_token_file: str = knob("/run/secrets/platform/challenge_token", "file that holds the internal bearer token")
    projects_bucket: str = knob("prism-projects", "bucket of uploaded projects")
    allow_insecure_signatures: bool = knob(False, "also take HMAC-SHA256(shared token) signatures; never in production")
    signature_ttl_seconds: int = knob(300, "allowed distance of X-Timestamp from the clock", minimum=1)
    nonce_ttl_seconds: int = knob(2_592_000, "how long a used nonce is remembered", minimum=1)
    epoch_seconds: int = knob(21_600, "epoch length", minimum=1)
    max_code_bytes: int = knob(200_000, "limit of `code` in UTF-8 bytes (base64 text for zips)", minimum=1)
    max_metadata_bytes: int = knob(16_384, "limit of serialised metadata", minimum=2)
    max_pending_per_hotkey: int = knob(0, "pending submissions that one hotkey may have; 0: any number", minimum=0)
    public_submissions_enabled: bool = knob(True, "false: POST /v1/submissions answers 404")
    weights_require_slug: bool = knob(True, "get_weights needs X-Platform-Challenge-Slug")
    assignments_require_validator_header: bool = knob(False, "accept, reject and result need X-Validator-Hotkey")
    execution_backend: str = knob(
        "stepfunctions", "who evaluates what process-next claims", choices=("stepfunctions", "validators_only")
    )
    worker_claim_timeout_seconds: int = knob(900, "after this a claimed submission is claimed again", minimum=1)
    worker_schedule_seconds: float = knob(0.0, "process pending submissions this often by itself; 0: never", minimum=0)
    sweep_seconds: float = knob(60.0, "how often leases expire and lost work is started again", minimum=1)
    max_parameters: int = knob(150_000_000, "model parameter ceiling", minimum=1)
    max_layers: int = knob(96, "in the context that projects are built with", minimum=1)
    sequence_length: int = knob(128, "evaluation context length", minimum=2, maximum=128)
    evaluation_steps: int = knob(3, "training steps of the proxy run", minimum=1, maximum=1000)
    platform_eval_timeout_seconds: int = knob(900, "wall clock of one evaluation", minimum=1)
    platform_eval_cpus: float = knob(2.0, "threads of one evaluation", minimum=1)
    platform_eval_memory: str = knob("8g", "address space of one evaluation: bytes, or with k, m or g")
    platform_eval_pids_limit: int = knob(512, "processes and threads of one evaluation", minimum=1)
    evaluator_python: str = knob("", "interpreter with torch; empty: the laptop's .envs/evaluator")
    arch_weight: float = knob(0.7, "share of q_arch in the final score", minimum=0, maximum=1)
    recipe_weight: float = knob(0.3, "share of q_recipe in the final score", minimum=0, maximum=1)
    anti_cheat_threshold: float = knob(0.96, "entrypoints this similar are near-duplicates", minimum=0, maximum=1)
    anti_cheat_severity: float = knob(0.8, "what a near-duplicate entrypoint loses", minimum=0, maximum=1)
    diversity_bonus_max: float = knob(0.05, "bonus for an entrypoint unlike all others", minimum=0, maximum=1)
    plagiarism_enabled: bool = knob(True, "compare with earlier submissions")
    plagiarism_min_similarity: float = knob(0.65, "below, nothing is rejected", minimum=0, maximum=1)
    plagiarism_static_reject_threshold: float = knob(0.96, "similarity that rejects", minimum=0, maximum=1)
    plagiarism_top_k: int = knob(2, "candidates that are compared exactly, at least 3", minimum=1, maximum=10)
    plagiarism_storage_max_files: int = knob(200, "files in a project", minimum=1)
    plagiarism_storage_max_bytes: int = knob(2_000_000, "unpacked bytes of a project", minimum=1)
    component_rewards_enabled: bool = knob(True, "attribute components and reward their owners")
    architecture_reward_weight: float = knob(0.65, "architecture share in weights", minimum=0, maximum=1)
    training_reward_weight: float = knob(0.35, "training share in weights", minimum=0, maximum=1)
    component_agent_enabled: bool = knob(True, "false: projects with architecture_id are existing, others new")
    component_agent_min_confidence: float = knob(0.72, "below, existing becomes a hold", minimum=0, maximum=1)
    component_agent_transfer_confidence: float = knob(
        0.86, "needed for automatic transfer of ownership", minimum=0, maximum=1
    )
    component_agent_same_threshold: float = knob(0.82, "similarity that means existing", minimum=0, maximum=1)
    component_agent_hold_threshold: float = knob(0.55, "similarity from which on it is a hold", minimum=0, maximum=1)
    component_agent_candidate_top_k: int = knob(5, "families and variants that are compared", minimum=1, maximum=20)
    component_hold_low_confidence: bool = knob(True, "hold decisions below the minimum confidence")
    architecture_auto_transfer: bool = knob(True, "a clearly better project takes the family over")
    architecture_improvement_min_delta_abs: float = knob(0.01, "gate of q_arch_best", minimum=0)
    architecture_improvement_min_delta_rel: float = knob(0.005, "the same, relative", minimum=0)
    architecture_transfer_min_delta_abs: float = knob(0.08, "gate of automatic transfer", minimum=0)
    architecture_transfer_min_delta_rel: float = knob(0.05, "the same, relative", minimum=0)
    training_improvement_min_delta_abs: float = knob(0.02, "gate of a new current best", minimum=0)
    training_improvement_min_delta_rel: float = knob(0.005, "the same, relative", minimum=0)
    training_transfer_min_delta_abs: float = knob(0.05, "gate of a training transfer", minimum=0)
    training_transfer_min_delta_rel: float = knob(0.03, "the same, relative", minimum=0)
    training_improvement_z_score: float = knob(1.0, "noise multiplier in the gate", minimum=0)
    training_metric_default_std: float = knob(0.0, "std when the evaluator gives none", minimum=0)
    validator_hotkeys: tuple[str, ...] = knob((), "who may call assignments/next; empty: everyone")
    validator_assignment_timeout_seconds: float = knob(900.0, "lease length", minimum=0.001)
    validator_assignment_max_attempts: int = knob(3, "leases per submission before it fails", minimum=1)


class Contract(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore", defer_build=True)


class Health(Contract):
    status: str
    slug: str
    version: str


class Version(Contract):
    api_version: str
    challenge_version: str
    sdk_version: str
    capabilities: tuple[str, ...]


class Epoch(Contract):
    epoch_id: int
    epoch_seconds: int


class SubmissionCreate(Contract):
    code: str = Field(min_length=1, description="Python text, or the base64 of a zip")
    filename: str = Field("model.py", pattern=FILENAME, max_length=MAX_FILENAME)
    metadata: dict[str, Any] = Field(default_factory=dict, description="at most 16 KiB, at most 8 levels")


class SubmissionCreated(Contract):
    id: str
    hotkey: str
    epoch_id: int
    status: str
    code_hash: str
    created_at: str


class SubmissionStatus(SubmissionCreated):
    error: str | None
    final_score: float | None
    q_arch: float | None
    q_recipe: float | None


class Step(Contract):
    status: str
    at: str


class OwnershipEvent(Contract):
    event: str
    scope: str
    submission_id: str
    training_variant_id: str | None
    from_hotkey: str | None
    to_hotkey: str | None
    reason: str
    at: str


class BoardEntry(Contract):
    rank: int
    hotkey: str
    score: float
    submission_id: str


class Leaderboard(Contract):
    epoch_id: int
    entries: list[BoardEntry]


class ArchitectureQuery(Contract):
    limit: int = Field(50, ge=1, le=MAX_LIMIT)


class VariantQuery(Contract):
    architecture_id: str | None = None
    limit: int = Field(100, ge=1, le=MAX_LIMIT)


class Architecture(Contract):
    id: str
    family_hash: str
    owner_hotkey: str
    owner_submission_id: str
    canonical_submission_id: str
    q_arch_best: float
    created_at: str
    updated_at: str


class TrainingVariant(Contract):
    id: str
    architecture_id: str
    training_hash: str
    owner_hotkey: str
    submission_id: str
    q_recipe: float
    metric_mean: float
    metric_std: float
    is_current_best: bool
    created_at: str
    updated_at: str


class Weights(Contract):
    challenge_slug: str
    epoch: int
    weights: dict[str, float]
    metadata: dict[str, str]


class Processed(Contract):
    submission_id: str | None


class Polled(Contract):
    completed_submission_ids: list[str]


class Expired(Contract):
    expired_submission_ids: list[str]


class HoldQuery(Contract):
    status: Literal["pending", "resolved", "rejected"] | None = None
    limit: int = Field(100, ge=1, le=100)


class HoldView(Contract):
    id: str
    submission_id: str
    status: str
    reason: str
    confidence: float
    created_at: str
    updated_at: str


class Resolution(Contract):
    architecture_action: Literal["new", "existing", "transfer", "reject"]
    training_action: Literal["new", "existing", "transfer", "reject", "none"] = "none"
    architecture_id: str | None = None
    training_variant_id: str | None = None
    reason: str | None = Field(None, max_length=MAX_ERROR)


class AssignmentView(Contract):
    id: str
    submission_id: str
    validator_hotkey: str
    status: str
    attempt: int
    deadline_at: str
    code: str
    filename: str
    metadata: dict[str, Any]
    code_hash: str
    arch_hash: str


class AssignmentStatus(Contract):
    status: str


class Rejection(Contract):
    reason: str | None = Field(None, max_length=MAX_ERROR)


Number = Annotated[StrictFloat | StrictInt, Field(allow_inf_nan=False)]


class Result(Contract):
    metrics: dict[Annotated[str, Field(max_length=MAX_METRIC_NAME)], Number] = Field(max_length=MAX_METRICS)

    @field_validator("metrics")
    @classmethod
    def _representable(cls, metrics: dict[str, float]) -> dict[str, float]:
        """A number beyond a double's range would be refused by the store."""
        largest = 1e100
        if any(abs(value) > largest for value in metrics.values()):
            raise ValueError("a metric is out of range")
        return {name: float(value) for name, value in metrics.items()}


@frozen
class Submission:
    """A submission as it stands; `holder` is the execution or assignment that works on it.

    `runs` and `assignments` never fall, for an execution's name is used once; each pardon allows as many again.
    """

    id: str
    hotkey: str
    epoch_id: int
    filename: str
    code_key: str
    code_hash: str
    metadata: str
    status: str
    created_at: float
    error: str | None = None
    runs: int = 0
    assignments: int = 0
    pardons: int = 0
    holder: str = ""
    failed_by: tuple[str, ...] = ()
    counted: bool = False
    review: dict[str, Any] = field(default_factory=dict)
    score: dict[str, Any] = field(default_factory=dict)
    hold_id: str = ""
    timeline: list[Any] = field(default_factory=list)

    @property
    def place(self) -> str:
        """Its place in the order of submission, which decides who was first."""
        return f"{int(self.created_at * 1e6):017d}#{self.id}"


@frozen
class Assignment:
    """A validator's lease of a submission."""

    id: str
    submission_id: str
    validator_hotkey: str
    status: str
    attempt: int
    deadline_at: float
    arch_hash: str = ""
    metrics: dict[str, float] = field(default_factory=dict)
    error: str | None = None


@frozen
class Family:
    """Who owns an architecture; `version` grows with every change, `graph` is its canonical project's."""

    id: str
    family_hash: str
    owner_hotkey: str
    owner_submission_id: str
    canonical_submission_id: str
    q_arch_best: float
    created_at: float
    updated_at: float
    canonical_hash: str = ""
    version: int = 1
    best_variant: str = ""
    graph: frozenset[int] = frozenset()


@frozen
class Variant:
    """A way to train a family."""

    id: str
    architecture_id: str
    training_hash: str
    owner_hotkey: str
    submission_id: str
    q_recipe: float
    metric_mean: float
    metric_std: float
    created_at: float
    updated_at: float
    is_current_best: bool = False
    graph: frozenset[int] = frozenset()


@frozen
class Hold:
    """An attribution that waits for an operator."""

    id: str
    submission_id: str
    status: str
    reason: str
    confidence: float
    created_at: float
    updated_at: float
