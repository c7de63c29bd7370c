"""HTTP/1.1 for the gateway: waitress reads and writes, so that a slow client costs a buffer and never a thread."""

from __future__ import annotations

import logging
import select
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from waitress.adjustments import Adjustments
from waitress.channel import HTTPChannel
from waitress.parser import HTTPRequestParser, ParsingError
from waitress.server import TcpWSGIServer
from waitress.task import ErrorTask, Task

from local.gateway import MAX_ANSWER_BYTES, MAX_BODY_BYTES, MAX_HEADER_BYTES, Answer, Request, new_request_id, refusal

if TYPE_CHECKING:
    from local.gateway import Pairs

THREADS = 16
MAX_CONNECTIONS = 1000
SECONDS_OF_SILENCE = 60
SECONDS_TO_FINISH = 5
DRAINED_BYTES = 16 * 1024 * 1024
SECONDS_OF_DRAINING = 10
MILLISECONDS_OF_ATTENTION = 20
MOST_ATTENTIVE = THREADS // 2

_REFUSALS = {
    400: (400, "Malformed request", "malformed_request"),
    413: (413, "Request body too large", "body_too_large"),
    431: (431, "Request header fields too large", "headers_too_large"),
    501: (400, "Unsupported transfer encoding", "malformed_request"),
}
_CRASHED = (502, "The function failed", "function_failed")


class Parser(HTTPRequestParser):  # type: ignore[misc]  # waitress has no types
    """Keeps the header lines in order, which the standard environment folds together."""

    def __init__(self, adjustments: Any) -> None:
        super().__init__(adjustments)
        self.pairs: Pairs = []
        self.command = ""

    def parse_header(self, header_plus: bytes) -> None:
        try:
            super().parse_header(header_plus)
        except ValueError:
            raise ParsingError("Content-Length is invalid") from None
        for line in header_plus.decode("latin-1").split("\r\n")[1:]:
            if line.startswith((" ", "\t")):
                raise ParsingError("a header goes on in the next line")
            name, colon, value = line.partition(":")
            if colon:
                self.pairs.append((name, value.strip(" \t")))

    def received(self, data: bytes) -> int:
        """A refused client is not asked to send its body after all."""
        consumed: int = super().received(data)
        if self.error:
            self.expect_continue = False
        return consumed


class GatewayTask(Task):  # type: ignore[misc]  # waitress has no types
    """One request through the gateway, without a WSGI environment in between."""

    complete = True

    def set_close_on_finish(self) -> None:
        """An answer that has no body ends with its head: a client that wants to go on may."""
        asked = self.request.headers.get("CONNECTION", "").lower()
        if self.has_body or self.version == "1.0" or asked == "close":
            super().set_close_on_finish()

    def execute(self) -> None:
        parsed = self.request
        request = Request(
            parsed.command.upper(),
            parsed.request_uri,
            parsed.pairs,
            parsed.get_body_stream().read(),
            self.channel.addr[0],
        )
        send(self, self.channel.server.application(request), with_body=parsed.command != "HEAD")


class RefusalTask(ErrorTask):  # type: ignore[misc]  # waitress has no types
    """What was no proper request gets the gateway's answer, and time to read it."""

    def execute(self) -> None:
        status, detail, code = _REFUSALS.get(self.request.error.code, _CRASHED)
        self.set_close_on_finish()
        self.channel.bytes_to_drain = DRAINED_BYTES
        send(self, refusal(status, detail, code, new_request_id()), with_body=self.request.command != "HEAD")


def send(task: Any, answer: Answer, *, with_body: bool) -> None:
    task.status = f"{answer.status} {HTTPStatus(answer.status).phrase}"
    task.response_headers.extend(answer.headers)
    task.content_length = len(answer.body)
    head = task.build_response_header()
    task.wrote_header = True
    task.channel.write_soon(head + answer.body if with_body and task.has_body else head)


class Channel(HTTPChannel):  # type: ignore[misc]  # waitress has no types
    """A connection. After a refusal what the client still sends is read and dropped: closing at once would
    reset the connection, and the client would never see the answer.
    """

    task_class = GatewayTask
    error_task_class = RefusalTask
    parser_class = Parser

    attended = False
    waits_for_its_reader = False
    bytes_to_drain = 0
    draining_until = 0.0

    def service(self) -> None:
        """A thread that has answered stays for what follows closely: to hand it on would wake two others."""
        with self.server.attention(self):
            super().service()
            while not self.total_outbufs_len and (self.requests or self._more_comes()):
                super().service()
            self.waits_for_its_reader = bool(self.requests)

    def _more_comes(self) -> bool:
        """Whether a whole request arrives within a moment, when nobody else needs this thread."""
        if self.request or self.close_when_flushed or self.will_close or not self.connected:
            return False
        data = self.server.moment(self.socket)
        if data:
            self.last_activity = time.time()
            self.received(data)
        return bool(self.requests)

    def handle_write(self) -> None:
        super().handle_write()
        if self.waits_for_its_reader and self.connected and not self.total_outbufs_len:
            self.waits_for_its_reader = False
            self.server.add_task(self)

    def handle_close(self) -> None:
        if self.bytes_to_drain and not self.draining_until and self.connected:
            try:
                self.socket.shutdown(socket.SHUT_WR)
            except OSError:
                super().handle_close()
                return
            self.draining_until = time.monotonic() + SECONDS_OF_DRAINING
            self.will_close = False
        else:
            super().handle_close()

    def readable(self) -> bool:
        return bool(self.draining_until or (not self.attended and super().readable()))

    def writable(self) -> bool:
        """A thread that answers writes by itself; a loop that looks too takes the interpreter from it."""
        return bool(super().writable()) and (self.will_close or not self.attended)

    def received(self, data: bytes) -> bool:
        if not self.draining_until:
            return bool(super().received(data))
        self.bytes_to_drain -= len(data)
        if self.bytes_to_drain <= 0 or time.monotonic() > self.draining_until:
            super().handle_close()
        return False


class Listening(TcpWSGIServer):  # type: ignore[misc]  # waitress has no types
    """waitress' server; what a channel tells it need not be told while a thread attends to that channel."""

    channel_class = Channel

    def __init__(self, answer: Callable[[Request], Answer], listener: socket.socket, adjustments: Adjustments) -> None:
        place = (listener.family, listener.type, listener.proto, listener.getsockname())
        super().__init__(answer, {}, True, listener, None, adjustments, place, bind_socket=False)
        self._here = threading.local()
        self._attentive = threading.BoundedSemaphore(MOST_ATTENTIVE)

    @contextmanager
    def attention(self, channel: Channel) -> Iterator[None]:
        """The thread that asks serves this channel alone, and its listener leaves the channel alone."""
        channel.attended, self._here.channel = True, channel
        try:
            yield
        finally:
            channel.attended, self._here.channel = False, None
            super().pull_trigger()

    def add_task(self, channel: Channel) -> None:
        if getattr(self._here, "channel", None) is not channel:
            super().add_task(channel)

    def pull_trigger(self) -> None:
        if not getattr(self._here, "channel", None):
            super().pull_trigger()

    def moment(self, connection: socket.socket) -> bytes:
        """What arrives there soon. An end of input shows again to whoever reads next."""
        if self.task_dispatcher.queue or not self._attentive.acquire(blocking=False):
            return b""
        try:
            poll = select.poll()
            poll.register(connection, select.POLLIN)
            return connection.recv(self.adj.recv_bytes) if poll.poll(MILLISECONDS_OF_ATTENTION) else b""
        except OSError:
            return b""
        finally:
            self._attentive.release()


class Server:
    """Serves on a socket that is listening already, from a thread of its own."""

    def __init__(self, answer: Callable[[Request], Answer], listener: socket.socket) -> None:
        adjustments = Adjustments(
            threads=THREADS,
            connection_limit=MAX_CONNECTIONS,
            channel_timeout=SECONDS_OF_SILENCE,
            cleanup_interval=5,
            backlog=MAX_CONNECTIONS,
            max_request_body_size=MAX_BODY_BYTES + 1,
            max_request_header_size=MAX_HEADER_BYTES,
            outbuf_overflow=2 * MAX_ANSWER_BYTES,  # what it cannot send at once waits in memory, not in a file
            asyncore_use_poll=True,
            ident="subnet-functions",
            clear_untrusted_proxy_headers=False,
        )
        self._waitress = Listening(answer, listener, adjustments)
        logging.getLogger("waitress.queue").setLevel(logging.ERROR)  # that requests wait is no news
        self._thread = threading.Thread(target=self._waitress.run, name="http", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """No new connections; requests under way get a few seconds."""
        self._waitress.accepting = False
        self._waitress.task_dispatcher.shutdown(timeout=SECONDS_TO_FINISH)
        self._waitress.asyncore.close_all(self._waitress._map)  # noqa: SLF001 - its own run() does the same
