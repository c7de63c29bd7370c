"""What may be kept of an answer: its `ETag`, for how long it is fresh, and 304 for who has it already."""

from __future__ import annotations

import hashlib
from dataclasses import replace

from . import codec
from .http import Answer, Request

BLOCK = 12  # seconds: a chain brings nothing new in less
_OK, _NOT_MODIFIED = 200, 304
_TAG_DIGITS = 32


def tag(content: bytes) -> str:
    """A strong `ETag`: the same bytes, and only they, have it."""
    return f'"{hashlib.sha256(content).hexdigest()[:_TAG_DIGITS]}"'


def names(header: str | None, etag: str) -> bool:
    """Whether a list of tags has this one; `*` stands for any, and a weak one is as good."""
    found = {entry.strip().removeprefix("W/") for entry in (header or "").split(",")}
    return etag in found or "*" in found


def policy(seconds: int) -> str:
    """Fresh for so long; with 0 whoever kept it has to ask each time."""
    return f"public, max-age={seconds}" if seconds else "public, no-cache"


def kept(answer: Answer, request: Request, seconds: int) -> Answer:
    """A public answer as one that clients and proxies may keep, or 304 where they have it."""
    if answer.status != _OK:
        return answer
    content = answer.body if isinstance(answer.body, bytes) else codec.encode(answer.body)
    headers = answer.headers | {"Cache-Control": policy(seconds), "ETag": tag(content)}
    if names(request.header("if-none-match"), headers["ETag"]):
        return Answer(status=_NOT_MODIFIED, headers=headers)
    return replace(answer, body=content, headers=headers)
