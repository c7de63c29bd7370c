"""PRISM's decisions: who may submit, what a result is worth, what an assignment may become, what everybody earns."""

from __future__ import annotations

import hashlib
import hmac
import json
import math
import re
from collections.abc import Iterable, Mapping
from typing import Any

from chalicelib.kernel.errors import Conflict, Forbidden, Invalid, Malformed, NotFound, TooLarge, Unauthenticated
from chalicelib.kernel.values import frozen

from . import attribution
from .attribution import Choice, Facts
from .contracts import (
    ACCEPTED,
    ARCHITECTURE_ONLY,
    ASSIGNED,
    COMPLETED,
    EXPIRED,
    FAILED,
    REJECTED,
    RUNNING,
    Assignment,
    Family,
    PrismSettings,
    Resolution,
    Submission,
    Variant,
)

EXHAUSTED = "validator assignment attempts exhausted"
RUNS_EXHAUSTED = "evaluation attempts exhausted"
EVALUATION = "Prism container evaluation"
MAX_RUNS = 3
DEADLINE_EXPIRED = "validator deadline expired"
VALIDATOR_REJECTED = "validator rejected assignment"
HELD_FOR_REVIEW = "component attribution held for review"
MANUAL_RESOLUTION = "manual component attribution resolution"
MAX_METADATA_DEPTH = 8
ACTIVE = frozenset({ASSIGNED, ACCEPTED, RUNNING})
_TIMESTAMP = re.compile(r"[0-9]{1,12}")


def signed_message(hotkey: str, nonce: str, timestamp: str, body: bytes) -> bytes:
    """Header values exactly as received, and the digest of the exact body."""
    digest = hashlib.sha256(body).hexdigest()
    return f"prism:{hotkey}:{nonce}:{timestamp}:{digest}".encode("utf-8", "surrogateescape")


def check_timestamp(timestamp: str, *, now: float, window: int) -> None:
    """Both directions, the edge included."""
    if not _TIMESTAMP.fullmatch(timestamp):
        raise Malformed("invalid timestamp", code="invalid_timestamp")
    if abs(int(now) - int(timestamp)) > window:
        raise Unauthenticated("stale signature", code="stale_signature")


def hmac_matches(token: str, message: bytes, signature: str) -> bool:
    """The development signature: whoever holds the token may speak for anybody, so never in production."""
    expected = hmac.new(token.encode(), message, hashlib.sha256).hexdigest()
    given = signature.removeprefix("sha256=").lower()
    return bool(token) and hmac.compare_digest(expected.encode(), given.encode("utf-8", "replace"))


def check_size(code: str, limit: int) -> None:
    if len(code.encode("utf-8", "replace")) > limit:
        raise TooLarge("submission too large", code="submission_too_large")


def serialised_metadata(metadata: Mapping[str, Any], limit: int) -> str:
    """Bounded in size and depth; text that cannot be UTF-8 has no place in it."""
    problem = {"type": "value_error", "loc": ["body", "metadata"], "input": None}
    text = json.dumps(metadata, ensure_ascii=False, separators=(",", ":"))
    if len(text.encode("utf-8", "replace")) > limit:
        raise Invalid([problem | {"msg": f"metadata exceeds {limit} bytes"}], code="invalid_request")
    if _depth(metadata) > MAX_METADATA_DEPTH:
        message = f"metadata is nested deeper than {MAX_METADATA_DEPTH} levels"
        raise Invalid([problem | {"msg": message}], code="invalid_request")
    return text


def code_hash(code: str) -> str:
    """The hash of the string as it was sent: for zips of the base64 text."""
    return hashlib.sha256(code.encode("utf-8", "replace")).hexdigest()


def epoch_id(at: float, epoch_seconds: int) -> int:
    return int(at) // epoch_seconds


@frozen
class Score:
    """A result's worth and how it came about."""

    q_arch: float
    q_recipe: float
    multiplier: float
    bonus: float
    penalty: float
    final: float
    metrics: Mapping[str, float]


def score(
    metrics: Mapping[str, float], settings: PrismSettings, *, multiplier: float = 1.0, bonus: float = 0.0
) -> Score:
    """Clamped parts, blended, cut by near-duplication, lifted by diversity where the architecture is any good."""
    q_arch = clamp(metrics.get("q_arch", 0.0))
    q_recipe = clamp(metrics.get("q_recipe", 0.5))
    penalty = clamp(metrics.get("penalty", 0.0))
    gate = clamp(q_arch / 0.5)
    blended = (settings.arch_weight * q_arch + settings.recipe_weight * q_recipe) * multiplier
    return Score(q_arch, q_recipe, multiplier, bonus, penalty, max(0.0, blended + bonus * gate - penalty), metrics)


def fault_of(evaluation: Mapping[str, Any], cause: str = "") -> str | None:
    """Why an evaluation counts for nothing: it says so itself, or what it should have measured is not there."""
    metrics = evaluation.get("metrics")
    if metrics is None:
        return str(evaluation.get("error") or f"{EVALUATION} failed: {cause}")
    if not isinstance(metrics, Mapping) or not all(map(_is_measured, metrics.values())):
        return f"{EVALUATION} did not return metrics"
    return None if "q_arch" in metrics else f"{EVALUATION} did not return q_arch"


def _is_measured(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def near_duplicate_multiplier(likeness: float, settings: PrismSettings) -> float:
    return 1.0 - settings.anti_cheat_severity if likeness >= settings.anti_cheat_threshold else 1.0


def diversity_bonus(likenesses: Iterable[float], settings: PrismSettings) -> float:
    """Mean distance to the others; alone, all of it."""
    distances = [1.0 - likeness for likeness in likenesses]
    mean = sum(distances) / len(distances) if distances else 1.0
    return min(settings.diversity_bonus_max, settings.diversity_bonus_max * mean)


def clamp(value: float) -> float:
    return min(max(value, 0.0), 1.0) if math.isfinite(value) else 0.0


def metric_std(metrics: Mapping[str, float], settings: PrismSettings) -> float:
    """What the evaluator says of its noise; never negative."""
    told = metrics.get("q_recipe_std", metrics.get("metric_std", settings.training_metric_default_std))
    return max(0.0, told)


def facts_of(submission: Submission, result: Score, settings: PrismSettings) -> Facts:
    """What attribution needs to know of a submission."""
    review = submission.review
    return Facts(
        submission_id=submission.id,
        hotkey=submission.hotkey,
        kind=review["kind"],
        architecture_id=review.get("architecture_id"),
        family_hash=review["family_hash"],
        training_hash=review["training_hash"],
        architecture=review["architecture"],
        training=review["training"],
        q_arch=result.q_arch,
        q_recipe=result.q_recipe,
        metric_std=metric_std(result.metrics, settings),
    )


def check_validator(hotkey: str, allowed: tuple[str, ...]) -> None:
    if allowed and hotkey not in allowed:
        raise Forbidden("validator is not allowed", code="validator_not_allowed")


def check_holder(assignment: Assignment, hotkey: str | None) -> None:
    if hotkey is not None and hotkey != assignment.validator_hotkey:
        raise Forbidden("assignment belongs to another validator", code="foreign_assignment")


def may_accept(assignment: Assignment) -> None:
    if assignment.status not in ACTIVE:
        raise not_active()


def is_repeated_reject(assignment: Assignment) -> bool:
    """Rejected before: the same answer again. Ended in another way: too late."""
    if assignment.status in ACTIVE:
        return False
    if assignment.status == REJECTED:
        return True
    raise not_active()


def is_repeated_result(assignment: Assignment, metrics: Mapping[str, float]) -> bool:
    """A late result counts as long as nobody expired the assignment."""
    if assignment.status in ACTIVE:
        return False
    if assignment.status != COMPLETED:
        raise not_active()
    if dict(metrics) != assignment.metrics:
        raise Conflict("assignment already completed", code="assignment_completed")
    return True


def not_active() -> Conflict:
    return Conflict("assignment is not active", code="assignment_not_active")


def may_try_again(tries: int, most: int, pardons: int) -> bool:
    """After so many were lost, runs or leases; each pardon allows as many again."""
    return tries < most * (1 + pardons)


def check_pardonable(submission: Submission) -> None:
    """Only what was lost through no fault of its own."""
    if submission.status != FAILED or submission.error not in {EXHAUSTED, RUNS_EXHAUSTED}:
        raise Conflict("only a submission whose attempts were all lost goes back", code="not_exhausted")


ASSIGNMENT_END_OF = {VALIDATOR_REJECTED: REJECTED, DEADLINE_EXPIRED: EXPIRED}


def weights(rows: Iterable[tuple[str, float]]) -> dict[str, float]:
    """Each hotkey's share of the total; what is negative or no number counts nothing."""
    sums: dict[str, float] = {}
    for hotkey, value in rows:
        if math.isfinite(value) and value > 0:
            sums[hotkey] = sums.get(hotkey, 0.0) + value
    total = math.fsum(sums.values())
    if total <= 0:
        return {}
    return {hotkey: value / total for hotkey, value in sorted(sums.items()) if value / total > 0}


@frozen
class Known:
    """What a resolution may refer to, as it stands now."""

    requested: Family | None
    manifest: Family | None
    equal: Family | None
    variant: Variant | None
    equal_variant: Variant | None


def is_rejection(resolution: Resolution) -> bool:
    return attribution.REJECT in {resolution.architecture_action, resolution.training_action}


def resolved_family(resolution: Resolution, known: Known) -> Family | None:
    """The family that an operator's decision is about; None: a new one."""
    if resolution.architecture_action == attribution.NEW:
        if known.equal:
            raise Conflict("architecture family already exists", code="architecture_exists")
        return None
    if resolution.architecture_id and not known.requested:
        raise NotFound("architecture not found", code="architecture_not_found")
    family = known.requested or known.manifest or known.equal
    if not family:
        raise Invalid("architecture_id is required", code="architecture_id_required")
    return family


def operator_choices(resolution: Resolution, family: Family | None, known: Known, kind: str) -> tuple[Choice, Choice]:
    """An operator's decision, with the confidence of somebody who looked."""
    reason = resolution.reason or MANUAL_RESOLUTION
    architecture = Choice(resolution.architecture_action, 1.0, reason, family)
    action = resolution.training_action
    if kind == ARCHITECTURE_ONLY or action == attribution.NONE:
        return architecture, Choice(attribution.NONE, 1.0, reason)
    if action == attribution.NEW:
        if known.equal_variant and family:
            return architecture, Choice(attribution.EXISTING, 1.0, reason, variant=known.equal_variant)
        return architecture, Choice(action, 1.0, reason)
    return architecture, Choice(action, 1.0, reason, variant=_resolved_variant(resolution, family, known))


def _resolved_variant(resolution: Resolution, family: Family | None, known: Known) -> Variant:
    if family is None:
        raise Invalid("a new architecture has no training variants yet", code="no_variants")
    if resolution.training_variant_id:
        if not known.variant:
            raise NotFound("training variant not found", code="variant_not_found")
        if known.variant.architecture_id != family.id:
            raise Conflict("training variant belongs to another architecture", code="foreign_variant")
        return known.variant
    if not known.equal_variant:
        raise Invalid("training_variant_id is required", code="training_variant_id_required")
    return known.equal_variant


def _depth(value: Any) -> int:
    level, depth = [value], 0
    while level:
        depth += 1
        below: list[Any] = []
        for node in level:
            if isinstance(node, dict):
                below.extend(node.values())
            elif isinstance(node, list):
                below.extend(node)
        level = below
    return depth - 1
