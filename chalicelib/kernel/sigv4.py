"""AWS's signature, version 4, for what is signed often: requests on the short road and URLs of single objects.

The signing key of a day is kept, so that a signature is one HMAC; a library would derive it each time.
"""

from __future__ import annotations

import functools
import hashlib
import hmac
import time
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

from . import clock
from .values import frozen

_ALGORITHM = "AWS4-HMAC-SHA256"


@frozen
class Signer:
    """Who signs, for which service of which region."""

    access_key: str
    secret_key: str
    token: str | None
    region: str
    service: str

    def headers(self, method: str, url: str, signed: Mapping[str, str], body: bytes) -> dict[str, str]:
        """What a request needs besides `signed`, whose names are lower-case; a query in the URL is `canonical`."""
        host, _, target = url.partition("://")[2].partition("/")
        path, _, query = target.partition("?")
        now = _timestamp()
        digest = hashlib.sha256(body).hexdigest()
        covered = {"host": host, "x-amz-date": now, **signed}
        if self.token:
            covered["x-amz-security-token"] = self.token
        if self.service == "s3":
            covered["x-amz-content-sha256"] = digest
        names = ";".join(sorted(covered))
        lines = "".join(f"{name}:{' '.join(covered[name].split())}\n" for name in sorted(covered))
        request = f"{method}\n/{path}\n{query}\n{lines}\n{names}\n{digest}"
        credential = f"Credential={self.access_key}/{self._scope(now)}"
        signature = self._signature(now, request)
        covered["authorization"] = f"{_ALGORITHM} {credential}, SignedHeaders={names}, Signature={signature}"
        return covered

    def url(self, method: str, origin: str, path: str, query: Mapping[str, str], seconds: int) -> str:
        """A URL that counts for a while; `path` is not escaped yet."""
        now = _timestamp()
        asked = {
            **query,
            "X-Amz-Algorithm": _ALGORITHM,
            "X-Amz-Credential": f"{self.access_key}/{self._scope(now)}",
            "X-Amz-Date": now,
            "X-Amz-Expires": str(seconds),
            "X-Amz-SignedHeaders": "host",
        }
        if self.token:
            asked["X-Amz-Security-Token"] = self.token
        pairs = canonical(asked)
        escaped = quote(path, safe="/-_.~")
        host = origin.partition("//")[2]
        request = f"{method}\n{escaped}\n{pairs}\nhost:{host}\n\nhost\nUNSIGNED-PAYLOAD"
        return f"{origin}{escaped}?{pairs}&X-Amz-Signature={self._signature(now, request)}"

    def _scope(self, now: str) -> str:
        return f"{now[:8]}/{self.region}/{self.service}/aws4_request"

    def _signature(self, now: str, request: str) -> str:
        digest = hashlib.sha256(request.encode()).hexdigest()
        text = f"{_ALGORITHM}\n{now}\n{self._scope(now)}\n{digest}"
        key = _signing_key(self.secret_key, now[:8], self.region, self.service)
        return hmac.digest(key, text.encode(), "sha256").hex()


def canonical(query: Mapping[str, Any]) -> str:
    """A query string as it is signed."""
    return "&".join(f"{name}={quote(str(query[name]), safe='-_.~')}" for name in sorted(query))


def _timestamp() -> str:
    return time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(clock.wall()))


@functools.lru_cache(maxsize=16)
def _signing_key(secret: str, day: str, region: str, service: str) -> bytes:
    key = f"AWS4{secret}".encode()
    for part in (day, region, service, "aws4_request"):
        key = hmac.digest(key, part.encode(), "sha256")
    return key
