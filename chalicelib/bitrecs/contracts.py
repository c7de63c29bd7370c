"""What Bitrecs' routes take and answer, and its knobs."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from chalicelib.kernel.settings import Settings, knob

MAX_SUBMISSION_BYTES = 16 * 1024
_UUID = r"^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$"


class BitrecsSettings(Settings, system="bitrecs"):
    """Bitrecs' knobs."""

    submissions_enabled: bool = knob(True, "whether submissions are taken as long as no operator has switched them")
    disallow_uploads: bool = knob(False, "refuse every submission with the reason below")
    disallow_uploads_reason: str = knob(
        "System Maintenance - Artifact submissions are temporarily disabled", "what a refused miner is told"
    )
    signature_schemes: tuple[str, ...] = knob(("sr25519", "ed25519"), "signature schemes taken")
    transport_versions: tuple[str, ...] = knob(("2.0.2",), "client versions tried in the transport string; at most 8")
    transport_allow_unversioned: bool = knob(True, "take the transport string without a version too")
    accept_bytes_wrapper: bool = knob(True, "take signatures over <Bytes>…</Bytes>, as browser wallets make them")
    timestamp_drift_seconds: int = knob(300, "how far X-Timestamp may be from now", minimum=1)
    nonce_ttl_seconds: int = knob(900, "how long a pair of nonces is remembered", minimum=1)
    validation_status: int = knob(400, "status of a malformed submission: 400 or 422", minimum=400, maximum=422)
    duplicate_status: int = knob(409, "status of a repeated submission: 409 or 400", minimum=400, maximum=409)
    strict_check_order: bool = knob(False, "look at locks, ban and registration only after the gist, as upstream")
    rate_limit_submit_per_min: int = knob(
        30, "requests per minute and address to /check, /submit, / and /health", minimum=1
    )
    rate_limit_read_per_min: int = knob(60, "requests per minute and address to each read route", minimum=1)
    gist_fetches_per_min: int = knob(10, "gist look-ups per minute and hotkey", minimum=1)
    artifacts_per_interval: int = knob(50, "submissions accepted per interval", minimum=1)
    artifact_interval_seconds: int = knob(3600, "length of that interval", minimum=1)
    hotkey_cooldown_seconds: int = knob(0, "pause between submissions of one hotkey", minimum=0)
    lock_scope: str = knob("cycle", "how long hotkey and gist stay locked", choices=("cycle", "forever"))
    num_evals_per_agent: int = knob(3, "successful validator evaluations that finish an agent", minimum=1, maximum=16)
    min_connected_validators: int | None = knob(None, "validators needed to submit; empty: as many as evaluations")
    max_total_evals_per_agent: int = knob(9, "validator evaluations after which an agent is finished anyway", minimum=1)
    max_screener_2_attempts: int = knob(3, "failed evaluations of the second screener that end an agent", minimum=1)
    screener_1_threshold: float = knob(0.3, "score that passes the first screener", minimum=0, maximum=1)
    screener_2_threshold: float = knob(0.4, "least score that passes the second screener", minimum=0, maximum=1)
    prune_threshold: float = knob(0.9, "share of the top score that passes the second screener", minimum=0, maximum=1)
    screener_password: str = knob("", "password of screeners; empty: none may register", secret=True)
    validator_heartbeat_timeout_seconds: int = knob(120, "age of a heartbeat at which a session is dead", minimum=1)
    validator_sweep_seconds: int = knob(60, "how often the work of dead sessions is looked for", minimum=1)
    validator_running_agent_timeout_seconds: int = knob(2400, "told to validators", minimum=1)
    validator_running_eval_timeout_seconds: int = knob(600, "told to validators", minimum=1)
    max_evaluation_run_log_size_bytes: int = knob(500_000, "longest log kept; the rest is cut off", minimum=1)
    evaluation_set_seconds: int = knob(0, "open a new evaluation set this often; 0: only by command", minimum=0)
    snapshot_seconds: int = knob(10, "how often lists, scores and weights are recomputed", minimum=1)
    compact_seconds: int = knob(600, "how often new vectors move into the similarity index", minimum=1)
    github_api_url: str = knob("https://api.github.com", "where gists are read")
    github_token: str = knob("", "token for GitHub; empty: none, and GitHub allows 60 look-ups per hour")
    github_timeout_seconds: float = knob(5.0, "time for GitHub, all tries together", minimum=0.1, maximum=20)
    gist_cache_seconds: int = knob(60, "how long a gist is used without asking again", minimum=0)
    gist_max_age_seconds: int = knob(86_400, "age at which a gist is refused; 0: never", minimum=0)
    gist_require_single_commit: bool = knob(True, "refuse gists that were edited")
    gist_require_single_file: bool = knob(True, "refuse gists of several files")
    max_artifact_bytes: int = knob(131_072, "largest artifact file", minimum=1, maximum=131_072)
    max_system_prompt_tokens: int = knob(5_000, "longest system prompt", minimum=1)
    max_prompt_tokens: int = knob(10_000, "longest user prompt", minimum=1)
    token_counter: str = knob("approx", "how tokens are counted", choices=("approx", "o200k"))
    openrouter_api_url: str = knob("https://openrouter.ai/api/v1", "where temporary keys are checked")
    allowed_providers: tuple[str, ...] = knob(("CHUTES", "OPEN_ROUTER"), "model providers an artifact may use")
    openrouter_key_check: bool = knob(True, "ask OpenRouter whether the temporary key works")
    sku_check: bool = knob(True, "refuse templates with hard-coded product numbers")
    commitment_check: bool = knob(True, "require the commitment on chain")
    commitment_require_single: bool = knob(True, "exactly one revealed commitment per cycle (never on netuid 296)")
    commitment_attempts: int = knob(3, "looks at the chain's copy for a commitment not there yet", minimum=1, maximum=5)
    commitment_retry_seconds: float = knob(4.0, "pause between these looks", minimum=0, maximum=10)
    chain_stale_seconds: int = knob(600, "age of the chain's copy at which submissions stop", minimum=1)
    payment_mode: str = knob("off", "payment gate", choices=("off", "balance"))
    eval_price_usd: float = knob(60.0, "price of a submission in USD", minimum=0)
    eval_price_buffer: float = knob(1.4, "factor on the price", minimum=1)
    tao_price_usd: float = knob(400.0, "price of one TAO in USD that the gate reckons with", minimum=0.01)
    upload_send_address: str = knob("", "address shown by /eval-pricing")
    similarity_mode: str = knob("enforce", "what similarity does", choices=("enforce", "report", "off"))
    similarity_reject_distance: float = knob(0.0001, "below this distance a copy is refused", minimum=0, maximum=2)
    similarity_report_distance: float = knob(0.05, "below this distance a copy is reported", minimum=0, maximum=2)
    similarity_max_results: int = knob(5, "longest list of similar agents", minimum=1, maximum=50)
    similarity_fail_open: bool = knob(False, "accept without the check when the index does not answer")
    similarity_timeout_seconds: float = knob(3.0, "time for the index", minimum=0.1, maximum=10)
    similarity_wake_seconds: int = knob(
        240, "how often the index is kept warm while validators are connected", minimum=0
    )
    vector_version: int = knob(1, "version of the vectors; a change rebuilds the index", minimum=1)
    artifacts_bucket: str = knob("bitrecs-artifacts", "bucket of artifacts, logs, snapshots and the similarity index")
    public_reads: bool = knob(True, "GET routes need no API key; prompts of unfinished agents stay hidden")
    subset_weighting: str = knob("exponential", "points per won subset", choices=("exponential", "linear"))
    miner_emission_portion: float = knob(0.74, "share of emission for the winner", minimum=0, maximum=1)
    min_epsilon: float = knob(0.005, "smallest tolerance of dominance", minimum=0)
    max_epsilon: float = knob(0.05, "largest tolerance of dominance", minimum=0)
    z_score: float = knob(1.5, "z-score of the shown thresholds", minimum=0)
    min_threshold_gap: float = knob(0.02, "smallest gap of the shown thresholds", minimum=0)
    max_threshold_gap: float = knob(0.08, "largest gap of the shown thresholds", minimum=0)
    grace_period_days: float = knob(3.0, "days at full weight", minimum=0)
    decay_factor: float = knob(0.05, "weight lost per day afterwards", minimum=0, maximum=1)
    decay_floor: float = knob(0.25, "weight that stays", minimum=0, maximum=1)
    request_budget_seconds: float = knob(24.0, "time that one submission may take", minimum=1, maximum=28)


class Contract(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore", defer_build=True)


Uuid = Annotated[str, AfterValidator(str.lower), Field(pattern=r"(?i)" + _UUID)]
SetGroup = Literal["screener_1", "screener_2", "validator"]
AgentStatus = Literal[
    "screening_1", "failed_screening_1", "screening_2", "failed_screening_2", "evaluating", "finished"
]


class Submission(Contract):
    """The signed body of /check and /submit. Address and signature have refusals of their own, later."""

    created_at: str = Field(
        pattern=r"^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]{1,6})?(Z|[+-][0-9]{2}:[0-9]{2})$",
        strict=True,
    )
    github_account: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9-]{0,38}$", strict=True)
    gist_id: str = Field(pattern=r"^[0-9a-f]{20,40}$", strict=True)
    hotkey: str = Field(max_length=200, strict=True)
    signature: str = Field(max_length=1000, strict=True)


class Similar(Contract):
    agent_id: str
    distance: float


class Accepted(Contract):
    artifact_id: str
    request_id: str
    message: str = "Artifact submitted successfully"
    similarity_check: Literal["enabled", "disabled"]
    similar_results: list[Similar]


class Checked(Contract):
    status: str = "success"
    message: str = "Agent check successful"


class PolicyLimits(Contract):
    """The limits that the artifact policy is decided with."""

    system_tokens: int
    prompt_tokens: int
    token_counter: str
    allowed_providers: tuple[str, ...]
    sku_check: bool


class Artifact(Contract):
    """What an artifact file says, as far as anybody uses it."""

    name: str
    version_num: int
    status: str
    miner_hotkey: str
    provider: str
    model: str
    system_prompt_template: str
    user_prompt_template: str
    sampling_params: dict[str, Any]
    fewshot_examples: list[dict[str, str]]
    eval_scores: dict[str, float]
    has_agent_id: bool


class GistFile(Contract):
    size: int = 0
    truncated: bool = False
    content: str | None = None


class GistOwner(Contract):
    login: str


class GistCommit(Contract):
    version: str = Field(pattern=r"^[0-9a-f]{40}$")


class Gist(Contract):
    """One look at a gist: everything that is validated, hashed and stored comes from it."""

    created_at: str = Field(pattern=r"^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}(Z|[+-][0-9]{2}:[0-9]{2})$")
    owner: GistOwner | None = None
    files: dict[str, GistFile] = {}
    history: list[GistCommit] = []
    truncated: bool = False


class ScoreRow(Contract):
    """What one run of a validator says about a miner at one task."""

    run_id: str
    uid: int
    hotkey: str
    task_name: str
    score: float
    success: bool
    duration: float
    created_at: str
    evaluation_set_id: int
    sample_size: int
    validator_hotkey: str
    agent_id: str
    first_block: int


class AgentQuery(Contract):
    agent_id: Uuid


class HotkeyQuery(Contract):
    miner_hotkey: str


class QueueQuery(Contract):
    stage: SetGroup


class SetQuery(Contract):
    set_id: int = Field(ge=1, le=10**9)


class SwitchOrder(Contract):
    enabled: bool = Field(strict=True)


class BanOrder(Contract):
    hotkey: str = Field(max_length=200)
    reason: str = Field("", max_length=500)
    banned: bool = True


class ValidatorOrder(Contract):
    hotkey: str = Field(max_length=200)
    name: str = Field("", max_length=100)
    listed: bool = True


class SetOrder(Contract):
    set_id: int = Field(ge=1, le=10**9)


class KeyOrder(Contract):
    label: str = Field("", max_length=100)
    revoke: str | None = Field(None, max_length=64)


class Agent(Contract):
    """An agent as everybody may see it; prompts are null until it is terminal, for callers without a key."""

    agent_id: str
    miner_hotkey: str
    name: str
    version_num: int
    status: AgentStatus
    created_at: str
    ip_address: str = Field(description="the request id, in place of the address")
    miner_uid: int
    provider: str
    model: str
    system_prompt_template: str | None = None
    user_prompt_template: str | None = None
    sampling_params: dict[str, Any] | None = None
    fewshot_examples: list[dict[str, str]] | None = None
    eval_scores: dict[str, float] = {}
    is_benchmark_agent: bool = False
    benchmark_description: str | None = None
    set_id: int
    final_score: float | None = None
    gist_id: str
    github_account: str
    commit_sha: str
    content_sha256: str
    reveal_block: int | None = None


class ScoredAgent(Agent):
    approved: bool
    validator_count: int
