"""Answers that may be kept: only what anybody may read, and only while it is what was asked for."""

from __future__ import annotations

from typing import Any

import pytest

from chalicelib.kernel import caching
from chalicelib.kernel.http import Answer, Request
from chalicelib.kernel.routing import Auth, Route


def _asking(**headers: str) -> Request:
    names = {name.replace("_", "-"): value for name, value in headers.items()}
    return Request("GET", "/x", names, {}, {}, b"", "1", "127.0.0.1")


def _route(handler: Any = lambda: {"a": 1}, **options: Any) -> Route:
    return Route("x", "GET", "/x", handler, **options)


def test_equal_content_has_one_tag_and_other_content_another() -> None:
    answers = iter([b"a", b"a", b"b"])
    route = _route(lambda: next(answers), fresh_for=5)
    first, same, other = (route.call(_asking()) for _ in range(3))
    assert first.headers["ETag"] == same.headers["ETag"] != other.headers["ETag"]
    assert first.headers["Cache-Control"] == "public, max-age=5"


@pytest.mark.parametrize("sent", ["{}", "W/{}", '"x", {}', "*"])
def test_who_has_it_gets_304_with_the_same_headers(sent: str) -> None:
    route = _route(lambda: Answer(b"a", headers={"X-Age": "1"}), fresh_for=0)
    tag = route.call(_asking()).headers["ETag"]
    reply = route.call(_asking(if_none_match=sent.format(tag)))
    assert (reply.status, reply.body) == (304, None)
    assert reply.headers == {"X-Age": "1", "Cache-Control": "public, no-cache", "ETag": tag}


def test_an_absent_header_names_nothing() -> None:
    assert not caching.names(None, '"a"')
    assert not caching.names("", '"a"')


def test_what_is_no_plain_success_is_not_kept() -> None:
    assert _route(lambda: Answer(b"", 307), fresh_for=5).call(_asking()).headers == {}


def test_a_route_for_callers_or_for_writing_cannot_be_declared_as_kept() -> None:
    with pytest.raises(ValueError, match="anybody may read"):
        _route(fresh_for=5, auth=Auth(lambda _request: None, "caller"))
    with pytest.raises(ValueError, match="anybody may read"):
        Route("x", "POST", "/x", dict, fresh_for=5)


def test_what_needs_a_key_just_now_is_kept_by_nobody() -> None:
    is_open = False
    route = _route(fresh_for=5, auth=Auth(lambda _request: None, "reader", optional=lambda: is_open))
    assert route.call(_asking()).headers == {}
    is_open = True
    assert "ETag" in route.call(_asking()).headers
