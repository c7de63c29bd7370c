"""Calls to GitHub and OpenRouter: one fixed host each, no redirects, a cap on bytes, and one deadline for all of it.

Socket timeouts bound a silence, not a trickle; so a watchdog cuts the connection when the time is up.
"""

from __future__ import annotations

import functools
import json
import socket
import threading
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from pydantic import ValidationError

from chalicelib.kernel import clock
from chalicelib.kernel.values import frozen

from . import domain, domain_gist
from .contracts import BitrecsSettings, Gist

if TYPE_CHECKING:
    import http.client
    import ssl

MAX_ANSWER_BYTES = 256 * 1024
_USER_AGENT = "subnet-functions"
_SHORTEST_TRY_SECONDS = 0.05
_OK, _UNCHANGED, _SERVER_FAULT = 200, 304, 500
_NOT_OURS = {401, 403, 407, 408, 425, 429}
_REFUSED_KEY = {400, 401, 402, 403, 404}


class Unreachable(Exception):
    """No whole answer within the time."""


class AnswerTooLarge(Exception):
    """More bytes than anything we ask for may have."""


@frozen
class Look:
    """A gist as GitHub has it now; None when there is none. `unchanged` says that the known copy still holds."""

    gist: Gist | None
    etag: str = ""
    unchanged: bool = False


def look_at(gist_id: str, settings: BitrecsSettings, *, deadline: float, etag: str = "") -> Look:
    """One look, a second one after a server's fault; anything else that is no answer is GitHub's outage."""
    headers = {"Accept": "application/vnd.github+json"}
    if settings.github_token:
        headers["Authorization"] = f"Bearer {settings.github_token}"
    if etag:
        headers["If-None-Match"] = etag
    url = f"{settings.github_api_url.rstrip('/')}/gists/{gist_id}"
    until = min(deadline, clock.monotonic() + settings.github_timeout_seconds)
    try:
        status, answered, raw = get(url, headers, until)
        if status >= _SERVER_FAULT:
            status, answered, raw = get(url, headers, until)
    except AnswerTooLarge:
        raise domain_gist.too_large() from None
    except Unreachable:
        raise domain.github_unavailable() from None
    if status == _UNCHANGED and etag:
        return Look(None, etag, unchanged=True)
    if status >= _SERVER_FAULT or status in _NOT_OURS:
        raise domain.github_unavailable()
    return Look(_parsed(raw) if status == _OK else None, answered.get("etag", ""))


def check_key(key: str, settings: BitrecsSettings, *, deadline: float) -> None:
    """Whether OpenRouter takes the miner's temporary key."""
    until = min(deadline, clock.monotonic() + settings.github_timeout_seconds)
    try:
        status, _, _ = get(f"{settings.openrouter_api_url.rstrip('/')}/key", {"Authorization": f"Bearer {key}"}, until)
    except (Unreachable, AnswerTooLarge):
        status = _SERVER_FAULT
    if status in _REFUSED_KEY:
        raise domain.refused_key()
    if status != _OK:
        raise domain.openrouter_unavailable()


def get(url: str, headers: dict[str, str], until: float) -> tuple[int, dict[str, str], bytes]:
    """Status, headers in lower case, body; whatever the other side does, it is over at `until` (monotonic)."""
    import http.client  # noqa: PLC0415 - with TLS a dozen milliseconds that a cold start need not pay

    target = urlsplit(url)
    left = until - clock.monotonic()
    if left < _SHORTEST_TRY_SECONDS:
        raise Unreachable(url)
    connection = _connection(target.scheme, target.hostname or "", target.port, left)
    watchdog = threading.Timer(left, _cut, [connection])
    watchdog.daemon = True
    watchdog.start()
    try:
        connection.request("GET", target.path, headers={"User-Agent": _USER_AGENT, **headers})
        answer = connection.getresponse()
        body = answer.read(MAX_ANSWER_BYTES + 1)
        complete = answer.length in {0, None}
        found = answer.status, {name.lower(): value for name, value in answer.getheaders()}, body
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise Unreachable(url) from error
    finally:
        watchdog.cancel()
        connection.close()
    if len(body) > MAX_ANSWER_BYTES:
        raise AnswerTooLarge(url)
    if not complete or clock.monotonic() > until:
        raise Unreachable(url)
    return found


def _connection(scheme: str, host: str, port: int | None, seconds: float) -> http.client.HTTPConnection:
    import http.client  # noqa: PLC0415

    if scheme == "https":
        return http.client.HTTPSConnection(host, port, timeout=seconds, context=_trust())
    return http.client.HTTPConnection(host, port, timeout=seconds)


@functools.cache
def _trust() -> ssl.SSLContext:
    import ssl  # noqa: PLC0415

    return ssl.create_default_context()


def _cut(connection: http.client.HTTPConnection) -> None:
    if (sock := connection.sock) is not None:
        try:
            sock.shutdown(socket.SHUT_RDWR)
        except OSError:
            return


def _parsed(raw: bytes) -> Gist:
    """GitHub's JSON; the json module, for a lone surrogate in a file must become a refusal and not an outage."""
    try:
        content: Any = json.loads(raw)
        return Gist.model_validate(content)
    except (ValueError, RecursionError, ValidationError):
        raise domain.github_unavailable() from None
