"""Calls the app as API Gateway does, in the test's process."""

from __future__ import annotations

import base64
import json
import re
import uuid
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from chalicelib.kernel.http import App


@dataclass(frozen=True)
class Reply:
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    def header(self, name: str) -> str | None:
        return next((value for key, value in self.headers.items() if key.lower() == name.lower()), None)


class Client:
    """One app; paths as a client of the whole deployment would write them."""

    def __init__(self, app: App) -> None:
        self._app = app
        self._patterns = [
            (re.compile(re.sub(r"\{(\w+)\}", r"(?P<\1>[^/]+)", path)), path)
            for path in sorted(app.routes, key=lambda path: path.replace("{", "\uffff"))
        ]

    def get(self, path: str, headers: dict[str, str] | None = None) -> Reply:
        return self.call("GET", path, headers=headers)

    def post(self, path: str, body: Any = None, headers: dict[str, str] | None = None) -> Reply:
        return self.call("POST", path, body, headers)

    def call(self, method: str, path: str, body: Any = b"", headers: dict[str, str] | None = None) -> Reply:
        """Send a request; anything but bytes goes as JSON."""
        raw = body if isinstance(body, bytes) else json.dumps(body).encode()
        event = self._event(method, path, raw, headers or {})
        reply = self._app(event, None)
        content = base64.b64decode(reply["body"]) if reply["isBase64Encoded"] else reply["body"].encode()
        return Reply(reply["statusCode"], reply["headers"], content)

    def _event(self, method: str, path: str, raw: bytes, headers: dict[str, str]) -> dict[str, Any]:
        split = urlsplit(path)
        bare = split.path.rstrip("/") or "/"
        pattern, match = next((pattern, found) for regex, pattern in self._patterns if (found := regex.fullmatch(bare)))
        query = parse_qs(split.query, keep_blank_values=True)
        return {
            "resource": pattern,
            "path": split.path,
            "httpMethod": method,
            "headers": headers,
            "multiValueQueryStringParameters": query or None,
            "pathParameters": {name: unquote(value) for name, value in match.groupdict().items()} or None,
            "stageVariables": None,
            "requestContext": {
                "resourcePath": pattern,
                "httpMethod": method,
                "path": split.path,
                "requestId": str(uuid.uuid4()),
                "identity": {"sourceIp": "127.0.0.1"},
            },
            "body": base64.b64encode(raw).decode(),
            "isBase64Encoded": True,
        }
