"""The router, and who may pass: addresses within their limits, API keys, sessions."""

from __future__ import annotations

import re
from typing import Any

from chalicelib.kernel import telemetry
from chalicelib.kernel.errors import Refusal, Unavailable
from chalicelib.kernel.http import Request
from chalicelib.kernel.routing import Auth, Router
from chalicelib.kernel.tokens import bearer
from chalicelib.kernel.values import frozen

from . import domain, store, store_work, tasks_sessions
from . import domain_stages as stages
from .contracts import BitrecsSettings

SET_INFO_PER_MINUTE = 120
_SCREENERS_PER_MINUTE = 5
_UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}", re.IGNORECASE)
_SECURITY_HEADERS = {
    "X-Frame-Options": "DENY",
    "X-XSS-Protection": "1; mode=block",
    "Strict-Transport-Security": "max-age=31536000; includeSubDomains; preload",
    "Referrer-Policy": "strict-origin-when-cross-origin",
    "Permissions-Policy": "camera=(), microphone=(), geolocation=()",
    "X-Permitted-Cross-Domain-Policies": "none",
}

api = Router(
    "bitrecs",
    "Bitrecs",
    "Signed artifact submissions checked against chain and gist, similarity, the evaluation queue, scores and weights.",
    owns_root=True,
    internal="Internal server error",
    headers=_SECURITY_HEADERS,
)


@frozen
class Reader:
    """A caller of a read route; with a working key it sees what is hidden from the public."""

    has_key: bool


def limit(request: Request, per_minute: int) -> None:
    """So many requests per minute, address and path; when the counter does not answer, the request passes."""
    what = f"{request.ip}#{request.path_below_mount.rstrip('/')}"
    try:
        wait = store.wait_for(what, per_minute)
    except Unavailable as outage:
        telemetry.log("rate limit not counted", code=outage.code)
        return
    if wait:
        raise domain.rate_limited(per_minute, wait)


def _reader(request: Request, per_minute: int | None = None) -> Reader:
    settings = BitrecsSettings.current()
    limit(request, per_minute or settings.rate_limit_read_per_min)
    has_key = store.api_key_works(request.header("x-api-key"))
    if not has_key and not settings.public_reads:
        raise domain.no_key()
    return Reader(has_key)


def _public_reads() -> bool:
    return BitrecsSettings.current().public_reads


def _set_reader(request: Request) -> Reader:
    return _reader(request, SET_INFO_PER_MINUTE)


def _key_holder(request: Request) -> Reader:
    if not store.api_key_works(request.header("x-api-key")):
        raise domain.no_key()
    return Reader(has_key=True)


def _screener(request: Request) -> Reader:
    holder = _key_holder(request)
    limit(request, _SCREENERS_PER_MINUTE)
    return holder


def _session(request: Request) -> dict[str, Any]:
    """API key, then a session that is alive."""
    token = bearer(request.header("authorization")) or ""
    is_uuid = _UUID.fullmatch(token) is not None
    session, has_key = store_work.caller(token.lower() if is_uuid else "-", request.header("x-api-key"))
    if not has_key:
        raise domain.no_key()
    if not is_uuid:
        raise stages.bad_session_id()
    if session is None or not tasks_sessions.is_alive(session, BitrecsSettings.current()):
        raise stages.unknown_session()
    return session


def dropping(session: dict[str, Any], refusal: Refusal) -> Refusal:
    """Validators register again after any refusal of their work, so the session ends with it."""
    tasks_sessions.close(session["session_id"])
    return refusal


_KEY = {"X-API-Key": "A key made by the operator."}
_KEY_MISSING = {401: "No valid API key."}
_LIMITED = {429: "More requests per minute than an address may send."}
reader = Auth(_reader, "reader", _KEY, _KEY_MISSING | _LIMITED, _public_reads)
set_reader = Auth(_set_reader, "reader", _KEY, _KEY_MISSING | _LIMITED, _public_reads)
key_holder = Auth(_key_holder, "key", _KEY, _KEY_MISSING)
screener = Auth(_screener, "key", _KEY, _KEY_MISSING | _LIMITED)
evaluator = Auth(
    _session,
    "session",
    _KEY | {"Authorization": "`Bearer <session id>`"},
    {401: "No valid API key, or no such session.", 422: "The session id is no UUID."},
)
