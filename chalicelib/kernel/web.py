"""HTTP look-ups at services that the operator names: bounded in time and bytes, no redirect is followed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from . import clock, codec

if TYPE_CHECKING:
    import http.client

_CHUNK = 65_536
_OK = 200


def get_json(url: str, *, bearer: str = "", seconds: float = 10, most_bytes: int = 2_000_000) -> Any | None:
    """The JSON behind a URL; None for whatever else happens, for a look-up has no better answer."""
    import http.client  # noqa: PLC0415 - with TLS a dozen milliseconds that a cold start need not pay

    parts = urlsplit(url)
    kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
    headers = {"Accept": "application/json", "User-Agent": "subnet-functions"}
    if bearer:
        headers["Authorization"] = f"Bearer {bearer}"
    deadline = clock.monotonic() + seconds
    try:
        connection = kind(parts.hostname or "", parts.port, timeout=seconds)
        try:
            connection.request("GET", (parts.path or "/") + (f"?{parts.query}" if parts.query else ""), headers=headers)
            answer = connection.getresponse()
            return codec.decode(_body(answer, deadline, most_bytes)) if answer.status == _OK else None
        finally:
            connection.close()
    except (OSError, http.client.HTTPException, ValueError):
        return None


def _body(answer: http.client.HTTPResponse, deadline: float, most_bytes: int) -> bytes:
    """Read piece by piece, so that a trickle ends at the deadline too."""
    body = b""
    while piece := answer.read1(_CHUNK):
        body += piece
        if len(body) > most_bytes or clock.monotonic() > deadline:
            raise ValueError("the answer is too large or too slow")
    return body
