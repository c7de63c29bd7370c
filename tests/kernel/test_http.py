"""The edge: what a route is handed, and what leaves whatever happens."""

from __future__ import annotations

import base64
from collections.abc import Callable
from typing import Any

import pytest
from pydantic import BaseModel, ConfigDict, Field

from chalicelib.kernel import errors
from chalicelib.kernel.http import MAX_ECHO, STATUS, Answer, App, Request
from chalicelib.kernel.routing import METHODS, Auth, Router
from chalicelib.kernel.settings import KernelSettings
from tests.harness.client import Client

REFUSALS = sorted(STATUS, key=lambda kind: kind.__name__)


class Thing(BaseModel):
    model_config = ConfigDict(extra="forbid")
    name: str = Field(min_length=1, max_length=50)
    count: int = Field(0, ge=0)


class Page(BaseModel):
    limit: int = Field(10, ge=1, le=50)


def app_of(router: Router, prefix: str = "/t") -> Client:
    app = App("test", configure_logs=False)
    router.mount(app, prefix)
    return Client(app)


def answering(result: Callable[[], Any], **options: Any) -> Client:
    router = Router("test", "Test", **options)
    router.get("/x")(result)
    return app_of(router)


def nothing() -> dict[str, Any]:
    return {}


def raising(error: Exception, **options: Any) -> Client:
    def fail() -> None:
        raise error

    return answering(fail, **options)


@pytest.fixture
def things() -> Client:
    router = Router("test", "Test", max_body=100)
    order: list[str] = []

    def check(request: Request) -> str:
        order.append("auth")
        if request.header("X-KEY") is None:
            raise errors.Unauthenticated("who?")
        return "caller"

    @router.post("/things/{thing}", auth=Auth(check, "key"), status=201)
    def make(thing: str, body: Thing, query: Page, caller: str, request: Request) -> dict[str, Any]:
        return {
            "thing": thing,
            "body": body.model_dump(),
            "limit": query.limit,
            "caller": caller,
            "below": request.path_below_mount,
        }

    @router.get("/things/{thing}")
    def show(thing: str) -> dict[str, str]:
        return {"thing": thing}

    return app_of(router)


def test_a_route_is_handed_what_its_arguments_name(things: Client) -> None:
    reply = things.post("/t/things/a%20b?limit=7&limit=8&more=x", {"name": "n"}, {"x-Key": "1"})
    assert reply.status == 201
    assert reply.json == {
        "thing": "a b", "body": {"name": "n", "count": 0}, "limit": 8, "caller": "caller", "below": "/things/a%20b",
    }  # fmt: skip


def test_strangers_never_reach_a_parser(things: Client) -> None:
    reply = things.post("/t/things/a?limit=none", b"{")
    assert (reply.status, reply.json) == (401, {"detail": "who?", "code": "unauthorized"})


@pytest.mark.parametrize(
    ("path", "body", "loc", "kind"),
    [
        ("/t/things/a", b"{", ["body", 0], "json_invalid"),
        ("/t/things/a", b"", ["body", 0], "json_invalid"),
        ("/t/things/a", b"[]", ["body"], "model_type"),
        ("/t/things/a", b"{}", ["body", "name"], "missing"),
        ("/t/things/a", b'{"name": 5}', ["body", "name"], "string_type"),
        ("/t/things/a", b'{"name": "n", "x": 1}', ["body", "x"], "extra_forbidden"),
        ("/t/things/a", b'{"name": "n", "count": -1}', ["body", "count"], "greater_than_equal"),
        ("/t/things/a?limit=51", b'{"name": "n"}', ["query", "limit"], "less_than_equal"),
        ("/t/things/a?limit=", b'{"name": "n"}', ["query", "limit"], "int_parsing"),
    ],
)
def test_what_breaks_a_contract_is_told_as_fastapi_does(
    things: Client, path: str, body: bytes, loc: list[Any], kind: str
) -> None:
    reply = things.post(path, body, {"X-Key": "1"})
    found = reply.json["detail"][0]
    assert (reply.status, found["loc"], found["type"]) == (422, loc, kind)
    assert set(found) <= {"type", "loc", "msg", "input", "ctx"}


def test_a_long_input_is_not_sent_back_whole(things: Client) -> None:
    router = Router("test", "Test")
    router.post("/x", body=Thing)(lambda request: request.read_body(Thing).model_dump())
    reply = app_of(router).post("/t/x", {"name": "n" * 10_000, "count": {"secret": 1}})
    assert [len(str(found["input"])) for found in reply.json["detail"]] == [MAX_ECHO, len("None")]


@pytest.mark.parametrize(("size", "status"), [(100, 422), (101, 413)])
def test_a_body_beyond_the_route_s_size_is_refused_before_anything_else(things: Client, size: int, status: int) -> None:
    reply = things.post("/t/things/a", b"[" + b" " * (size - 2) + b"]", {"X-Key": "1"})
    assert reply.status == status
    assert things.post("/t/things/a", b" " * 101).status == 413


@pytest.mark.parametrize(("method", "paused"), [("GET", False), ("POST", True), ("PUT", True), ("DELETE", True)])
def test_a_paused_deployment_is_read_and_not_written(
    monkeypatch: pytest.MonkeyPatch, method: str, *, paused: bool
) -> None:
    router = Router("test", "Test")
    router.route(method, "/x")(nothing)
    client = app_of(router)
    assert client.call(method, "/t/x").status == 200
    monkeypatch.setattr(KernelSettings, "_current", KernelSettings(read_only=True))
    reply = client.call(method, "/t/x")
    assert reply.status == (503 if paused else 200)
    if paused:
        assert (reply.json["code"], reply.header("Retry-After")) == ("paused", "60")


@pytest.mark.parametrize("kind", REFUSALS, ids=lambda kind: kind.__name__)
def test_every_kind_of_refusal_has_its_status_and_the_one_shape(kind: type[errors.Refusal]) -> None:
    reply = raising(kind("why", code="c", retry_after=1.2, headers={"X-More": "1"}, extra={"hint": "h"})).get("/t/x")
    assert reply.status == STATUS[kind]
    assert reply.json == {"detail": "why", "code": "c", "hint": "h"}
    assert (reply.header("retry-after"), reply.header("x-more")) == ("2", "1")
    assert len(reply.header("x-request-id") or "") == 32


def test_every_refusal_of_the_house_has_a_status() -> None:
    declared = {kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, errors.Refusal)}
    assert declared - {errors.Refusal} == set(STATUS)


@pytest.mark.parametrize(
    "outcome",
    [RuntimeError("secret"), KeyError("secret"), RecursionError("secret"), errors.Contended("secret")],
    ids=lambda error: type(error).__name__,
)
def test_what_nobody_expected_is_a_500_that_tells_nothing_but_its_id(
    outcome: Exception, capsys: pytest.CaptureFixture[str]
) -> None:
    reply = raising(outcome).get("/t/x")
    request_id = reply.header("X-Request-Id")
    assert reply.status == 500
    assert reply.json == {"detail": "An internal error occurred", "code": "internal", "request_id": request_id}
    assert reply.header("Access-Control-Allow-Origin") == "*"
    assert "secret" in (log := capsys.readouterr().err)
    assert str(request_id) in log


@pytest.mark.parametrize("answer", ["\ud800", object(), {"a": {1, object()}}], ids=["surrogate", "object", "nested"])
def test_an_answer_that_has_no_json_is_a_500_too(answer: Any, capsys: pytest.CaptureFixture[str]) -> None:
    reply = answering(lambda: answer).get("/t/x")
    assert (reply.status, reply.json["code"]) == (500, "internal")
    assert "request" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("answer", "body", "kind"),
    [
        (Answer(b"\x00\xff", content_type="application/zip"), b"\x00\xff", "application/zip"),
        (Answer("ü".encode(), content_type="text/plain"), "ü".encode(), "text/plain"),
        ({"n": 10**30}, b'{"n":1000000000000000000000000000000}', "application/json"),
        ([1.5, None], b"[1.5,null]", "application/json"),
        (Thing(name="n"), b'{"name":"n","count":0}', "application/json"),
        (Answer(status=204), b"", None),
        (Answer(status=304, headers={"ETag": '"x"'}), b"", None),
    ],
)
def test_every_byte_of_an_answer_arrives(answer: Any, body: bytes, kind: str | None) -> None:
    reply = answering(lambda: answer).get("/t/x")
    assert (reply.body, reply.header("Content-Type")) == (body, kind)
    assert reply.header("X-Content-Type-Options") == "nosniff"


def test_a_header_that_is_a_number_leaves_as_text() -> None:
    headers: Any = {"X-Count": 5}
    assert answering(lambda: Answer({}, headers=headers)).get("/t/x").header("X-Count") == "5"


@pytest.mark.parametrize(
    ("event", "body"),
    [
        ({"body": base64.b64encode(b"\xff\x00").decode(), "isBase64Encoded": True}, b"\xff\x00"),
        ({"body": '"ü"', "isBase64Encoded": False}, '"ü"'.encode()),
        ({"body": None}, b""),
        ({"body": '"\ud800"'}, b'"\xed\xa0\x80"'),
    ],
)
def test_the_body_is_what_was_sent(event: dict[str, Any], body: bytes) -> None:
    context = {"requestId": "00000000-0000-4000-8000-000000000000"}
    full = {"httpMethod": "POST", "path": "/", "requestContext": context, **event}
    request = Request.from_event(full, "")
    assert (request.body, request.headers, request.ip) == (body, {}, "")


@pytest.mark.parametrize("method", METHODS)
def test_a_path_answers_every_method(things: Client, method: str) -> None:
    reply = things.call(method, "/t/things/a", b"{}")
    if method == "OPTIONS":
        assert (reply.status, reply.header("Access-Control-Allow-Methods")) == (200, "GET, POST")
    elif method not in {"GET", "POST"}:
        assert (reply.status, reply.header("Allow")) == (405, "GET, POST")
        assert reply.json == {"detail": "Method Not Allowed", "code": "method_not_allowed"}


@pytest.mark.parametrize(
    ("wanted", "told"), [("X-Key, Authorization", "X-Key, Authorization"), ("a\u00e9", "*"), ("", "*")]
)
def test_a_preflight_allows_the_headers_that_are_asked_for_by_name(things: Client, wanted: str, told: str) -> None:
    reply = things.call("OPTIONS", "/t/things/a", headers={"Access-Control-Request-Headers": wanted})
    assert reply.header("Access-Control-Allow-Headers") == told
    assert reply.header("Access-Control-Max-Age") == "600"


@pytest.mark.parametrize(
    ("origins", "origin", "allowed"),
    [
        (("*",), "https://a.example", "*"),
        (("https://a.example", "https://b.example"), "https://b.example", "https://b.example"),
        (("https://a.example",), "https://evil.example", None),
        (("https://a.example",), None, None),
        ((), "https://a.example", None),
    ],
)
def test_cors_follows_the_list(origins: tuple[str, ...], origin: str | None, allowed: str | None) -> None:
    client = answering(nothing, cors_origins=lambda: origins)
    reply = client.get("/t/x", {"Origin": origin} if origin else {})
    assert reply.header("Access-Control-Allow-Origin") == allowed
    assert reply.header("Vary") == (None if "*" in origins else "Origin")


@pytest.mark.parametrize(("tolerant", "status"), [(False, 404), (True, 200)])
def test_a_trailing_slash_belongs_to_the_path_unless_the_system_says_otherwise(*, tolerant: bool, status: int) -> None:
    client = answering(nothing, trailing_slash=tolerant)
    reply = client.get("/t/x/")
    assert reply.status == status
    assert tolerant or reply.json == {"detail": "Not Found", "code": "route_not_found"}


def test_a_system_says_no_in_its_own_words() -> None:
    def rephrase(refusal: errors.Refusal) -> errors.Refusal:
        if isinstance(refusal, errors.Invalid):
            return errors.Malformed("bad input", code=refusal.code)
        return refusal

    words = {"method_not_allowed": "no such method", "not_found": "no such path", "internal": "oops"}
    client = raising(errors.Invalid([], code="invalid_json"), rephrase=rephrase, headers={"X-House": "h"}, **words)
    refused, wrong_method, wrong_path = client.get("/t/x"), client.post("/t/x"), client.get("/t/x/")
    assert (refused.status, refused.json) == (400, {"detail": "bad input", "code": "invalid_json"})
    assert (wrong_method.json["detail"], wrong_path.json["detail"]) == ("no such method", "no such path")
    assert {reply.header("X-House") for reply in (refused, wrong_method, wrong_path)} == {"h"}


def test_a_request_knows_what_came_twice_in_any_spelling() -> None:
    many = {"X-Key": ["a"], "x-key": ["b"], "Accept": ["c"]}
    event = {"httpMethod": "GET", "path": "/", "multiValueHeaders": many, "requestContext": {"requestId": "1"}}
    request = Request.from_event(event, "")
    assert [request.repeats(name) for name in ("x-KEY", "accept", "other")] == [True, False, False]
