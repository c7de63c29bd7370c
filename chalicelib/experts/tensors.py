"""The directory of a safetensors file: read without trusting a single number in it, and written.

A part of `slices`: what a file says it holds. Nothing here reads tensor bytes.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable
from dataclasses import field
from typing import Any

from chalicelib.kernel.text import is_unicode
from chalicelib.kernel.values import frozen

LENGTH_BYTES = 8
LARGEST_HEADER = 100_000_000
METADATA = "__metadata__"
_ALIGNMENT = 8
_SMALLEST_HEADER = 2
_LARGEST_COUNT = 2**53
_MOST_DIMENSIONS = 32
_BITS_PER_BYTE = 8
BITS = {
    "BOOL": 8, "U8": 8, "I8": 8, "F8_E4M3": 8, "F8_E5M2": 8, "F8_E8M0": 8,
    "I16": 16, "U16": 16, "F16": 16, "BF16": 16,
    "I32": 32, "U32": 32, "F32": 32,
    "I64": 64, "U64": 64, "F64": 64, "C64": 64,
    "F4": 4, "F6_E2M3": 6, "F6_E3M2": 6,
}  # fmt: skip


class BrokenFile(ValueError):
    """A file is not what its format demands; the text says where."""


@frozen
class Tensor:
    """One entry: the bytes `begin` to `end`, counted from the start of the data section."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    begin: int
    end: int

    @property
    def size(self) -> int:
        return self.end - self.begin


@frozen
class Directory:
    """Every tensor in the order of its bytes, and where the data section starts."""

    tensors: tuple[Tensor, ...]
    data_offset: int
    metadata: dict[str, str] = field(default_factory=dict)

    @property
    def by_name(self) -> dict[str, Tensor]:
        return {tensor.name: tensor for tensor in self.tensors}


def header_length(first: bytes, file_size: int, *, largest: int = LARGEST_HEADER) -> int:
    """The length that the first eight bytes claim, believed only within the file and the limit."""
    if len(first) < LENGTH_BYTES or file_size < LENGTH_BYTES + _SMALLEST_HEADER:
        raise BrokenFile("the file is shorter than a header")
    length = int.from_bytes(first[:LENGTH_BYTES], "little")
    if not _SMALLEST_HEADER <= length <= largest:
        raise BrokenFile(
            f"no safetensors file begins like this: a header of {length} bytes; at most {largest} are read"
        )
    if LENGTH_BYTES + length > file_size:
        raise BrokenFile(f"a header of {length} bytes in a file of {file_size}")
    return length


def directory(header: bytes, file_size: int) -> Directory:
    """Parse the JSON after the length: entries that lie end to end, fill the file and are what their shapes say."""
    data_offset = LENGTH_BYTES + len(header)
    entries = _object(header)
    metadata = _metadata(entries.pop(METADATA, {}))
    if not is_unicode("".join([*entries, *metadata, *metadata.values()])):
        raise BrokenFile("the header holds text that is no Unicode")
    tensors = sorted(
        (_tensor(name, entry) for name, entry in entries.items()), key=lambda found: (found.begin, found.end)
    )
    _check_layout(tensors, file_size - data_offset)
    return Directory(tuple(tensors), data_offset, metadata)


def header(tensors: Iterable[Tensor], metadata: dict[str, str]) -> bytes:
    """Length word and JSON of a file that holds these tensors in this order, padded as the safetensors library does."""
    entries: dict[str, Any] = {METADATA: metadata} if metadata else {}
    begin = 0
    for tensor in tensors:
        offsets = [begin, begin + tensor.size]
        entries[tensor.name] = {"dtype": tensor.dtype, "shape": list(tensor.shape), "data_offsets": offsets}
        begin += tensor.size
    raw = json.dumps(entries, separators=(",", ":"), ensure_ascii=False).encode()
    raw += b" " * (-len(raw) % _ALIGNMENT)
    return len(raw).to_bytes(LENGTH_BYTES, "little") + raw


def size_of(dtype: str, shape: Iterable[int]) -> int:
    """Bytes that a tensor takes."""
    bits = BITS[dtype] * math.prod(shape)
    if bits % _BITS_PER_BYTE:
        raise BrokenFile(f"a {dtype} tensor of {bits} bits does not fill its last byte")
    return bits // _BITS_PER_BYTE


def _object(raw: bytes) -> dict[str, Any]:
    if not raw.startswith(b"{"):
        raise BrokenFile("the header is no JSON object")
    try:
        found = json.loads(raw.decode(), object_pairs_hook=_unique, parse_constant=_no_constant, parse_float=_no_float)
    except BrokenFile:
        raise
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise BrokenFile(f"the header is no JSON: {error}") from None
    except (ValueError, RecursionError):
        raise BrokenFile("the header is no JSON that a tensor needs: a number or a nesting is out of bounds") from None
    if not isinstance(found, dict):
        raise BrokenFile("the header is no JSON object")
    return found


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise BrokenFile("a name appears twice in the header")
    return found


def _no_constant(text: str) -> Any:
    raise BrokenFile(f"the header holds {text}")


def _no_float(text: str) -> Any:
    raise BrokenFile(f"the header holds the fraction {text[:40]}")


def _metadata(value: Any) -> dict[str, str]:
    if not isinstance(value, dict) or not all(isinstance(text, str) for text in value.values()):
        raise BrokenFile("__metadata__ maps strings to strings")
    return value


def _tensor(name: str, entry: Any) -> Tensor:
    shown = name[:100]
    if not isinstance(entry, dict) or set(entry) != {"dtype", "shape", "data_offsets"}:
        raise BrokenFile(f"{shown!r}: an entry has dtype, shape and data_offsets")
    dtype, shape, offsets = entry["dtype"], entry["shape"], entry["data_offsets"]
    if not isinstance(dtype, str) or dtype not in BITS:
        raise BrokenFile(f"{shown!r}: the dtype {str(dtype)[:20]!r} is unknown")
    if not _is_counts(shape) or len(shape) > _MOST_DIMENSIONS or math.prod(shape) > _LARGEST_COUNT:
        raise BrokenFile(f"{shown!r}: the shape is no short list of sizes")
    if not _is_counts(offsets) or len(offsets) != 2:  # noqa: PLR2004 - begin and end
        raise BrokenFile(f"{shown!r}: data_offsets are two positions")
    begin, end = offsets
    if end - begin != size_of(dtype, shape):
        raise BrokenFile(f"{shown!r}: {end - begin} bytes for {dtype} of shape {list(shape)}")
    return Tensor(name, dtype, tuple(shape), begin, end)


def _is_counts(value: Any) -> bool:
    return isinstance(value, list) and all(type(item) is int and 0 <= item <= _LARGEST_COUNT for item in value)


def _check_layout(tensors: list[Tensor], data_bytes: int) -> None:
    position = 0
    for tensor in tensors:
        if tensor.begin != position:
            kind = "overlaps its neighbour" if tensor.begin < position else "leaves a hole before it"
            raise BrokenFile(f"{tensor.name[:100]!r} {kind}")
        position = tensor.end
    if position != data_bytes:
        raise BrokenFile(f"the tensors end at byte {position} of {data_bytes} data bytes")
