"""Calls the app through the laptop's gateway, in the test's process: what it refuses there it refuses here."""

from __future__ import annotations

import functools
import json
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import app as app_module
from chalicelib.kernel.http import App
from local.gateway import Gateway, Request
from local.server import Server

# The app does not depend on these, and they change with each test or, the last, with each app.
_NO_SETTINGS = {"PYTEST_CURRENT_TEST", "CLOCK_FROZEN_AT", "AWS_EXECUTION_ENV"}


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
        self._gateway = Gateway(app, report=_crashed)

    def get(self, path: str, headers: dict[str, str] | None = None) -> Reply:
        return self.call("GET", path, headers=headers)

    def post(self, path: str, body: Any = None, headers: dict[str, str] | None = None) -> Reply:
        return self.call("POST", path, body, headers)

    def call(self, method: str, path: str, body: Any = b"", headers: dict[str, str] | None = None) -> Reply:
        """Send a request; anything but bytes goes as JSON."""
        raw = body if isinstance(body, bytes) else json.dumps(body).encode()
        answer = self._gateway.answer(Request(method, path, list((headers or {}).items()), raw))
        return Reply(answer.status, dict(answer.headers), answer.body)


def whole_app() -> App:
    """The app of the environment's settings; building it is most of a small test's time, so each is built once."""
    return _built(frozenset(item for item in os.environ.items() if item[0] not in _NO_SETTINGS))


@functools.lru_cache(maxsize=16)
def _built(_settings: frozenset[tuple[str, str]]) -> App:
    return app_module.build()


@contextmanager
def over_http(app: App) -> Iterator[str]:
    """The app behind the laptop's gateway on a free port, for browsers and commands; its URL."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        server = Server(Gateway(app).answer, listener)
        server.start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        server.stop()


def _crashed(report: str) -> None:
    raise AssertionError(f"the function crashed: {report}")
