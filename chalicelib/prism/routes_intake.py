"""How projects come in: a miner's signed request, the Platform's bridge. Part of `routes`."""

from __future__ import annotations

import base64
import re
from pathlib import Path
from typing import Any

from chalicelib.kernel import clock, keys
from chalicelib.kernel.errors import Conflict, Invalid, Malformed, Refusal, Unauthenticated
from chalicelib.kernel.http import Request, missing_header, problem

from . import domain, store
from .contracts import FILENAME, MAX_HOTKEY, PENDING, PrismSettings, Submission, SubmissionCreate, SubmissionCreated

_NONCE = r"[A-Za-z0-9_.-]{1,128}"
_MINER_HEADERS = {
    "X-Hotkey": "The miner's hotkey, SS58.",
    "X-Signature": "Hex sr25519 signature of `prism:<hotkey>:<nonce>:<timestamp>:<sha256 hex of the body>`.",
    "X-Nonce": "1 to 128 of A-Z a-z 0-9 _ . -, never used before.",
    "X-Timestamp": "Unix seconds, within five minutes of the server's clock (see `/time`).",
}


def shared_token() -> str:
    """The inline token; where none is set, the file's, read anew each time. No such file means no token."""
    settings = PrismSettings.current()
    if settings.shared_token or PrismSettings.is_set("shared_token"):
        return settings.shared_token
    try:
        return Path(settings.shared_token_file).read_text("utf-8").strip() if settings.shared_token_file else ""
    except (OSError, UnicodeDecodeError):
        return ""


def required_hotkey(request: Request, name: str) -> str:
    hotkey = request.header(name)
    if hotkey is None:
        raise Invalid([missing_header(name)], code="missing_headers")
    if request.repeats(name):
        raise Invalid([_repeated(name)], code="invalid_headers")
    if not 1 <= len(hotkey) <= MAX_HOTKEY or not hotkey.isprintable():
        text = f"String should have 1 to {MAX_HOTKEY} printable characters"
        raise Invalid([problem("string_length", ["header", name.lower()], text)], code="invalid_headers")
    return hotkey


def _repeated(name: str) -> dict[str, Any]:
    return problem("repeated", ["header", name.lower()], "Header should be sent once")


def check_is_json(request: Request) -> None:
    if not _is_json(request.header("content-type") or "application/json"):
        held = problem("model_attributes_type", ["body"], "Input should be a valid JSON object")
        raise Invalid([held], code="invalid_request")
    _ = request.json


def _is_json(content_type: str) -> bool:
    return "application/json" in content_type.lower() or "+json" in content_type.lower()


def miner(request: Request, settings: PrismSettings) -> str:
    """The signer of a fresh request with a nonce that nobody used."""
    hotkey, signature, nonce, timestamp = _miner_headers(request)
    domain.check_timestamp(timestamp, now=clock.now(), window=settings.signature_ttl_seconds)
    message = domain.signed_message(hotkey, nonce, timestamp, request.body)
    insecure = settings.allow_insecure_signatures and domain.hmac_matches(shared_token(), message, signature)
    if not insecure and not _is_signed(hotkey, message, signature):
        raise Unauthenticated("invalid signature", code="invalid_signature")
    lifetime = max(settings.nonce_ttl_seconds, 2 * settings.signature_ttl_seconds + 1)
    if not store.consume_nonce(hotkey, nonce, expires_at=clock.now() + lifetime):
        raise Conflict("nonce already used", code="nonce_used")
    return hotkey


def _miner_headers(request: Request) -> tuple[str, str, str, str]:
    sent = {name: request.header(name) for name in _MINER_HEADERS}
    wrong = [missing_header(name) for name, value in sent.items() if value is None]
    wrong += [_repeated(name) for name in sent if request.repeats(name)]
    for name in ("X-Hotkey", "X-Signature", "X-Nonce"):
        value = sent[name]
        if value is not None and not value:
            wrong.append(problem("string_too_short", ["header", name.lower()], "String should not be empty", value))
        elif value is not None and name != "X-Signature" and len(value) > MAX_HOTKEY:
            text = f"String should have at most {MAX_HOTKEY} characters"
            wrong.append(problem("string_too_long", ["header", name.lower()], text))
    if not wrong and not re.fullmatch(_NONCE, sent["X-Nonce"] or ""):
        text = "String should match pattern '^[A-Za-z0-9_.-]{1,128}$'"
        wrong.append(problem("string_pattern_mismatch", ["header", "x-nonce"], text))
    if wrong:
        raise Invalid(wrong, code="invalid_headers")
    hotkey, signature, nonce, timestamp = (value or "" for value in sent.values())
    return hotkey, signature, nonce, timestamp


def _is_signed(hotkey: str, message: bytes, signature: str) -> bool:
    try:
        raw = keys.signature_from_hex(signature, prefixes=(None, "0x"))
        return keys.verify(keys.public_key(hotkey), message, raw, schemes=(keys.SR25519,))
    except (keys.BadAddress, keys.BadSignature):
        return False


def stored(body: SubmissionCreate, hotkey: str, settings: PrismSettings, request_id: str = "") -> SubmissionCreated:
    """Bounded, kept under its hash, queued."""
    metadata = domain.serialised_metadata(body.metadata, settings.max_metadata_bytes)
    domain.check_size(body.code, settings.max_code_bytes)
    now, digest = clock.now(), domain.code_hash(body.code)
    store.keep_code(f"code/{digest}", body.code)
    kept = store.create(
        Submission(
            id=clock.new_uuid(), hotkey=hotkey, epoch_id=domain.epoch_id(now, settings.epoch_seconds),
            filename=body.filename, code_key=f"code/{digest}", code_hash=digest, metadata=metadata,
            status=PENDING, created_at=now,
        ),
        request_id=request_id,
        max_pending=settings.max_pending_per_hotkey,
    )  # fmt: skip
    return SubmissionCreated(**created(kept))


def created(submission: Submission) -> dict[str, Any]:
    return {
        "id": submission.id,
        "hotkey": submission.hotkey,
        "epoch_id": submission.epoch_id,
        "status": submission.status,
        "code_hash": submission.code_hash,
        "created_at": clock.stamp(submission.created_at),
    }


def bridged_json(request: Request) -> SubmissionCreate:
    try:
        _ = request.json
    except Refusal:
        raise Malformed("invalid JSON submission", code="invalid_json") from None
    return request.read_body(SubmissionCreate)


def bridged_raw(request: Request) -> SubmissionCreate:
    filename = request.header("x-submission-filename") or ""
    if not filename.endswith((".py", ".zip")):
        filename = "submission.zip"
    if not re.fullmatch(FILENAME, filename):
        text = f"String should match pattern '{FILENAME}'"
        raise Invalid([problem("string_pattern_mismatch", ["header", "x-submission-filename"], text)])
    if not request.body:
        raise Invalid([problem("missing", ["body"], "Field required")], code="invalid_request")
    content_type = (request.header("content-type") or "application/octet-stream")[:MAX_HOTKEY]
    metadata = {"content_type": content_type, "bridge": True}
    return SubmissionCreate(code=_bridged_code(request.body, filename), filename=filename, metadata=metadata)


def _bridged_code(raw: bytes, filename: str) -> str:
    if filename.endswith(".zip"):
        return base64.b64encode(raw).decode("ascii")
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError:
        raise Malformed("the submission is not UTF-8 text", code="not_utf8") from None
