"""Objects in storage out of ranges of others: storage copies what it can, the rest passes through here, hashed once."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import replace
from typing import Any

from chalicelib.kernel import multipart
from chalicelib.kernel.blobs import Bucket, ObjectChanged
from chalicelib.kernel.values import frozen
from chalicelib.kernel.wire import Item

from . import slices, store
from .contracts import ExpertsSettings
from .slices import Copied, Grafted, Part, Range, Segment

SMALL = 8 * 1024 * 1024
CRC = "CRC64NVME"
SCRATCH = "scratch"
_COPIED_WHOLE = 5 * 1000 * 1000 * 1000
_CHUNK = 1024 * 1024
_SHA256_BYTES = 32

Advance = Callable[[float], None]


@frozen
class Source:
    """An object that bytes are taken from, in exactly this version."""

    bucket: str
    key: str
    etag: str
    size: int

    def read(self, begin: int, end: int) -> bytes:
        if begin == end:  # no range header can say it
            return b""
        return bytes(self.open(begin, end).read())

    def open(self, begin: int, end: int) -> Any:
        """A stream, which must be read to its end or closed."""
        body = Bucket(self.bucket).read(self.key, begin, end - 1, etag=self.etag)
        if body is None:
            raise ObjectChanged(f"{self.key} is gone or was replaced")
        return body


def ignore(_amount: float) -> None:
    """Nobody watches."""


def put_block(key: str, segments: list[Segment], sources: Sequence[Source], name: str, advance: Advance) -> Item:
    """Write a safetensors file and learn its SHA-256: from memory, from storage, or by reading it back."""
    total = slices.length(segments)
    if total <= SMALL:
        raw = fetched(segments, sources)
        etag = store.models().put(key, raw)
        advance(total)
        return {"key": key, "etag": etag, "bytes": total, "sha256": hashlib.sha256(raw).hexdigest()}
    etag = compose(key, segments, sources)
    sha256, etag = _hash_by_storage(key, etag, total, name)
    if sha256 is None and (name != slices.REST or ExpertsSettings.current().slice_hash_way == "stream"):
        sha256 = hash_by_reading(Source(store.models().name, key, etag, total), advance)
    else:
        advance(total)
    return {"key": key, "etag": etag, "bytes": total, "sha256": sha256}


def _hash_by_storage(key: str, etag: str, total: int, name: str) -> tuple[str | None, str]:
    """Copy an object onto itself: storage then keeps a SHA-256 of the whole, if it knows how."""
    if ExpertsSettings.current().slice_hash_way != "auto" or total > _COPIED_WHOLE:
        return None, etag
    copied = store.models().copy(key, key, etag=etag, checksum="SHA256", metadata={"block": name})
    try:
        digest = base64.b64decode(copied.get("ChecksumSHA256", ""), validate=True)
    except ValueError:
        digest = b""
    is_whole = len(digest) == _SHA256_BYTES and copied.get("ChecksumType", "FULL_OBJECT") == "FULL_OBJECT"
    return (digest.hex() if is_whole else None), copied["ETag"]


def hash_by_reading(source: Source, advance: Advance = ignore) -> str:
    """SHA-256 in one pass over the stored object, through one piece of memory."""
    digest = hashlib.sha256()
    memory = memoryview(bytearray(_CHUNK))
    step = ExpertsSettings.current().stream_range_bytes
    for first in range(0, source.size, step):
        with closing(source.open(first, min(first + step, source.size))) as body:
            while size := body.readinto(memory):
                digest.update(memory[:size])
                advance(size)
    return digest.hexdigest()


def put_full(key: str, segments: list[Segment], sources: Sequence[Source], advance: Advance) -> Item:
    """The whole model as one object, with the checksum that storage keeps of all of it."""
    total = slices.length(segments)
    if total <= SMALL:
        raw = fetched(segments, sources)
        crc = base64.b64encode(slices.crc64nvme(raw).to_bytes(8, "big")).decode()
        etag = store.models().put(key, raw, ChecksumCRC64NVME=crc)
        advance(total)
        return {"key": key, "etag": etag, "bytes": total, "crc64nvme": crc}
    etag = compose(key, segments, sources, full_checksum=CRC)
    kept = (store.models().head(key, checksums=True) or {}).get(f"Checksum{CRC}")
    advance(total)
    return {"key": key, "etag": etag, "bytes": total, "crc64nvme": kept}


def fetched(segments: Sequence[Segment], sources: Sequence[Source]) -> bytes:
    """These bytes, in memory; only ever asked of what is small."""
    return b"".join(
        piece if isinstance(piece, bytes) else sources[piece.source].read(piece.begin, piece.end) for piece in segments
    )


def compose(
    key: str,
    segments: Sequence[Segment],
    sources: Sequence[Source],
    *,
    metadata: dict[str, str] | None = None,
    full_checksum: str = "",
) -> str:
    """Make an object of these bytes and let storage copy whatever it can; answers the ETag."""
    bucket = store.models()
    if slices.length(segments) <= SMALL:
        return bucket.put(key, fetched(segments, sources), Metadata=metadata or {})
    parts = slices.parts(segments)
    upload = multipart.begin(bucket, key, metadata=metadata, full_checksum=full_checksum)
    try:
        with ThreadPoolExecutor(ExpertsSettings.current().copy_threads) as pool:
            list(pool.map(lambda numbered: _put_part(upload, numbered[0], numbered[1], sources), enumerate(parts, 1)))
        return upload.complete(full_checksum=full_checksum)
    except BaseException:
        upload.abort()
        raise


def _put_part(upload: multipart.Upload, number: int, part: Part, sources: Sequence[Source]) -> None:
    if isinstance(part, Copied):
        _copy(upload, number, part.range, sources)
    elif isinstance(part, Grafted):
        _graft(upload, number, part, sources)
    else:
        upload.put(number, fetched(part.segments, sources))


def _copy(upload: multipart.Upload, number: int, piece: Range, sources: Sequence[Source]) -> None:
    source = sources[piece.source]
    upload.copy(number, Bucket(source.bucket), source.key, piece.begin, piece.end - 1, etag=source.etag)


def _graft(upload: multipart.Upload, number: int, part: Grafted, sources: Sequence[Source]) -> None:
    """A first part must have 5 MiB, a last one need not: so our few bytes go behind a throw-away copy, the range goes
    behind both, and the part is what follows the throw-away. Only our few bytes are sent.
    """
    bucket, scratch = store.models(), f"{SCRATCH}/{upload.key}"
    ours = fetched(part.segments, sources)
    cut = multipart.SMALLEST_PART
    throw_away = replace(part.range, end=part.range.begin + cut)
    first = multipart.begin(bucket, f"{scratch}-1")
    _copy(first, 1, throw_away, sources)
    first.put(2, ours)
    etag = first.complete()
    second = multipart.begin(bucket, f"{scratch}-2")
    second.copy(1, bucket, f"{scratch}-1", 0, cut + len(ours) - 1, etag=etag)
    _copy(second, 2, part.range, sources)
    etag = second.complete()
    upload.copy(number, bucket, f"{scratch}-2", cut, cut + len(ours) + part.range.size - 1, etag=etag)
