"""A host of AWS that says what a test wants it to say."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from chalicelib.kernel import aws


class Stub:
    """Answers each request from a list: a status with a body, raw bytes before it hangs up, None to hang up at once.

    Counts connections, keeps requests.
    """

    def __init__(self) -> None:
        self.answers: list[tuple[int, bytes] | bytes | None] = []
        self.otherwise = (200, b"{}")
        self.requests: list[bytes] = []
        self.connections = 0
        self.closes = False
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        threading.Thread(target=self._serve, daemon=True).start()

    def end(self) -> None:
        """Closing alone would not wake the thread that waits for connections."""
        with contextlib.suppress(OSError):
            self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self.listener.accept()
            except OSError:
                return
            self.connections += 1
            threading.Thread(target=self._talk, args=(connection,), daemon=True).start()

    def _talk(self, connection: socket.socket) -> None:
        with connection, connection.makefile("rb") as stream:
            while head := self._head(stream):
                lengths = [line.split(b":")[1] for line in head if line.lower().startswith(b"content-length:")]
                self.requests.append(b"".join(head) + stream.read(int(*lengths)))
                answer = self.answers.pop(0) if self.answers else self.otherwise
                if answer is None or isinstance(answer, bytes):
                    connection.sendall(answer or b"")
                    return
                status, body = answer
                closes = self.closes
                rest = b"Connection: close\r\n" if closes else b""
                connection.sendall(b"HTTP/1.1 %d X\r\n%sContent-Length: %d\r\n\r\n" % (status, rest, len(body)) + body)
                if closes:
                    return

    @staticmethod
    def _head(stream: Any) -> list[bytes]:
        head = []
        while (line := stream.readline()) not in {b"", b"\r\n"}:
            head.append(line)
        return head


@contextlib.contextmanager
def stubbed() -> Iterator[Stub]:
    """AWS is a stub of our own, for clients of its own."""
    found = Stub()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{found.port}")
        patch.setenv("AWS_ACCESS_KEY_ID", "test")
        patch.setenv("AWS_SECRET_ACCESS_KEY", "test")
        aws.forget_clients()
        yield found
        found.end()
    aws.forget_clients()
