"""What Experts' routes answer, and its knobs."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Self

from pydantic import BaseModel, ConfigDict, Field

from chalicelib.kernel.settings import SettingError, Settings, knob

_MIB = 1024 * 1024
_GIB = 1024 * _MIB
LARGEST_INLINE = 4 * _MIB  # a function's answer has at most 6 MB, a third of them for base64
CYCLE = (
    "Distribute:20", "Train:300", "MinerCommit1:10", "MinerCommit2:10", "Submission:80", "Validate:10", "Merge:50",
    "ValidatorCommit1:10", "ValidatorCommit2:10",
)  # fmt: skip
PUBLIC_PHASES = (
    "Distribute:distribute", "Train:train", "MinerCommit1:commit", "MinerCommit2:commit", "Submission:submit",
    "Validate:commit", "Merge:commit", "ValidatorCommit1:commit", "ValidatorCommit2:commit",
)  # fmt: skip

PUBLIC_NAMES = ("distribute", "train", "commit", "submit")
_BLOCKS = re.compile(r"[1-9][0-9]{0,8}")


def parse_phases(phases: Iterable[str], public: Iterable[str]) -> list[tuple[str, str, int]]:
    """Detailed name, public name and length of each phase."""
    names = dict(entry.split(":", 1) for entry in public if ":" in entry)
    found = []
    for entry in phases:
        detail, _, length = entry.partition(":")
        name = names.get(detail, detail)
        if name not in PUBLIC_NAMES or not _BLOCKS.fullmatch(length.strip()):
            raise ValueError(f"{entry!r} is no phase")
        found.append((detail, name, int(length)))
    if "submit" not in {name for _, name, _ in found}:
        raise ValueError("a cycle needs a submit phase")
    return found


class ExpertsSettings(Settings, system="experts"):
    """Delivery, submission, evaluation and merging of expert groups."""

    bz_auth_token: tuple[str, ...] = knob(
        (), "bearer tokens shared by all miners; none: every request is 401", secret=True
    )
    block_seconds: float = knob(12.0, "seconds between two blocks", minimum=0.001)
    phases: tuple[str, ...] = knob(CYCLE, "phases of a cycle with their lengths in blocks, in order")
    public_phase_map: tuple[str, ...] = knob(PUBLIC_PHASES, "the public name of each phase")
    phase_extrapolate: bool = knob(
        False, "decide a submission on the block that should be by now instead of the newest observed one"
    )
    head_max_age_s: float = knob(120.0, "age from which the newest block is no basis for a decision", minimum=1)
    metagraph_max_age_s: float = knob(
        3600.0, "age from which the copied metagraph is no basis for a decision", minimum=1
    )
    validator_whitelist: tuple[str, ...] = knob((), "validators that may fetch the full model; empty: who has a permit")
    validator_max_weight_age: int = knob(0, "oldest weights, in blocks, of a validator that fetches; 0: any", minimum=0)
    full_allow_unsigned_hotkey: bool = knob(False, "believe X-Hotkey of /model/full without a signature")
    full_sig_skew_s: int = knob(60, "how far X-Timestamp of /model/full may be from now", minimum=1)
    enforce_group_assignment: bool = knob(False, "refuse a group other than the one the hotkey committed to")
    slice_content: str = knob(
        "experts", "what a slice holds unless the query says so", choices=("experts", "shared", "experts+shared")
    )
    envelope_align: int = knob(4096, "the payload starts on a multiple of this many bytes", minimum=8, maximum=65536)
    delivery_mode: str = knob(
        "auto",
        "auto by size; inline: up to 4 MiB whatever the size says; redirect: always",
        choices=("auto", "inline", "redirect"),
    )
    inline_max_bytes: int = knob(
        LARGEST_INLINE, "largest slice that the API itself answers", minimum=0, maximum=LARGEST_INLINE
    )
    presign_ttl_s: int = knob(900, "how long a slice's URL is good", minimum=1, maximum=43200)
    full_presign_ttl_s: int = knob(3600, "how long the full model's URL is good", minimum=1, maximum=43200)
    max_grants_per_cycle: int = knob(20, "URLs per token and address in one cycle", minimum=1)
    keep_versions: int = knob(3, "published versions that are kept", minimum=1)
    slice_hash_way: str = knob(
        "auto", "who hashes an imported slice: storage where it can, or we by reading it", choices=("auto", "stream")
    )
    copy_threads: int = knob(8, "part copies under way at once", minimum=1, maximum=64)
    stream_range_bytes: int = knob(32 * _MIB, "bytes read or sent in one piece while streaming", minimum=65536)
    signature_schemes: tuple[str, ...] = knob(("ed25519", "sr25519"), "curves whose signatures count")
    submit_message_format: str = knob(
        "json-v1", "what a submission's signature covers", choices=("json-v1", "legacy-colon")
    )
    submit_body_max: int = knob(8192, "largest body of a submission in bytes", minimum=256)
    block_window: str = knob("cycle", "which block numbers a submission may name", choices=("cycle", "strict"))
    max_submissions_per_cycle: int = knob(3, "blocks a hotkey may submit for in one cycle", minimum=1)
    dedupe_ttl_cycles: int = knob(10, "cycles for which hotkey and block count as used", minimum=1)
    submission_status_route: bool = knob(True, "miners may ask what became of a submission")
    eval_seconds_est: float = knob(60.0, "expected seconds of one evaluation until some were measured", minimum=0.001)
    eval_parallelism: int = knob(1, "evaluations that run side by side", minimum=1)
    eval_timeout_s: int = knob(300, "seconds after which an evaluation is given up", minimum=1, maximum=840)
    eval_max_batches: int = knob(50, "held-out batches of one evaluation", minimum=1)
    evaluator: str = knob(
        "proxy",
        "who measures a checkpoint: stub (no torch), proxy (a tiny model on a CPU), gpu (the operator's container)",
        choices=("stub", "proxy", "gpu"),
    )
    evaluator_python: str = knob("", "interpreter of the evaluator; empty: the laptop's own, else this one")
    max_checkpoint_bytes: int = knob(8 * _GIB, "largest checkpoint", minimum=1024)
    checkpoint_slack: float = knob(1.1, "how much larger than the slice a checkpoint may be", minimum=1)
    pickle_max_bytes: int = knob(16 * _MIB, "largest pickle inside a checkpoint", minimum=64)
    pickle_max_ops: int = knob(1_000_000, "most steps of a checkpoint's pickle", minimum=10)
    max_update_norm: float = knob(1.0, "how far a tensor may move, relative to its norm; 0: any distance", minimum=0)
    max_nonfinite_batch_share: float = knob(0.1, "share of batches without a finite loss", minimum=0, maximum=1)
    score_exponent: float = knob(1.2, "exponent of the loss difference", minimum=0.1)
    rank_scores: tuple[str, ...] = knob(("2.25", "1.5", "1.0"), "what the best of a round get")
    top_k_merge: int = knob(1, "checkpoints merged per group and round", minimum=1)
    outer_lr: float = knob(0.7, "learning rate of the outer optimiser", minimum=0)
    outer_momentum: float = knob(0.9, "momentum of the outer optimiser", minimum=0, maximum=1)
    nesterov: bool = knob(True, "Nesterov's form of the momentum")
    round_seconds: float = knob(10.0, "how often rounds are looked at", minimum=0)
    overview_seconds: float = knob(10.0, "how often the dashboard's summary is renewed", minimum=0)
    housekeeping_seconds: float = knob(600.0, "how often lost work is restarted and old versions retired", minimum=0)
    eval_start: str = knob(
        "immediate", "evaluate at once, or when the submit phase is over", choices=("immediate", "validate")
    )
    never: float = 0.0
    model_bucket: str = knob("experts-models", "bucket of models, blocks and slices")

    @classmethod
    def load(cls, environment: Mapping[str, str], file: Mapping[str, str] | None = None) -> Self:
        """Phases that make no cycle stop the start."""
        found = super().load(environment, file)
        try:
            parse_phases(found.phases, found.public_phase_map)
        except ValueError:
            must_be = "a list of NAME:BLOCKS whose names PUBLIC_PHASE_MAP maps to distribute, train, commit and submit"
            raise SettingError("PHASES", ",".join(found.phases), must_be) from None
        return found


class FetchSettings(Settings, system="experts"):
    """Fetching from strangers; apart from the rest, for the task that does it may read no secret."""

    fetch_ports: tuple[str, ...] = knob(("443",), "ports of checkpoint URLs")
    fetch_any_suffix: bool = knob(False, "take checkpoint URLs that end in neither .pt nor .safetensors")
    fetch_max_redirects: int = knob(0, "redirects followed while fetching, each checked anew", minimum=0, maximum=5)
    fetch_total_s: float = knob(300.0, "seconds for a whole checkpoint", minimum=1, maximum=840)
    fetch_connect_s: float = knob(5.0, "seconds for a connection", minimum=0.1)
    fetch_first_byte_s: float = knob(15.0, "seconds until a server answers", minimum=0.1)
    fetch_min_bps: float = knob(1e6, "bytes per second a server must keep up after ten seconds", minimum=0)
    fetch_concurrency: int = knob(2, "checkpoints fetched at the same time; of one hotkey never two", minimum=1)
    own_domains: tuple[str, ...] = knob((), "domains of ours that no checkpoint may come from")
    quarantine_bucket: str = knob("experts-quarantine", "bucket of fetched checkpoints")


class Contract(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore", defer_build=True, protected_namespaces=())


class Health(Contract):
    status: str = Field(description="`healthy` when a model is loaded and blocks are observed, else `degraded`")
    model_loaded: bool = Field(description="whether a model version is published")
    current_block: int = Field(description="most recently observed chain block")
    phase: str = Field(description="`distribute`, `train`, `commit` or `submit`")
    phase_detail: str
    blocks_remaining: int = Field(description="blocks of this phase after the current one")
    model_version: str | None = None
    block_age_s: float | None = Field(None, description="seconds since the block was observed")


class SliceGrant(Contract):
    """A slice by URL, for clients that ask for JSON."""

    expert_group: int
    block_number: int
    model_version: str
    content_hash: str
    payload_bytes: int
    wire_bytes: int
    url: str
    url_expires_at: str
    etag: str


class Block(Contract):
    """A part of the full model that can be fetched by itself; `content_hash` is null where storage keeps none."""

    name: str
    bytes: int
    content_hash: str | None
    url: str


class FullModel(Contract):
    model_version: str
    block_number: int
    url: str
    url_expires_at: str
    bytes: int
    crc64nvme: str | None
    blocks: list[Block]


class NewSubmission(Contract):
    hotkey: str = Field(description="the miner's SS58 hotkey")
    expert_group: int = Field(ge=0, description="expert group the checkpoint was trained for")
    checkpoint_url: str = Field(description="https URL of a .pt or .safetensors file")
    block_number: int = Field(ge=0, description="chain block at which the training cycle ended")
    signature: str = Field(description="URL-safe base64 of the signature over the four other fields")


class Accepted(Contract):
    status: str = "accepted"
    submission_id: str
    evaluation_eta_blocks: int


class SubmissionStatus(Contract):
    submission_id: str
    hotkey: str
    expert_group: int
    block_number: int
    state: str = Field(description="accepted, fetching, validating, evaluating, scored, rejected or failed")
    reason: str | None = None
    code: str | None = None
    score: float | None = None
    rank_score: float | None = None
    merged_into: str | None = None
    updated_at: str
