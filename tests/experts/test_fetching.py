"""Fetching from strangers: no private address, no redirect, no endless or slow or lying server; rows 73 to 76."""

from __future__ import annotations

import hashlib
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from chalicelib.experts import store, tasks, tasks_fetching
from chalicelib.experts.checkpoints import Unacceptable
from chalicelib.experts.tasks_fetching import HostUnavailable, Network
from chalicelib.kernel import multipart
from tests.experts.test_addresses import PRIVATE

MIB = 1024 * 1024
KEY = "some/raw"


class NoNetwork:
    """Answers look-ups from a script and fails the test when anybody connects."""

    def __init__(self, *answers: list[str]) -> None:
        self.answers = list(answers)
        self.lookups = 0

    def resolve(self, _host: str, _port: int) -> list[str]:
        self.lookups += 1
        return self.answers.pop(0)

    def connect(self, address: str, _port: int, _seconds: float) -> socket.socket:
        raise AssertionError(f"a socket to {address} was opened")

    @property
    def network(self) -> Network:
        return Network(self.resolve, self.connect)


@pytest.fixture(autouse=True)
def _cloud(cloud: None, configure: Callable[..., None]) -> None:
    configure(FETCH_ALLOW_PRIVATE="1", EXPERTS_FETCH_FIRST_BYTE_S="1", EXPERTS_FETCH_TOTAL_S="3")


@pytest.mark.parametrize("address", PRIVATE)
def test_no_socket_is_opened_to_a_private_address(address: str) -> None:
    for found in ([address], ["8.8.8.8", address]):
        with pytest.raises(Unacceptable, match="ssrf_blocked"):
            tasks_fetching.fetch("https://rebind.example.com/a.pt", KEY, MIB, NoNetwork(found).network)


def test_localhost_is_not_another_name_for_the_private_network() -> None:
    with pytest.raises(Unacceptable, match="ssrf_blocked"):
        tasks_fetching.fetch("http://localhost:1/a.pt", KEY, MIB, NoNetwork(["10.0.0.1"]).network)


def test_a_name_without_address_may_have_one_later() -> None:
    def fails(_host: str, _port: int) -> list[str]:
        raise socket.gaierror("nothing")

    with pytest.raises(HostUnavailable):
        tasks_fetching.fetch("https://gone.example.com/a.pt", KEY, MIB, Network(fails))


class Server:
    """A loopback server that says exactly what the test wants, once per connection."""

    def __init__(self, talk: Callable[[socket.socket], None]) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._talk = talk
        self.requests: list[bytes] = []
        self.port = self._listener.getsockname()[1]
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/one.pt"

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            with connection:
                self.requests.append(connection.recv(65536))
                try:
                    self._talk(connection)
                except OSError:
                    continue

    def close(self) -> None:
        self._listener.close()


Serve = Callable[[Callable[[socket.socket], None]], Server]


@pytest.fixture
def serve() -> Iterator[Serve]:
    servers: list[Server] = []

    def start(talk: Callable[[socket.socket], None]) -> Server:
        servers.append(Server(talk))
        return servers[-1]

    yield start
    for server in servers:
        server.close()


def says(head: str, body: bytes = b"") -> Callable[[socket.socket], None]:
    return lambda connection: connection.sendall(head.replace("\n", "\r\n").encode() + b"\r\n\r\n" + body)


def nothing_is_left() -> bool:
    return store.quarantine().head(KEY) is None and multipart.resume(store.quarantine(), KEY) is None


@pytest.mark.parametrize("size", [0, 1, 70_000, 25 * MIB])
def test_a_file_arrives_as_it_is(serve: Serve, size: int) -> None:
    content = bytes(range(256)) * (size // 256 + 1)
    content = content[:size]
    server = serve(says(f"HTTP/1.1 200 OK\nContent-Length: {size}", content))

    found = tasks_fetching.fetch(server.url, KEY, 30 * MIB)

    assert (found["bytes"], found["sha256"]) == (size, hashlib.sha256(content).hexdigest())
    assert store.quarantine().get(KEY) == content


def test_the_request_carries_nothing_of_ours(serve: Serve) -> None:
    server = serve(says("HTTP/1.1 200 OK\nContent-Length: 1", b"x"))
    tasks_fetching.fetch(server.url, KEY, MIB)

    lines = server.requests[0].decode().split("\r\n")
    names = [line.split(":")[0].lower() for line in lines[1:] if line]
    assert lines[0] == "GET /one.pt HTTP/1.1"
    assert sorted(names) == ["accept", "accept-encoding", "connection", "host", "user-agent"]
    assert "Accept-Encoding: identity" in lines


@pytest.mark.parametrize(
    ("head", "code"),
    [
        ("HTTP/1.1 302 Found\nLocation: http://169.254.169.254/a.pt\nContent-Length: 0", "redirected"),
        ("HTTP/1.1 307 Moved\nLocation: https://public.example.com/a.pt", "redirected"),
        ("HTTP/1.1 404 Not Found\nContent-Length: 0", "http_status"),
        ("HTTP/1.1 403 Forbidden", "http_status"),
        ("HTTP/1.1 200 OK", "no_length"),
        ("HTTP/1.1 200 OK\nTransfer-Encoding: chunked", "no_length"),
        ("HTTP/1.1 200 OK\nContent-Length: 5\nTransfer-Encoding: chunked", "no_length"),
        ("HTTP/1.1 200 OK\nContent-Length: -5", "no_length"),
        ("HTTP/1.1 200 OK\nContent-Length: 0x10", "no_length"),
        ("HTTP/1.1 200 OK\nContent-Length: 5\nContent-Length: 6", "bad_answer"),
        ("HTTP/1.1 200 OK\nContent-Length: 5\nContent-Encoding: gzip", "encoded"),
        (f"HTTP/1.1 200 OK\nContent-Length: {MIB + 1}", "too_large"),
        ("HTTP/1.1 200 OK\nContent-Length: 99999999999999999999999", "no_length"),
        ("SSH-2.0-OpenSSH", "bad_answer"),
        ("HTTP/1.1 abc\nContent-Length: 5", "bad_answer"),
        ("HTTP/1.1 200 OK\n" + "X: y\n" * 20_000 + "Z: z", "bad_answer"),
        ("HTTP/1.1 100 Continue", "unavailable"),
        ("HTTP/1.1 206 Partial\nContent-Length: 5", "unavailable"),
        ("HTTP/1.1 500 Oops", "unavailable"),
        ("HTTP/1.1 429 Slow down", "unavailable"),
        ("HTTP/1.1 200 OK\nContent-Length: 50", "unavailable"),
    ],
)
def test_other_answers_are_the_end(serve: Serve, head: str, code: str) -> None:
    server = serve(says(head, b"hello"))

    with pytest.raises((Unacceptable, HostUnavailable)) as refused:
        tasks_fetching.fetch(server.url, KEY, MIB)

    assert getattr(refused.value, "code", "unavailable") == code
    assert nothing_is_left()


def test_no_more_than_the_promised_bytes_are_taken(serve: Serve) -> None:
    server = serve(says("HTTP/1.1 200 OK\nContent-Length: 5", b"hello, and much more"))

    assert tasks_fetching.fetch(server.url, KEY, MIB)["bytes"] == 5
    assert store.quarantine().get(KEY) == b"hello"


def test_a_silent_server_is_left_alone(serve: Serve) -> None:
    held = threading.Event()
    server = serve(lambda _connection: void(held.wait(10)))
    with pytest.raises(Unacceptable, match="too_slow"):
        tasks_fetching.fetch(server.url, KEY, MIB)
    held.set()


def void(_value: Any) -> None:
    return


def test_a_server_that_drips_its_head_is_left_alone(serve: Serve, configure: Callable[..., None]) -> None:
    def drip(connection: socket.socket) -> None:
        for _ in range(200):
            connection.sendall(b"H")
            threading.Event().wait(0.02)

    with pytest.raises(Unacceptable, match="too_slow"):
        tasks_fetching.fetch(serve(drip).url, KEY, MIB)


def test_a_server_that_drips_its_body_is_cut_off(
    serve: Serve, monkeypatch: pytest.MonkeyPatch, configure: Callable[..., None]
) -> None:
    monkeypatch.setattr(tasks_fetching, "_GRACE_SECONDS", 0.1)
    configure(EXPERTS_FETCH_MIN_BPS="100000")

    def drip(connection: socket.socket) -> None:
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n")
        for _ in range(500):
            connection.sendall(b"x")
            threading.Event().wait(0.01)

    with pytest.raises(Unacceptable, match="at least 100000 a second are wanted: put the file on a faster host"):
        tasks_fetching.fetch(serve(drip).url, KEY, MIB)
    assert nothing_is_left()


def test_the_whole_fetch_has_an_end(serve: Serve, configure: Callable[..., None]) -> None:
    configure(EXPERTS_FETCH_TOTAL_S="1", EXPERTS_FETCH_MIN_BPS="0")

    def drip(connection: socket.socket) -> None:
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n")
        for _ in range(1000):
            connection.sendall(b"x")
            threading.Event().wait(0.01)

    with pytest.raises(Unacceptable, match="did not arrive"):
        tasks_fetching.fetch(serve(drip).url, KEY, MIB)
    assert nothing_is_left()


def test_a_redirect_is_a_new_url_with_all_the_checks(serve: Serve, configure: Callable[..., None]) -> None:
    configure(EXPERTS_FETCH_MAX_REDIRECTS="2")
    target = serve(says("HTTP/1.1 200 OK\nContent-Length: 2", b"ok"))
    allowed = serve(says(f"HTTP/1.1 302 Found\nLocation: {target.url}"))
    assert tasks_fetching.fetch(allowed.url, KEY, MIB)["bytes"] == 2

    replies = iter((b"HTTP/1.1 302 Found\r\nLocation: b.pt\r\n\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"))
    beside = serve(lambda connection: connection.sendall(next(replies)))
    assert tasks_fetching.fetch(beside.url, KEY, MIB)["bytes"] == 2
    assert beside.requests[1].startswith(b"GET /b.pt ")

    for location in (
        "http://169.254.169.254/a.pt",
        "//10.0.0.1/a.pt",
        "ftp://127.0.0.1/a.pt",
        "/no/suffix",
        "http://[::",
    ):
        with pytest.raises(Unacceptable, match="bad_url"):
            tasks_fetching.fetch(serve(says(f"HTTP/1.1 302 Found\nLocation: {location}")).url, KEY, MIB)

    def again(connection: socket.socket) -> None:
        connection.sendall(f"HTTP/1.1 302 Found\r\nLocation: {endless.url}\r\n\r\n".encode())

    endless = serve(again)
    with pytest.raises(Unacceptable, match="redirected"):
        tasks_fetching.fetch(endless.url, KEY, MIB)
    assert len(endless.requests) == 3


def test_a_name_is_looked_up_once_and_the_connection_goes_there(serve: Serve) -> None:
    server = serve(says("HTTP/1.1 200 OK\nContent-Length: 2", b"ok"))
    names = NoNetwork(["127.0.0.1"], ["169.254.169.254"])
    reached: list[str] = []

    def connect(address: str, port: int, seconds: float) -> socket.socket:
        reached.append(address)
        return socket.create_connection((address, port), seconds)

    tasks_fetching.fetch(f"http://localhost:{server.port}/one.pt", KEY, MIB, Network(names.resolve, connect))

    assert (names.lookups, reached) == (1, ["127.0.0.1"])


def test_a_connection_that_ends_up_elsewhere_is_dropped(serve: Serve) -> None:
    server = serve(says("HTTP/1.1 200 OK\nContent-Length: 2", b"ok"))
    network = Network(
        lambda _host, _port: ["8.8.8.8"],
        lambda _address, _port, s: socket.create_connection(("127.0.0.1", server.port), s),
    )

    with pytest.raises(Unacceptable, match="ssrf_blocked"):
        tasks_fetching.fetch("https://miner.example.com/a.pt", KEY, MIB, network)


def test_a_certificate_that_does_not_fit_is_refused(serve: Serve) -> None:
    server = serve(lambda connection: connection.sendall(b"not tls at all, sorry"))

    network = Network(lambda _host, _port: ["127.0.0.1"], trust=ssl.create_default_context)
    with pytest.raises(Unacceptable, match="bad_tls"):
        tasks_fetching.fetch(f"https://localhost:{server.port}/a.pt", KEY, MIB, network)


def test_this_host_is_out_of_bounds_in_a_deployed_function(configure: Callable[..., None]) -> None:
    configure(AWS_LAMBDA_FUNCTION_NAME="experts-fetch")
    with pytest.raises(Unacceptable, match="bad_url"):
        tasks_fetching.fetch("http://127.0.0.1:9001/a.pt", KEY, MIB, NoNetwork().network)

    configure(ENVIRONMENT="production", AWS_ENDPOINT_URL="http://127.0.0.1:1")
    with pytest.raises(Unacceptable, match="bad_url"):
        tasks_fetching.fetch("http://127.0.0.1:9001/a.pt", KEY, MIB, NoNetwork().network)


def test_the_fetching_task_reads_no_secret(serve: Serve, configure: Callable[..., None]) -> None:
    configure(EXPERTS_BZ_AUTH_TOKEN="ssm:/nowhere/token")
    server = serve(says("HTTP/1.1 200 OK\nContent-Length: 2", b"ok"))

    assert tasks.fetch({"url": server.url, "key": KEY, "cap": MIB}, None)["bytes"] == 2
