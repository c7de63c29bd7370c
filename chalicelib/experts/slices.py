"""Which tensors belong to which slice, in which order, and how storage can put an object together by itself.

Storage copies parts of at least 5 MiB without sending us a byte; only headers and shorter runs pass through here.
"""

from __future__ import annotations

import functools
import itertools
import json
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Any

from chalicelib.kernel.values import frozen

from .tensors import BrokenFile, Tensor, header, size_of

SMALLEST_PART = 5 * 1024 * 1024
LARGEST_PART = 5 * 1024 * 1024 * 1024
MOST_PARTS = 10_000
LARGEST_ENVELOPE = 1024 * 1024
SHARED, REST, FULL = "shared", "rest", "full"
_LENGTH_BYTES = 8
_SMALLEST_ENVELOPE = 2
_PAIR = 2
_LARGEST_ID = 2**31
_ROUTED = re.compile(r"layers\.(\d{1,9})\.mlp\.experts\.(\d{1,9})\.")
_STACKED = re.compile(r"layers\.(\d{1,9})\.mlp\.experts\.(?=[A-Za-z_])")

Assignment = dict[int, dict[int, tuple[int, ...]]]


@frozen
class Placed:
    """A tensor and where its bytes lie: `begin` to `end` of source number `source`."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    source: int
    begin: int
    end: int

    @property
    def entry(self) -> Tensor:
        return Tensor(self.name, self.dtype, self.shape, self.begin, self.end)


@frozen
class Range:
    """Bytes `begin` to `end` of a source."""

    source: int
    begin: int
    end: int

    @property
    def size(self) -> int:
        return self.end - self.begin


Segment = bytes | Range


@frozen
class Copied:
    """A part that storage copies."""

    range: Range


@frozen
class Sent:
    """A part that passes through us."""

    segments: tuple[Segment, ...]


@frozen
class Grafted:
    """A few bytes of ours in front of a range, joined by storage: see `publishing`."""

    segments: tuple[Segment, ...]
    range: Range


Part = Copied | Sent | Grafted


def parse_assignment(value: Any) -> Assignment:
    """Group → layer → `[local, global]` pairs; a local id counts once per layer, a global one for one group only."""
    if not isinstance(value, dict) or not value:
        raise BrokenFile("an assignment maps group ids to layers")
    found: Assignment = {}
    owner: dict[tuple[int, int], int] = {}
    for group_text, layers in value.items():
        group = _id(group_text, "group")
        if not isinstance(layers, dict) or not layers:
            raise BrokenFile(f"group {group} maps layers to pairs of ids")
        found[group] = {_id(layer, "layer"): _global_ids(group, layer, pairs) for layer, pairs in layers.items()}
        for layer, experts in found[group].items():
            for expert in experts:
                if owner.setdefault((layer, expert), group) != group:
                    raise BrokenFile(f"layer {layer}: groups {owner[layer, expert]} and {group} both claim {expert}")
    return found


def _id(text: Any, what: str) -> int:
    if not isinstance(text, str) or not re.fullmatch(r"0|[1-9]\d{0,9}", text) or int(text) >= _LARGEST_ID:
        raise BrokenFile(f"{what} {str(text)[:40]!r} is no id")
    return int(text)


def _global_ids(group: int, layer: str, pairs: Any) -> tuple[int, ...]:
    where = f"group {group}, layer {layer[:20]}"
    if not isinstance(pairs, list) or not pairs:
        raise BrokenFile(f"{where}: a list of [local, global] pairs")
    for pair in pairs:
        if not isinstance(pair, list) or len(pair) != _PAIR or not all(_is_id(item) for item in pair):
            raise BrokenFile(f"{where}: {str(pair)[:40]} is no [local, global] pair")
    for place, kind in enumerate(("local", "global")):
        if len({pair[place] for pair in pairs}) != len(pairs):
            raise BrokenFile(f"{where}: a {kind} id appears twice")
    return tuple(pair[1] for pair in pairs)


def _is_id(value: Any) -> bool:
    return type(value) is int and 0 <= value < _LARGEST_ID


def partition(tensors: Sequence[Placed], assignment: Assignment) -> dict[str, list[Placed]]:
    """Every block's tensors: `group_<id>`, `shared` and `rest`; together they are the whole model, each byte once."""
    owner = {
        (layer, expert): f"group_{group}"
        for group, layers in assignment.items()
        for layer, experts in layers.items()
        for expert in experts
    }
    blocks: dict[str, list[Placed]] = {f"group_{group}": [] for group in assignment}
    found: set[tuple[int, int]] = set()
    for piece, expert in pieces(tensors):
        block = SHARED if expert is None else owner.get(expert, REST)
        blocks.setdefault(block, []).append(piece)
        if expert is not None:
            found.add(expert)
    missing = sorted(set(owner) - found)
    if missing:
        layer, number = missing[0]
        raise BrokenFile(f"the model has no expert {number} in layer {layer}, which {owner[missing[0]]} claims")
    for name, inside in blocks.items():
        if len({piece.name for piece in inside}) != len(inside):
            raise BrokenFile(f"two tensors of {name} would have one name")
    return blocks


def pieces(tensors: Iterable[Placed]) -> Iterator[tuple[Placed, tuple[int, int] | None]]:
    """Each tensor with its (layer, expert); a stacked one comes apart along its first dimension."""
    for tensor in tensors:
        routed, stacked = _ROUTED.search(tensor.name), _STACKED.search(tensor.name)
        if routed:
            yield tensor, (int(routed[1]), int(routed[2]))
        elif stacked and tensor.shape:
            layer, cut = int(stacked[1]), stacked.end()
            step = size_of(tensor.dtype, tensor.shape[1:])
            for expert in range(tensor.shape[0]):
                begin = tensor.begin + expert * step
                name = f"{tensor.name[:cut]}{expert}.{tensor.name[cut:]}"
                piece = replace(tensor, name=name, shape=tensor.shape[1:], begin=begin, end=begin + step)
                yield piece, (layer, expert)
        else:
            yield tensor, None


def in_output_order(tensors: Iterable[Placed]) -> list[Placed]:
    """By source and offset; what lies in runs too short for a part comes first, beside the header."""
    ordered = sorted(tensors, key=lambda tensor: (tensor.source, tensor.begin, tensor.end))
    runs: list[list[Placed]] = []
    for tensor in ordered:
        if runs and runs[-1][-1].source == tensor.source and runs[-1][-1].end == tensor.begin:
            runs[-1].append(tensor)
        else:
            runs.append([tensor])
    runs.sort(key=lambda run: run[-1].end - run[0].begin >= SMALLEST_PART)
    return [tensor for run in runs for tensor in run]


def segments(tensors: Sequence[Placed], metadata: dict[str, str]) -> list[Segment]:
    """A whole safetensors file: its header, then the tensors' bytes as few ranges."""
    return [header((tensor.entry for tensor in tensors), metadata), *merged(_range(tensor) for tensor in tensors)]


def merged(ranges: Iterable[Range]) -> list[Range]:
    """Neighbours become one range; empty tensors vanish."""
    found: list[Range] = []
    for piece in ranges:
        if not piece.size:
            continue
        if found and found[-1].source == piece.source and found[-1].end == piece.begin:
            found[-1] = Range(piece.source, found[-1].begin, piece.end)
        else:
            found.append(piece)
    return found


def _range(tensor: Placed) -> Range:
    return Range(tensor.source, tensor.begin, tensor.end)


def length(pieces: Iterable[Segment]) -> int:
    return sum(_length(piece) for piece in pieces)


def _length(piece: Segment) -> int:
    return len(piece) if isinstance(piece, bytes) else piece.size


def parts(pieces: Sequence[Segment]) -> list[Part]:
    """The multipart upload that makes these bytes, sending as few as the rules of storage allow."""
    found: list[Part] = []
    waiting: list[Segment] = []
    for index, piece in enumerate(pieces):
        last = index == len(pieces) - 1
        if isinstance(piece, bytes) or piece.size < SMALLEST_PART:
            waiting.append(piece)
            if length(waiting) >= 2 * SMALLEST_PART:
                found.append(Sent(tuple(waiting)))
                waiting = []
            continue
        taken, rest = _joined(waiting, piece, first=not found, last=last)
        found += taken
        found += [Copied(part) for part in _split(rest)]
        waiting = []
    if waiting:
        found.append(Sent(tuple(waiting)))
    if len(found) > MOST_PARTS:
        raise BrokenFile(f"{len(found)} parts; storage takes {MOST_PARTS}")
    return found


def _joined(waiting: list[Segment], piece: Range, *, first: bool, last: bool) -> tuple[list[Part], Range]:
    """What has to stand before a copied range: nothing, a part of its own, a graft, or a part that borrows."""
    if not waiting:
        return [], piece
    missing = SMALLEST_PART - length(waiting)
    if missing <= 0:
        return [Sent(tuple(waiting))], piece
    cut = SMALLEST_PART if first else missing
    rest = piece.size - cut
    if rest < SMALLEST_PART and not (last and rest > 0):
        cut = piece.size
    head, tail = replace(piece, end=piece.begin + cut), replace(piece, begin=piece.begin + cut)
    return [Grafted(tuple(waiting), head) if first else Sent((*waiting, head))], tail


def _split(piece: Range) -> Iterator[Range]:
    """Equal pieces that storage takes as parts."""
    if not piece.size:
        return
    count = -(-piece.size // LARGEST_PART)
    edges = [piece.begin + piece.size * number // count for number in range(count + 1)]
    for begin, end in itertools.pairwise(edges):
        yield Range(piece.source, begin, end)


def envelope(fields: dict[str, Any], align: int) -> bytes:
    """Length word and JSON, padded with spaces so that the payload starts on a multiple of `align`."""
    raw = json.dumps(fields, separators=(",", ":"), ensure_ascii=False).encode()
    raw += b" " * (-(_LENGTH_BYTES + len(raw)) % align)
    return len(raw).to_bytes(_LENGTH_BYTES, "little") + raw


def envelope_length(first: bytes) -> int:
    """The length of the JSON that the first eight bytes announce."""
    found = int.from_bytes(first[:_LENGTH_BYTES], "little")
    if len(first) < _LENGTH_BYTES or not _SMALLEST_ENVELOPE <= found <= LARGEST_ENVELOPE:
        raise BrokenFile("this is no slice: the envelope's length is out of bounds")
    return found


def envelope_fields(raw: bytes) -> dict[str, Any]:
    """What the envelope of a slice says; unknown fields are kept."""
    try:
        found = json.loads(raw)
    except (ValueError, RecursionError):
        raise BrokenFile("the envelope is no JSON") from None
    if not isinstance(found, dict) or not isinstance(found.get("content_hash"), str):
        raise BrokenFile("the envelope names no content_hash")
    return found


_POLYNOMIAL = 0x9A6C9329AC4BC9B5
_MASK = 2**64 - 1


@functools.cache
def _crc_table() -> tuple[int, ...]:
    found = []
    for byte in range(256):
        crc = byte
        for _ in range(8):
            crc = crc >> 1 ^ _POLYNOMIAL if crc & 1 else crc >> 1
        found.append(crc)
    return tuple(found)


def crc64nvme(data: bytes) -> int:
    """The checksum that storage keeps of a whole object; for what is small enough to be sent in one piece."""
    crc = _MASK
    table = _crc_table()
    for byte in data:
        crc = table[(crc ^ byte) & 0xFF] ^ crc >> 8
    return crc ^ _MASK
