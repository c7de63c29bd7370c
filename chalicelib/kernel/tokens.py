"""Bearer tokens: parsed strictly, compared in constant time, closed when none is configured."""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Iterable

_BEARER = re.compile(r"bearer +(\S+)", re.IGNORECASE)


def bearer(header: str | None) -> str | None:
    """The token of an `Authorization: Bearer …` header, the scheme in any case."""
    match = _BEARER.fullmatch(header or "")
    return match[1] if match else None


def digest(token: str) -> str:
    """What is stored and compared in place of a token."""
    return hashlib.sha256(token.encode("utf-8", "surrogateescape")).hexdigest()


def is_one_of(token: str | None, accepted: Iterable[str]) -> bool:
    """Whether the token is an accepted one; every candidate is compared, whatever matched before."""
    given = digest(token or "")
    matches = [hmac.compare_digest(given, digest(candidate)) for candidate in accepted if candidate]
    return any(matches)
