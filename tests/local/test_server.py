"""Over a real socket: refusals that a client can read, and slow clients that keep nobody waiting."""

from __future__ import annotations

import functools
import http.client
import json
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from local import server
from local.gateway import Gateway, Request
from local.server import MAX_CONNECTIONS, THREADS, Server
from tests.harness.race import all_at_once
from tests.local.test_gateway import FakeApp

TIMEOUT = 20
SLOW_CLIENTS = 64
LARGE = 5_000_000
GET = b"GET / HTTP/1.1\r\nHost: h\r\n\r\n"
GET_LARGE = b"GET /x/large HTTP/1.1\r\nHost: h\r\n\r\n"


class Running:
    """A server on a free port, and what its handler saw."""

    def __init__(self) -> None:
        self.seen: list[dict[str, Any]] = []
        self.threads: set[int] = set()
        self.hold: threading.Event | None = None
        self.entered = threading.Event()
        listener = socket.create_server(("127.0.0.1", 0), backlog=MAX_CONNECTIONS)
        self.host, self.port = listener.getsockname()
        app = FakeApp({"/": ["GET", "POST"], "/x/{name}": ["GET"]}, self._handle)
        self.server = Server(Gateway(app).answer, listener)
        self.server.start()

    def _handle(self, event: dict[str, Any]) -> dict[str, Any]:
        self.seen.append(event)
        self.threads.add(threading.get_ident())
        self.entered.set()
        if event["headers"].get("If-None-Match"):
            return {"statusCode": 304, "headers": {"ETag": '"1"'}, "body": ""}
        if self.hold:
            self.hold.wait(TIMEOUT)
        body = "x" * LARGE if event["path"] == "/x/large" else "hello"
        return {"statusCode": 200, "headers": {"Content-Type": "text/plain"}, "body": body}

    def connect(self) -> socket.socket:
        return socket.create_connection((self.host, self.port), timeout=TIMEOUT)

    def exchange(self, *sent: bytes) -> bytes:
        """Send, then read until the server closes."""
        with self.connect() as client:
            for part in sent:
                client.sendall(part)
            client.shutdown(socket.SHUT_WR)
            received = b""
            while part := client.recv(65536):
                received += part
            return received

    def request(self, method: str, path: str, body: Any = None, **headers: str) -> tuple[int, dict[str, str], bytes]:
        connection = http.client.HTTPConnection(self.host, self.port, timeout=TIMEOUT)
        try:
            connection.request(method, path, body, headers)
            reply = connection.getresponse()
            return reply.status, dict(reply.getheaders()), reply.read()
        finally:
            connection.close()


@pytest.fixture
def running() -> Iterator[Running]:
    found = Running()
    yield found
    found.server.stop()


def refusal_in(received: bytes) -> tuple[int, str]:
    head, _, body = received.partition(b"\r\n\r\n")
    assert b"X-Request-Id: " in head
    assert b"Access-Control-Allow-Origin: *" in head
    content = json.loads(body)
    assert set(content) == {"detail", "code"}
    return int(head.split()[1]), content["code"]


def test_a_connection_serves_one_request_after_the_other(running: Running) -> None:
    connection = http.client.HTTPConnection(running.host, running.port, timeout=TIMEOUT)
    for _ in range(3):
        connection.request("GET", "/")
        assert connection.getresponse().read() == b"hello"
    connection.close()
    assert len(running.seen) == 3


def test_requests_sent_at_once_are_answered_in_order(running: Running) -> None:
    received = running.exchange(GET + b"GET /nope HTTP/1.1\r\nHost: h\r\n\r\n")
    assert received.startswith(b"HTTP/1.1 200")
    assert b"route_not_found" in received


def test_duplicate_headers_arrive_one_by_one(running: Running) -> None:
    running.exchange(b"GET / HTTP/1.0\r\nX-Key: a\r\nx-other_one: c\r\nX-Key:  b \r\n\r\n")
    assert running.seen[0]["multiValueHeaders"]["X-Key"] == ["a", "b"]


def test_a_head_request_gets_no_body(running: Running) -> None:
    status, headers, body = running.request("HEAD", "/")
    assert (status, body) == (405, b"")
    assert int(headers["Content-Length"]) > 0


@pytest.mark.parametrize("megabytes", [11, 15])
def test_a_body_that_is_too_large_is_refused_so_that_its_sender_reads_it(running: Running, megabytes: int) -> None:
    status, _, body = running.request("POST", "/", bytes(megabytes << 20))
    assert (status, json.loads(body)["code"]) == (413, "body_too_large")
    assert running.seen == []


def test_a_chunked_body_that_is_too_large_is_refused_so_that_its_sender_reads_it(running: Running) -> None:
    status, _, body = running.request("POST", "/", (bytes(1 << 20) for _ in range(12)))
    assert (status, json.loads(body)["code"]) == (413, "body_too_large")


def test_a_client_that_asks_first_is_not_told_to_send_what_will_be_refused(running: Running) -> None:
    head = b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 11534336\r\nExpect: 100-continue\r\n\r\n"
    assert refusal_in(running.exchange(head)) == (413, "body_too_large")


def test_a_chunked_body_arrives_whole(running: Running) -> None:
    assert running.request("POST", "/", iter([b"one", b"two"]))[0] == 200
    assert running.seen[0]["body"] == "b25ldHdv"


def test_a_header_block_that_is_too_large_is_refused_so_that_its_sender_reads_it(running: Running) -> None:
    status, _, body = running.request("GET", "/", None, **{f"X-{number}": "v" * 1000 for number in range(90)})
    assert (status, json.loads(body)["code"]) == (431, "headers_too_large")


@pytest.mark.parametrize(
    "sent",
    [
        b"nonsense\r\n\r\n",
        b"GET / HTTP/1.1\r\nno colon\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: h\r\n folded: x\r\nbad name: y\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: h\r\n\tfolded\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: h\r\n folded: x\r\n\r\n",
        b"GET /a b HTTP/1.1\r\n\r\n",
        b"GET /x/\x00 HTTP/1.1\r\n\r\n",
        "GET /x/€ HTTP/1.1\r\n\r\n".encode(),
        b"GET http://[/ HTTP/1.1\r\n\r\n",
        b"POST / HTTP/1.1\r\nContent-Length: -1\r\n\r\n",
        b"POST / HTTP/1.1\r\nContent-Length: 1, 2\r\n\r\nab",
        b"POST / HTTP/1.1\r\nContent-Length: " + b"9" * 5000 + b"\r\n\r\n",
        b"POST / HTTP/1.1\r\nTransfer-Encoding: gzip\r\n\r\nabc",
        b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\nabc\r\n0\r\n\r\n",
        b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nabcdef\r\n0\r\n\r\n",
        b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n-1\r\nabc\r\n0\r\n\r\n",
    ],
)
def test_what_is_no_request_is_a_client_error_in_the_shape_of_all(running: Running, sent: bytes) -> None:
    status, code = refusal_in(running.exchange(sent))
    assert status == 400
    assert code in {"malformed_request", "malformed_path"}
    assert running.seen == []


def test_a_body_shorter_than_announced_is_no_request(running: Running) -> None:
    assert running.exchange(b"POST / HTTP/1.1\r\nContent-Length: 10\r\n\r\nabc") == b""
    assert running.seen == []


def test_slow_clients_do_not_keep_others_waiting(running: Running) -> None:
    with ExitStack() as open_clients:
        for number in range(SLOW_CLIENTS):
            client = open_clients.enter_context(running.connect())
            half_a_body = b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 1000\r\n\r\nabc"
            client.sendall(b"GET / HT" if number % 2 else half_a_body)
        for _ in range(20):
            assert running.request("GET", "/")[0] == 200


def test_clients_that_do_not_read_their_answers_do_not_keep_others_waiting(running: Running) -> None:
    with ExitStack() as open_clients:
        for _ in range(SLOW_CLIENTS):
            client = open_clients.enter_context(running.connect())
            client.sendall(b"GET /nope HTTP/1.1\r\nHost: h\r\n\r\n" * 50)
        for _ in range(20):
            assert running.request("GET", "/")[0] == 200


def test_clients_that_read_none_of_many_large_answers_cost_no_thread_and_get_them_all_in_the_end(
    running: Running,
) -> None:
    with ExitStack() as open_clients:
        clients = [open_clients.enter_context(running.connect()) for _ in range(THREADS + 1)]
        for client in clients:
            client.sendall(GET_LARGE * 8)
        assert running.request("GET", "/")[0] == 200

        received = 0
        while received < 8 * LARGE:
            received += len(clients[0].recv(1 << 20))


def test_the_thread_that_answered_serves_what_follows_closely(
    running: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "MILLISECONDS_OF_ATTENTION", 1000 * TIMEOUT)
    with running.connect() as client:
        for _ in range(THREADS):
            client.sendall(GET)
            assert client.recv(65536).startswith(b"HTTP/1.1 200")
            time.sleep(0.005)

    assert len(running.threads) < THREADS / 2


def test_more_busy_connections_than_threads_are_all_served(running: Running) -> None:
    def talk(client: socket.socket) -> int:
        answers = 0
        for _ in range(20):
            client.sendall(GET)
            answers += client.recv(65536).startswith(b"HTTP/1.1 200")
        return answers

    with ExitStack() as open_clients:
        clients = [open_clients.enter_context(running.connect()) for _ in range(3 * THREADS)]
        calls = [functools.partial(talk, client) for client in clients]
        assert all_at_once(calls) == [20] * len(clients)


@pytest.mark.parametrize("pause", [0.0, 0.1])
def test_a_request_in_pieces_after_an_answer_is_answered_too(running: Running, pause: float) -> None:
    with running.connect() as client:
        client.sendall(GET)
        assert client.recv(65536).startswith(b"HTTP/1.1 200")
        for piece in (GET[:9], GET[9:]):
            client.sendall(piece)
            time.sleep(pause)
        assert client.recv(65536).startswith(b"HTTP/1.1 200")


def test_a_stop_lets_a_request_under_way_finish() -> None:
    running = Running()
    running.hold = threading.Event()
    with running.connect() as client:
        client.sendall(b"GET / HTTP/1.0\r\n\r\n")
        assert running.entered.wait(TIMEOUT)
        stopping = threading.Thread(target=running.server.stop)
        stopping.start()
        running.hold.set()
        stopping.join(TIMEOUT)
        assert client.recv(65536).startswith(b"HTTP/1.0 200")


def test_a_crash_of_the_gateway_itself_is_an_answer_too() -> None:
    def answer(_request: Request) -> Any:
        raise ZeroDivisionError

    listener = socket.create_server(("127.0.0.1", 0))
    crashing = Server(answer, listener)
    crashing.start()
    connection = http.client.HTTPConnection("127.0.0.1", listener.getsockname()[1], timeout=TIMEOUT)
    connection.request("GET", "/")
    reply = connection.getresponse()
    assert (reply.status, json.loads(reply.read())["code"]) == (502, "function_failed")
    connection.close()
    crashing.stop()


def test_after_an_answer_without_body_the_connection_goes_on_unless_the_client_ends_it(running: Running) -> None:
    asked = b"GET / HTTP/1.1\r\nHost: x\r\nIf-None-Match: *\r\n"

    received = running.exchange(asked + b"\r\n" + asked + b"Connection: close\r\n\r\n" + asked + b"\r\n")

    closing = [b"Connection: close" in answer for answer in received.split(b"HTTP/1.1 304 ")[1:]]
    assert closing == [False, True]
