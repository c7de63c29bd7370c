"""The long transfers of Experts' commands: a model into storage, a slice out of it; both go on where they stopped."""

from __future__ import annotations

import fcntl
import hashlib
import http.client
import os
import re
import ssl
import threading
import urllib.parse
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from io import FileIO
from pathlib import Path
from typing import IO, Any

from chalicelib.experts import slices, store, tensors
from chalicelib.kernel import multipart

from . import clients, terminal

_PART = 16 * 1024 * 1024
_THREADS = 4
_SECONDS = 60
_TRIES = 3
_LARGEST = 2**50
_HASH = re.compile(r"sha256:[0-9a-f]{64}")
_OK, _PARTIAL, _EXPIRED = 200, 206, 403
_INDEX = "model.safetensors.index.json"


def upload_model(path: Path) -> str:
    """Bring a local model into the bucket, once: the key comes from what the files are."""
    is_file = path.is_file() and path.suffix == ".safetensors"
    files = [path] if is_file else sorted(path.glob("*.safetensors"))
    index = path / _INDEX
    if not files:
        terminal.refuse(f"{path} is no .safetensors file, nor a folder of them", code="model_not_found")
    for file in files:
        _check(file)
    names = [*files, *([index] if index.is_file() else [])]
    folder = f"sources/{_fingerprint(names)}"
    with terminal.progress("uploading", sum(file.stat().st_size for file in names), of_bytes=True) as advance:
        for file in names:
            _upload(file, f"{folder}/{file.name}", advance)
    tail = f"/{files[0].name}" if is_file else "/"
    return f"s3://{store.models().name}/{folder}{tail}"


def _check(file: Path) -> None:
    """A broken file is told before it travels."""
    size = file.stat().st_size
    try:
        with file.open("rb") as stream:
            length = tensors.header_length(stream.read(tensors.LENGTH_BYTES), size)
            tensors.directory(stream.read(length), size)
    except tensors.BrokenFile as error:
        raise tensors.BrokenFile(f"{file}: {error}") from None


def _fingerprint(files: list[Path]) -> str:
    """Name, size, time and first bytes: a changed model gets another key, without reading all of it first."""
    digest = hashlib.sha256()
    for file in files:
        facts = file.stat()
        digest.update(f"{file.name}\0{facts.st_size}\0{facts.st_mtime_ns}\0".encode())
        with file.open("rb") as stream:
            digest.update(stream.read(1024 * 1024))
    return digest.hexdigest()[:24]


def _upload(file: Path, key: str, advance: Callable[[float], None]) -> None:
    size, bucket = file.stat().st_size, store.models()
    known = bucket.head(key)
    if known and known["ContentLength"] == size:
        advance(size)
        return
    if size <= _PART:
        bucket.put(key, file.read_bytes())
        advance(size)
        return
    upload, arrived = multipart.resume(bucket, key) or (multipart.begin(bucket, key), {})
    part = max(_PART, -(-size // multipart.MOST_PARTS))

    def send(number: int) -> None:
        begin = (number - 1) * part
        length = min(part, size - begin)
        if arrived.get(number) != length:
            with file.open("rb") as stream:
                stream.seek(begin)
                upload.put(number, stream.read(length))
        advance(length)

    with ThreadPoolExecutor(_THREADS) as pool:
        list(pool.map(send, range(1, -(-size // part) + 1)))
    upload.complete()


def _opened(method: str, url: str, headers: dict[str, str], body: bytes | None = None) -> http.client.HTTPResponse:
    parts = urllib.parse.urlsplit(url)
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        terminal.refuse(f"{url} is no http address", code="bad_url")
    connection: http.client.HTTPConnection
    if parts.scheme == "https":
        connection = http.client.HTTPSConnection(
            parts.hostname, parts.port, timeout=_SECONDS, context=ssl.create_default_context()
        )
    else:
        connection = http.client.HTTPConnection(parts.hostname, parts.port, timeout=_SECONDS)
    target = parts.path + (f"?{parts.query}" if parts.query else "")
    connection.request(method, target or "/", body, headers)
    return connection.getresponse()


class BrokenOff(Exception):
    """A piece cannot be had; told once, however many pieces fail."""


class Place:
    """Where a slice lies for now: a URL may end before a slow download does, and a fresh one is of the same version."""

    def __init__(self, url: str, renew: Callable[[], str]) -> None:
        self.url = url
        self._renew = renew
        self._renewing = threading.Lock()

    def has_ended(self, url: str) -> None:
        """Several pieces notice at once; the first one asks for all."""
        with self._renewing:
            if url == self.url:
                self.url = self._renew()


def download(
    experts: clients.Experts, group: int, hotkey: str, content: str, out: Path, *, keep_envelope: bool
) -> dict[str, Any]:
    """Ranges side by side into a part file beside the target; the name is given when the hash is right."""
    if out.is_dir() or not out.name or not out.parent.is_dir():
        terminal.refuse(f"{out} is no file in a folder that exists", code="bad_file")
    grant = experts.slice(group, hotkey, content)
    _check_grant(grant)
    part = out.with_name(f".{out.name}.{grant['content_hash'][-12:]}.part")
    with _alone(part, out):
        journal = part.with_suffix(".done")
        place = Place(grant["url"], lambda: str(experts.slice(group, hotkey, content, etag=grant["etag"])["url"]))
        with terminal.progress(f"group {group}", grant["wire_bytes"], of_bytes=True) as advance:
            _complete(place, part, journal, grant["wire_bytes"], advance)
        _finish(part, out, grant, keep_envelope=keep_envelope)
        journal.unlink(missing_ok=True)
    names = ("expert_group", "block_number", "model_version", "content_hash")
    return {name: grant[name] for name in names} | {"bytes": out.stat().st_size, "file": str(out)}


@contextmanager
def _alone(part: Path, out: Path) -> Iterator[None]:
    """One process at a time writes a part file; who is killed lets go of it."""
    while True:
        with part.open("ab") as stream:
            try:
                fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                text = f"another download is writing {out}: wait until it is done, or give another --out"
                terminal.refuse(text, code="download_running")
            if _has_its_name(stream, part):  # else another download has just finished it
                yield
                return


def _has_its_name(stream: IO[bytes], path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(stream.fileno()), path.stat())
    except FileNotFoundError:
        return False


def _complete(place: Place, part: Path, journal: Path, total: int, advance: Callable[[float], None]) -> None:
    """Fetch the pieces that are not there yet, side by side."""
    done = _journal(journal, part, total)
    wanted = [number for number in range(-(-total // _PART)) if number not in done]
    advance(total - sum(min(_PART, total - number * _PART) for number in wanted))

    def take(number: int) -> None:
        begin = number * _PART
        _take(place, part, begin, min(begin + _PART, total))
        with journal.open("a") as stream:
            stream.write(f"{number}\n")
        advance(min(_PART, total - begin))

    try:
        with ThreadPoolExecutor(_THREADS) as pool:
            list(pool.map(take, wanted))
    except BrokenOff as error:
        terminal.refuse(f"{error}; the same command goes on from here", code="download_failed")


def _check_grant(grant: Any) -> None:
    """File names and sizes come of it, and a miner need not trust every server."""
    found = grant if isinstance(grant, dict) else {}
    size, texts = (
        found.get("wire_bytes"),
        [found.get(name) for name in ("content_hash", "url", "etag", "model_version")],
    )
    numbers = all(type(found.get(name)) is int for name in ("expert_group", "block_number"))
    whole = type(size) is int and 0 < size < _LARGEST and all(isinstance(t, str) and t.isprintable() for t in texts)
    if not (numbers and whole and _HASH.fullmatch(found["content_hash"])):
        terminal.refuse("the answer describes no slice: is this the base URL of the mount?", code="not_the_api")


def _journal(journal: Path, part: Path, total: int) -> set[int]:
    """Which pieces an earlier run brought home; without the part file none."""
    if part.exists() and part.stat().st_size == total and journal.exists():
        return {int(line) for line in journal.read_text(errors="replace").split() if line.isdecimal()}
    journal.unlink(missing_ok=True)
    with part.open("wb") as stream:
        stream.truncate(total)
    return set()


def _take(place: Place, part: Path, begin: int, end: int) -> None:
    """One piece, tried again from where it broke."""
    position = begin
    for attempt in range(_TRIES):
        url = place.url
        try:
            headers = {"Range": f"bytes={position}-{end - 1}"}
            with _opened("GET", url, headers) as answer, part.open("r+b", buffering=0) as stream:
                if answer.status == _EXPIRED and attempt < _TRIES - 1:
                    place.has_ended(url)
                    continue
                if answer.status not in {_OK, _PARTIAL} or (answer.status == _OK and position):
                    raise BrokenOff(f"storage answered {answer.status}")
                stream.seek(position)
                for chunk in _chunks(answer, end - position):
                    _keep(stream, chunk)
                    position += len(chunk)
        except (OSError, http.client.HTTPException) as error:
            if attempt == _TRIES - 1:
                raise BrokenOff(f"storage cannot be read: {error}") from None
        if position == end:
            return
    raise BrokenOff("storage keeps breaking off")


def _keep(stream: FileIO, chunk: bytes) -> None:
    """Onto the disk; a full one is no fault of storage, and trying again would not help."""
    try:
        while chunk:
            chunk = chunk[stream.write(chunk) :]
    except OSError as error:
        raise BrokenOff(f"the file cannot be written: {error.strerror or error}") from None


def _chunks(answer: http.client.HTTPResponse, wanted: int) -> Iterator[bytes]:
    while wanted > 0 and (chunk := answer.read(min(1024 * 1024, wanted))):
        wanted -= len(chunk)
        yield chunk


def _finish(part: Path, out: Path, grant: dict[str, Any], *, keep_envelope: bool) -> None:
    """Check the payload, then name the file: whole, or without its envelope."""
    with part.open("rb") as stream:
        try:
            start = 8 + slices.envelope_length(stream.read(8))
            told = slices.envelope_fields(stream.read(start - 8))["content_hash"]
        except tensors.BrokenFile:
            told, start = "", 0
        digest = hashlib.file_digest(stream, "sha256").hexdigest()
    if not f"sha256:{digest}" == told == grant["content_hash"]:
        part.unlink()
        terminal.refuse(
            "the slice does not have the hash it should have; it was thrown away: run the command again",
            code="hash_mismatch",
        )
    if not keep_envelope:
        bare = part.with_suffix(".bare")
        with part.open("rb") as stream, bare.open("wb") as target:
            stream.seek(start)
            while chunk := stream.read(1024 * 1024):
                target.write(chunk)
        part.unlink()
        part = bare
    part.replace(out)
