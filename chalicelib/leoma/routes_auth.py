"""Who calls: the signed headers of validators and admins, checked in the specification's order."""

from __future__ import annotations

import hashlib

from chalicelib.kernel import clock, keys
from chalicelib.kernel.errors import Invalid, Unauthenticated
from chalicelib.kernel.http import Request, missing_header
from chalicelib.kernel.routing import Auth

from . import domain, store
from .contracts import LeomaSettings

_HEADERS = {
    "X-Validator-Hotkey": "The caller's hotkey, SS58.",
    "X-Signature": "Hex sr25519 signature of `<sha256 hex of the body>:<timestamp>`.",
    "X-Timestamp": "Unix seconds, within five minutes of the server's clock (see `/time`).",
}
_MARK_LENGTH = 16
_REFUSED = {401: "No valid, fresh signature of somebody entitled.", 422: "A header is missing."}


def _validator(request: Request) -> str:
    """The signer: not blacklisted, with a fresh signature of its own, and a validator or an admin."""
    sent = {name: request.header(name) for name in _HEADERS}
    missing = [missing_header(name) for name, value in sent.items() if value is None]
    if missing:
        raise Invalid(missing, code="missing_headers")
    hotkey, signature, timestamp = (value or "" for value in sent.values())
    settings = LeomaSettings.current()
    domain.check_timestamp(timestamp, now=clock.now(), window=settings.signature_expiry_seconds)
    blacklisted, last_seen = store.standing(hotkey) if keys.looks_like_ss58(hotkey) else (False, None)
    domain.check_caller(blacklisted=blacklisted)
    raw_signature = _verified(hotkey, signature, domain.signed_message(request.body, timestamp))
    domain.check_registered(hotkey, settings.admin_hotkeys, registered=last_seen is not None)
    if settings.replay_cache:
        _bind(request, hotkey, raw_signature, settings.signature_expiry_seconds)
    if last_seen is not None and hotkey not in settings.admin_hotkeys:
        store.note_seen(hotkey, last_seen)
    return hotkey


def _admin(request: Request) -> str:
    hotkey = _validator(request)
    domain.check_admin(hotkey, LeomaSettings.current().admin_hotkeys)
    return hotkey


def _verified(hotkey: str, signature: str, message: bytes) -> bytes:
    try:
        raw = keys.signature_from_hex(signature, prefixes=(None, "0x"))
        key = keys.public_key(hotkey)
    except (keys.BadSignature, keys.BadAddress):
        raise Unauthenticated("Signature verification failed", code="signature_malformed") from None
    if not keys.verify(key, message, raw, schemes=(keys.SR25519,)):
        raise Unauthenticated("Invalid signature", code="signature_invalid")
    return raw


def _bind(request: Request, hotkey: str, signature: bytes, window: int) -> None:
    """The message names neither method nor path: a signature's first use binds it, as long as it could be fresh."""
    target = f"{request.method} {request.path_below_mount}?{sorted(request.query.items())}"
    use = hashlib.sha256(target.encode("utf-8", "surrogateescape")).hexdigest()
    token = f"{hotkey}#{_digest(signature)}"
    if not store.claim_signature(token, use, expires_at=clock.now() + 2 * window):
        raise Unauthenticated("Signature was already used for another request", code="signature_replayed")


def signature_mark(request: Request) -> str:
    """Names the signature of an authenticated request: `` where replays are not watched."""
    if not LeomaSettings.current().replay_cache:
        return ""
    return _digest(keys.signature_from_hex(request.header("x-signature") or "", prefixes=(None, "0x")))[:_MARK_LENGTH]


def _digest(signature: bytes) -> str:
    return hashlib.sha256(signature).hexdigest()


validator = Auth(_validator, "validator", _HEADERS, _REFUSED)
admin = Auth(_admin, "admin", _HEADERS, _REFUSED | {403: "The signer is no admin."})
