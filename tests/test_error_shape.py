"""One sweep over every route and every way to fail that needs no knowledge of it: one shape, and never our fault.

Routes come from the route tables, so a new one is swept as soon as it is declared.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

import pytest

import app as app_module
from chalicelib.kernel import settings
from chalicelib.kernel.routing import METHODS, Route, Router
from local.gateway import MAX_BODY_BYTES
from tests.harness import doors, samples
from tests.harness.client import Client, Reply
from tests.harness.cloud import empty_cloud
from tests.harness.faults import Fault, always, never_sent, refused, trouble
from tests.harness.wallets import wallet

MOUNTS = {name: f"/{name}" for name in app_module.ROUTERS}
WITH_BODY = {"POST", "PUT", "PATCH"}
_VARIABLE = re.compile(r"\{\w+\}")
_CODE = re.compile(r"[a-z][a-z0-9_]*")
_REQUEST_ID = re.compile(r"[0-9a-f]{32}")

ODD_TEXTS = [
    "",
    "x",
    "0",
    "-1",
    "1.5",
    "9" * 40,
    "NaN",
    "null",
    "true",
    " ",
    "é",
    "\x00",
    "\r\n",
    "../../etc/passwd",
    "%",
    "%2F",
    "{x}",
    "a" * 3000,
    wallet("sweep").hotkey,
    "00000000-0000-4000-8000-000000000000",
    "0x" + "ab" * 64,
]
ODD_BODIES = [
    b"",
    b"{",
    b"null",
    b"[]",
    b'"x"',
    b"1e400",
    b"NaN",
    b"\xff\xfe",
    b"\x00",
    b"\xef\xbb\xbf{}",
    b'{"a": 1, "a": 2}',
    b'{"\\ud800": 1}',
    b"[" * 5000 + b"]" * 5000,
    b'{"a":' * 60 + b"{}" + b"}" * 60,
    b"PK\x03\x04" + bytes(100),
    b"x" * 70_000,
]


@dataclass(frozen=True)
class Swept:
    """A route of a mounted system."""

    name: str
    router: Router
    route: Route

    def path(self, value: str = "x") -> str:
        return MOUNTS[self.name] + _VARIABLE.sub(lambda _: quote(value, safe="") or "%20", self.route.path)

    def __str__(self) -> str:
        return f"{self.name} {self.route.id}"


ROUTES = [Swept(name, router, route) for name, router in app_module.ROUTERS.items() for route in router.routes]


@pytest.fixture(scope="module")
def world() -> Iterator[None]:
    """Every system, and the claims by themselves; one cloud for the whole sweep."""
    with pytest.MonkeyPatch.context() as patch, empty_cloud():
        patch.setenv("MOUNTS", ",".join(f"{name}={prefix}" for name, prefix in MOUNTS.items()))
        settings.forget_all()
        yield
    settings.forget_all()


@pytest.fixture(scope="module")
def client(world: None) -> Client:
    """The app as a stranger meets it."""
    return Client(app_module.build())


def check(reply: Reply, *, sent: str) -> None:
    """Whatever was asked: an answer, or a refusal in the one shape; unavailable is no fault, anything else above is."""
    told = f"{sent} → {reply.status} {reply.body[:300]!r}"
    assert reply.status < 500 or reply.status == 503, told
    assert _REQUEST_ID.fullmatch(reply.header("X-Request-Id") or ""), told
    assert reply.header("Access-Control-Allow-Origin") == "*", told
    if reply.status >= 400:
        assert reply.header("Content-Type") == "application/json", told
        assert isinstance(reply.json, dict), told
        assert isinstance(reply.json.get("detail"), (str, list)), told
        assert _CODE.fullmatch(str(reply.json.get("code"))), told


def _is_public(swept: Swept) -> bool:
    """A read that asks who is calling only where a knob closes it."""
    return swept.route.method == "GET" and swept.name == "bitrecs"


def every(routes: list[Swept] = ROUTES) -> Callable[[Any], Any]:
    return pytest.mark.parametrize("swept", routes, ids=str)


@pytest.mark.parametrize("path", ["/no/such/path", "/leoma/no", "/prism/../x", "//", "/%00", "/%zz", "/leoma//health"])
@pytest.mark.parametrize("method", METHODS)
def test_an_unknown_path_is_refused_by_the_gateway(client: Client, method: str, path: str) -> None:
    reply = client.call(method, path)
    check(reply, sent=f"{method} {path}")
    assert reply.status in {400, 404}


@every()
def test_a_method_that_is_not_declared_is_405_and_names_those_that_are(client: Client, swept: Swept) -> None:
    declared = {route.method for route in swept.router.routes if route.path == swept.route.path}
    for method in set(METHODS) - declared - {"OPTIONS"}:
        reply = client.call(method, swept.path())
        check(reply, sent=f"{method} {swept.path()}")
        assert reply.status == 405
        assert set((reply.header("Allow") or "").split(", ")) >= declared


@every([swept for swept in ROUTES if swept.route.path != "/"])
def test_one_trailing_slash_is_an_unknown_path_unless_the_system_takes_it(client: Client, swept: Swept) -> None:
    reply = client.call(swept.route.method, swept.path() + "/")
    check(reply, sent=f"{swept.path()}/")
    assert swept.router.trailing_slash or (reply.status, reply.json["code"]) == (404, "route_not_found")


@every([swept for swept in ROUTES if swept.route.method in WITH_BODY])
def test_a_body_beyond_the_limit_is_413_whoever_sends_it(client: Client, swept: Swept) -> None:
    reply = client.call(swept.route.method, swept.path(), bytes(min(swept.route.max_body, MAX_BODY_BYTES) + 1))
    check(reply, sent=f"too much to {swept}")
    assert reply.status == 413


@every([swept for swept in ROUTES if swept.route.auth])
def test_who_proves_nothing_is_refused(client: Client, swept: Swept) -> None:
    headers = [{}, {"Authorization": ""}, {"Authorization": "Bearer "}, {"Authorization": "Bearer é"}]
    for sent in headers:
        reply = client.call(swept.route.method, swept.path(), b"{}", sent)
        check(reply, sent=f"{swept} with {sent}")
        assert 400 <= reply.status < 500 or reply.status == 503 or _is_public(swept)


@every()
def test_odd_headers_are_no_fault_of_ours(client: Client, swept: Swept) -> None:
    names = list(swept.route.auth.headers if swept.route.auth else ()) or ["Authorization"]
    for text in ODD_TEXTS:
        headers = dict.fromkeys(names, text.replace("\r\n", ""))
        check(client.call(swept.route.method, swept.path(), b"{}", headers), sent=f"{swept} with {text!r} in {names}")


@every([swept for swept in ROUTES if "{" in swept.route.path])
def test_odd_path_variables_are_no_fault_of_ours(client: Client, swept: Swept) -> None:
    for text in ODD_TEXTS:
        check(client.call(swept.route.method, swept.path(text), b"{}"), sent=f"{swept} with {text!r}")


@every([swept for swept in ROUTES if swept.route.query_contract or swept.route.method == "GET"])
def test_odd_queries_are_no_fault_of_ours(client: Client, swept: Swept) -> None:
    contract = swept.route.query_contract
    fields = list(contract.model_fields) if contract else ["limit", "offset", "cursor"]
    for text in ODD_TEXTS:
        query = "&".join(f"{name}={quote(text)}" for name in fields)
        check(client.call(swept.route.method, f"{swept.path()}?{query}"), sent=f"{swept}?{query}")


@every([swept for swept in ROUTES if swept.route.method in WITH_BODY])
def test_odd_bodies_are_no_fault_of_ours(client: Client, swept: Swept) -> None:
    for body in ODD_BODIES:
        for kind in ("application/json", "text/plain", "multipart/form-data", "application/zip"):
            reply = client.call(swept.route.method, swept.path(), body, {"Content-Type": kind})
            check(reply, sent=f"{swept} with {body[:30]!r}")


@pytest.fixture(scope="module")
def inside(world: None) -> Client:
    """The same app for somebody whom every door lets in."""
    return Client(doors.opened(MOUNTS))


BEHIND_DOORS = [swept for swept in ROUTES if doors.opens(swept.route)]


@every([swept for swept in BEHIND_DOORS if swept.route.body_contract])
def test_odd_values_are_no_fault_of_ours_behind_the_door_either(inside: Client, swept: Swept) -> None:
    contract = swept.route.body_contract
    assert contract
    for body in (samples.plain(contract), *samples.odd(contract)):
        path = swept.path(doors.INSIDER)
        check(
            inside.call(swept.route.method, path, body, {"X-Signature": "ab" * 64}),
            sent=f"{swept} with {str(body)[:500]}",
        )


@every(BEHIND_DOORS)
def test_odd_paths_queries_and_bodies_are_no_fault_of_ours_behind_the_door_either(inside: Client, swept: Swept) -> None:
    contract = swept.route.query_contract
    fields = list(contract.model_fields) if contract else ["limit", "cursor"]
    for text in ODD_TEXTS:
        query = "&".join(f"{name}={quote(text)}" for name in fields)
        path = f"{swept.path(text)}?{query}" if text else f"{swept.path()}?{query}"
        check(inside.call(swept.route.method, path, b"{}"), sent=f"{swept} at {path}")
    for body in ODD_BODIES if swept.route.method in WITH_BODY else []:
        check(inside.call(swept.route.method, swept.path(), body), sent=f"{swept} with {body[:30]!r}")


def throttled(_number: int, operation: str) -> Fault:
    """Every service has too much to do, each in its own words."""
    return refused("SlowDown" if operation.endswith(("_object", "_objects_v2")) else "ThrottlingException")


@every(BEHIND_DOORS)
def test_a_service_that_is_too_busy_is_503_with_a_time_to_come_back(inside: Client, swept: Swept) -> None:
    contract = swept.route.body_contract
    body = samples.plain(contract) if contract else b""
    with trouble(throttled):
        reply = inside.call(swept.route.method, swept.path(doors.INSIDER), body, {"X-Signature": "ab" * 64})
    check(reply, sent=f"{swept} while everything is throttled")
    assert reply.status != 503 or reply.header("Retry-After"), swept


@every(BEHIND_DOORS)
def test_a_connection_that_breaks_is_503_with_a_time_to_come_back(inside: Client, swept: Swept) -> None:
    contract = swept.route.body_contract
    body = samples.plain(contract) if contract else b""
    with trouble(always(never_sent())):
        reply = inside.call(swept.route.method, swept.path(doors.INSIDER), body, {"X-Signature": "ab" * 64})
    check(reply, sent=f"{swept} without a connection")
    assert reply.status != 503 or reply.header("Retry-After"), swept
