"""DynamoDB's data calls on a short road: botocore's client, credentials, events and errors without its detours.

A data call is one signed POST of JSON, and botocore spends most of a millisecond of CPU on it, of which a small Lambda
has a third: models, endpoint rules, header objects, parsers. Here it is what it is; every other call is botocore's.
"""

from __future__ import annotations

import base64
import functools
import http.client
import io
import json
import os
import re
import select
import ssl
import weakref
from collections import deque
from collections.abc import Callable, Iterable
from typing import Any
from urllib.parse import urlsplit

from botocore.awsrequest import AWSPreparedRequest
from botocore.exceptions import HTTPClientError
from botocore.httpsession import get_cert_path
from botocore.utils import get_environ_proxies

from . import clock
from .sigv4 import Signer

CALLS = frozenset(
    {
        "BatchGetItem", "BatchWriteItem", "DeleteItem", "GetItem",
        "PutItem", "Query", "TransactWriteItems", "UpdateItem",
    }
)  # fmt: skip
TARGET = "DynamoDB_20120810."
_JSON = "application/x-amz-json-1.0"
_FIRST_ERROR = 300
_FIRST_FAULT = 500
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
_LONGEST_REST_SECONDS = 50  # AWS closes what rests for a minute


def shortened(client: Any, signer: Callable[[str], Signer]) -> Any:
    """The client with its data calls on the short road, unless a proxy stands in the way."""
    if not get_environ_proxies(client.meta.endpoint_url):
        client._make_api_call = DataCalls(client, signer)  # noqa: SLF001 - where every operation's method leads
    return client


class DataCalls:
    """Stands for a client's `_make_api_call`."""

    def __init__(self, client: Any, signer: Callable[[str], Signer]) -> None:
        self._client = client
        self._any_call = client._make_api_call  # noqa: SLF001 - see `shortened`
        self._signer = signer
        self._connections = Connections(client.meta.endpoint_url, client.meta.config)

    def __call__(self, operation: str, params: dict[str, Any]) -> dict[str, Any]:
        if operation not in CALLS:
            found: dict[str, Any] = self._any_call(operation, params)
            return found
        events = self._client.meta.events
        model = self._client.meta.service_model.operation_model(operation)
        events.emit(f"provide-client-params.dynamodb.{operation}", params=params, model=model, context={})
        body = json.dumps(params, separators=(",", ":"), default=as_base64).encode()
        request = self._signed(operation, body)
        asked = {"headers": request.headers, "body": body}
        events.emit(f"before-call.dynamodb.{operation}", model=model, params=asked, context={})
        status, raw = self._answered(events.emit(f"before-send.dynamodb.{operation}", request=request), request)
        parsed = _parsed(status, raw)
        events.emit(f"after-call.dynamodb.{operation}", http_response=None, parsed=parsed, model=model, context={})
        if status >= _FIRST_ERROR:
            raise self._client.exceptions.from_code(parsed["Error"]["Code"])(parsed, operation)
        return parsed

    def _signed(self, operation: str, body: bytes) -> Any:
        signer = self._signer("dynamodb")
        headers = signer.headers(self._connections.host, {"x-amz-target": TARGET + operation}, body)
        headers["content-type"] = _JSON
        return AWSPreparedRequest("POST", self._client.meta.endpoint_url + "/", headers, body, stream_output=False)

    def _answered(self, given: list[tuple[Any, Any]], request: Any) -> tuple[int, bytes]:
        """What a handler of `before-send` answers instead of AWS, else what AWS does."""
        for _, answer in given:
            if answer is not None:
                return answer.status_code, answer.content
        return self._connections.post(request.headers, request.body)


class Connections:
    """Connections to one host that wait for their next request; what breaks is told as botocore tells it."""

    def __init__(self, url: str, config: Any) -> None:
        parts = urlsplit(url)
        self.host = parts.netloc
        self._place = (parts.hostname or "", parts.port)
        self._kind: Any = http.client.HTTPConnection
        if parts.scheme == "https":
            self._kind = functools.partial(http.client.HTTPSConnection, context=_trusting())
        self._seconds = (config.connect_timeout, config.read_timeout)
        self._most_resting = config.max_pool_connections
        self._resting: deque[tuple[http.client.HTTPConnection, float]] = deque()
        weakref.finalize(self, _close_all, self._resting)

    def post(self, headers: dict[str, str], body: bytes) -> tuple[int, bytes]:
        try:
            return self._post(headers, body)
        except (OSError, http.client.HTTPException) as error:
            raise HTTPClientError(error=error) from error

    def _post(self, headers: dict[str, str], body: bytes) -> tuple[int, bytes]:
        connection = self._take()
        stays = False
        try:
            connection.sock.sendall(_message(headers, body))
            status, raw, goes_on = _answer(connection)
            stays = goes_on and len(self._resting) < self._most_resting
        finally:
            if not stays:
                connection.close()
        if stays:
            self._resting.append((connection, clock.monotonic()))
        return status, raw

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


def _message(headers: dict[str, str], body: bytes) -> bytes:
    """Head and body in one write."""
    lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    return f"POST / HTTP/1.1\r\n{lines}content-length: {len(body)}\r\n\r\n".encode("latin-1") + body


def _answer(connection: http.client.HTTPConnection) -> tuple[int, bytes, bool]:
    """Status, body, and whether the connection goes on. The plain answer that nearly all are is read here: the
    library reads any other, and makes forty objects of its head.
    """
    with connection.sock.makefile("rb") as stream:
        head, ends, _ = stream.peek().partition(_END_OF_HEAD)
        plain = _PLAIN_HEAD.match(head + ends)
        if not plain:
            answer = http.client.HTTPResponse(_Opened(stream), method="POST")  # type: ignore[arg-type]
            answer.begin()
            return answer.status, answer.read(), not answer.will_close
        stream.read(len(head) + len(ends))
        length = int(plain["length"])
        body = stream.read(length)
        if len(body) < length:
            raise http.client.IncompleteRead(body, length - len(body))
        return int(plain["status"]), body, True


class _Opened:
    """Stands for a socket whose stream is open already, with bytes in its buffer."""

    def __init__(self, stream: io.BufferedReader) -> None:
        self._stream = stream

    def makefile(self, _mode: str) -> io.BufferedReader:
        return self._stream


def _has_ended(connection: http.client.HTTPConnection) -> bool:
    """A resting connection has nothing to say but that it is over."""
    poll = select.poll()
    poll.register(connection.sock, select.POLLIN)
    return bool(poll.poll(0))


def _trusting() -> ssl.SSLContext:
    named = os.environ.get("AWS_CA_BUNDLE") or os.environ.get("REQUESTS_CA_BUNDLE")
    return ssl.create_default_context(cafile=named or get_cert_path(verify=True))


def as_base64(value: bytes) -> str:
    return base64.b64encode(value).decode("ascii")


def _with_bytes(value: dict[str, Any]) -> dict[str, Any]:
    """An attribute value of kind B as bytes; a map's attribute of that name is no text."""
    held = value.get("B")
    if isinstance(held, str) and len(value) == 1:
        value["B"] = base64.b64decode(held)
    return value


def _parsed(status: int, raw: bytes) -> dict[str, Any]:
    """The answer as botocore words it; an error that is no JSON comes from what stands before DynamoDB."""
    try:
        answer: dict[str, Any] = json.loads(raw, object_hook=_with_bytes)
    except ValueError as error:
        if status < _FIRST_ERROR:
            raise HTTPClientError(error=error) from error
        answer = {"__type": "ServiceUnavailable" if status >= _FIRST_FAULT else str(status)}
    if status < _FIRST_ERROR:
        return answer
    code = str(answer.pop("__type", status)).rpartition("#")[2]
    message = answer.pop("message", None) or answer.pop("Message", None) or ""
    return {**answer, "Error": {"Code": code, "Message": message}, "ResponseMetadata": {"HTTPStatusCode": status}}
