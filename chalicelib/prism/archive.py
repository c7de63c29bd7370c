"""A project's bytes to its source files, refusing every archive that two readers could understand differently.

A zip says everything twice: in local headers and in its central directory. Both views are walked and must agree, the
entries must tile the file without gap or overlap, and every cap is checked on declared sizes before a byte is inflated.
"""

from __future__ import annotations

import base64
import binascii
import posixpath
import stat
import struct
import unicodedata
import zlib

from chalicelib.kernel.text import printable
from chalicelib.kernel.values import frozen

SUFFIXES = (".py", ".toml", ".yaml", ".yml", ".json", ".txt", ".md")
MAX_PATH_BYTES = 255
MAX_RATIO = 100
_RATIO_FREE_BYTES = 16_384
_MAX_ENTRIES = 1000

_END = struct.Struct("<4s4H2LH")
_CENTRAL = struct.Struct("<4s6H3L5H2L")
_LOCAL = struct.Struct("<4s5H3L2H")
_END_MARK, _CENTRAL_MARK, _LOCAL_MARK, _DESCRIPTOR_MARK = b"PK\5\6", b"PK\1\2", b"PK\3\4", b"PK\7\x08"
_STORED, _DEFLATED = 0, 8
_NEWEST_VERSION = 45
_ENCRYPTED, _DESCRIPTOR, _STRONG, _MASKED = 1, 8, 64, 8192
_ZIP64_COUNT, _ZIP64_SIZE = 0xFFFF, 0xFFFFFFFF


class Rejected(Exception):
    """The project cannot be taken; the text tells its author why."""


class _Damaged(Exception):
    """The two views of the archive disagree, or one of them is broken."""


@frozen
class Limits:
    max_files: int = 200
    max_bytes: int = 2_000_000


@frozen
class _Entry:
    name: bytes
    flags: int
    method: int
    crc: int
    packed: int
    size: int
    mode: int
    offset: int

    @property
    def is_folder(self) -> bool:
        return self.name.endswith(b"/")


def sources(filename: str, code: str, limits: Limits) -> dict[str, str]:
    """The project's files by path: the one Python text, or what the zip holds below its own stem."""
    if not filename.endswith(".zip"):
        return {filename: code}
    try:
        raw = base64.b64decode(code, validate=True)
    except (binascii.Error, ValueError):
        raise Rejected(f"zip source {filename} must be base64 encoded") from None
    return unpack(filename, raw, limits)


def unpack(filename: str, raw: bytes, limits: Limits) -> dict[str, str]:
    """Every file of a zip as text, sorted by path."""
    try:
        entries = _central_directory(raw)
        _check_kinds(filename, entries, limits)
        names = _paths(filename, entries)
        content = _walk(raw, entries)
    except _Damaged as damage:
        why = f": {damage}" if str(damage) else ""
        raise Rejected(f"zip source {filename} is not a valid zip archive{why}") from None
    found = {names[entry.name]: content[entry.name] for entry in entries if not entry.is_folder}
    return {path: found[path].decode("utf-8", "replace") for path in sorted(found)}


def _central_directory(raw: bytes) -> list[_Entry]:
    count, size, start = _end_record(raw)
    entries, at = [], start
    for _ in range(count):
        if at + _CENTRAL.size > start + size:
            raise _Damaged("the central directory is cut off")
        mark, _, needed, flags, method, _, _, crc, packed, unpacked, *rest = _CENTRAL.unpack_from(raw, at)
        name_size, extra, comment, disk, _, attributes, offset = rest
        if mark != _CENTRAL_MARK or disk or needed > _NEWEST_VERSION:
            raise _Damaged("the central directory is broken")
        if _ZIP64_SIZE in {packed, unpacked, offset}:
            raise _Damaged("ZIP64 is not taken")
        name = raw[at + _CENTRAL.size : at + _CENTRAL.size + name_size]
        entries.append(_Entry(name, flags, method, crc, packed, unpacked, attributes >> 16, offset))
        at += _CENTRAL.size + name_size + extra + comment
    if at != start + size:
        raise _Damaged("the central directory holds more than its entries")
    return entries


def _end_record(raw: bytes) -> tuple[int, int, int]:
    """Number of entries, size and place of the central directory; the record ends the file."""
    at = raw.rfind(_END_MARK)
    if at < 0 or at + _END.size > len(raw):
        raise _Damaged
    _, disk, first_disk, here, count, size, start, comment = _END.unpack_from(raw, at)
    if disk or first_disk or here != count:
        raise _Damaged("it is one of several volumes")
    if count == _ZIP64_COUNT or _ZIP64_SIZE in {size, start}:
        raise _Damaged("ZIP64 is not taken")
    if at + _END.size + comment != len(raw):
        raise _Damaged("bytes follow its end")
    if start + size != at:
        raise _Damaged("bytes stand between its entries and its end")
    if count > _MAX_ENTRIES:
        raise _Damaged(f"more than {_MAX_ENTRIES} entries")
    return count, size, start


def _check_kinds(filename: str, entries: list[_Entry], limits: Limits) -> None:
    """What the central directory declares, in the order of the refusals that authors know."""
    for entry in entries:
        if stat.S_ISLNK(entry.mode):
            raise Rejected(f"zip source {filename} contains symlink: {_shown(entry.name)}")
    files = [entry for entry in entries if not entry.is_folder]
    if len(files) > limits.max_files:
        raise Rejected(f"zip source {filename} exceeds {limits.max_files} files")
    for entry in files:
        special = stat.S_IFMT(entry.mode) not in {0, stat.S_IFREG}
        if special or not entry.name.lower().endswith(tuple(suffix.encode() for suffix in SUFFIXES)):
            raise Rejected(f"zip source {filename} contains unsupported file: {_shown(entry.name)}")
    bombs = any(entry.size > max(_RATIO_FREE_BYTES, MAX_RATIO * entry.packed) for entry in files)
    if bombs or sum(entry.size for entry in files) > limits.max_bytes:
        raise Rejected(f"zip source {filename} exceeds {limits.max_bytes} bytes")
    for entry in entries:
        if entry.flags & (_ENCRYPTED | _STRONG | _MASKED):
            raise Rejected(f"zip source {filename} contains encrypted file: {_shown(entry.name)}")
        if entry.is_folder and entry.size:
            raise _Damaged(f"the folder {_shown(entry.name)} has content")


def _paths(filename: str, entries: list[_Entry]) -> dict[bytes, str]:
    """Where each file stands below the zip's stem; no two may be one file on any file system."""
    stem = filename.removesuffix(".zip")
    found: dict[bytes, str] = {}
    taken: set[str] = set()
    for entry in entries:
        path = _safe_path(entry.name)
        key = unicodedata.normalize("NFKC", path).casefold()
        if key in taken:
            raise Rejected(f"unsafe source path: {_shown(entry.name)} appears twice")
        taken.add(key)
        found[entry.name] = f"{stem}/{importable(path)}"
    return found


def importable(path: str) -> str:
    """Python in the one spelling that is imported everywhere: some systems import `.PY` too, and review reads it."""
    stem, suffix = posixpath.splitext(path)
    return stem + suffix.lower() if suffix.lower() == ".py" else path


def _safe_path(name: bytes) -> str:
    try:
        path = name.decode("utf-8")
    except UnicodeDecodeError:
        raise Rejected(f"unsafe source path: {_shown(name)}") from None
    parts = path.removesuffix("/").split("/")
    unsafe = (
        len(name) > MAX_PATH_BYTES
        or "\\" in path
        or ":" in path
        or not path.isprintable()
        or not {"", ".", ".."}.isdisjoint(parts)
        or any(part != part.strip() or part.endswith(".") for part in parts)
        or unicodedata.normalize("NFKC", path) != path
    )
    if unsafe:
        raise Rejected(f"unsafe source path: {_shown(name)}")
    return posixpath.join(*parts)


def _walk(raw: bytes, entries: list[_Entry]) -> dict[bytes, bytes]:
    """The other view: local headers from the first byte on, each saying the same as its directory entry."""
    content, at = {}, 0
    end = raw.rfind(_END_MARK)
    directory = _END.unpack_from(raw, end)[6]
    for entry in sorted(entries, key=lambda entry: entry.offset):
        if entry.offset != at:
            raise _Damaged("its entries overlap or leave gaps")
        start = _check_local_header(raw, entry)
        if start + entry.packed > directory:
            raise _Damaged("an entry runs into the directory")
        content[entry.name] = _inflate(raw[start : start + entry.packed], entry)
        at = start + entry.packed + _descriptor_size(raw, start + entry.packed, entry)
    if at != directory:
        raise _Damaged("its entries leave gaps")
    return content


def _check_local_header(raw: bytes, entry: _Entry) -> int:
    """Where the entry's data begin."""
    if entry.offset + _LOCAL.size > len(raw):
        raise _Damaged("an entry lies outside")
    mark, needed, flags, method, _, _, crc, packed, size, name_size, extra = _LOCAL.unpack_from(raw, entry.offset)
    name_at = entry.offset + _LOCAL.size
    if mark != _LOCAL_MARK or needed > _NEWEST_VERSION or raw[name_at : name_at + name_size] != entry.name:
        raise _Damaged("a local header is not what the directory says")
    told = (crc, packed, size)
    late = bool(flags & _DESCRIPTOR)
    agrees = told == (entry.crc, entry.packed, entry.size) or (late and told == (0, 0, 0))
    if flags != entry.flags or method != entry.method or not agrees:
        raise _Damaged("a local header is not what the directory says")
    return int(name_at + name_size + extra)


def _descriptor_size(raw: bytes, at: int, entry: _Entry) -> int:
    """Writers that stream put checksum and sizes behind the data; those must agree as well."""
    if not entry.flags & _DESCRIPTOR:
        return 0
    told = struct.pack("<3L", entry.crc, entry.packed, entry.size)
    for form in (_DESCRIPTOR_MARK + told, told):
        if raw[at : at + len(form)] == form:
            return len(form)
    raise _Damaged("a data descriptor is not what the directory says")


def _inflate(packed: bytes, entry: _Entry) -> bytes:
    if entry.method == _STORED:
        content, whole = packed, entry.packed == entry.size
    elif entry.method == _DEFLATED:
        stream = zlib.decompressobj(-zlib.MAX_WBITS)
        try:
            content = stream.decompress(packed, entry.size + 1)
        except zlib.error:
            raise _Damaged("an entry cannot be unpacked") from None
        whole = stream.eof and not stream.unused_data and not stream.unconsumed_tail
    else:
        raise _Damaged("only stored and deflated entries are taken")
    if not whole or len(content) != entry.size or zlib.crc32(content) != entry.crc:
        raise _Damaged("an entry is not as long or not the same as declared")
    return content


def _shown(name: bytes) -> str:
    """A name for an error text: printable, bounded."""
    return printable(name.decode("utf-8", "replace"), MAX_PATH_BYTES)
