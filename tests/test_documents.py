"""What a system's OpenAPI document promises, it keeps: requests are made up from its schemas, answers held against it.

Twice: for a stranger, and for somebody whom every door lets in. `CI_SCALE` multiplies the requests per operation.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from http import HTTPStatus
from pathlib import Path
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, seed
from hypothesis import settings as hypothesis_settings
from schemathesis.specs.openapi import checks

import app as app_module
from chalicelib.kernel import settings
from chalicelib.kernel import tasks as chain_tasks
from chalicelib.kernel.http import App
from chalicelib.kernel.routing import Route
from local.gateway import Gateway, Request
from local.settings import SAMPLE_CHAIN
from tests.harness import doors
from tests.harness.cloud import empty_cloud
from tests.harness.scale import scaled

REQUESTS = scaled(6)
MOUNTS = {name: f"/{name}" for name in app_module.ROUTERS}
OPERATIONS = [(name, route) for name, router in app_module.ROUTERS.items() for route in router.routes if route.listed]
KEPT = [
    checks.response_schema_conformance,
    checks.status_code_conformance,
    checks.content_type_conformance,
]
# Any hotkey in a path would be refused as none; half of the requests name one.
NAMES_A_HOTKEY = ("hotkey", "validator")
Wsgi = Callable[[dict[str, Any], Callable[..., Any]], Iterable[bytes]]


def served(app: App) -> Wsgi:
    """The app behind the laptop's gateway, as WSGI would have it."""
    gateway = Gateway(app, report=pytest.fail)

    def respond(environ: dict[str, Any], start: Callable[..., Any]) -> Iterable[bytes]:
        headers = [(k[5:].replace("_", "-").title(), v) for k, v in environ.items() if k.startswith("HTTP_")]
        if environ.get("CONTENT_TYPE"):
            headers.append(("Content-Type", environ["CONTENT_TYPE"]))
        path, _, query = environ["REQUEST_URI"].partition("?")
        query = query or environ.get("QUERY_STRING", "")
        body = environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
        target = f"{path}?{query}" if query else path
        answer = gateway.answer(Request(environ["REQUEST_METHOD"], target, headers, body))
        start(f"{answer.status} {HTTPStatus(answer.status).phrase}", answer.headers)
        return [answer.body]

    return respond


@pytest.fixture(scope="module")
def world() -> Iterator[None]:
    """Every system with its tokens set, and the sample chain copied."""
    with pytest.MonkeyPatch.context() as patch, empty_cloud():
        patch.setenv("MOUNTS", ",".join(f"{name}={prefix}" for name, prefix in MOUNTS.items()))
        patch.setenv("CHAIN_SOURCE", f"file:{Path(SAMPLE_CHAIN)}")
        for name in ("PRISM_SHARED_TOKEN", "EXPERTS_BZ_AUTH_TOKEN"):
            patch.setenv(name, "t" * 40)
        settings.forget_all()
        chain_tasks.sync()
        yield
    settings.forget_all()


@pytest.fixture(scope="module")
def outside(world: None) -> dict[str, Any]:
    return documents(app_module.build())


@pytest.fixture(scope="module")
def inside(world: None) -> dict[str, Any]:
    return documents(doors.opened(MOUNTS))


def documents(app: App) -> dict[str, Any]:
    wsgi = served(app)
    return {name: schemathesis.openapi.from_wsgi(f"{prefix}/openapi.json", wsgi) for name, prefix in MOUNTS.items()}


def keeps_its_promises(document: Any, route: Route, headers: dict[str, str], *more: Any) -> None:
    operation = document[route.path][route.method]

    @seed(1)
    @hypothesis_settings(
        max_examples=REQUESTS,
        deadline=None,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(case=operation.as_strategy())
    def one(case: Any) -> None:
        for name in case.path_parameters or {}:
            if name.endswith(NAMES_A_HOTKEY) and len(str(case.path_parameters[name])) % 2:
                case.path_parameters[name] = doors.INSIDER
        case.headers = {**(case.headers or {}), **headers}
        reply = case.call()
        assert reply.status_code < 500 or reply.status_code == 503, case.as_curl_command()
        case.validate_response(reply, checks=[*KEPT, *more])

    one()


def every(operations: list[tuple[str, Route]]) -> Callable[[Any], Any]:
    return pytest.mark.parametrize(("name", "route"), operations, ids=[f"{name} {r.id}" for name, r in operations])


@every(OPERATIONS)
def test_a_stranger_s_requests_are_answered_as_the_document_says(
    outside: dict[str, Any], name: str, route: Route
) -> None:
    keeps_its_promises(outside[name], route, {}, checks.ignored_auth)


@every([(name, route) for name, route in OPERATIONS if doors.opens(route) and route.auth])
def test_behind_the_doors_the_document_is_kept_too(inside: dict[str, Any], name: str, route: Route) -> None:
    keeps_its_promises(inside[name], route, {"X-Signature": "ab" * 64})
