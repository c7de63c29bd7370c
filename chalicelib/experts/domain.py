"""Experts' decisions: the phase clock, who may do what, what a submission is worth, who is merged."""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

from chalicelib.kernel.errors import Conflict, Forbidden, Locked, Malformed, NotFound, Unavailable
from chalicelib.kernel.values import fields as fields_of
from chalicelib.kernel.values import frozen

from .contracts import parse_phases

SUBMIT = "submit"
DISTRIBUTE = "distribute"
TRAIN = "train"

ACCEPTED, FETCHING, VALIDATING, EVALUATING = "accepted", "fetching", "validating", "evaluating"
SCORED, REJECTED, FAILED = "scored", "rejected", "failed"
FINAL = frozenset({SCORED, REJECTED, FAILED})
STATES = (ACCEPTED, FETCHING, VALIDATING, EVALUATING, SCORED, REJECTED, FAILED)

_GROUP = re.compile(r"-?[0-9]{1,9}")
_LARGEST_GROUP = 2**31
_LARGEST_BLOCK = 2**63
_STRICT_WINDOW = 2
_NEAR_COPY = 0.9999
_CLEAR_RESTART_SECONDS = 30


@frozen
class Cycle:
    """The phases of a cycle: lengths in blocks, detailed and public names. Block 0 begins the first cycle."""

    lengths: tuple[int, ...]
    details: tuple[str, ...]
    names: tuple[str, ...]

    @property
    def length(self) -> int:
        return sum(self.lengths)

    def number(self, block: int) -> int:
        return block // self.length

    def start(self, block: int) -> int:
        return block - block % self.length

    def at(self, block: int) -> Phase:
        """The phase that the block belongs to; its last block is inclusive."""
        begin = self.start(block)
        for length, detail, name in zip(self.lengths, self.details, self.names, strict=True):
            if block < begin + length:
                return Phase(name, detail, begin, begin + length - 1)
            begin += length
        raise AssertionError("the phases of a cycle cover it")

    def next_start(self, name: str, block: int) -> int:
        """The first block after this one in which the public phase begins anew or goes on."""
        candidate = self.at(block).last + 1
        while self.at(candidate).name != name:
            candidate = self.at(candidate).last + 1
        return candidate

    def first_of(self, name: str, block: int) -> int:
        """Where the public phase begins in the block's cycle."""
        begin = self.start(block)
        for length, own in zip(self.lengths, self.names, strict=True):
            if own == name:
                return begin
            begin += length
        return begin

    def end_of(self, name: str, block: int) -> int:
        """The last block of the public phase in the block's cycle."""
        begin, last = self.start(block), self.start(block) - 1
        for length, own in zip(self.lengths, self.names, strict=True):
            begin += length
            if own == name:
                last = begin - 1
        return last


@frozen
class Phase:
    name: str
    detail: str
    first: int
    last: int


def cycle(phases: Iterable[str], public: Iterable[str]) -> Cycle:
    """The cycle that `PHASES` and `PUBLIC_PHASE_MAP` describe; its length is always the sum of its phases."""
    found = parse_phases(phases, public)
    details, names, lengths = zip(*found, strict=True)
    return Cycle(lengths, details, names)


def group_header(text: str | None) -> int:
    """The `X-Expert-Group` header."""
    if text is None:
        raise Malformed("X-Expert-Group is missing", code="missing_header")
    if not _GROUP.fullmatch(text):
        raise Malformed("X-Expert-Group is a whole number", code="bad_expert_group")
    return int(text)


def check_group(group: int, groups: Collection[int] | None) -> None:
    """404 for a group outside the assignment comes before 503; without an assignment nobody can tell."""
    if groups is None:
        raise model_not_loaded()
    if group not in groups:
        raise NotFound(f"Expert group {group} does not exist", code="expert_group_not_found")


def model_not_loaded() -> Unavailable:
    return Unavailable(
        "The model has not finished loading", code="model_not_loaded", retry_after=_CLEAR_RESTART_SECONDS
    )


def check_head(observed_at: float | None, *, now: float, oldest: float) -> None:
    if observed_at is None or now - observed_at > oldest:
        raise Unavailable("No fresh block has been observed", code="chain_head_stale", retry_after=12)


def block_by_now(observed: int, age: float, block_seconds: float) -> int:
    """The block that should be, if blocks kept coming since one was observed."""
    return observed + int(max(0.0, age) // block_seconds)


def check_metagraph(synced_at: float | None, *, now: float, oldest: float) -> None:
    if synced_at is None or now - synced_at > oldest:
        raise Unavailable("The metagraph has not been read lately", code="metagraph_stale", retry_after=12)


def check_validator(hotkey: str, neuron: Any, *, whitelist: Collection[str], block: int, oldest_weights: int) -> None:
    """Registered, whitelisted or else permitted, and with weights that are recent enough."""
    allowed = neuron is not None and (hotkey in whitelist if whitelist else neuron.validator_permit)
    if allowed and oldest_weights:
        allowed = block - neuron.last_update <= oldest_weights
    if not allowed:
        raise Forbidden("This hotkey is not registered as a validator", code="not_a_validator")


@frozen
class Fields:
    """The five fields of a submission, each of its own type."""

    hotkey: str
    expert_group: int
    checkpoint_url: str
    block_number: int
    signature: str


def fields(body: Any) -> Fields:
    """The body's fields; the first that is absent or of another type is named."""
    if not isinstance(body, dict):
        raise Malformed("The body is a JSON object", code="bad_json")
    for name in ("hotkey", "expert_group", "checkpoint_url", "block_number", "signature"):
        value, wanted = body.get(name), int if name in {"expert_group", "block_number"} else str
        if type(value) is not wanted:
            kind = "an integer" if wanted is int else "a string"
            raise _bad_field(name, f"{name} is required and is {kind}")
    if not 0 <= body["expert_group"] < _LARGEST_GROUP:
        raise _bad_field("expert_group", "expert_group is out of range")
    if not 0 <= body["block_number"] < _LARGEST_BLOCK:
        raise _bad_field("block_number", "block_number is out of range")
    return Fields(**{field.name: body[field.name] for field in fields_of(Fields)})


def _bad_field(name: str, detail: str) -> Malformed:
    return Malformed(detail, code="bad_field", extra={"field": name})


def signed_message(submission: Fields, form: str) -> bytes:
    """What a submission's signature covers; the URL counts as it was sent."""
    if form == "legacy-colon":
        values = (submission.hotkey, submission.expert_group, submission.checkpoint_url, submission.block_number)
        return ":".join(map(str, values)).encode()
    covered = {
        "block_number": submission.block_number,
        "checkpoint_url": submission.checkpoint_url,
        "expert_group": submission.expert_group,
        "hotkey": submission.hotkey,
    }
    return json.dumps(covered, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def full_message(path: str, timestamp: str, host: str) -> bytes:
    return f"GET\n{path}\n{timestamp}\n{host}".encode()


def check_phase(clock: Cycle, block: int, block_seconds: float) -> None:
    """Submissions are taken in the submit phase; the refusal says when the next one begins."""
    phase = clock.at(block)
    if phase.name == SUBMIT:
        return
    following = clock.next_start(SUBMIT, block)
    raise Locked(
        "Not currently in submit phase",
        code="not_submit_phase",
        retry_after=max(1.0, (following - block) * block_seconds),
        extra={"phase": phase.name, "current_block": block, "next_submit_block": following},
    )


def check_block(clock: Cycle, block_number: int, current: int, *, strict: bool) -> None:
    """The named block lies in the current cycle after distribution and is not in the future."""
    first, last = clock.start(current), current
    if DISTRIBUTE in clock.names and clock.names[0] == DISTRIBUTE:
        first = clock.at(first).last + 1
    if strict:
        trained = clock.end_of(TRAIN, current)
        first, last = trained - _STRICT_WINDOW, min(current, trained + _STRICT_WINDOW)
    if not first <= block_number <= last:
        raise Malformed(f"block_number must be between {first} and {last}", code="block_out_of_window")


def check_submittable(group: int, groups: Collection[int] | None, *, registered: bool) -> None:
    if not registered:
        raise Malformed("This hotkey is not registered on the subnet", code="unregistered_hotkey")
    if groups is None:
        raise model_not_loaded()
    if group not in groups:
        raise Malformed(f"Expert group {group} does not exist", code="unknown_expert_group")


def duplicate(submission_id: str) -> Conflict:
    return Conflict(
        "This hotkey has already submitted for this block",
        code="duplicate_submission",
        extra={"submission_id": submission_id},
    )


def too_many(limit: int) -> Conflict:
    return Conflict(f"At most {limit} submissions per hotkey and cycle", code="too_many_submissions")


def eta_blocks(waiting: int, seconds_each: float, parallelism: int, block_seconds: float) -> int:
    """When the one after those that wait will be done, in blocks."""
    return max(1, math.ceil((max(0, waiting) + 1) * seconds_each / (parallelism * block_seconds)))


def committed_group(data: str) -> int | None:
    """The group that a miner's revealed commitment names; None where it names none."""
    try:
        found = json.loads(data)
    except (ValueError, RecursionError):
        return None
    group = found.get("e") if isinstance(found, dict) else None
    return group if type(group) is int else None


def round_seed(commitments: Mapping[str, str], secret: str) -> str:
    """What picks the held-out batches: the validators' commitments in hotkey order, and a secret of the round."""
    joined = "".join(commitments[hotkey] for hotkey in sorted(commitments)) + secret
    return hashlib.sha256(joined.encode()).hexdigest()


def score(baseline: float, val_loss: float, exponent: float) -> float:
    """Zero unless the checkpoint is better than its base."""
    delta = max(0.0, baseline - val_loss)
    return float(delta**exponent) if math.isfinite(delta) else 0.0


def newest_per_miner(items: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """A miner's last submission of a round is the one that counts: nobody competes with, or copies, oneself."""
    found: dict[str, dict[str, Any]] = {}
    for item in sorted(items, key=lambda item: (item["created_at"], item["submission_id"])):
        found[item["pubkey"]] = item
    return list(found.values())


@frozen
class Entry:
    """A scored submission of one round and group."""

    submission_id: str
    uid: int
    score: float
    content_hash: str
    sketch: tuple[float, ...] = ()


def ranked(entries: Sequence[Entry], rewards: Sequence[float]) -> dict[str, float]:
    """The best unique scores get the rewards; copies, told by bytes or by exactly equal scores, get nothing."""
    honest = [entry for entry in entries if entry.score > 0 and entry.submission_id not in copies(entries)]
    honest.sort(key=lambda entry: (-entry.score, entry.uid))
    found = dict.fromkeys((entry.submission_id for entry in entries), 0.0)
    found.update({entry.submission_id: reward for entry, reward in zip(honest, rewards, strict=False)})
    return found


def copies(entries: Sequence[Entry]) -> set[str]:
    """Submissions whose bytes or whose positive score somebody else handed in too."""
    found = set()
    for entry in entries:
        for other in entries:
            same = entry.content_hash == other.content_hash or entry.score == other.score > 0
            if same and entry.submission_id != other.submission_id:
                found.add(entry.submission_id)
    return found


def near_copies(entries: Sequence[Entry]) -> dict[str, str]:
    """Submissions whose update points almost exactly where another's does: shown to people, not punished."""
    found = {}
    for entry in entries:
        for other in entries:
            if entry.submission_id != other.submission_id and cosine(entry.sketch, other.sketch) > _NEAR_COPY:
                found[entry.submission_id] = other.submission_id
    return found


def cosine(left: Sequence[float], right: Sequence[float]) -> float:
    norms = math.sqrt(sum(x * x for x in left) * sum(x * x for x in right))
    return sum(x * y for x, y in zip(left, right, strict=False)) / norms if norms else 0.0


def winners(entries: Sequence[Entry], top: int) -> list[Entry]:
    """Who is merged: the best of those that are better than the base and nobody's copy."""
    copied = copies(entries)
    chosen = [entry for entry in entries if entry.score > 0 and entry.submission_id not in copied]
    return sorted(chosen, key=lambda entry: (-entry.score, entry.uid))[:top]


def next_name(model_version: str) -> str:
    """`step_1000` is followed by `step_1001`; a name without a number at its end gets one."""
    match = re.fullmatch(r"(.*?)([0-9]{1,15})", model_version)
    return f"{match[1]}{int(match[2]) + 1}" if match else f"{model_version}_1"


def checkpoint_cap(slice_bytes: int, largest: int, slack: float) -> int:
    """Most bytes that a checkpoint of a slice may have."""
    return min(largest, int(slack * slice_bytes) + 64 * 1024 * 1024)


Leases = dict[str, dict[str, Any]]


def leased(held: Leases, pubkey: str, lease: dict[str, Any], *, now: float, limit: int) -> Leases | None:
    """The leases with one more: one per hotkey, `limit` in all, those that ran out left out; None: there is no room."""
    others = {
        holder: other
        for holder, other in held.items()
        if other["until"] > now and other["submission_id"] != lease["submission_id"]
    }
    if pubkey in others or len(others) >= limit:
        return None
    return others | {pubkey: lease}
