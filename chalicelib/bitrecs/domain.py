"""Bitrecs' decisions on a submission: signatures, doors, locks, gist, commitment, payment, similarity."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from chalicelib.kernel.errors import (
    Conflict,
    Forbidden,
    Invalid,
    Malformed,
    PaymentRequired,
    Refusal,
    TooMany,
    Unauthenticated,
    Unavailable,
)
from chalicelib.kernel.values import frozen

from .contracts import BitrecsSettings, Gist, PolicyLimits, Similar, Submission

ALREADY = "This upload request was already processed"
TERMINAL = frozenset({"failed_screening_1", "failed_screening_2", "finished"})
CONFLICT_STATUS = 409
UNPROCESSABLE_STATUS = 422
TESTNET = 296
RAO_PER_TAO = 10**9
MAX_TRANSPORT_VERSIONS = 8
_NONCE = re.compile(r"[A-Za-z0-9_-]{8,128}")
_SECONDS = re.compile(r"[0-9]{9,11}")
_VERSION = re.compile(r"[0-9]+\.[0-9]+\.[0-9]+")
_TEMPORARY_KEY = re.compile(r"[\x21-\x7e]{8,256}")
_FUTURE_SECONDS = 300
_GITHUB_RETRY_SECONDS = 30


@frozen
class Transport:
    """The four headers of /submit."""

    signature: str
    timestamp: str
    nonce: str
    t_nonce: str

    @property
    def is_well_formed(self) -> bool:
        return all(_NONCE.fullmatch(nonce) for nonce in (self.nonce, self.t_nonce))


@frozen
class Standing:
    """What the tables know before a submission is looked at."""

    enabled: bool
    validators: int
    accepted: int
    interval_ends_in: float
    set_id: int
    cycle_block: int
    is_validator: bool
    ban: str | None
    hotkey_lock: Mapping[str, Any] | None
    gist_lock: Mapping[str, Any] | None


def invalid_body(problem: Mapping[str, Any], status: int) -> Refusal:
    """One line about the first problem of a body, in place of the list."""
    where = ".".join(str(part) for part in problem.get("loc", ("body",))[1:])
    if problem.get("type") == "json_invalid":
        text = "not valid JSON"
    elif not where:
        text = "must be a JSON object"
    else:
        what = {"missing": "is required", "string_type": "must be a string"}.get(problem["type"], "is not valid")
        text = f"field '{where}' {what}"
    kind = Invalid if status == UNPROCESSABLE_STATUS else Malformed
    return kind(f"Invalid request body: {text}", code="invalid_request")


def payload(body: Submission) -> str:
    """What the body's signature signs."""
    return f"{body.created_at}:{body.github_account}:{body.gist_id}:{body.hotkey}"


def transport_messages(body: Submission, transport: Transport, settings: BitrecsSettings) -> Iterator[tuple[str, str]]:
    """Every string that X-Signature may sign, with the client version that it names."""
    start = f"{payload(body)}:{transport.nonce}:{transport.t_nonce}"
    versions = [version for version in settings.transport_versions if _VERSION.fullmatch(version)]
    for version in versions[:MAX_TRANSPORT_VERSIONS]:
        yield version, f"{start}:{version}:{transport.timestamp}"
    if settings.transport_allow_unversioned:
        yield "none", f"{start}:{transport.timestamp}"


def check_timestamp(timestamp: str, *, now: float, drift: int) -> None:
    """Digits alone; the edge of the window is inside."""
    if not _SECONDS.fullmatch(timestamp) or abs(int(now) - int(timestamp)) > drift:
        raise Malformed("Invalid or expired timestamp", code="timestamp_invalid")


def check_open(standing: Standing, settings: BitrecsSettings) -> None:
    """Maintenance, the operator's switch, validators, and the number accepted in this interval."""
    if settings.disallow_uploads:
        raise Unavailable(settings.disallow_uploads_reason, code="uploads_disallowed", retry_after=300)
    if not standing.enabled:
        raise Unavailable(
            "Submissions are currently disabled. Please try again later.", code="submissions_disabled", retry_after=300
        )
    needed = settings.min_connected_validators
    if standing.validators < (settings.num_evals_per_agent if needed is None else needed):
        raise Unavailable(
            f"Not enough validators available for evaluation (connected: {standing.validators})",
            code="too_few_validators",
            retry_after=60,
        )
    if standing.accepted >= settings.artifacts_per_interval:
        raise TooMany(
            "The system is currently receiving too many agent submissions. Please try again later.",
            code="too_many_agents",
            retry_after=standing.interval_ends_in,
        )


def malformed_hotkey(hotkey: str) -> Malformed:
    return Malformed(f"Miner hotkey {hotkey[:100]} is not a valid format", code="bad_hotkey")


def check_no_validator(standing: Standing) -> None:
    if standing.is_validator:
        raise Malformed(
            "Hotkey belongs to a whitelisted validator and cannot be used for agent submission. "
            "Please register a new hotkey",
            code="hotkey_is_validator",
        )


def is_held(lock: Mapping[str, Any] | None, set_id: int, scope: str) -> bool:
    """A lock counts for its cycle, or for ever."""
    return lock is not None and (scope == "forever" or lock["set_id"] >= set_id)


def check_locks(standing: Standing, settings: BitrecsSettings, *, now: float, dry: bool = False) -> None:
    """The same hotkey with the same gist is a repetition (not for a dry run); with another one each is used up."""
    hotkey_lock, gist_lock = standing.hotkey_lock, standing.gist_lock
    hotkey_used = is_held(hotkey_lock, standing.set_id, settings.lock_scope)
    gist_used = is_held(gist_lock, standing.set_id, settings.lock_scope)
    same = hotkey_lock is not None and gist_lock is not None and hotkey_lock["agent_id"] == gist_lock["agent_id"]
    if hotkey_used and gist_used and same and not dry:
        raise duplicate(settings.duplicate_status)
    if hotkey_used:
        raise Malformed(
            "Hotkey has already been used for an agent submission. Please register a new hotkey", code="hotkey_used"
        )
    if gist_used:
        raise Malformed(
            "Gist has already been used for an agent submission. Please create a new gist", code="gist_used"
        )
    wait = (hotkey_lock["at"] + settings.hotkey_cooldown_seconds - now) if hotkey_lock else 0
    if wait > 0:
        raise TooMany(
            f"You must wait {settings.hotkey_cooldown_seconds} seconds before uploading a new agent version",
            code="hotkey_cooldown",
            retry_after=wait,
        )


def duplicate(status: int) -> Refusal:
    if status == CONFLICT_STATUS:
        return Conflict(ALREADY, code="already_processed")
    return Malformed(ALREADY, code="already_processed")


def check_ban(standing: Standing) -> None:
    if standing.ban is not None:
        raise Forbidden(
            "Your miner hotkey has been banned. If this is in error, please contact us on Discord", code="hotkey_banned"
        )


def github_unavailable() -> Unavailable:
    return Unavailable(
        "GitHub is currently unavailable. Please try again later.",
        code="github_unavailable",
        retry_after=_GITHUB_RETRY_SECONDS,
    )


def openrouter_unavailable() -> Unavailable:
    return Unavailable(
        "OpenRouter is currently unavailable. Please try again later.",
        code="openrouter_unavailable",
        retry_after=_GITHUB_RETRY_SECONDS,
    )


def similarity_unavailable() -> Unavailable:
    return Unavailable(
        "Similarity check is temporarily unavailable. Please try again later.",
        code="similarity_unavailable",
        retry_after=5,
    )


def chain_unavailable(retry_after: float = 30) -> Unavailable:
    return Unavailable(
        "Bittensor chain is currently unavailable. Please try again later.",
        code="chain_unavailable",
        retry_after=retry_after,
    )


def sha256_of(content: str) -> str:
    return hashlib.sha256(content.encode()).hexdigest()


def check_owner(miner_hotkey: str, body: Submission) -> None:
    if miner_hotkey != body.hotkey:
        raise Malformed("Miner hotkey in submission does not match miner hotkey in artifact", code="hotkey_mismatch")


def check_no_agent_id(*, present: bool) -> None:
    if present:
        raise Malformed("agent_id must not be set by the client", code="agent_id_set")


def check_registered(*, registered: bool) -> None:
    if not registered:
        raise Malformed("Hotkey not registered on subnet", code="hotkey_not_registered")


def check_uid(uid: int) -> None:
    """Slot 0 is the subnet owner's."""
    if uid == 0:
        raise Malformed("Could not retrieve valid miner UID for this hotkey", code="no_uid")


def temporary_key(header: str | None) -> str:
    if not header or not _TEMPORARY_KEY.fullmatch(header):
        raise refused_key()
    return header


def refused_key() -> Malformed:
    return Malformed("Invalid or unauthorized OpenRouter key", code="openrouter_key_invalid")


def price_rao(settings: BitrecsSettings) -> int:
    return round(settings.eval_price_usd / settings.tao_price_usd * RAO_PER_TAO * settings.eval_price_buffer)


def check_payment(balance: int | None, settings: BitrecsSettings) -> None:
    if settings.payment_mode == "off":
        return
    if balance is None:
        raise PaymentRequired("Payment could not be verified", code="payment_unverified")
    price = price_rao(settings)
    if balance < price:
        raise PaymentRequired(
            f"Insufficient balance. You need {price} RAO to upload this agent. You have {balance} RAO.",
            code="insufficient_balance",
        )


def commitment_of(gist: Gist, content: str) -> str:
    """`<commit>:<sha256 of the file>`: what the miner must have revealed on chain."""
    return f"{gist.history[0].version}:{sha256_of(content)}"


def reveals_of_cycle(
    reveals: Iterable[tuple[int, str]], standing: Standing, block: int, scope: str
) -> list[tuple[int, str]]:
    """Reveals that count: none from the future and, where locks count per cycle, none from an earlier one."""
    first = standing.cycle_block if scope == "cycle" else 0
    return sorted(reveal for reveal in reveals if first <= reveal[0] <= block)


def reveal_block(reveals: Sequence[tuple[int, str]], expected: str, *, single: bool) -> int:
    """The block of the newest reveal, which must be the expected text, and the only one where one is allowed."""
    newest = reveals[-1] if reveals else (0, "")
    if newest[1].lower() != expected or (single and len(reveals) != 1):
        raise Malformed("Commitment to chain is not valid for this submission", code="commitment_invalid")
    return newest[0]


def check_similar(found: Sequence[Similar], settings: BitrecsSettings) -> list[Similar]:
    """Refuse what is nearer than the reject distance; answer what is worth reporting."""
    if settings.similarity_mode == "off":
        return []
    rejected = [one for one in found if one.distance < settings.similarity_reject_distance]
    if rejected and settings.similarity_mode == "enforce":
        raise too_similar(rejected, settings)
    return [one for one in found if one.distance < settings.similarity_report_distance]


def too_similar(agents: Sequence[Similar], settings: BitrecsSettings) -> Conflict:
    text = "Agent is too similar to existing agents"
    listed = [
        {
            "agent_id": one.agent_id[:8],
            "similarity_score": f"{1 - one.distance:.4f}",
            "distance": f"{one.distance:.4f}",
        }
        for one in agents
    ]
    extra = {
        "error": text,
        "message": "This agent appears to be a duplicate or very similar to existing submissions",
        "similar_agents": listed,
        "threshold": settings.similarity_reject_distance,
    }
    return Conflict(text, code="too_similar", extra=extra)


def policy_limits(settings: BitrecsSettings) -> PolicyLimits:
    return PolicyLimits(
        system_tokens=settings.max_system_prompt_tokens,
        prompt_tokens=settings.max_prompt_tokens,
        token_counter=settings.token_counter,
        allowed_providers=tuple(provider.upper() for provider in settings.allowed_providers),
        sku_check=settings.sku_check,
    )


def prompts_are_public(status: str) -> bool:
    return status in TERMINAL


def no_key() -> Unauthenticated:
    text = "Invalid or missing API Key"
    return Unauthenticated(text, code="api_key_invalid", extra={"error": text})


def rate_limited(count: int, wait: float) -> TooMany:
    text = f"Rate limit exceeded: {count} per 1 minute"
    return TooMany(text, code="rate_limited", retry_after=wait, extra={"error": text})
