"""Leoma's HTTP surface: parse, decide, store, answer."""

from __future__ import annotations

import hashlib

from chalicelib.kernel import clock, keys
from chalicelib.kernel.errors import Invalid, Malformed, Unauthenticated, Unavailable
from chalicelib.kernel.http import Request, missing_header
from chalicelib.kernel.pages import VERSION
from chalicelib.kernel.routing import Auth, Router

from . import domain, store
from .contracts import (
    BlacklistEntry,
    BlacklistRemoval,
    Health,
    LeomaSettings,
    MinerList,
    NewBlacklistEntry,
)

api = Router(
    "leoma",
    "Leoma",
    "Samples of validators, verdicts weighted by stake, ranks and weights of an image-to-video subnet.",
    cors_origins=lambda: LeomaSettings.current().cors_origins,
)
_HEADERS = {
    "X-Validator-Hotkey": "The caller's hotkey, SS58.",
    "X-Signature": "Hex sr25519 signature of `<sha256 hex of the body>:<timestamp>`.",
    "X-Timestamp": "Unix seconds, within five minutes of the server's clock (see `/time`).",
}


def _validator(request: Request) -> str:
    """The signer: not blacklisted, with a fresh signature of its own, and a validator or an admin."""
    sent = {name: request.header(name) for name in _HEADERS}
    missing = [missing_header(name) for name, value in sent.items() if value is None]
    if missing:
        raise Invalid(missing, code="missing_headers")
    hotkey, signature, timestamp = (value or "" for value in sent.values())
    settings = LeomaSettings.current()
    domain.check_timestamp(timestamp, now=clock.now(), window=settings.signature_expiry_seconds)
    blacklisted, registered = store.standing(hotkey)
    domain.check_caller(blacklisted=blacklisted)
    raw_signature = _verified(hotkey, signature, domain.signed_message(request.body, timestamp))
    domain.check_registered(hotkey, settings.admin_hotkeys, registered=registered)
    if settings.replay_cache:
        _bind(request, hotkey, raw_signature, settings.signature_expiry_seconds)
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
    token = f"{hotkey}#{hashlib.sha256(signature).hexdigest()}"
    if not store.claim_signature(token, use, expires_at=clock.now() + 2 * window):
        raise Unauthenticated("Signature was already used for another request", code="signature_replayed")


_REFUSED = {401: "No valid, fresh signature of somebody entitled.", 422: "A header is missing."}
validator = Auth(_validator, "validator", _HEADERS, _REFUSED)
admin = Auth(_admin, "admin", _HEADERS, _REFUSED | {403: "The signer is no admin."})


def ss58(text: str) -> str:
    """A path or query address: format only, as the original server checks it."""
    if not keys.looks_like_ss58(text):
        raise Malformed("Invalid SS58 address format", code="bad_hotkey")
    return text


@api.get("/health")
def health() -> Health:
    """Whether the store answers, and when miners were last validated."""
    try:
        last_sync, database = store.last_sync(), True
    except (Unavailable, RuntimeError):
        last_sync, database = None, False
    return Health(
        status="healthy" if database else "degraded",
        version=VERSION,
        database=database,
        metagraph_synced=last_sync is not None,
        last_sync=clock.stamp(last_sync) if last_sync is not None else None,
    )


@api.get("/miners/list")
def miners() -> MinerList:
    """Every stored miner, by uid."""
    return domain.miner_list(store.miners())


@api.get("/blacklist")
def blacklist() -> list[BlacklistEntry]:
    """Every blacklisted hotkey, oldest entry first."""
    return store.blacklist()


@api.get("/blacklist/miners")
def blacklisted_hotkeys() -> list[str]:
    """The blacklisted hotkeys alone."""
    return [entry.hotkey for entry in store.blacklist()]


@api.get("/blacklist/{hotkey}", refusals={400: "Not an SS58 address.", 404: "Not blacklisted."})
def blacklist_entry(hotkey: str) -> BlacklistEntry:
    """One entry."""
    return store.blacklist_entry(ss58(hotkey))


@api.post("/blacklist", auth=admin)
def add_to_blacklist(body: NewBlacklistEntry, caller: str) -> BlacklistEntry:
    """Blacklist a hotkey; a repeat replaces the reason."""
    return store.add_to_blacklist(body.hotkey, body.reason, caller)


@api.delete("/blacklist/{hotkey}", auth=admin, refusals={400: "Not an SS58 address.", 404: "Not blacklisted."})
def remove_from_blacklist(hotkey: str, caller: str) -> BlacklistRemoval:
    """Take a hotkey off the blacklist."""
    store.remove_from_blacklist(ss58(hotkey))
    message = f"Removed miner {hotkey[:8]}... from blacklist"
    return BlacklistRemoval(success=True, message=message, removed_by=caller)
