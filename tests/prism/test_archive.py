"""A corpus of hostile archives: each is refused with a reason, quickly, and without being unpacked."""

from __future__ import annotations

import io
import random
import struct
import tarfile
import tracemalloc
import zipfile
import zlib
from collections.abc import Callable

import pytest

from chalicelib.prism.archive import Limits, Rejected, unpack
from tests.harness.scale import scaled
from tests.prism.world import MODEL, packed

LIMITS = Limits()
GOOD = packed({"model.py": MODEL, "src/train.py": "x = 1\n", "README.md": "# hi\n"})
PLAIN = packed({"model.py": "x = 1\n"})


def info(name: str, *, mode: int = 0o100644, flags: int = 0) -> zipfile.ZipInfo:
    entry = zipfile.ZipInfo(name, (2026, 1, 1, 0, 0, 0))
    entry.external_attr = mode << 16
    entry.flag_bits |= flags
    return entry


def zipped(*entries: tuple[zipfile.ZipInfo, bytes], kind: int = zipfile.ZIP_DEFLATED) -> bytes:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", kind) as archive:
        for entry, data in entries:
            archive.writestr(entry, data, kind)
    return content.getvalue()


def named(*names: str) -> bytes:
    return zipped(*((info(name), b"x = 1\n") for name in names))


def raw_named(name: bytes) -> bytes:
    """A name as it could not be written by a well-behaved packer."""
    placeholder = b"n" * (len(name) - 3) + b".py"
    return named(placeholder.decode()).replace(placeholder, name)


def central(raw: bytes) -> int:
    return int(struct.unpack_from("<L", raw, raw.rfind(b"PK\5\6") + 16)[0])


def patched(at: int, form: str, value: int, *, where: str = "central", raw: bytes = PLAIN) -> bytes:
    """One field of the central directory, a local header or the end record says something else."""
    base = {"central": central(raw), "local": 0, "end": raw.rfind(b"PK\5\6")}[where]
    changed = bytearray(raw)
    struct.pack_into(form, changed, base + at, value)
    return bytes(changed)


def overlapping() -> bytes:
    """Two directory entries, one body (the quoted overlap of the better zip bombs)."""
    raw = bytearray(PLAIN)
    start, end = central(PLAIN), PLAIN.rfind(b"PK\5\6")
    entry = raw[start:end].replace(b"model.py", b"other.py")
    tail = bytearray(raw[end:])
    struct.pack_into("<HHLL", tail, 8, 2, 2, 2 * (end - start), start)
    return bytes(raw[:end] + entry + tail)


def polyglot() -> bytes:
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w") as archive:
        member = tarfile.TarInfo("a.py")
        member.size = 5
        archive.addfile(member, io.BytesIO(b"x = 1"))
    return content.getvalue() + PLAIN


def bomb() -> bytes:
    return zipped((info("a.py"), b"\0" * 50_000_000))


def nested() -> bytes:
    inner = bomb()
    for _ in range(5):
        inner = zipped((info("inner.zip"), inner))
    return inner


def lying_size() -> bytes:
    """The directory and the local header agree on a small size; the stream goes on."""
    raw = bytearray(zipped((info("a.py"), b"x" * 1_900_000)))
    size = struct.pack("<L", 1_900_000)
    return bytes(raw.replace(size, struct.pack("<L", 10)))


def noise(count: int) -> list[tuple[zipfile.ZipInfo, bytes]]:
    return [(info(f"{number}.py"), random.Random(number).randbytes(16_000)) for number in range(count)]


def damaged_stream() -> bytes:
    raw = bytearray(PLAIN)
    raw[40:44] = b"\xff\xff\xff\xff"
    return bytes(raw)


INVALID = "is not a valid zip archive"
UNSAFE = "unsafe source path"
UNSUPPORTED = "contains unsupported file"
EXCEEDS = "exceeds"
CORPUS: dict[str, tuple[Callable[[], bytes], str]] = {
    "nothing": (lambda: b"", INVALID),
    "a small bomb": (lambda: zipped((info("a.py"), b"#" * 50_000)), EXCEEDS),
    "text": (lambda: b"hello", INVALID),
    "magic alone": (lambda: b"PK\3\4", INVALID),
    "end record alone, cut": (lambda: b"PK\5\6" + b"\0" * 10, INVALID),
    "first half": (lambda: GOOD[: len(GOOD) // 2], INVALID),
    "last byte missing": (lambda: GOOD[:-1], INVALID),
    "bytes behind": (lambda: GOOD + b"x", INVALID),
    "bytes before": (lambda: b"x" + GOOD, INVALID),
    "a shell script before": (lambda: b"#!/bin/sh\n" + GOOD, INVALID),
    "a tar before": (polyglot, INVALID),
    "two archives": (lambda: GOOD + GOOD, INVALID),
    "comment longer than told": (lambda: patched(20, "<H", 5, where="end"), INVALID),
    "directory elsewhere": (lambda: patched(16, "<L", 3, where="end"), INVALID),
    "directory far away": (lambda: patched(16, "<L", 0xFFFF_FFF0, where="end"), INVALID),
    "directory longer": (lambda: patched(12, "<L", 10_000, where="end"), INVALID),
    "more entries than there are": (lambda: patched(10, "<H", 9, where="end"), INVALID),
    "65,535 entries": (lambda: patched(8, "<L", 0xFFFF_FFFF, where="end"), INVALID),
    "fewer entries than there are": (lambda: patched(8, "<L", 0, where="end"), INVALID),
    "second volume": (lambda: patched(4, "<H", 1, where="end"), INVALID),
    "directory on another volume": (lambda: patched(6, "<H", 1, where="end"), INVALID),
    "entry on another volume": (lambda: patched(34, "<H", 1), INVALID),
    "ZIP64 size": (lambda: patched(24, "<L", 0xFFFF_FFFF), INVALID),
    "ZIP64 packed size": (lambda: patched(20, "<L", 0xFFFF_FFFF), INVALID),
    "ZIP64 offset": (lambda: patched(42, "<L", 0xFFFF_FFFF), INVALID),
    "offset beyond the end": (lambda: patched(42, "<L", 100_000), INVALID),
    "offset into the body": (lambda: patched(42, "<L", 4), INVALID),
    "directory signature": (lambda: patched(0, "<L", 0), INVALID),
    "local signature": (lambda: patched(0, "<L", 0, where="local"), INVALID),
    "methods disagree": (lambda: patched(10, "<H", 0), INVALID),
    "local method disagrees": (lambda: patched(8, "<H", 0, where="local"), INVALID),
    "checksums disagree": (lambda: patched(16, "<L", 1), INVALID),
    "sizes disagree": (lambda: patched(24, "<L", 7), INVALID),
    "packed sizes disagree": (lambda: patched(20, "<L", 7), INVALID),
    "local size disagrees": (lambda: patched(22, "<L", 7, where="local"), INVALID),
    "flags disagree": (lambda: patched(8, "<H", 2048), INVALID),
    "names disagree": (lambda: PLAIN.replace(b"model.py", b"other.py", 1), INVALID),
    "descriptor that is not there": (lambda: patched(6, "<H", 8, where="local", raw=patched(8, "<H", 8)), INVALID),
    "body damaged": (damaged_stream, INVALID),
    "unknown method": (lambda: patched(8, "<H", 12, where="local", raw=patched(10, "<H", 12)), INVALID),
    "bzip2": (lambda: zipped((info("a.py"), b"x = 1"), kind=zipfile.ZIP_BZIP2), INVALID),
    "lzma": (lambda: zipped((info("a.py"), b"x = 1"), kind=zipfile.ZIP_LZMA), INVALID),
    "two entries, one body": (overlapping, INVALID),
    "more inside than told": (lying_size, INVALID),
    "encrypted": (lambda: patched(6, "<H", 1, where="local", raw=patched(8, "<H", 1)), "encrypted file"),
    "strongly encrypted": (lambda: patched(6, "<H", 64, where="local", raw=patched(8, "<H", 64)), "encrypted file"),
    "masked headers": (lambda: patched(6, "<H", 8192, where="local", raw=patched(8, "<H", 8192)), "encrypted file"),
    "a folder with content": (lambda: zipped((info("folder/"), b"secret")), INVALID),
    "50 MB of nothing": (bomb, EXCEEDS),
    "a bomb in a bomb": (nested, UNSUPPORTED),
    "many small that are large": (lambda: zipped(*noise(130)), EXCEEDS),
    "201 files": (lambda: named(*(f"{n}.py" for n in range(201))), "exceeds 200 files"),
    "1,001 folders": (lambda: zipped(*((info(f"d{n}/"), b"") for n in range(1001))), INVALID),
    "declares 3 GB": (lambda: patched(22, "<L", 3 << 30, where="local", raw=patched(24, "<L", 3 << 30)), EXCEEDS),
    "symlink": (lambda: zipped((info("a.py", mode=0o120777), b"/etc/passwd")), "contains symlink: a.py"),
    "symlink folder": (lambda: zipped((info("a/", mode=0o120777), b"")), "contains symlink: a/"),
    "device": (lambda: zipped((info("a.py", mode=0o020644), b"")), UNSUPPORTED),
    "pipe": (lambda: zipped((info("a.py", mode=0o010644), b"")), UNSUPPORTED),
    "socket": (lambda: zipped((info("a.py", mode=0o140644), b"")), UNSUPPORTED),
    "library": (lambda: named("m.so"), UNSUPPORTED),
    "weights": (lambda: named("m.pth"), UNSUPPORTED),
    "no suffix": (lambda: named("Makefile"), UNSUPPORTED),
    "bytecode": (lambda: named("m.pyc"), UNSUPPORTED),
    "up": (lambda: named("../a.py"), UNSAFE),
    "up and up": (lambda: named("a/../../b.py"), UNSAFE),
    "up within": (lambda: named("a/../b.py"), UNSAFE),
    "absolute": (lambda: named("/etc/x.py"), UNSAFE),
    "drive": (lambda: named("C:/x.py"), UNSAFE),
    "stream": (lambda: named("x:y.py"), UNSAFE),
    "backslash": (lambda: raw_named(b"a\\b.py"), UNSAFE),
    "here": (lambda: named("./a.py"), UNSAFE),
    "empty part": (lambda: named("a//b.py"), UNSAFE),
    "blank around": (lambda: named(" a.py"), UNSAFE),
    "trailing dot": (lambda: named("a./b.py"), UNSAFE),
    "NUL": (lambda: raw_named(b"a\0b.py"), UNSAFE),
    "line break": (lambda: named("a\nb.py"), UNSAFE),
    "no UTF-8": (lambda: raw_named(b"a\xff\xfe.py"), UNSAFE),
    "right to left": (lambda: named("a\u202eb.py"), UNSAFE),
    "full width": (lambda: named("ｍodel.py"), UNSAFE),
    "256 bytes": (lambda: named("a" * 253 + ".py"), UNSAFE),
    "twice": (lambda: named("a.py", "b.py").replace(b"b.py", b"a.py"), UNSAFE),
    "twice but for case": (lambda: named("a.py", "A.py"), UNSAFE),
    "twice but for form": (lambda: named("é.py", "e\u0301.py"), UNSAFE),
}  # fmt: skip


@pytest.mark.filterwarnings("ignore:Duplicate name")
@pytest.mark.parametrize("name", CORPUS)
def test_hostile_archives_are_refused(name: str) -> None:
    build, why = CORPUS[name]
    raw = build()
    tracemalloc.start()
    try:
        with pytest.raises(Rejected, match=why):
            unpack("project.zip", raw, LIMITS)
        assert tracemalloc.get_traced_memory()[1] < 16_000_000
    finally:
        tracemalloc.stop()


def test_the_corpus_is_as_large_as_was_promised() -> None:
    assert len(CORPUS) >= 60


def test_a_good_archive_is_its_files_under_its_stem() -> None:
    found = unpack("my.zip", GOOD, LIMITS)
    assert found == {"my/README.md": "# hi\n", "my/model.py": MODEL, "my/src/train.py": "x = 1\n"}


def test_folders_comments_streams_and_stored_entries_are_fine() -> None:
    content = io.BytesIO()

    class Unseekable(io.RawIOBase):
        """Makes the packer put sizes behind the data."""

        def writable(self) -> bool:
            return True

        def write(self, data: bytes) -> int:  # type: ignore[override] # bytes alone are written
            return content.write(data)

    with zipfile.ZipFile(Unseekable(), "w", zipfile.ZIP_DEFLATED) as archive:
        archive.comment = b"made by hand"
        archive.writestr(info("src/", mode=0o040755), b"")
        archive.writestr("src/model.py", "x = 1\n" * 10)
    assert unpack("p.zip", content.getvalue(), LIMITS) == {"p/src/model.py": "x = 1\n" * 10}
    assert unpack("p.zip", zipped((info("m.py"), b"x"), kind=zipfile.ZIP_STORED), LIMITS) == {"p/m.py": "x"}
    assert unpack("p.zip", zipped((info("m.py"), b"\xff")), LIMITS) == {"p/m.py": "\ufffd"}


def test_what_is_taken_reads_the_same_to_everybody_and_nothing_else_escapes() -> None:
    """Every mutation is refused, or understood as Python's own reader understands it."""
    dice = random.Random(7)
    taken = 0
    for _ in range(scaled(3000)):
        raw = bytearray(GOOD)
        for _ in range(dice.randint(1, 3)):
            raw[dice.randrange(len(raw))] = dice.randrange(256)
        try:
            found = unpack("p.zip", bytes(raw), LIMITS)
        except Rejected:
            continue
        taken += 1
        with zipfile.ZipFile(io.BytesIO(bytes(raw))) as other:
            names = {f"p/{entry.filename}": other.read(entry) for entry in other.infolist()}
        assert {path: text.encode() for path, text in found.items()} == {
            path: text.decode("utf-8", "replace").encode() for path, text in names.items()
        }
    assert taken


def test_a_body_of_the_largest_size_is_read_in_no_time_and_little_memory() -> None:
    files = {f"{number}.py": random.Random(number).randbytes(4900).hex() for number in range(200)}
    raw = packed(files)
    assert len(unpack("p.zip", raw, LIMITS)) == 200
    assert zlib.crc32(raw)
