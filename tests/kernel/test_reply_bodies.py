"""How a body travels through API Gateway, which decodes base64 only for callers that send a matching Accept header."""

from __future__ import annotations

import base64
from typing import Any

from chalicelib.kernel.http import Answer, Request, serve
from chalicelib.kernel.routing import Route


def reply_to(body: Any) -> dict[str, Any]:
    request = Request("GET", "/", {}, {}, {}, b"", "id", "127.0.0.1")
    return serve("test", request, lambda _: Answer(body), "An internal error occurred")


def test_text_travels_as_text() -> None:
    reply = reply_to({"name": "Ἀθῆναι"})
    assert reply["isBase64Encoded"] is False
    assert reply["body"] == '{"name":"Ἀθῆναι"}'


def test_bytes_that_are_no_text_travel_as_base64() -> None:
    reply = reply_to(b"\xff\x00zip")
    assert reply["isBase64Encoded"] is True
    assert base64.b64decode(reply["body"]) == b"\xff\x00zip"


def test_a_route_that_may_have_no_answer_says_null_and_one_that_has_none_says_nothing() -> None:
    def maybe() -> list[str] | None:
        return None

    def never() -> None:
        return None

    request = Request("GET", "/", {}, {}, {}, b"", "id", "127.0.0.1")
    bodies = [Route("test", "GET", "/", handler).call(request).body for handler in (maybe, never)]
    assert bodies == [b"null", None]
