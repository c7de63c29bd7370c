"""What Pool's routes take and answer, and its knobs."""

from __future__ import annotations

import math
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, StrictInt, StrictStr

from chalicelib.kernel import keys
from chalicelib.kernel.settings import KernelSettings, Settings, knob

MAX_EVOLUTIONS_LISTED = 16
MAX_PARENTS = 64
MAX_GOSSIP = 50
MAX_GENOME_BYTES = 16384
MAX_U32 = 2**32 - 1
MAX_U64 = 2**64 - 1
MAX_ID = 10**12
TASK_TYPES = ("cifar10_binary", "mnist_binary", "scalar_linear")


class PoolSettings(Settings, system="pool"):
    """Pool's knobs."""

    auth_window_s: int = knob(300, "how far a signed request's timestamp may be from now", minimum=1)
    auth_replay_guard: str = knob(
        "submit", "on which requests a signature counts once", choices=("submit", "all_mutations", "off")
    )
    registration_mode: str = knob(
        "open", "who may register: everybody, or hotkeys of the subnet", choices=("open", "metagraph")
    )
    verifier_hotkeys: tuple[str, ...] = knob((), "who may verify results; empty: every registered miner")
    max_body_bytes: int = knob(262_144, "largest request body in bytes", minimum=1)
    chain_stale_s: int = knob(600, "age at which chain data makes the pool degraded", minimum=1)
    window_blocks: int | None = knob(None, "blocks of a window; empty: 320, in production 7200", minimum=1)
    block_seconds: int = knob(12, "seconds between blocks", minimum=1)
    enabled_task_types: tuple[str, ...] = knob(("cifar10_binary",), "problems that are open: " + ", ".join(TASK_TYPES))
    eval_batch_size: int = knob(5, "candidates in an evaluation batch", minimum=1, maximum=32)
    evolve_seed_count: int = knob(2, "programs in an evolution batch", minimum=1, maximum=32)
    lease_eval_batch_default: int = knob(8, "candidates in a lease that names no number", minimum=2, maximum=32)
    lease_seed_batch_default: int = knob(8, "seeds in a lease that names no number", minimum=2, maximum=32)
    lease_max_batch: int = knob(32, "most candidates or seeds in a lease", minimum=2, maximum=32)
    gossip_default: int = knob(20, "gossiped ids in a lease that names no number", minimum=0, maximum=MAX_GOSSIP)
    task_timeout_s: int = knob(10_800, "time to submit a batch", minimum=1)
    lease_timeout_s: int = knob(1800, "time to submit a lease; at least 300 in production", minimum=1)
    lease_enforce_window: bool | None = knob(None, "one lease per miner and window; empty: in production only")
    lease_min_iterations: int = knob(0, "iterations that a lease submission has to declare", minimum=0)
    consensus_k: int = knob(3, "evaluations that have to agree", minimum=2, maximum=7)
    max_evals: int = knob(7, "evaluations after which a candidate without agreement is given up", minimum=2, maximum=15)
    tolerance_ratio: float = knob(0.10, "spread of agreeing scores, relative to their median", minimum=0, maximum=1)
    exclude_same_recipient: bool = knob(True, "nobody evaluates a program of a miner paid to the same coldkey")
    assign_shuffle: bool = knob(True, "hand out equally urgent candidates in an order that nobody can foresee")
    max_open_candidates: int = knob(5, "unfinished candidates of one miner that stop further evolution", minimum=1)
    max_backlog: int = knob(500, "unfinished candidates of all that stop further evolution", minimum=1, maximum=500)
    evaluator_weight: float = knob(1.0, "reputation for an evaluation that agrees", minimum=0, maximum=1e6)
    evolver_weight: float = knob(100.0, "reputation for a whole point of improvement", minimum=0, maximum=1e6)
    repeat_penalty: float = knob(
        0.0, "reputation that each repetition of a program costs its author when it is verified", minimum=0, maximum=1e6
    )
    repeat_scope: str = knob("miner", "whose repetitions count", choices=("miner", "global", "both"))
    baseline_mode: str = knob(
        "sota", "what an evolution has to improve on", choices=("sota", "genealogy", "local_evolver")
    )
    min_reward_activity: int = knob(1, "evaluations and evolutions in a window that a payout needs", minimum=0)
    sota_floor: float = knob(0.5, "state of the art before the first verified result", minimum=-1e6, maximum=1e6)
    max_dsl_bytes: int = knob(MAX_GENOME_BYTES, "longest program", minimum=64, maximum=MAX_GENOME_BYTES)
    max_dsl_lines: int = knob(600, "lines of the longest program", minimum=1, maximum=10_000)
    max_bad_line_ratio: float = knob(0.5, "share of unreadable lines that spoils a program", minimum=0, maximum=1)
    epoch_budget_units: int = knob(1_000_000_000, "units paid per window", minimum=0, maximum=MAX_U64)
    pool_fee: float = knob(0.05, "share of the budget that is kept", minimum=0, maximum=1)
    max_share: float = knob(0.05, "largest share of the budget for one miner", minimum=0, maximum=1)
    epoch_grace_s: int = knob(60, "seconds between the end of a window and its payout", minimum=0)
    timers_interval: int = knob(60, "seconds between looks for assignments without a running timer", minimum=1)
    rounds_interval: int = knob(60, "seconds between looks for credits that no flow has paid", minimum=1)
    windows_interval: int = knob(60, "seconds between looks for windows to pay out", minimum=1)
    merkle_claim_enabled: bool = knob(False, "serve the claim routes inside the pool")
    merkle_claim_path_prefix: str = knob("/claims", "where the claim routes stand inside the pool")
    claim_simulation_enabled: bool = knob(False, "take claims and keep a ledger of them")
    merkle_claim_default_epoch: int | None = knob(None, "default epoch; empty: the newest", minimum=0, maximum=MAX_U64)
    publish_chunk: int = knob(20_000, "claims that one step of a publication writes", minimum=1, maximum=100_000)
    epochs_bucket: str = knob("pool-epochs", "bucket that keeps published epochs")
    docs_enabled: bool = knob(True, "serve the API reference of the pool and of the claim routes")
    compat_status_route: bool = knob(True, "answer at /status what /health answers, for older verifiers")
    onchain_enabled: bool = knob(False, "a publisher brings epochs on chain")
    onchain_contract: str = knob("", "address of the claim contract, for display")
    onchain_publisher: str = knob("", "address of the publisher, for display")

    @property
    def in_production(self) -> bool:
        return KernelSettings.current().environment == "production"

    @property
    def blocks_per_window(self) -> int:
        return self.window_blocks or (7200 if self.in_production else 320)

    @property
    def one_lease_per_window(self) -> bool:
        return self.in_production if self.lease_enforce_window is None else self.lease_enforce_window

    @property
    def lease_seconds(self) -> int:
        """A worker keeps minutes in reserve for its submission, so production never leaves it fewer than five."""
        return max(self.lease_timeout_s, 300) if self.in_production else self.lease_timeout_s

    @property
    def claim_prefix(self) -> str:
        return "/" + self.merkle_claim_path_prefix.strip("/")


def _score(value: Any) -> Any:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise ValueError("a score is a number")  # noqa: TRY004 - pydantic takes no TypeError
    if not math.isfinite(value):
        raise ValueError("a score is finite")
    return float(value) + 0.0


def _address(text: str) -> str:
    try:
        keys.public_key(text)
    except keys.BadAddress as error:
        raise ValueError(str(error)) from None
    return text


def _parent_id(value: Any) -> Any:
    """`{"id": 7}`, `7` and `"7"` name the same program."""
    found = value.get("id") if isinstance(value, dict) else value
    if isinstance(found, str) and found.isascii() and found.isdigit() and len(found) <= len(str(MAX_ID)):
        return int(found)
    return found


# Any integer may be named: one that was never given to a program is a foreign id, no malformed one.
AlgorithmId = StrictInt
# The sum with 0.0 turns a negative zero into zero.
Score = Annotated[float, BeforeValidator(_score), Field(ge=0, le=1)]
Address = Annotated[StrictStr, AfterValidator(_address)]
HashHex = Annotated[StrictStr, Field(pattern=r"^(0[xX])?[0-9a-fA-F]{64}$")]


class Contract(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore", defer_build=True)


class RegisterRequest(Contract):
    """An object; whatever it holds means nothing."""


class TaskRequest(Contract):
    task_type: Literal["evolve", "evaluate"] | None = None


class LeaseRequest(Contract):
    task_type: StrictStr | None = None
    eval_batch_size: Annotated[StrictInt, Field(ge=2)] | None = None
    seed_batch_size: Annotated[StrictInt, Field(ge=2)] | None = None
    gossip_limit: Annotated[StrictInt, Field(ge=0)] | None = None
    sim_window_number: Annotated[StrictInt, Field(ge=0, le=MAX_ID)] | None = None


class Evaluation(Contract):
    algorithm_id: AlgorithmId
    score: Score


class Evolution(Contract):
    parent_algorithm_ids: Annotated[list[AlgorithmId], Field(max_length=MAX_PARENTS)] = []
    algorithm_dsl: StrictStr


class Gossip(Contract):
    task_type: StrictStr
    algorithm_ids: Annotated[list[AlgorithmId], Field(max_length=MAX_GOSSIP)]


class LeaseSubmission(Contract):
    evaluations: list[Evaluation] = []
    evolutions: Annotated[list[Evolution], Field(max_length=MAX_EVOLUTIONS_LISTED)] = []
    gossip: Gossip | None = None
    iterations: Annotated[StrictInt, Field(ge=0, le=10**15)] = 0


def _genome_size(text: str) -> str:
    if not 1 <= len(text.encode()) <= MAX_GENOME_BYTES:
        raise ValueError(f"a program has 1 to {MAX_GENOME_BYTES} bytes")
    return text


class EvolutionSubmission(Contract):
    evolved_function: Annotated[StrictStr, AfterValidator(_genome_size)]
    parent_functions: Annotated[
        list[Annotated[AlgorithmId, BeforeValidator(_parent_id)]], Field(max_length=MAX_PARENTS)
    ]


class EvaluationSubmission(Contract):
    evaluations: list[Evaluation]


class LeaderboardQuery(Contract):
    limit: Annotated[int, Field(ge=1, le=100)] = 20


class ResultsQuery(Contract):
    limit: Annotated[int, Field(ge=1, le=200)] = 50
    task_type: str | None = None
    min_score: Annotated[float, Field(allow_inf_nan=False)] | None = None


class SotaQuery(Contract):
    task_type: str = "cifar10_binary"


class LedgerQuery(Contract):
    limit: Annotated[int, Field(ge=1, le=1000)] = 1000
    after: Annotated[int, Field(ge=-1, le=MAX_U32)] = -1


class Claim(Contract):
    """A leaf as its owner states it, and the path that proves it."""

    index: Annotated[StrictInt, Field(ge=0, le=MAX_U32)]
    hotkey: Address
    recipient_coldkey: Address
    amount_units: Annotated[StrictInt, Field(ge=1, le=MAX_U64)]
    proof: Annotated[list[HashHex], Field(max_length=64)]


class Registration(Contract):
    status: str = Field(description="`registered` the first time, then `refreshed`")
    created: bool
    miner_hotkey: str
    reputation: float
    registered_at: str
    last_seen_at: str
    recipient_coldkey: str | None


class Program(Contract):
    """A program as miners get it."""

    id: int
    algorithm_dsl: str
    task_type: str
    input_dim: int


class Parent(Program):
    """A program to evolve from; its score where it is known, and the caller can no longer be asked for it."""

    score: float | None


class Batch(Contract):
    batch_id: str
    task_type: str
    algorithms: list[Program]
    window_number: int
    assigned_at: str
    timeout_at: str


class Lease(Contract):
    lease_id: str
    window_number: int
    task_type: str
    issued_at: str
    timeout_at: str
    evolve_budget: int
    evaluate_algorithms: list[Program]
    seed_algorithms: list[Parent]
    gossip: Gossip


class Result(Contract):
    result_id: int
    algorithm_id: int
    task_type: str
    input_dim: int
    algorithm_dsl: str
    score: float
    miner_hotkey: str | None
    parent_algorithm_ids: list[int]
    evaluations: int
    window_number: int
    status: str
    completed_at: str
    verified_at: str
    verified_by: str


class Results(Contract):
    results: list[Result]
    count: int


class ProofPackage(Contract):
    epoch: int
    index: int
    hotkey: str
    recipient_coldkey: str
    amount_units: int
    amount: int
    leaf: str
    proof: list[str]
    root: str
    scheme: str
    amount_mode: str
