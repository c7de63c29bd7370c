"""DynamoDB's calls on a short road: the embedded cloud looks at each request as anything but these first.

What answers is the emulator's own DynamoDB, under the account and region that the request was signed for.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

Asgi = Callable[[Any, Any, Any], Awaitable[None]]

_TARGET = b"DynamoDB_20120810."


def shortened(application: Asgi) -> Asgi:
    """The application, asked last for what is none of these; so is a compressed body, and a target with a query."""
    from ministack.core.responses import set_request_account_id, set_request_region
    from ministack.core.router import extract_access_key_id, extract_region
    from ministack.services import dynamodb

    async def answering(scope: Any, receive: Any, send: Any) -> None:
        sent = dict(scope["headers"]) if scope["type"] == "http" else {}
        target = sent.get(b"x-amz-target", b"")
        whole_way = scope.get("path") != "/" or scope["query_string"] or b"content-encoding" in sent
        if whole_way or not target.startswith(_TARGET):
            await application(scope, receive, send)
            return
        body = await _body(receive)
        if body is None:
            return
        headers = {"authorization": sent.get(b"authorization", b"").decode("latin-1"), "x-amz-target": target.decode()}
        set_request_account_id(extract_access_key_id(headers))
        set_request_region(extract_region(headers))
        status, told, answer = await dynamodb.handle_request("POST", "/", headers, body, {})
        await _answer(send, status, told["x-amz-crc32"], answer if isinstance(answer, bytes) else answer.encode())

    return answering


async def _body(receive: Any) -> bytes | None:
    """All of it; None when the client has gone."""
    parts = []
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            return None
        parts.append(message.get("body", b""))
        if not message.get("more_body"):
            return b"".join(parts)


async def _answer(send: Any, status: int, checksum: str, body: bytes) -> None:
    headers = [
        (b"content-type", b"application/x-amz-json-1.0"),
        (b"content-length", str(len(body)).encode()),
        (b"x-amz-crc32", checksum.encode()),
    ]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
