"""Look-ups over HTTP: an answer or nothing, in bounded time and bytes."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from chalicelib.kernel import web


class _Site(BaseHTTPRequestHandler):
    seen: list[str | None]

    def do_GET(self) -> None:
        _Site.seen.append(self.headers["Authorization"])
        body = {"/ok": b'{"hot": true}', "/large": b'"' + b"x" * 5000 + b'"', "/broken": b"{"}.get(self.path, b"{}")
        self.send_response(302 if self.path == "/moved" else 404 if self.path == "/gone" else 200)
        self.send_header("Location", "/ok")
        self.end_headers()
        for byte in [body] if self.path != "/slow" else [b" "] * 200:
            self.wfile.write(byte)
            if self.path == "/slow" and _Site.stop.wait(0.02):
                return

    stop = threading.Event()

    def log_message(self, *_: object) -> None:
        """Quiet."""


@pytest.fixture
def site() -> Iterator[str]:
    _Site.seen = []
    _Site.stop.clear()
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Site)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    _Site.stop.set()
    server.shutdown()
    server.server_close()


def test_the_answer_is_parsed_and_the_token_sent(site: str) -> None:
    assert web.get_json(f"{site}/ok", bearer="t") == {"hot": True}
    assert _Site.seen == ["Bearer t"]


@pytest.mark.parametrize("path", ["/gone", "/moved", "/broken", "/large", "/slow"])
def test_whatever_goes_wrong_is_no_answer(site: str, path: str) -> None:
    assert web.get_json(site + path, seconds=0.2, most_bytes=1000) is None


@pytest.mark.parametrize("url", ["http://127.0.0.1:1/", "ftp://x", "", "http://127.0.0.1:99999/", "http://a b/"])
def test_an_address_that_leads_nowhere_is_no_answer(url: str) -> None:
    assert web.get_json(url, seconds=1) is None
