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
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing, contextmanager
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
    """An answer; the names of its headers are lower-case, its body is whole or still to be read."""

    status: int
    headers: dict[str, str]
    body: Any


class Answer:
    """An answer whose body is read as it comes; after its last byte the connection waits for its next request.

    The plain answer that nearly all are is read here: the library reads any other, and makes forty objects of its head.
    """

    def __init__(
        self, connection: http.client.HTTPConnection, method: str, rest: Callable[[http.client.HTTPConnection], None]
    ) -> None:
        self._connection, self._rest = connection, rest
        self._stream: Any = connection.sock.makefile("rb")
        head, ends, _ = self._stream.peek().partition(_END_OF_HEAD)
        plain = _PLAIN_HEAD.match(head + ends)
        if plain:
            self._stream.read(len(head) + len(ends))
            self.status, self.headers, self._goes_on = int(plain["status"]), _named(head), True
            self._left = 0 if method == "HEAD" else int(plain["length"])
        else:
            self._read_by_library(method)

    def _read_by_library(self, method: str) -> None:
        answer = http.client.HTTPResponse(_Opened(self._stream), method=method)  # type: ignore[arg-type]
        answer.begin()
        self.status, self._goes_on = answer.status, not answer.will_close
        self.headers = {name.lower(): value for name, value in answer.getheaders()}
        body = answer.read()
        self._stream, self._left = io.BytesIO(body), len(body)

    def read(self, size: int | None = None) -> bytes:
        """So many bytes, fewer only at the end."""
        wanted = self._left if size is None else min(size, self._left)
        data: bytes = self._from(self._stream.read, wanted) if wanted else b""
        self._took(len(data), wanted)
        return data

    def readinto(self, buffer: memoryview) -> int:
        """So many bytes as the buffer holds, fewer only at the end; memory that is used again costs less than new."""
        wanted = min(len(buffer), self._left)
        size: int = self._from(self._stream.readinto, buffer[:wanted]) if wanted else 0
        self._took(size, wanted)
        return size

    def _from(self, read: Callable[[Any], Any], what: Any) -> Any:
        with _told_by_botocore():
            try:
                return read(what)
            except BaseException:
                self.close()
                raise

    def _took(self, size: int, wanted: int) -> None:
        if size < wanted:
            self.close()
            raise HTTPClientError(error=http.client.IncompleteRead(b"", wanted - size))
        self._left -= wanted
        if not self._left:
            self.close()

    def close(self) -> None:
        """A connection with bytes that nobody wants is of no more use."""
        if self._stream.closed:
            return
        self._stream.close()
        if self._goes_on and not self._left:
            self._rest(self._connection)
        else:
            self._connection.close()


@contextmanager
def _told_by_botocore() -> Iterator[None]:
    """What breaks is told as botocore tells it."""
    try:
        yield
    except (OSError, http.client.HTTPException) as error:
        raise HTTPClientError(error=error) from error


class Connections:
    """To one host."""

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
        """The whole answer."""
        with closing(self.open(method, target, headers, body)) as answer:
            return Received(answer.status, answer.headers, answer.read())

    def open(self, method: str, target: str, headers: dict[str, str], body: bytes) -> Answer:
        """The answer once its head is there."""
        with _told_by_botocore():
            connection = self._take()
            try:
                for part in _message(method, target, headers, body):
                    connection.sock.sendall(part)
                return Answer(connection, method, self._rest)
            except BaseException:
                connection.close()
                raise

    def _rest(self, connection: http.client.HTTPConnection) -> None:
        if len(self._resting) < self._most_resting:
            self._resting.append((connection, clock.monotonic()))
        else:
            connection.close()

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
