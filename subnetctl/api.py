"""JSON over HTTP, as the commands of miners and validators speak it."""

from __future__ import annotations

import http.client
import json
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

_SECONDS = 30
_SUCCESS = 2


class Refused(Exception):
    """The API said no: its status, its stable code, its own words."""

    def __init__(self, status: int, detail: str, code: str) -> None:
        super().__init__(f"{status}: {detail}")
        self.status = status
        self.detail = detail
        self.code = code


class Unreachable(OSError):
    """Nobody spoke HTTP at an address, or it is none."""


@dataclass(frozen=True)
class Reply:
    """A status and the JSON that came with it; whatever else comes is no answer."""

    status: int
    body: Any
    is_json: bool = True

    @property
    def ok(self) -> bool:
        return self.status // 100 == _SUCCESS

    @property
    def detail(self) -> str:
        told = self.body.get("detail") if isinstance(self.body, dict) else None
        return told if isinstance(told, str) else json.dumps(told or self.body)

    def expected(self) -> Any:
        """The body of a success; a refusal is raised with the server's own words."""
        if self.ok and not self.is_json:
            raise Refused(self.status, "the answer is not JSON: is this the base URL of the mount?", "not_the_api")
        if not self.ok:
            code = self.body.get("code", "refused") if isinstance(self.body, dict) else "refused"
            raise Refused(self.status, self.detail, str(code))
        return self.body


def encoded(body: Any) -> bytes:
    """A body as it is sent, and therefore as it is signed."""
    return json.dumps(body).encode()


def call(method: str, url: str, *, body: Any = None, headers: dict[str, str] | None = None) -> Reply:
    """One request; redirects are not followed, for no API of this project makes any."""
    raw = None if body is None else encoded(body)
    content = {"Content-Type": "application/json"} if raw is not None else {}
    try:
        status, text = _exchanged(method, url, raw, content | (headers or {}))
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise Unreachable(f"no answer from {url.partition('?')[0]}: {error or type(error).__name__}") from error
    try:
        return Reply(status, json.loads(text))
    except ValueError:
        return Reply(status, {"detail": text[:200].decode("utf-8", "replace"), "code": "no_json"}, is_json=False)


def _exchanged(method: str, url: str, body: bytes | None, headers: dict[str, str]) -> tuple[int, bytes]:
    parts = urlsplit(url)
    kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
    connection = kind(parts.netloc, timeout=_SECONDS)
    target = parts.path + (f"?{parts.query}" if parts.query else "")
    try:
        connection.request(method, target or "/", body=body, headers=headers)
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()
