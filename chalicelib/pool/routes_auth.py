"""Pool's routers, and how their callers prove who they are."""

from __future__ import annotations

import copy
import hashlib

from chalicelib.kernel import chain, clock, keys, pages
from chalicelib.kernel.errors import Forbidden, Invalid, Unauthenticated
from chalicelib.kernel.http import App, Request
from chalicelib.kernel.routing import Auth, Router
from chalicelib.kernel.settings import SettingError
from chalicelib.kernel.tables import Write
from chalicelib.kernel.values import frozen

from . import domain, store
from .contracts import PoolSettings
from .contracts_records import Miner

_HEADERS = {
    "X-Key": "The caller's hotkey, SS58.",
    "X-Timestamp": "Unix seconds, within five minutes of the server's clock (see `/time`).",
    "X-Signature": "Hex sr25519 signature of `auth:<X-Timestamp>`.",
}
_RECIPIENT_HEADERS = _HEADERS | {
    "X-Signature": "Hex sr25519 signature of `recipient_coldkey:update:<X-Timestamp>:<recipient_coldkey>`."
}
_REFERENCE = ("/openapi.json", "/docs", "/redoc")
_REFUSED = {401: "No valid, fresh signature.", 403: "The caller is banned or not entitled."}


class ClaimsRouter(Router):
    """Routes with an API reference that an operator may leave out."""

    def mount(self, app: App, prefix: str) -> None:
        if not PoolSettings.current().docs_enabled:
            self.routes = [route for route in self.routes if route.path not in _REFERENCE]
        super().mount(app, prefix)


class PoolRouter(ClaimsRouter):
    """Pool's routes, and inside them the claim routes when these are enabled."""

    def mount(self, app: App, prefix: str) -> None:
        super().mount(app, prefix)
        settings = PoolSettings.current()
        if not settings.merkle_claim_enabled:
            return
        inner = settings.claim_prefix
        if inner == "/":
            must_be = "a path below the pool: at its root the claim routes would collide with the pool's own"
            raise SettingError("MERKLE_CLAIM_PATH_PREFIX", settings.merkle_claim_path_prefix, must_be)
        below = prefix.rstrip("/") + inner
        mounted = copy.copy(claims)
        mounted.routes = list(claims.routes)
        pages.add_to(mounted, below)
        mounted.mount(app, below)


api = PoolRouter(
    "pool",
    "Pool",
    "Leases, evolution and evaluation batches, consensus results, reputation, recipient coldkeys and Merkle claims.",
    trailing_slash=True,
    max_body=lambda: PoolSettings.current().max_body_bytes,
)
claims = ClaimsRouter(
    "claims",
    "Merkle claims",
    "Proofs and claims of published epochs.",
    trailing_slash=True,
    max_body=lambda: PoolSettings.current().max_body_bytes,
)


@frozen
class Caller:
    """A signer: its record as it stood when the signature was checked, and the signature, which may count once."""

    miner: Miner
    token: str
    guarded: bool
    head: chain.Head | None = None

    @property
    def hotkey(self) -> str:
        return self.miner.hotkey

    @property
    def guard(self) -> Write | None:
        """What uses the signature up together with the effect it asks for."""
        if not self.guarded:
            return None
        window = PoolSettings.current().auth_window_s
        return store.spending(self.token, expires_at=clock.now() + 2 * window)


def headers_of(request: Request) -> tuple[str, int, str]:
    """Key, timestamp and signature as sent; the timestamp is checked."""
    sent = [request.header(name) for name in _HEADERS]
    if not all(sent):
        raise Unauthenticated("Missing authentication headers", code="missing_headers")
    hotkey, timestamp, signature = (value or "" for value in sent)
    window = PoolSettings.current().auth_window_s
    return hotkey, domain.check_timestamp(timestamp, now=clock.now(), window=window), signature


def check_signature(hotkey: str, signature: str, message: str) -> bytes:
    try:
        raw = keys.signature_from_hex(signature)
        key = keys.public_key(hotkey)
    except (keys.BadSignature, keys.BadAddress):
        raise Unauthenticated("Invalid signature", code="signature_malformed") from None
    if not keys.verify(key, message.encode(), raw, schemes=(keys.SR25519,)):
        raise Unauthenticated("Invalid signature", code="signature_invalid")
    return raw


def _caller(request: Request, *, is_mutation: bool, is_submit: bool) -> Caller:
    hotkey, _, signature = headers_of(request)
    raw = check_signature(hotkey, signature, f"auth:{request.header('X-Timestamp')}")
    guard = PoolSettings.current().auth_replay_guard
    guarded = is_mutation and (guard == "all_mutations" or (guard == "submit" and is_submit))
    token = f"{hotkey}#{hashlib.sha256(raw).hexdigest()}"
    miner, head, spent = _record(hotkey, token, guarded=guarded, is_mutation=is_mutation)
    if spent:
        raise store.already_used()
    if miner.banned:
        raise Forbidden("Miner is banned", code="banned")
    if is_mutation:
        _check_public_address(request, hotkey)
    return Caller(miner, token, guarded, head)


def _record(hotkey: str, token: str, *, guarded: bool, is_mutation: bool) -> tuple[Miner, chain.Head | None, bool]:
    """The signer's item, alone for those who may be denied, with what readers are told besides."""
    if guarded:
        miner, spent = store.miner_and_signature(hotkey, token, clock.now())
        return miner, None, spent
    if is_mutation:
        return store.miner(hotkey), None, False
    return *store.miner_and_head(hotkey), False


def _check_public_address(request: Request, hotkey: str) -> None:
    """Older clients repeat their address in the body; an unreadable body is for the route to refuse."""
    if b"public_address" not in request.body and b"\\u" not in request.body:
        return
    try:
        body = request.json
    except Invalid:
        return
    if isinstance(body, dict) and body.get("public_address") not in {None, hotkey}:
        raise Unauthenticated("public_address does not match X-Key", code="address_mismatch")


def _read(request: Request) -> Caller:
    return _caller(request, is_mutation=False, is_submit=False)


def _ask(request: Request) -> Caller:
    return _caller(request, is_mutation=True, is_submit=False)


def _submit(request: Request) -> Caller:
    return _caller(request, is_mutation=True, is_submit=True)


def _recipient(request: Request) -> str:
    """Only the headers: the message names the recipient, so the route reads the body before the signature."""
    return headers_of(request)[0]


reading = Auth(_read, "wallet", _HEADERS, _REFUSED)
asking = Auth(_ask, "wallet", _HEADERS, _REFUSED)
submitting = Auth(_submit, "wallet", _HEADERS, _REFUSED)
recipient_update = Auth(_recipient, "recipient", _RECIPIENT_HEADERS, _REFUSED)
