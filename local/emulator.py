"""The embedded cloud: ministack, patched where its users would notice, saving itself every few seconds.

Runs as a script in an environment of its own, as a child of the server: `emulator.py FOLDER PORT PYTHON`.
Once it serves it writes its port on a line to standard output; when standard input ends it saves and stops.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import copy
import functools
import importlib.metadata
import mmap
import os
import signal
import socket
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

VERSION = "1.5.33"
SECONDS_BETWEEN_SAVES = 5
SECONDS_FOR_A_SAVE = 60
SECONDS_FOR_OPEN_REQUESTS = 2
KEPT_LOG_STREAMS = 200
KEPT_EXECUTION_SECONDS = 24 * 3600
MAPPED_FROM_BYTES = 1 << 20
UNSAVED = {"cloudwatch_logs"}
WORKER_FAILURE = '"error": str(e), "trace": traceback'


class UnexpectedInternalsError(Exception):
    """Another version than the one the patches were written for."""


def main(folder: Path, port: int, python: str) -> int:
    listener = listen(port)
    configure(folder, listener.getsockname()[1])
    try:
        patch(python)
    except (UnexpectedInternalsError, AttributeError, ImportError) as error:
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


def patch(python: str) -> None:
    """Every difference to the released emulator; each checks that it finds what it expects."""
    found = importlib.metadata.version("ministack")
    if found != VERSION:
        raise UnexpectedInternalsError(f"found {found}")
    run_functions_in_the_project(python)
    name_exceptions_truly()
    answer_silent_functions_at_once()
    fire_schedules_on_time()
    reread_streams_from_their_start()
    read_ranges_only()
    remember_expressions()
    keep_little_history()


def replace(module: Any, name: str, make: Callable[[Any], Any]) -> None:
    original = getattr(module, name)
    setattr(module, name, make(original))


def run_functions_in_the_project(python: str) -> None:
    """Functions see the project's packages, and say the class of what they raise."""
    from ministack.core import lambda_runtime

    script = lambda_runtime._PYTHON_WORKER_SCRIPT
    if script.count(WORKER_FAILURE) != 1:
        raise UnexpectedInternalsError("the function worker reports failures in another way")
    truthful = script.replace(WORKER_FAILURE, '"etype": type(e).__name__, ' + WORKER_FAILURE)

    def make(original: Callable[[str], tuple[str, str]]) -> Callable[[str], tuple[str, str]]:
        return lambda runtime: (python, truthful) if runtime.startswith("python") else original(runtime)

    replace(lambda_runtime, "_detect_runtime_binary", make)


def name_exceptions_truly() -> None:
    """On AWS the error of a failed function is its exception's class, which Retry and Catch name."""
    from ministack.core import lambda_runtime
    from ministack.services import lambda_svc

    raised: contextvars.ContextVar[str | None] = contextvars.ContextVar("raised", default=None)

    def remember(invoke: Callable[..., dict[str, Any]]) -> Callable[..., dict[str, Any]]:
        def invoking(*arguments: Any, **named: Any) -> dict[str, Any]:
            answer = invoke(*arguments, **named)
            raised.set(answer.get("etype"))
            return answer

        return invoking

    def tell(execute: Callable[..., dict[str, Any]]) -> Callable[..., dict[str, Any]]:
        def executing(*arguments: Any) -> dict[str, Any]:
            raised.set(None)
            answer = execute(*arguments)
            if answer.get("error") and raised.get():
                answer["body"]["errorType"] = raised.get()
            return answer

        return executing

    replace(lambda_runtime.Worker, "invoke", remember)
    replace(lambda_svc, "_execute_function_warm", tell)


def answer_silent_functions_at_once() -> None:
    """A function that logs nothing would wait 50 ms for its first line."""
    from ministack.core import lambda_runtime

    waits = lambda_runtime.Worker._drain_stderr_bounded
    if waits.__defaults__ != (0.050, 0.005, 0.250):
        raise UnexpectedInternalsError("the waits for log lines are others")
    waits.__defaults__ = (0.004, 0.002, 0.250)


def fire_schedules_on_time() -> None:
    """Schedules are looked at every second instead of every ten."""
    from ministack.services import eventbridge, scheduler

    replace(scheduler, "_SCHEDULE_TICK_INTERVAL", lambda _seconds: 1)
    replace(eventbridge, "_SCHEDULER_TICK_INTERVAL", lambda _seconds: 1)


def reread_streams_from_their_start() -> None:
    """Positions outlive a restart but records do not, so a position kept from before skips new records."""
    from ministack.services import lambda_svc

    def make(load: Callable[[Any], None]) -> Callable[[Any], None]:
        def loading(data: Any) -> None:
            load(data)
            for (account, region, mapping), source in lambda_svc._esms.all_items():
                if ":dynamodb:" in source.get("EventSourceArn", ""):
                    lambda_svc._dynamodb_stream_positions.set_scoped(account, region, mapping, 0)

        return loading

    replace(lambda_svc, "load_persisted_state", make)


def read_ranges_only() -> None:
    """A ranged read of a large object maps its file instead of reading all of it."""
    from ministack.services import s3

    ranged: contextvars.ContextVar[bool] = contextvars.ContextVar("ranged", default=False)

    def note(get: Callable[..., Any]) -> Callable[..., Any]:
        def getting(bucket: str, key: str, headers: dict[str, str], query: Any = None) -> Any:
            token = ranged.set("range" in headers)
            try:
                return get(bucket, key, headers, query)
            finally:
                ranged.reset(token)

        return getting

    def map_file(read: Callable[..., bytes]) -> Callable[..., bytes | mmap.mmap]:
        def reading(bucket: str, key: str, record: dict[str, Any]) -> bytes | mmap.mmap:
            if not ranged.get() or record.get("body") is not None or record["size"] < MAPPED_FROM_BYTES:
                return read(bucket, key, record)
            with Path(s3._object_disk_path(bucket, key)).open("rb") as file:
                return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)

        return reading

    replace(s3, "_get_object", note)
    replace(s3, "_read_body", map_file)


def remember_expressions() -> None:
    """Expressions are parsed for every row of a query; the same few come again and again."""
    from ministack.services import dynamodb

    replace(dynamodb, "_condition_syntax_error", functools.lru_cache(maxsize=4096))

    def make(tokenize: Callable[[str], list[Any]]) -> Callable[[str], list[Any]]:
        remembered = functools.lru_cache(maxsize=4096)(lambda text: tuple(tokenize(text)))
        return lambda text: list(remembered(text))

    replace(dynamodb, "_tokenize", make)


def keep_little_history() -> None:
    """Every invocation opens a log stream and counts in metrics, and nothing would ever delete either."""
    from ministack.services import cloudwatch_logs, lambda_svc

    def make(emit: Callable[..., None]) -> Callable[..., None]:
        def emitting(function: dict[str, Any], *arguments: Any, **named: Any) -> None:
            emit(function, *arguments, **named)
            name = (function.get("config") or function).get("FunctionName")
            streams = (cloudwatch_logs._log_groups.get(f"/aws/lambda/{name}") or {}).get("streams", {})
            while len(streams) > KEPT_LOG_STREAMS:
                streams.pop(next(iter(streams)), None)

        return emitting

    replace(lambda_svc, "_emit_lambda_logs", make)
    replace(lambda_svc, "_emit_lambda_metrics", lambda _emit: lambda *_arguments, **_named: None)


def forget_old_executions() -> None:
    """Finished executions are kept for ever; a day is enough on a laptop."""
    from ministack.services import stepfunctions

    then = time.gmtime(time.time() - KEPT_EXECUTION_SECONDS)
    limit = time.strftime("%Y-%m-%dT%H:%M:%S", then)
    for store in (stepfunctions._executions, stepfunctions._map_runs):
        for key, run in list(store._data.items()):
            if (run.get("stopDate") or limit) < limit:
                store._data.pop(key, None)


class Saver:
    """Saves by fork: the child writes a picture of one moment while the parent goes on serving."""

    def __init__(self) -> None:
        self.touched = False
        self.child = 0

    async def run(self) -> None:
        while True:
            await asyncio.sleep(SECONDS_BETWEEN_SAVES)
            if self.touched:
                await self.save()

    async def save(self) -> None:
        forget_old_executions()
        self.touched = False
        self.child = self._fork()
        while self.child and not self._collect(os.WNOHANG):  # noqa: ASYNC110 - a process has no event to wait for
            await asyncio.sleep(0.05)

    def finish(self, _services: object = None) -> None:
        """The last save; one under way shows an older moment, so it is given up."""
        if self.child:
            os.kill(self.child, signal.SIGKILL)
            self._collect(0)
        self.child = self._fork()
        self._collect(0)

    def _collect(self, how: int) -> bool:
        pid, status = os.waitpid(self.child, how)
        if not pid:
            return False
        self.child = 0
        if status:
            self.touched = True
        return True

    def _fork(self) -> int:
        pid = os.fork()
        if pid == 0:
            failed = 1
            try:
                os.closerange(3, 4096)
                signal.alarm(SECONDS_FOR_A_SAVE)
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
    persistence.logger.error = fail
    services = app._build_persistence_save_dict()
    persistence.save_all({name: state for name, state in services.items() if name not in UNSAVED})
    for failure in failures:
        print(failure, file=sys.stderr, flush=True)
    return 1 if failures else 0


def as_it_is(value: Any, _memo: Any = None) -> Any:
    return value


def serve(listener: socket.socket) -> None:
    """Serves until told to stop; whatever its functions started goes with it."""
    import uvicorn
    from ministack import app as ministack_app

    saver = Saver()
    ministack_app.save_all = saver.finish

    async def application(scope: Any, receive: Any, send: Any) -> None:
        try:
            await ministack_app.app(scope, receive, send)
        finally:
            saver.touched = True

    class Server(uvicorn.Server):
        async def startup(self, sockets: list[socket.socket] | None = None) -> None:
            await super().startup(sockets=sockets)
            self.saving = asyncio.create_task(saver.run())
            threading.Thread(target=stop_at_end_of_input, args=(self,), daemon=True).start()
            print(listener.getsockname()[1], flush=True)

        async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
            self.saving.cancel()
            await super().shutdown(sockets=sockets)

    config = uvicorn.Config(
        application,
        http="httptools",
        loop="uvloop",
        log_level="warning",
        access_log=False,
        lifespan="on",
        timeout_keep_alive=75,
        timeout_graceful_shutdown=SECONDS_FOR_OPEN_REQUESTS,
    )
    with taking_the_group_along():
        Server(config).run(sockets=[listener])


def stop_at_end_of_input(server: Any) -> None:
    """Standard input belongs to the server that started this: it ends when that server does, however it does."""
    sys.stdin.buffer.read()
    server.should_exit = True


@contextlib.contextmanager
def taking_the_group_along() -> Iterator[None]:
    """Functions that are still running would outlive the cloud they talk to."""
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        os.killpg(0, signal.SIGTERM)


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3]))
