"""Every difference to the released emulator; each checks that it finds what it expects, or fails to start."""

from __future__ import annotations

import asyncio
import contextvars
import functools
import importlib.metadata
import mmap
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

VERSION = "1.5.33"
KEPT_LOG_STREAMS = 200
KEPT_EXECUTION_SECONDS = 24 * 3600
MAPPED_FROM_BYTES = 1 << 20
WORKER_FAILURE = '"error": str(e), "trace": traceback'


class UnexpectedInternals(Exception):
    """Another emulator than the one these patches were written for."""


def patch(python: str) -> None:
    """All of them, before the emulator serves; `python` is the project's interpreter."""
    found = importlib.metadata.version("ministack")
    if found != VERSION:
        raise UnexpectedInternals(f"found {found}")
    run_functions_in_the_project(python)
    name_exceptions_truly()
    answer_silent_functions_at_once()
    fire_schedules_on_time()
    load_sources_afresh()
    read_ranges_only()
    tell_checksums_of_copies()
    tell_checksums_of_whole_uploads()
    remember_expressions()
    keep_little_history()
    answer_in_one_write()


def replace(module: Any, name: str, make: Callable[[Any], Any]) -> None:
    original = getattr(module, name)
    setattr(module, name, make(original))


def run_functions_in_the_project(python: str) -> None:
    """Functions see the project's packages, and say the class of what they raise."""
    from ministack.core import lambda_runtime

    script = lambda_runtime._PYTHON_WORKER_SCRIPT
    if script.count(WORKER_FAILURE) != 1:
        raise UnexpectedInternals("the function worker reports failures in another way")
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
        raise UnexpectedInternals("the waits for log lines are others")
    waits.__defaults__ = (0.004, 0.002, 0.250)


def fire_schedules_on_time() -> None:
    """Schedules are looked at every second instead of every ten."""
    from ministack.services import eventbridge, scheduler

    replace(scheduler, "_SCHEDULE_TICK_INTERVAL", lambda _seconds: 1)
    replace(eventbridge, "_SCHEDULER_TICK_INTERVAL", lambda _seconds: 1)


def load_sources_afresh() -> None:
    """Functions are put up anew at every start, so none of a former one runs; and stream positions outlive a
    restart while the records do not, so a position kept from before would skip new records.
    """
    from ministack.services import lambda_svc

    def make(load: Callable[[Any], None]) -> Callable[[Any], None]:
        def loading(data: Any) -> None:
            load(data)
            lambda_svc._functions._data.clear()
            for (account, region, mapping), source in lambda_svc._esms.all_items():
                if ":dynamodb:" in source.get("EventSourceArn", ""):
                    lambda_svc._dynamodb_stream_positions.set_scoped(account, region, mapping, 0)

        return loading

    replace(lambda_svc, "load_persisted_state", make)


def read_ranges_only() -> None:
    """A ranged read of a large object, or a copy of a part of it, maps its file instead of reading all of it."""
    from ministack.services import s3

    ranged: contextvars.ContextVar[bool] = contextvars.ContextVar("ranged", default=False)

    def note(header: str, position: int) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
        def make(answer: Callable[..., Any]) -> Callable[..., Any]:
            def answering(*arguments: Any) -> Any:
                token = ranged.set(header in arguments[position])
                try:
                    return answer(*arguments)
                finally:
                    ranged.reset(token)

            return answering

        return make

    def map_file(read: Callable[..., bytes]) -> Callable[..., bytes | mmap.mmap]:
        def reading(bucket: str, key: str, record: dict[str, Any]) -> bytes | mmap.mmap:
            if not ranged.get() or record.get("body") is not None or record["size"] < MAPPED_FROM_BYTES:
                return read(bucket, key, record)
            with Path(s3._object_disk_path(bucket, key)).open("rb") as file:
                return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)

        return reading

    replace(s3, "_get_object", note("range", 2))
    replace(s3, "_upload_part_copy", note("x-amz-copy-source-range", 3))
    replace(s3, "_read_body", map_file)


def tell_checksums_of_copies() -> None:
    """A copy that is asked for a checksum of the whole object gets one, and the answer names it."""
    from ministack.services import s3

    end = b"</CopyObjectResult>"

    def make(copy_object: Callable[..., Any]) -> Callable[..., Any]:
        def copying(bucket: str, key: str, headers: dict[str, str]) -> Any:
            algorithm = headers.get("x-amz-checksum-algorithm")
            if not algorithm:
                return copy_object(bucket, key, headers)
            status, told, body = copy_object(bucket, key, headers | {"x-amz-sdk-checksum-algorithm": algorithm})
            if status == 200:  # noqa: PLR2004 - copied
                value = s3._ensure_bucket(bucket)["objects"][key]["checksums"][algorithm]
                more = f"<Checksum{algorithm}>{value}</Checksum{algorithm}><ChecksumType>FULL_OBJECT</ChecksumType>"
                body = body.replace(end, more.encode() + end)
            return status, told, body

        return copying

    replace(s3, "_copy_object", make)


def tell_checksums_of_whole_uploads() -> None:
    """An upload in parts that wants one checksum of the whole object gets that, not one of the parts' checksums; and
    the algorithm that storage prefers for it takes no second per ten megabytes.
    """
    from awscrt.checksums import crc64nvme
    from ministack.services import s3

    algorithm: contextvars.ContextVar[str | None] = contextvars.ContextVar("algorithm", default=None)

    def note(complete: Callable[..., Any]) -> Callable[..., Any]:
        def completing(bucket: str, key: str, body: bytes, query: dict[str, Any], headers: dict[str, str]) -> Any:
            upload = s3._multipart_uploads.get(s3._qp(query, "uploadId")) or {}
            whole = headers.get("x-amz-checksum-type") == "FULL_OBJECT"
            token = algorithm.set(upload.get("checksum_algorithm") if whole else None)
            try:
                return complete(bucket, key, body, query, headers)
            finally:
                algorithm.reset(token)

        return completing

    def keep(persist: Callable[..., None]) -> Callable[..., None]:
        def persisting(bucket: str, key: str, record: dict[str, Any]) -> None:
            if algorithm.get():
                record["checksums"] = {algorithm.get(): s3._compute_s3_checksum(algorithm.get(), record["body"])}
                record["checksum_type"] = "FULL_OBJECT"
            persist(bucket, key, record)

        return persisting

    replace(s3, "_crc64nvme", lambda _slow: crc64nvme)
    replace(s3, "_complete_multipart_upload", note)
    replace(s3, "_persist_object", keep)


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


class Gathering:
    """A transport whose writes of one moment leave as one: who waits for an answer wakes once for head and body."""

    def __init__(self, transport: asyncio.Transport) -> None:
        self._transport = transport
        self._gathered: list[bytes] = []

    def write(self, data: bytes) -> None:
        if not self._gathered:
            asyncio.get_running_loop().call_soon(self._flush)
        self._gathered.append(data)

    def close(self) -> None:
        self._flush()
        self._transport.close()

    def _flush(self) -> None:
        if self._gathered:
            gathered, self._gathered = self._gathered, []
            self._transport.writelines(gathered)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)


def answer_in_one_write() -> None:
    """Head and body are written one after the other, and would wake the caller twice."""
    from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

    def make(made: Callable[[Any, Any], None]) -> Callable[[Any, Any], None]:
        return lambda protocol, transport: made(protocol, Gathering(transport))

    replace(HttpToolsProtocol, "connection_made", make)
