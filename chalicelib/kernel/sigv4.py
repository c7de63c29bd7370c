"""AWS's signature, version 4, for what is signed often: requests of DynamoDB and URLs of single objects.

The signing key of a day is kept, so that a signature is one HMAC; a library would derive it each time.
"""

from __future__ import annotations

import functools
import hashlib
import hmac
import time
from collections.abc import Mapping
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

    def headers(self, host: str, signed: Mapping[str, str], body: bytes) -> dict[str, str]:
        """What a POST of `body` to `/` needs besides `signed`, whose names are lower-case."""
        now = _timestamp()
        covered = {"host": host, "x-amz-date": now, **signed}
        if self.token:
            covered["x-amz-security-token"] = self.token
        names = ";".join(sorted(covered))
        lines = "".join(f"{name}:{covered[name]}\n" for name in sorted(covered))
        signature = self._signature(now, f"POST\n/\n\n{lines}\n{names}\n{hashlib.sha256(body).hexdigest()}")
        credential = f"{self.access_key}/{self._scope(now)}"
        covered["authorization"] = f"{_ALGORITHM} Credential={credential}, SignedHeaders={names}, Signature={signature}"
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
        pairs = "&".join(f"{name}={quote(asked[name], safe='-_.~')}" for name in sorted(asked))
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


def _timestamp() -> str:
    return time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(clock.wall()))


@functools.lru_cache(maxsize=16)
def _signing_key(secret: str, day: str, region: str, service: str) -> bytes:
    key = f"AWS4{secret}".encode()
    for part in (day, region, service, "aws4_request"):
        key = hmac.digest(key, part.encode(), "sha256")
    return key
