"""The embedded cloud: ministack, patched where its users would notice, saving itself every few seconds.

Runs in an environment of its own, as a child of the server: `python -m local.emulator FOLDER PORT PYTHON`.
Once it serves it writes its port on a line to standard output; when standard input ends it saves and stops.
"""

from __future__ import annotations

import asyncio
import copy
import json
import os
import signal
import socket
import sys
import threading
from collections.abc import Awaitable, Callable
from pathlib import Path
from types import SimpleNamespace
from typing import IO, Any

from local import emulator_patches, emulator_road
from local.emulator_patches import VERSION, UnexpectedInternals, replace
from local.emulator_road import Asgi

SECONDS_BETWEEN_SAVES = 5
SECONDS_FOR_A_SAVE = 60  # one that hangs is given up; the next one is given twice the time
UNSAVED = {"cloudwatch_logs"}
LEVELS_OF_PIECES = 6  # down to a table's partition
UVICORN: dict[str, Any] = {
    "http": "httptools",
    "loop": "uvloop",
    "log_level": "warning",
    "access_log": False,
    "lifespan": "on",
    "timeout_keep_alive": 75,
    "timeout_graceful_shutdown": 2,
}


def main(folder: Path, port: int, python: str) -> int:
    listener = listen(port)
    configure(folder, listener.getsockname()[1])
    try:
        emulator_patches.patch(python)
    except (UnexpectedInternals, AttributeError, ImportError) as error:
        print(f"the embedded cloud needs ministack {VERSION} as it was released: {error}", file=sys.stderr)
        return 3
    serve(listener)
    return 0


def listen(port: int) -> socket.socket:
    """The port of the last run, so that links handed out then still work; any other when it is taken."""
    try:
        return socket.create_server(("127.0.0.1", port), backlog=1024)
    except OSError:
        return socket.create_server(("127.0.0.1", 0), backlog=1024)


def configure(folder: Path, port: int) -> None:
    """Everything it reads from the environment, before it is imported."""
    for name in ("tables", "objects", "tmp"):
        (folder / name).mkdir(exist_ok=True)
    os.environ |= {
        "GATEWAY_PORT": str(port),
        "STATE_DIR": str(folder / "tables"),
        "S3_DATA_DIR": str(folder / "objects"),
        "TMPDIR": str(folder / "tmp"),
        "PERSIST_STATE": "1",
        "S3_PERSIST": "1",
        "LAMBDA_EXECUTOR": "local",
        "IOT_MTLS_ENABLED": "0",
        "SFTP_ENABLED": "0",
        "DOCKER_HOST": "unix:///nonexistent",
        "LOG_LEVEL": "WARNING",
        "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}",
    }


class Saver:
    """Saves by fork: the child writes a picture of one moment while the parent goes on serving."""

    def __init__(self) -> None:
        self.touched = False
        self.child = 0
        self.seconds = SECONDS_FOR_A_SAVE
        self.task: asyncio.Task[None] | None = None

    def noticing(self, application: Asgi) -> Asgi:
        """A picture is worth taking only after a request."""

        async def noticed(scope: Any, receive: Any, send: Any) -> None:
            try:
                await application(scope, receive, send)
            finally:
                self.touched = True

        return noticed

    def start(self) -> None:
        self.task = asyncio.create_task(self._run())

    async def _run(self) -> None:
        while True:
            await asyncio.sleep(SECONDS_BETWEEN_SAVES)
            if self.touched:
                await self.save()

    async def save(self) -> None:
        emulator_patches.forget_old_executions()
        self.touched = False
        self.child = self._fork()
        while self.child and not self._collect(os.WNOHANG):  # noqa: ASYNC110 - a process has no event to wait for
            await asyncio.sleep(0.05)

    def finish(self, _services: object = None) -> None:
        """The last save, in the emulator's own place; one under way shows an older moment and is given up."""
        if self.task:
            self.task.cancel()
        if self.child:
            os.kill(self.child, signal.SIGKILL)
            os.waitpid(self.child, 0)
        self.child = self._fork()
        self._collect(0)
        end_functions()

    def _collect(self, how: int) -> bool:
        pid, status = os.waitpid(self.child, how)
        if not pid:
            return False
        self.child = 0
        if status:
            self.touched = True
            self.seconds *= 2
            print(f"a save has failed (status {status})", file=sys.stderr, flush=True)
        return True

    def _fork(self) -> int:
        pid = os.fork()
        if pid == 0:
            failed = 1
            try:
                os.closerange(3, 4096)
                signal.alarm(self.seconds)
                failed = write_everything()
            finally:
                os._exit(failed)
        return pid


def write_everything() -> int:
    """In the child nothing changes any more, so the services need not copy their state to hand it out."""
    from ministack import app
    from ministack.core import persistence

    failures: list[str] = []

    def fail(message: str, *values: object) -> None:
        failures.append(message % values)

    copy.deepcopy = as_it_is  # type: ignore[assignment]  # the child's own copy of the module
    persistence.json = SimpleNamespace(dump=dump)
    persistence.logger.error = fail
    services = app._build_persistence_save_dict()
    persistence.save_all({name: state for name, state in services.items() if name not in UNSAVED})
    for failure in failures:
        print(failure, file=sys.stderr, flush=True)
    return 1 if failures else 0


def dump(value: Any, file: IO[str], default: Callable[[Any], Any], levels: int = LEVELS_OF_PIECES) -> None:
    """What `json.dump` writes, but small piece by piece with the encoder in C: that one's own is Python, a quarter as
    fast, and a million items would not be saved before the server must have stopped.
    """
    encode = json.JSONEncoder(default=default, check_circular=False).encode

    def write(value: Any, levels: int) -> None:
        if not isinstance(value, (dict, list, tuple, str, int, float, type(None))):
            value = default(value)
        if not levels or not isinstance(value, dict) or not all(isinstance(name, str) for name in value):
            file.write(encode(value))
            return
        separator = "{"
        for name, inner in value.items():
            file.write(f"{separator}{encode(name)}: ")
            write(inner, levels - 1)
            separator = ", "
        file.write("}" if value else "{}")

    write(value, levels)


def as_it_is(value: Any, _memo: Any = None) -> Any:
    return value


def serve(listener: socket.socket) -> None:
    """Serves until told to stop; whatever its functions started goes with it."""
    import uvicorn
    from ministack import app as ministack_app

    saver = Saver()
    ministack_app.save_all = saver.finish
    application = saver.noticing(emulator_road.shortened(ministack_app.app))
    server = uvicorn.Server(uvicorn.Config(application, **UVICORN))

    def announced(startup: Callable[..., Awaitable[None]]) -> Callable[..., Awaitable[None]]:
        async def starting(sockets: list[socket.socket]) -> None:
            await startup(sockets=sockets)
            saver.start()
            threading.Thread(target=stop_at_end_of_input, args=(server,), daemon=True).start()
            print(listener.getsockname()[1], flush=True)

        return starting

    replace(server, "startup", announced)
    try:
        server.run(sockets=[listener])
    finally:
        end_functions()


def stop_at_end_of_input(server: Any) -> None:
    """Standard input belongs to the server that started this: it ends when that server does, however it does."""
    sys.stdin.buffer.read()
    server.should_exit = True


def end_functions() -> None:
    """Functions that still run would keep the emulator waiting, and then outlive the cloud they talk to."""
    handler = signal.signal(signal.SIGTERM, signal.SIG_IGN)
    os.killpg(0, signal.SIGTERM)
    signal.signal(signal.SIGTERM, handler)


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3]))
