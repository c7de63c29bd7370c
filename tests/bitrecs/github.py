"""A GitHub on loopback: gists by id, and every way to be slow or broken."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Behaviour = Callable[[BaseHTTPRequestHandler], None]


class GitHub:
    """Gists, and what to do in place of answering with one."""

    def __init__(self) -> None:
        self.gists: dict[str, dict[str, Any]] = {}
        self.behaviour: Behaviour | None = None
        self.requests: list[tuple[str, dict[str, str]]] = []
        self.keys: set[str] = set()
        self.url = ""

    def add(self, gist_id: str, content: str, *, owner: str = "miner", created_at: str, **changes: Any) -> str:
        """A gist of one file; answers the commit that must be on chain."""
        commit = f"{len(self.gists) + 1:040x}"
        self.gists[gist_id] = {
            "id": gist_id,
            "created_at": created_at,
            "owner": {"login": owner},
            "files": {"artifact.yaml": {"size": len(content.encode()), "truncated": False, "content": content}},
            "history": [{"version": commit}],
            "truncated": False,
            **changes,
        }
        return commit

    @property
    def fetches(self) -> list[str]:
        return [path for path, _ in self.requests if path.startswith("/gists/")]


@contextmanager
def running() -> Iterator[GitHub]:
    """A server on a free port of loopback."""
    github = GitHub()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            github.requests.append((self.path, {name.lower(): value for name, value in self.headers.items()}))
            if github.behaviour:
                github.behaviour(self)
                return
            if self.path == "/key":
                known = (self.headers.get("authorization") or "").removeprefix("Bearer ") in github.keys
                answer(self, 200 if known else 401, b"{}")
                return
            gist = github.gists.get(self.path.removeprefix("/gists/"))
            raw = json.dumps(gist or {"message": "Not Found"}).encode()
            etag = f'"{hash(raw)}"'
            if gist and self.headers.get("if-none-match") == etag:
                answer(self, 304, b"", ETag=etag)
            else:
                answer(self, 200 if gist else 404, raw, ETag=etag)

        def log_message(self, *_: Any) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    server.block_on_close = False
    github.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield github
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def answer(handler: BaseHTTPRequestHandler, status: int, body: bytes, **headers: str) -> None:
    handler.send_response(status)
    for name, value in headers.items():
        handler.send_header(name, value)
    handler.send_header("Content-Length", str(len(body)))
    handler.end_headers()
    handler.wfile.write(body)


def failing(status: int) -> Behaviour:
    return lambda handler: answer(handler, status, b"{}")


def hanging(seconds: float) -> Behaviour:
    """Accepts the request and says nothing."""
    return lambda _handler: time.sleep(seconds)


def trickling(interval: float, bytes_in_all: int) -> Behaviour:
    """A whole answer in the end, one byte at a time: no single silence is long."""

    def trickle(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(200)
        handler.send_header("Content-Length", str(bytes_in_all))
        handler.end_headers()
        try:
            for _ in range(bytes_in_all):
                handler.wfile.write(b" ")
                handler.wfile.flush()
                time.sleep(interval)
        except OSError:
            return

    return trickle
