"""Connections to one host that wait for their next request: one write, one read, and nothing kept of an answer's head
that nobody asks for.
"""

from __future__ import annotations

import functools
import http.client
import io
import os
import re
import select
import ssl
import weakref
from collections import deque
from collections.abc import Iterable
from typing import Any
from urllib.parse import urlsplit

from botocore.exceptions import HTTPClientError
from botocore.httpsession import get_cert_path

from . import clock
from .values import frozen

_LONGEST_REST_SECONDS = 50  # AWS closes what rests for a minute
_SENT_TOGETHER = 64 * 1024
_END_OF_HEAD = b"\r\n\r\n"
_MORE_HEADERS = rb"(?:(?!connection:|transfer-encoding:|content-length:)[^\r\n]+\r\n)*"
_PLAIN_HEAD = re.compile(
    rb"HTTP/1\.1 (?P<status>[2-5]\d\d)[^\r\n]*\r\n"
    + _MORE_HEADERS
    + rb"content-length: *(?P<length>\d+)\r\n"
    + _MORE_HEADERS
    + rb"\r\n",
    re.IGNORECASE,
)


@frozen
class Received:
    """An answer; the names of its headers are lower-case."""

    status: int
    headers: dict[str, str]
    body: bytes


class Connections:
    """What breaks is told as botocore tells it."""

    def __init__(self, url: str, config: Any) -> None:
        parts = urlsplit(url)
        self._place = (parts.hostname or "", parts.port)
        self._kind: Any = http.client.HTTPConnection
        if parts.scheme == "https":
            self._kind = functools.partial(http.client.HTTPSConnection, context=_trusting())
        self._seconds = (config.connect_timeout, config.read_timeout)
        self._most_resting = config.max_pool_connections
        self._resting: deque[tuple[http.client.HTTPConnection, float]] = deque()
        weakref.finalize(self, _close_all, self._resting)

    def send(self, method: str, target: str, headers: dict[str, str], body: bytes) -> Received:
        try:
            return self._send(method, target, headers, body)
        except (OSError, http.client.HTTPException) as error:
            raise HTTPClientError(error=error) from error

    def _send(self, method: str, target: str, headers: dict[str, str], body: bytes) -> Received:
        connection = self._take()
        stays = False
        try:
            for part in _message(method, target, headers, body):
                connection.sock.sendall(part)
            received, goes_on = _answer(connection, method)
            stays = goes_on and len(self._resting) < self._most_resting
        finally:
            if not stays:
                connection.close()
        if stays:
            self._resting.append((connection, clock.monotonic()))
        return received

    def _take(self) -> http.client.HTTPConnection:
        """One that rests and is still open, else a new one."""
        while self._resting:
            try:
                connection, since = self._resting.pop()
            except IndexError:  # another thread was faster
                break
            if clock.monotonic() - since < _LONGEST_REST_SECONDS and not _has_ended(connection):
                return connection
            connection.close()
        connect, read = self._seconds
        made: http.client.HTTPConnection = self._kind(*self._place, timeout=connect)
        made.connect()
        made.sock.settimeout(read)
        return made


def _close_all(resting: Iterable[tuple[http.client.HTTPConnection, float]]) -> None:
    for connection, _ in resting:
        connection.close()


def _message(method: str, target: str, headers: dict[str, str], body: bytes) -> Iterable[bytes]:
    """Head and body in one write, unless to join them would cost more than a second one."""
    lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    head = f"{method} {target} HTTP/1.1\r\n{lines}content-length: {len(body)}\r\n\r\n".encode("latin-1")
    return (head + body,) if len(body) < _SENT_TOGETHER else (head, body)


def _answer(connection: http.client.HTTPConnection, method: str) -> tuple[Received, bool]:
    """What came, and whether the connection goes on. The plain answer that nearly all are is read here: the library
    reads any other, and makes forty objects of its head.
    """
    with connection.sock.makefile("rb") as stream:
        head, ends, _ = stream.peek().partition(_END_OF_HEAD)
        plain = _PLAIN_HEAD.match(head + ends)
        if not plain:
            answer = http.client.HTTPResponse(_Opened(stream), method=method)  # type: ignore[arg-type]
            answer.begin()
            named = {name.lower(): value for name, value in answer.getheaders()}
            return Received(answer.status, named, answer.read()), not answer.will_close
        stream.read(len(head) + len(ends))
        length = 0 if method == "HEAD" else int(plain["length"])
        body = stream.read(length)
        if len(body) < length:
            raise http.client.IncompleteRead(body, length - len(body))
        return Received(int(plain["status"]), _named(head), body), True


class _Opened:
    """Stands for a socket whose stream is open already, with bytes in its buffer."""

    def __init__(self, stream: io.BufferedReader) -> None:
        self._stream = stream

    def makefile(self, _mode: str) -> io.BufferedReader:
        return self._stream


def _named(head: bytes) -> dict[str, str]:
    lines = head.decode("latin-1").split("\r\n")[1:]
    return {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}


def _has_ended(connection: http.client.HTTPConnection) -> bool:
    """A resting connection has nothing to say but that it is over."""
    poll = select.poll()
    poll.register(connection.sock, select.POLLIN)
    return bool(poll.poll(0))


def _trusting() -> ssl.SSLContext:
    named = os.environ.get("AWS_CA_BUNDLE") or os.environ.get("REQUESTS_CA_BUNDLE")
    return ssl.create_default_context(cafile=named or get_cert_path(verify=True))
