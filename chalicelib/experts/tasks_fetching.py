"""Fetches a checkpoint from a stranger's server: one lookup, a pinned address, hard limits on bytes and time.

The task that runs this may write to quarantine and to nothing else. What arrives is stored as it came; the URL is
never read again.
"""

from __future__ import annotations

import hashlib
import socket
import ssl
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urljoin

from chalicelib.kernel import clock, multipart
from chalicelib.kernel.settings import KernelSettings
from chalicelib.kernel.values import frozen

from . import addresses, store
from .addresses import BadUrl, Target
from .checkpoints import Unacceptable
from .contracts import FetchSettings

_LARGEST_HEAD = 64 * 1024
_CHUNK = 256 * 1024
_GRACE_SECONDS = 10.0
_SHORTEST_WAIT = 0.05
_OK = 200
_REDIRECTS = (301, 302, 303, 307, 308)
_CLIENT_ERRORS = range(400, 500)
_BUSY = (408, 425, 429)


class HostUnavailable(Exception):
    """The server does not answer now; it may a little later."""


Resolve = Callable[[str, int], list[str]]
Connect = Callable[[str, int, float], socket.socket]


def _resolve(host: str, port: int) -> list[str]:
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(entry[4][0]) for entry in found))


def _connect(address: str, port: int, seconds: float) -> socket.socket:
    return socket.create_connection((address, port), timeout=seconds)


@frozen
class Network:
    """How names are looked up and connections made; tests bring their own."""

    resolve: Resolve = _resolve
    connect: Connect = _connect
    trust: Callable[[], ssl.SSLContext] = ssl.create_default_context


@dataclass
class Deadline:
    """When this fetch has to be over, and how fast it has to go."""

    seconds: float
    slowest: float
    started: float = field(default_factory=clock.monotonic)

    def elapsed(self) -> float:
        return clock.monotonic() - self.started

    def left(self) -> float:
        left = self.seconds - self.elapsed()
        if left <= 0:
            text = f"the checkpoint did not arrive within {self.seconds:g} seconds: put it on a faster host"
            raise Unacceptable("too_slow", text)
        return max(left, _SHORTEST_WAIT)

    def check_speed(self, received: int) -> None:
        elapsed = self.elapsed()
        if elapsed > _GRACE_SECONDS and received / elapsed < self.slowest:
            text = (
                f"too slow: {received} bytes in {elapsed:.0f} seconds; at least {self.slowest:.0f} a second are wanted:"
                " put the file on a faster host"
            )
            raise Unacceptable("too_slow", text)


@dataclass
class Reply:
    """The head of an answer, and what came of the body with it."""

    status: int
    headers: dict[str, str]
    start: bytes


def fetch(url: str, key: str, cap: int, network: Network | None = None) -> dict[str, Any]:
    """Store what the URL serves under a key of the quarantine; answers its size and SHA-256."""
    settings = FetchSettings.current()
    network = network or Network()
    deadline = Deadline(settings.fetch_total_s, settings.fetch_min_bps)
    for _ in range(settings.fetch_max_redirects + 1):
        target = checked(url)
        connection = opened(target, network, deadline)
        with connection:
            reply = asked(connection, target, deadline)
            if reply.status not in _REDIRECTS:
                return _stored(connection, reply, key, cap, deadline)
            url = _moved(url, reply.headers.get("location", ""))
    raise Unacceptable("redirected", "the server redirects; hand in the address where the file is")


def _moved(url: str, location: str) -> str:
    try:
        return urljoin(url, location)
    except ValueError:
        raise Unacceptable("bad_url", "the server redirects to what is no URL") from None


def checked(url: str) -> Target:
    """The rules of submission once more: they may have changed since, and a redirect is a new URL."""
    settings = FetchSettings.current()
    try:
        return addresses.target(
            url,
            ports=[int(port) for port in settings.fetch_ports],
            any_suffix=settings.fetch_any_suffix,
            allow_this_host=KernelSettings.current().may_fetch_from_this_host(),
            own_domains=settings.own_domains,
        )
    except BadUrl as error:
        raise Unacceptable("bad_url", str(error)) from None


def opened(target: Target, network: Network, deadline: Deadline) -> socket.socket:
    """A connection to an address that was looked up once and judged; the name is never looked up again."""
    try:
        found = network.resolve(target.host, target.port)
    except OSError as error:
        raise HostUnavailable(f"{target.host} cannot be resolved: {error.strerror or error}") from None
    allowed = addresses.is_this_host if target.private else addresses.is_public
    if not found or not all(allowed(address) for address in found):
        raise Unacceptable("ssrf_blocked", f"{target.host} resolves to an address that is not public")
    connection = _reached(found, target, network, deadline)
    if connection.getpeername()[0] not in found:
        connection.close()
        raise Unacceptable("ssrf_blocked", f"the connection to {target.host} ended up elsewhere")
    if target.scheme == "http":
        return connection
    return _encrypted(connection, target, network)


def _reached(found: list[str], target: Target, network: Network, deadline: Deadline) -> socket.socket:
    failure = ""
    for address in found:
        wait = min(FetchSettings.current().fetch_connect_s, deadline.left())
        try:
            return network.connect(address, target.port, wait)
        except OSError as error:
            failure = error.strerror or str(error)
    raise HostUnavailable(f"{target.host} cannot be reached: {failure}")


def _encrypted(connection: socket.socket, target: Target, network: Network) -> socket.socket:
    try:
        return network.trust().wrap_socket(connection, server_hostname=target.host)
    except ssl.SSLError as error:
        connection.close()
        raise Unacceptable("bad_tls", f"{target.host}: {error.reason or error}") from None
    except OSError as error:
        connection.close()
        raise HostUnavailable(f"{target.host}: {error}") from None


def asked(connection: socket.socket, target: Target, deadline: Deadline) -> Reply:
    """Send the request, read the head: no cookies, no credentials, no encodings."""
    standard = addresses.HTTPS_PORT if target.scheme == "https" else addresses.HTTP_PORT
    host = f"[{target.host}]" if ":" in target.host else target.host
    name = host if target.port == standard else f"{host}:{target.port}"
    request = (
        f"GET {target.path} HTTP/1.1\r\nHost: {name}\r\nUser-Agent: subnet-functions\r\nAccept: */*\r\n"
        "Accept-Encoding: identity\r\nConnection: close\r\n\r\n"
    )
    wait = FetchSettings.current().fetch_first_byte_s
    until = deadline.elapsed() + wait
    received = b""
    try:
        connection.settimeout(min(wait, deadline.left()))
        connection.sendall(request.encode("ascii"))
        while b"\r\n\r\n" not in received:
            left = until - deadline.elapsed()
            if left <= 0:
                raise _silent(wait)
            connection.settimeout(min(left, deadline.left()))
            chunk = connection.recv(_CHUNK)
            received += chunk
            if not chunk or (len(received) > _LARGEST_HEAD and b"\r\n\r\n" not in received[:_LARGEST_HEAD]):
                raise Unacceptable("bad_answer", "the server's answer is no HTTP")
    except TimeoutError:
        raise _silent(wait) from None
    except OSError as error:
        raise HostUnavailable(f"{target.host}: {error}") from None
    head, _, start = received.partition(b"\r\n\r\n")
    return _reply(head, start)


def _silent(wait: float) -> Unacceptable:
    return Unacceptable("too_slow", f"the server gave no answer within {wait:g} seconds: put it on a faster host")


def _reply(head: bytes, start: bytes) -> Reply:
    lines = head.decode("latin-1").split("\r\n")
    version, _, rest = lines[0].partition(" ")
    status = rest[:3]
    if not version.startswith("HTTP/1.") or not (status.isascii() and status.isdigit()):
        raise Unacceptable("bad_answer", "the server's answer is no HTTP")
    headers: dict[str, str] = {}
    for line in lines[1:]:
        name, colon, value = line.partition(":")
        name = name.lower()
        if not colon or (name in headers and name == "content-length"):
            raise Unacceptable("bad_answer", "the server's answer is no HTTP")
        headers[name] = value.strip()
    return Reply(int(status), headers, start)


def _length(reply: Reply, cap: int) -> int:
    """The size that the server promises; without a promise nothing is read."""
    if reply.status in _CLIENT_ERRORS and reply.status not in _BUSY:
        raise Unacceptable("http_status", f"the server answered {reply.status}")
    if reply.status != _OK:
        raise HostUnavailable(f"the server answered {reply.status}")
    if reply.headers.get("content-encoding", "identity").lower() != "identity":
        raise Unacceptable("encoded", "the server compresses; the file is wanted as it is")
    text = reply.headers.get("content-length", "")
    if "transfer-encoding" in reply.headers or not (text.isascii() and text.isdigit() and len(text) < 20):  # noqa: PLR2004
        raise Unacceptable("no_length", "the server does not say how long the file is")
    if int(text) > cap:
        raise Unacceptable("too_large", f"{int(text)} bytes; at most {cap} are taken")
    return int(text)


def _stored(connection: socket.socket, reply: Reply, key: str, cap: int, deadline: Deadline) -> dict[str, Any]:
    length = _length(reply, cap)
    digest = hashlib.sha256()
    writer = multipart.Writer(store.quarantine(), key)
    try:
        for chunk in _body(connection, reply.start, length, deadline):
            digest.update(chunk)
            writer.write(chunk)
        etag = writer.close()
    except BaseException:
        writer.abort()
        raise
    return {"bytes": length, "sha256": digest.hexdigest(), "etag": etag}


def _body(connection: socket.socket, start: bytes, length: int, deadline: Deadline) -> Any:
    """Exactly the promised bytes, as they come."""
    left = length
    chunk = start[:left]
    while True:
        if chunk:
            left -= len(chunk)
            yield chunk
        if not left:
            return
        deadline.check_speed(length - left)
        connection.settimeout(deadline.left())
        try:
            chunk = connection.recv(min(_CHUNK, left))
        except TimeoutError:
            deadline.left()
            raise HostUnavailable("the server stopped sending") from None
        except OSError as error:
            raise HostUnavailable(f"the connection broke: {error}") from None
        if not chunk:
            raise HostUnavailable(f"the server stopped {left} bytes before the end")
