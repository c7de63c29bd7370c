"""Checks a fetched checkpoint against its base and has it measured; arithmetic runs in a process of its own.

That process gets numbers over a pipe and has no credentials, no network address and no file to open.
"""

from __future__ import annotations

import importlib.util
import json
import math
import os
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from chalicelib.kernel import codec, flows
from chalicelib.kernel.blobs import ObjectChanged
from chalicelib.kernel.values import frozen
from chalicelib.kernel.wire import Item

from . import checkpoints, domain, store, tasks_arithmetic, tasks_publishing
from .checkpoints import Piece, Unacceptable
from .contracts import ExpertsSettings
from .tasks_composing import Source
from .tensors import BrokenFile, Directory, Tensor

CHUNK_ELEMENTS = 1024 * 1024
_SCAN_BYTES = 8 * 1024 * 1024
_PAGE = 64 * 1024
_PAGES = 128
_ROOT = Path(__file__).resolve().parents[2]
_LAPTOP_PYTHON = _ROOT / ".envs" / "evaluator" / "bin" / "python"
_PROXY_PLACES = (_ROOT / "layers" / "evaluator" / "proxy.py", Path("/opt/evaluator/proxy.py"))
_LARGEST_PROXY_MODEL = 64 * 1024 * 1024
NO_EVALUATOR = "no_evaluator"


class EvaluatorFailed(RuntimeError):
    """The evaluator itself broke: nothing is said about the checkpoint."""


class NoEvaluator(RuntimeError):
    """Nobody here can measure this model."""


@frozen
class Losses:
    """A loss and how many batches were finite."""

    val_loss: float
    finite_batches: int
    batches: int


def raw_key(submission_id: str) -> str:
    return f"{submission_id}/raw"


def index_key(submission_id: str) -> str:
    return f"{submission_id}/index.json"


def raw_source(item: Item) -> Source:
    """The bytes that were fetched, and only them."""
    return Source(store.quarantine().name, raw_key(item["submission_id"]), item["raw_etag"], item["raw_bytes"])


def validate(item: Item, version: Item) -> None:
    """Read the file's directory, compare it with the slice, look for NaN; note where each tensor lies."""
    settings = ExpertsSettings.current()
    source = raw_source(item)
    try:
        found = checkpoints.read(
            item["suffix"] or ".pt", source.size, _Pages(source).read,
            most_pickle=settings.pickle_max_bytes, most_operations=settings.pickle_max_ops,
        )  # fmt: skip
    except BrokenFile as error:
        code = "forbidden_global" if "forbidden" in str(error) else "bad_checkpoint"
        raise Unacceptable(code, str(error)) from None
    pairs = checkpoints.compared(found, base_directory(item, version))
    for tensor, piece in pairs:
        if any(checkpoints.has_nonfinite(piece.dtype, raw) for raw in _bytes(source, piece)):
            raise Unacceptable("nonfinite", f"{tensor.name} holds NaN or Inf")
    index = {tensor.name: [piece.dtype, piece.shape, piece.ranges] for tensor, piece in pairs}
    store.quarantine().put(index_key(item["submission_id"]), codec.encode(index), content_type="application/json")


class _Pages:
    """Small reads all over a file, each page fetched once."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self._kept: dict[int, bytes] = {}

    def read(self, begin: int, end: int) -> bytes:
        if begin < 0 or end > self._source.size or begin > end:
            raise BrokenFile("the file refers to bytes that it does not have")
        if end - begin > _PAGE:
            return self._source.read(begin, end)
        first, last = begin // _PAGE, max(begin, end - 1) // _PAGE
        joined = b"".join(self._page(number) for number in range(first, last + 1))
        return joined[begin - first * _PAGE : end - first * _PAGE]

    def _page(self, number: int) -> bytes:
        if number not in self._kept:
            if len(self._kept) >= _PAGES:
                self._kept.pop(next(iter(self._kept)))
            begin = number * _PAGE
            self._kept[number] = self._source.read(begin, min(begin + _PAGE, self._source.size))
        return self._kept[number]


def _bytes(source: Source, piece: Piece, step: int = _SCAN_BYTES) -> Iterator[bytes]:
    for begin, end in piece.ranges:
        for first in range(begin, end, step):
            yield source.read(first, min(first + step, end))


def base_directory(item: Item, version: Item) -> Directory:
    return tasks_publishing.directory_of(version["blocks"][f"group_{item['group']}"])


def checkpoint_index(submission_id: str) -> dict[str, Piece]:
    """Where each tensor of a validated checkpoint lies."""
    raw = store.quarantine().get(index_key(submission_id))
    if raw is None:
        raise ObjectChanged(f"{submission_id}: the checkpoint's index is gone")
    return {
        name: Piece(dtype, tuple(shape), tuple((begin, end) for begin, end in ranges))
        for name, (dtype, shape, ranges) in json.loads(raw).items()
    }


def block_source(block: Item) -> Source:
    return Source(store.models().name, block["key"], block["etag"], block["bytes"])


def chunks(tensor: Tensor, pieces: Sequence[tuple[Source, Piece]]) -> Iterator[list[bytes]]:
    """The same elements of several stored tensors, a bounded number at a time."""
    count = math.prod(tensor.shape)
    for first in range(0, count, CHUNK_ELEMENTS):
        last = min(first + CHUNK_ELEMENTS, count)
        yield [_elements(source, piece, first, last) for source, piece in pieces]


def _elements(source: Source, piece: Piece, first: int, last: int) -> bytes:
    width = checkpoints.CASTABLE[piece.dtype]
    begin, end = first * width, last * width
    found = []
    for range_begin, range_end in piece.ranges:
        size = range_end - range_begin
        low, high = max(begin, 0), min(end, size)
        if low < high:
            found.append(source.read(range_begin + low, range_begin + high))
        begin, end = begin - size, end - size
    return b"".join(found)


def base_piece(directory: Directory, tensor: Tensor) -> Piece:
    at = directory.data_offset
    return Piece(tensor.dtype, tensor.shape, ((at + tensor.begin, at + tensor.end),))


class Calculator:
    """The arithmetic program at the other end of a pipe."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self._process = process

    def ask(self, fields: dict[str, Any], blobs: Sequence[bytes] = ()) -> tuple[dict[str, Any], list[bytes]]:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        try:
            tasks_arithmetic.write_frame(self._process.stdin, fields, list(blobs))  # type: ignore[arg-type] # a pipe
            answer = tasks_arithmetic.read_frame(self._process.stdout)  # type: ignore[arg-type] # a pipe
        except (OSError, ValueError) as error:
            raise EvaluatorFailed(f"the arithmetic broke off: {error}") from None
        if answer is None:
            raise EvaluatorFailed("the arithmetic broke off or took too long")
        return answer


@contextmanager
def calculator() -> Iterator[Calculator]:
    """A fresh process, ended after the time of one evaluation."""
    command = [interpreter("numpy"), "-I", str(Path(tasks_arithmetic.__file__))]
    with started(command) as process:
        yield Calculator(process)


@contextmanager
def started(command: list[str]) -> Iterator[subprocess.Popen[bytes]]:
    """A process without our environment; it never outlives the block, nor its time."""
    environment = {"PATH": os.defpath, "OMP_NUM_THREADS": "1", "HOME": "/nonexistent"}
    with subprocess.Popen(  # noqa: S603 - our own program
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment, cwd="/", close_fds=True
    ) as process:
        timer = threading.Timer(ExpertsSettings.current().eval_timeout_s, process.kill)
        timer.daemon = True
        timer.start()
        try:
            yield process
        finally:
            timer.cancel()
            process.kill()


def interpreter(library: str) -> str:
    """An interpreter that has the library: the one that is set, this one with its layers, or the laptop's."""
    given = ExpertsSettings.current().evaluator_python
    if given or importlib.util.find_spec(library) or not _LAPTOP_PYTHON.exists():
        return given or sys.executable
    return str(_LAPTOP_PYTHON)


def compare(item: Item, version: Item) -> tuple[Losses, Losses, list[float]]:
    """Go through checkpoint and base side by side: distance, direction, and the stub's losses of both."""
    block = version["blocks"][f"group_{item['group']}"]
    directory = tasks_publishing.directory_of(block)
    index, base, raw = checkpoint_index(item["submission_id"]), block_source(block), raw_source(item)
    means: list[tuple[float, float]] = []
    with calculator() as numbers:
        for tensor in directory.tensors:
            sums = _sums(numbers, tensor, [(raw, index[tensor.name]), (base, base_piece(directory, tensor))])
            _check_distance(tensor.name, sums)
            count = max(1.0, sums["elements"])
            means.append((sums["candidate_loss"] / count, sums["base_loss"] / count))
        sketch: list[float] = numbers.ask({"op": "sketch"})[0]["sketch"]
    candidate, baseline = (math.fsum(column) / len(means) for column in zip(*means, strict=True))
    return Losses(candidate, 1, 1), Losses(baseline, 1, 1), sketch


def _sums(numbers: Calculator, tensor: Tensor, sides: list[tuple[Source, Piece]]) -> dict[str, float]:
    total = dict.fromkeys(("candidate_loss", "base_loss", "moved", "norm", "elements"), 0.0)
    dtypes = [piece.dtype for _, piece in sides]
    for blobs in chunks(tensor, sides):
        told, _ = numbers.ask({"op": "measure", "name": tensor.name, "dtypes": dtypes}, blobs)
        for name in total:
            total[name] += told[name]
    return total


def _check_distance(name: str, sums: dict[str, float]) -> None:
    limit = ExpertsSettings.current().max_update_norm
    if not math.isfinite(sums["moved"]) or (limit and math.sqrt(sums["moved"]) > limit * math.sqrt(sums["norm"])):
        raise Unacceptable("too_far", f"{name} moved further from the base than {limit:g} of its norm")


def losses(item: Item, version: Item, seed: str, stub: tuple[Losses, Losses]) -> tuple[Losses, Losses]:
    """Loss of the checkpoint and of its base on the same held-out batches."""
    kind = ExpertsSettings.current().evaluator
    if kind == "stub":
        return stub
    if kind == "gpu":
        return _by_container(item, version, seed)
    return _by_proxy(item, version, seed)


def _by_container(item: Item, version: Item, seed: str) -> tuple[Losses, Losses]:
    """The operator's own function, named like our tasks: gets keys and a seed, answers both losses."""
    request = {
        "version_id": version["version_id"], "full_key": version["full"]["key"], "group": item["group"], "seed": seed,
        "checkpoint_key": raw_key(item["submission_id"]), "index_key": index_key(item["submission_id"]),
        "batches": ExpertsSettings.current().eval_max_batches,
    }  # fmt: skip
    try:
        answer = flows.invoke("experts-gpu", request)
    except flows.TaskFailed as error:
        if error.kind == flows.NO_SUCH_TASK:
            raise NoEvaluator("EVALUATOR=gpu, and there is no function experts-gpu") from None
        raise EvaluatorFailed(str(error)) from None
    return _told(answer)


def _by_proxy(item: Item, version: Item, seed: str) -> tuple[Losses, Losses]:
    program = next((place for place in _PROXY_PLACES if place.exists()), None)
    if program is None or version["full"]["bytes"] > _LARGEST_PROXY_MODEL:
        raise NoEvaluator("the proxy measures the tiny model of its own geometry only")
    index, raw = checkpoint_index(item["submission_id"]), raw_source(item)
    described = [[name, piece.dtype, list(piece.shape)] for name, piece in index.items()]
    blobs = [b"".join(_bytes(raw, piece)) for piece in index.values()]
    request = {"seed": seed, "batches": ExpertsSettings.current().eval_max_batches, "tensors": described}
    full = store.models().get(version["full"]["key"]) or b""
    with started([interpreter("torch"), "-I", str(program)]) as process:
        answer, _ = Calculator(process).ask(request, [full, *blobs])
    if "refused" in answer:
        raise NoEvaluator(str(answer["refused"]))
    return _told(answer)


def _told(answer: dict[str, Any]) -> tuple[Losses, Losses]:
    try:
        candidate, baseline = (
            Losses(float(answer[side]["val_loss"]), int(answer[side]["finite_batches"]), int(answer[side]["batches"]))
            for side in ("candidate", "baseline")
        )
    except (KeyError, TypeError, ValueError):
        raise EvaluatorFailed("the evaluator's answer holds no losses") from None
    return candidate, baseline


def judged(candidate: Losses, baseline: Losses) -> float:
    """The score, or why there is none."""
    settings = ExpertsSettings.current()
    skipped = candidate.batches - candidate.finite_batches
    if skipped > settings.max_nonfinite_batch_share * candidate.batches:
        raise Unacceptable("nonfinite_loss", f"{skipped} of {candidate.batches} batches have no finite loss")
    if candidate.val_loss < 0:
        raise Unacceptable("negative_loss", "a loss below zero is no loss")
    return domain.score(baseline.val_loss, candidate.val_loss, settings.score_exponent)
