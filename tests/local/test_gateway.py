"""The gateway speaks API Gateway's dialect: its events, its routing, its limits, and errors in the house's shape."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from typing import Any

import pytest

from local.gateway import MAX_ANSWER_BYTES, MAX_BODY_BYTES, Answer, Gateway, Request, resource_tree

Handler = Callable[[dict[str, Any]], dict[str, Any]]


class FakeApp:
    """Chalice's app object as a gateway sees it; every route answers with the event unless told otherwise."""

    def __init__(self, routes: dict[str, list[str]], handler: Handler | None = None) -> None:
        self.routes = {path: dict.fromkeys(methods) for path, methods in routes.items()}
        self.handler = handler or (lambda event: {"statusCode": 200, "body": json.dumps(event)})

    def __call__(self, event: dict[str, Any], context: Any) -> dict[str, Any]:
        assert context.get_remaining_time_in_millis() > 0
        return self.handler(event)


ROUTES = {
    "/": ["GET"],
    "/leoma/miners/list": ["GET"],
    "/leoma/miners/{hotkey}": ["GET", "POST"],
    "/leoma/miners/{hotkey}/tasks/{task}": ["GET"],
}


def call(method: str, target: str, *, handler: Handler | None = None, **fields: Any) -> Answer:
    return Gateway(FakeApp(ROUTES, handler)).answer(Request(method, target, **fields))


def event_of(method: str, target: str, **fields: Any) -> Any:
    answer = call(method, target, **fields)
    assert answer.status == 200
    return json.loads(answer.body)


def assert_refused(answer: Answer, status: int, code: str) -> None:
    assert answer.status == status
    body = json.loads(answer.body)
    assert set(body) == {"detail", "code"}
    assert body["code"] == code
    headers = dict(answer.headers)
    assert headers["Content-Type"] == "application/json"
    assert headers["Access-Control-Allow-Origin"] == "*"
    assert headers["Cache-Control"] == "no-store"
    assert len(headers["X-Request-Id"]) == 32


def test_a_literal_segment_goes_before_a_variable_one() -> None:
    assert event_of("GET", "/leoma/miners/list")["resource"] == "/leoma/miners/list"
    assert event_of("GET", "/leoma/miners/5abc")["resource"] == "/leoma/miners/{hotkey}"


def test_the_routing_does_not_turn_back_from_a_literal_segment() -> None:
    assert_refused(call("GET", "/leoma/miners/list/tasks/1"), 404, "route_not_found")


def test_the_event_is_lambdas_proxy_event() -> None:
    event = event_of(
        "POST",
        "/leoma/miners/5abc?a=1&a=2&b=%20x&empty=",
        headers=[("Host", "h"), ("X-Twice", "one"), ("X-Twice", "two"), ("User-Agent", "me")],
        body=b"\x00\xff",
        source_ip="10.1.2.3",
    )
    assert event["path"] == "/leoma/miners/5abc"
    assert event["httpMethod"] == "POST"
    assert event["headers"]["X-Twice"] == "two"
    assert event["multiValueHeaders"]["X-Twice"] == ["one", "two"]
    assert event["queryStringParameters"] == {"a": "2", "b": " x", "empty": ""}
    assert event["multiValueQueryStringParameters"] == {"a": ["1", "2"], "b": [" x"], "empty": [""]}
    assert event["pathParameters"] == {"hotkey": "5abc"}
    assert event["isBase64Encoded"] is True
    assert base64.b64decode(event["body"]) == b"\x00\xff"
    context = event["requestContext"]
    assert context["resourcePath"] == "/leoma/miners/{hotkey}"
    assert (context["httpMethod"], context["path"], context["stage"]) == ("POST", event["path"], "local")
    assert context["identity"] == {"sourceIp": "10.1.2.3", "userAgent": "me"}
    assert context["requestId"]


def test_absent_parts_are_null_as_in_api_gateways_events() -> None:
    event = event_of("GET", "/")
    for part in ("queryStringParameters", "multiValueQueryStringParameters", "pathParameters", "body"):
        assert event[part] is None


def test_every_request_has_an_id_of_its_own() -> None:
    ids = {event_of("GET", "/")["requestContext"]["requestId"] for _ in range(50)}
    assert len(ids) == 50


def test_variables_are_decoded_after_the_path_was_matched() -> None:
    event = event_of("GET", "/leoma/miners/a%2Fb%20c/tasks/%E2%82%AC")
    assert event["pathParameters"] == {"hotkey": "a/b c", "task": "€"}
    assert event["path"] == "/leoma/miners/a%2Fb%20c/tasks/%E2%82%AC"


def test_one_trailing_slash_reaches_the_route_which_sees_it() -> None:
    assert event_of("GET", "/leoma/miners/list/")["path"] == "/leoma/miners/list/"
    assert_refused(call("GET", "/leoma/miners/list//"), 404, "route_not_found")


@pytest.mark.parametrize(
    "target",
    ["//leoma/miners/list", "/leoma//miners/list", "/leoma/miners//", "/leoma/../leoma/miners/list", "/%2e%2e/etc"],
)
def test_odd_paths_are_unknown_paths(target: str) -> None:
    assert_refused(call("GET", target), 404, "route_not_found")


@pytest.mark.parametrize(
    "target", ["/leoma/miners/..", "/leoma/miners/%2e%2e", "/leoma/miners/%00", "/leoma/miners/%FF"]
)
def test_odd_segments_are_values_like_any_other(target: str) -> None:
    assert event_of("GET", target)["resource"] == "/leoma/miners/{hotkey}"


@pytest.mark.parametrize("target", ["/leoma/miners/%zz", "/%", "/leoma/%4", "*", "leoma", "", "ftp://h/x", "http://[/"])
def test_malformed_targets_are_refused(target: str) -> None:
    assert_refused(call("GET", target), 400, "malformed_path")


def test_an_absolute_target_loses_its_host() -> None:
    event = event_of("GET", "http://example.org/leoma/miners/5abc?a=1#fragment")
    assert (event["path"], event["queryStringParameters"]) == ("/leoma/miners/5abc", {"a": "1"})


@pytest.mark.parametrize("query", ["%zz", "a=%zz&b", "&&&=", "a=%FF", "a" * 4000])
def test_odd_queries_reach_the_handler(query: str) -> None:
    assert event_of("GET", f"/?{query}")["resource"] == "/"


def test_a_method_that_is_not_declared_is_refused_with_those_that_are() -> None:
    for method in ("DELETE", "HEAD", "TRACE", "BREW"):
        answer = call(method, "/leoma/miners/5abc")
        assert_refused(answer, 405, "method_not_allowed")
        assert dict(answer.headers)["Allow"] == "GET, POST"


def test_a_body_above_ten_megabytes_is_refused_and_one_of_ten_passes() -> None:
    assert_refused(call("POST", "/leoma/miners/x", body=bytes(MAX_BODY_BYTES + 1)), 413, "body_too_large")
    assert call("POST", "/leoma/miners/x", body=bytes(MAX_BODY_BYTES)).status == 502  # the echo is too long


def test_a_reply_comes_back_as_the_bytes_it_stands_for() -> None:
    reply = {
        "statusCode": 201,
        "headers": {"X-One": "1", "Set-Cookie": "dropped"},
        "multiValueHeaders": {"Set-Cookie": ["a=1", "b=2"]},
        "body": base64.b64encode(b"\x00\x01\xfe").decode(),
        "isBase64Encoded": True,
    }
    answer = call("GET", "/", handler=lambda _event: reply)
    assert (answer.status, answer.body) == (201, b"\x00\x01\xfe")
    assert answer.headers == [("X-One", "1"), ("Set-Cookie", "a=1"), ("Set-Cookie", "b=2")]


@pytest.mark.parametrize(
    ("letter", "size"), [("x", 1), ('"', 2), ("é", 6), ("😀", 12)], ids=["plain", "quote", "accent", "emoji"]
)
def test_a_reply_that_lambda_would_write_in_above_six_megabytes_is_a_bad_gateway(letter: str, size: int) -> None:
    def answering(length: int) -> Handler:
        return lambda _event: {"statusCode": 200, "body": letter * length}

    assert call("GET", "/", handler=answering(MAX_ANSWER_BYTES // size)).status == 200
    assert_refused(call("GET", "/", handler=answering(MAX_ANSWER_BYTES // size + 1)), 502, "answer_too_large")


@pytest.mark.parametrize(
    "reply",
    [
        None,
        {},
        {"statusCode": "x"},
        {"statusCode": 200, "headers": {"A": "b\r\nc: d"}},
        {"statusCode": 200, "headers": 1},
    ],
)
def test_a_malformed_reply_is_a_bad_gateway(reply: Any) -> None:
    assert_refused(call("GET", "/", handler=lambda _event: reply), 502, "function_failed")


def test_a_handler_that_raises_is_a_bad_gateway_and_is_reported() -> None:
    def handler(_event: dict[str, Any]) -> dict[str, Any]:
        raise ZeroDivisionError

    reports: list[str] = []
    answer = Gateway(FakeApp(ROUTES, handler), reports.append).answer(Request("GET", "/"))
    assert_refused(answer, 502, "function_failed")
    assert "ZeroDivisionError" in reports[0]
    assert "GET /" in reports[0]


def test_two_names_for_one_variable_are_refused_as_by_api_gateway() -> None:
    with pytest.raises(ValueError, match="is called x elsewhere"):
        resource_tree({"/a/{x}": ["GET"], "/a/{y}/b": ["GET"]})
