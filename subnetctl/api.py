"""JSON over HTTP, as the commands of miners and validators speak it."""

from __future__ import annotations

import http.client
import json
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from . import terminal

_SECONDS = 30


@dataclass(frozen=True)
class Reply:
    """A status and the JSON that came with it; whatever else comes is no answer."""

    status: int
    body: Any

    @property
    def ok(self) -> bool:
        return self.status == http.client.OK

    @property
    def detail(self) -> str:
        told = self.body.get("detail") if isinstance(self.body, dict) else None
        return told if isinstance(told, str) else json.dumps(told or self.body)

    def expected(self) -> Any:
        """The body of a success; a refusal ends the command with the server's own words."""
        if not self.ok:
            code = self.body.get("code", "refused") if isinstance(self.body, dict) else "refused"
            terminal.refuse(f"{self.status}: {self.detail}", code=str(code))
        return self.body


def call(method: str, url: str, *, body: Any = None, headers: dict[str, str] | None = None) -> Reply:
    """One request; redirects are not followed, for no API of this project makes any."""
    parts = urlsplit(url)
    kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
    connection = kind(parts.netloc, timeout=_SECONDS)
    raw = None if body is None else json.dumps(body).encode()
    content = {"Content-Type": "application/json"} if raw is not None else {}
    target = parts.path + (f"?{parts.query}" if parts.query else "")
    try:
        connection.request(method, target or "/", body=raw, headers=content | (headers or {}))
        answer = connection.getresponse()
        text = answer.read()
    finally:
        connection.close()
    try:
        return Reply(answer.status, json.loads(text))
    except ValueError:
        return Reply(answer.status, {"detail": text[:200].decode("utf-8", "replace"), "code": "no_json"})
