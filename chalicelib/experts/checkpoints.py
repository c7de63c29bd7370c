"""From a stranger's file to the tensors of a slice: its container, its directory, and how it compares with the base.

A part of `slices`: everything is checked before a number is used, and the tensor bytes stay where they are.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Mapping, Sequence

from chalicelib.kernel.values import frozen

from . import pickles, tensors
from .pickles import Read
from .tensors import BrokenFile, Directory, Tensor

LARGEST_UPLOADED_HEADER = 16 * 1024 * 1024
CASTABLE = {"BF16": 2, "F16": 2, "F32": 4}
_END = struct.Struct("<4sHHHHIIH")
_END64 = struct.Struct("<4sQHHIIQQQQ")
_LOCATOR = struct.Struct("<4sIQI")
_CENTRAL = struct.Struct("<4sHHHHHHIIIHHHHHII")
_LOCAL = struct.Struct("<4sHHHHHIIIHH")
_LARGEST_CENTRAL = 64 * 1024 * 1024
_OVERHEAD_PER_MEMBER = 1024
_OVERHEAD = 64 * 1024
_MORE_MEMBERS = 8
_MEMBERS_PER_TENSOR = 4
_U16, _U32 = 0xFFFF, 0xFFFFFFFF
_ENCRYPTED = 0x1 | 0x40 | 0x2000
_ZIP64_EXTRA = 0x0001


class Unacceptable(ValueError):
    """The checkpoint breaks a rule of the round; `code` names it."""

    def __init__(self, code: str, reason: str) -> None:
        super().__init__(f"{code}: {reason}")
        self.code = code


@frozen
class Piece:
    """A tensor of a checkpoint as byte ranges of the file, in order."""

    dtype: str
    shape: tuple[int, ...]
    ranges: tuple[tuple[int, int], ...]


@frozen
class _Member:
    name: str
    size: int
    header: int


def read(suffix: str, file_size: int, source: Read, *, most_pickle: int, most_operations: int) -> dict[str, Piece]:
    """Every tensor of an uploaded file by name."""
    if suffix == ".safetensors":
        return _from_safetensors(file_size, source)
    members = zip_members(file_size, source)
    stored = _from_pickle(members, source, most_pickle, most_operations)
    if len(members) > _MEMBERS_PER_TENSOR * len(stored) + _MORE_MEMBERS:
        raise BrokenFile(f"{len(members)} members for {len(stored)} tensors")
    return {found.name: Piece(found.dtype, found.shape, ((found.begin, found.end),)) for found in stored}


def _from_safetensors(file_size: int, source: Read) -> dict[str, Piece]:
    length = tensors.header_length(source(0, min(8, file_size)), file_size, largest=LARGEST_UPLOADED_HEADER)
    found = tensors.directory(source(8, 8 + length), file_size)
    base = found.data_offset
    return {
        tensor.name: Piece(tensor.dtype, tensor.shape, ((base + tensor.begin, base + tensor.end),))
        for tensor in found.tensors
    }


def _from_pickle(
    members: Mapping[str, tuple[int, int]], source: Read, most_pickle: int, most_operations: int
) -> list[pickles.Stored]:
    names = [name for name in members if name.endswith("/data.pkl") and name.count("/") == 1]
    if len(names) != 1:
        raise BrokenFile("the zip has no single <root>/data.pkl")
    root = names[0].removesuffix("data.pkl")
    begin, end = members[names[0]]
    if end - begin > most_pickle:
        raise BrokenFile(f"a pickle of {end - begin} bytes; at most {most_pickle} are read")
    order = members.get(f"{root}byteorder")
    if order and source(*order) != b"little":
        raise BrokenFile("the tensors are not little endian")
    prefix = f"{root}data/"
    storages = {name.removeprefix(prefix): place for name, place in members.items() if name.startswith(prefix)}
    return pickles.state_dict(source(begin, end), storages, most_operations)


def zip_members(file_size: int, source: Read) -> dict[str, tuple[int, int]]:
    """Each member's bytes; everything is stored, named once, apart from its neighbours, and nothing is hidden."""
    central_at, central_size, count = _end_record(file_size, source)
    if central_size > _LARGEST_CENTRAL or central_at + central_size > file_size:
        raise BrokenFile("the zip's directory is out of bounds")
    members = list(_central_members(source(central_at, central_at + central_size), count))
    if len({member.name for member in members}) != len(members):
        raise BrokenFile("a zip member appears twice")
    members.sort(key=lambda member: member.header)
    ends = [*(member.header for member in members[1:]), central_at]
    places = {
        member.name: _place(member, limit, source) for member, limit in zip(members, ends, strict=True) if member.name
    }
    total = sum(member.size for member in members)
    if file_size - central_size - total > _OVERHEAD_PER_MEMBER * len(members) + _OVERHEAD:
        raise BrokenFile("the zip hides bytes between its members")
    return places


def _end_record(file_size: int, source: Read) -> tuple[int, int, int]:
    if file_size < _END.size:
        raise BrokenFile("the file is no zip, as `torch.save` has written since 1.6")
    end_at = file_size - _END.size
    fields = _END.unpack(source(end_at, file_size))
    if fields[0] != b"PK\x05\x06" or fields[7]:
        raise BrokenFile("the file is no zip, as `torch.save` has written since 1.6")
    _, disk, _, _, count, size, offset, _ = fields
    if disk not in {0, _U16}:
        raise BrokenFile("the zip is spread over several files")
    if count == _U16 or _U32 in {size, offset}:
        return _end_record64(end_at, source)
    return offset, size, count


def _end_record64(end_at: int, source: Read) -> tuple[int, int, int]:
    if end_at < _LOCATOR.size + _END64.size:
        raise BrokenFile("the zip64 record is missing")
    signature, _, record_at, _ = _LOCATOR.unpack(source(end_at - _LOCATOR.size, end_at))
    if signature != b"PK\x06\x07" or record_at + _END64.size > end_at:
        raise BrokenFile("the zip64 record is missing")
    fields = _END64.unpack(source(record_at, record_at + _END64.size))
    if fields[0] != b"PK\x06\x06":
        raise BrokenFile("the zip64 record is missing")
    return fields[9], fields[8], fields[7]


def _central_members(raw: bytes, count: int) -> Iterable[_Member]:
    position = 0
    for _ in range(count):
        if position + _CENTRAL.size > len(raw):
            raise BrokenFile("the zip's directory ends in the middle")
        fields = _CENTRAL.unpack_from(raw, position)
        if fields[0] != b"PK\x01\x02":
            raise BrokenFile("the zip's directory is broken")
        flags, method, packed, size, name_size, extra_size, comment = (fields[i] for i in (3, 4, 8, 9, 10, 11, 12))
        if method or flags & _ENCRYPTED:
            raise BrokenFile("a zip member is compressed or encrypted; `torch.save` stores them as they are")
        name_at = position + _CENTRAL.size
        extra_at = name_at + name_size
        packed, size, header = _true_sizes(packed, size, fields[16], raw[extra_at : extra_at + extra_size])
        if packed != size:
            raise BrokenFile("a zip member has two sizes")
        yield _Member(_member_name(raw[name_at:extra_at]), size, header)
        position = extra_at + extra_size + comment
    if position != len(raw):
        raise BrokenFile("the zip's directory holds more than its members")


def _true_sizes(packed: int, size: int, header: int, extra: bytes) -> tuple[int, int, int]:
    """Sizes of 4 GiB and more stand in the zip64 field, in this order and only where needed."""
    if _U32 not in {packed, size, header}:
        return packed, size, header
    position = 0
    while position + 4 <= len(extra):
        kind, length = struct.unpack_from("<HH", extra, position)
        if kind == _ZIP64_EXTRA:
            values = iter(struct.unpack(f"<{length // 8}Q", extra[position + 4 : position + 4 + length // 8 * 8]))
            try:
                size = next(values) if size == _U32 else size
                packed = next(values) if packed == _U32 else packed
                header = next(values) if header == _U32 else header
            except StopIteration:
                break
            return packed, size, header
        position += 4 + length
    raise BrokenFile("a zip member without its zip64 sizes")


def _member_name(raw: bytes) -> str:
    try:
        name = raw.decode()
    except UnicodeDecodeError:
        raise BrokenFile("a zip member whose name is no UTF-8") from None
    if name.startswith("/") or "\\" in name or "\0" in name or ".." in name.split("/"):
        raise BrokenFile(f"the zip member {name[:100]!r} points outside")
    return name


def _place(member: _Member, limit: int, source: Read) -> tuple[int, int]:
    if member.header + _LOCAL.size > limit:
        raise BrokenFile("zip members overlap")
    fields = _LOCAL.unpack(source(member.header, member.header + _LOCAL.size))
    name_at = member.header + _LOCAL.size
    begin = name_at + fields[9] + fields[10]
    if fields[0] != b"PK\x03\x04" or fields[3] or begin + member.size > limit:
        raise BrokenFile("zip members overlap, or a member is not where the directory says")
    if source(name_at, name_at + fields[9]) != member.name.encode():
        raise BrokenFile("a zip member has two names")
    return begin, begin + member.size


def compared(found: Mapping[str, Piece], base: Directory) -> list[tuple[Tensor, Piece]]:
    """Each base tensor with the checkpoint's; key set, shapes and dtypes are exactly those of the slice."""
    if not found:
        raise Unacceptable("empty_checkpoint", "the checkpoint holds no tensor")
    renamed = in_naming_of(base.by_name, found)
    missing = [tensor.name for tensor in base.tensors if tensor.name not in renamed]
    extra = sorted(set(renamed) - set(base.by_name))
    if extra:
        raise Unacceptable("unexpected_tensor", f"{len(extra)} tensors are not of this group, first {extra[0][:120]}")
    if missing:
        raise Unacceptable("missing_tensor", f"{len(missing)} tensors are missing, first {missing[0][:120]}")
    for tensor in base.tensors:
        _check_alike(tensor, renamed[tensor.name])
    return [(tensor, renamed[tensor.name]) for tensor in base.tensors]


def _check_alike(tensor: Tensor, piece: Piece) -> None:
    if piece.shape != tensor.shape:
        shapes = f"{list(piece.shape)}, the base has {list(tensor.shape)}"
        raise Unacceptable("wrong_shape", f"{tensor.name}: shape {shapes}")
    castable = piece.dtype in CASTABLE and tensor.dtype in CASTABLE
    if not castable:
        raise Unacceptable("wrong_dtype", f"{tensor.name}: {piece.dtype} does not become {tensor.dtype}")


def in_naming_of(wanted: Mapping[str, Tensor], found: Mapping[str, Piece]) -> dict[str, Piece]:
    """The checkpoint with its projections fused or apart as the base has them: gate rows first, then up."""
    renamed = dict(found)
    for name in wanted:
        if name in renamed:
            continue
        for candidate in _other_spellings(name):
            if candidate in renamed and candidate not in wanted:
                renamed[name] = renamed.pop(candidate)
                break
        else:
            _split_or_join(name, wanted, renamed)
    return renamed


def _other_spellings(name: str) -> Sequence[str]:
    return [name.removesuffix(".weight")] if name.endswith(".weight") else [f"{name}.weight"]


def _split_or_join(name: str, wanted: Mapping[str, Tensor], renamed: dict[str, Piece]) -> None:
    suffix = ".weight" if name.endswith(".weight") else ""
    stem = name.removesuffix(".weight")
    if stem.endswith(".gate_up_proj"):
        expert = stem.removesuffix("gate_up_proj")
        gate, up = (_taken(renamed, wanted, f"{expert}{half}_proj") for half in ("gate", "up"))
        if gate and up and gate.dtype == up.dtype and gate.shape == up.shape and gate.shape:
            shape = (gate.shape[0] + up.shape[0], *gate.shape[1:])
            renamed[name] = Piece(gate.dtype, shape, gate.ranges + up.ranges)
    elif stem.endswith(".gate_proj") and f"{stem.removesuffix('gate_proj')}up_proj{suffix}" in wanted:
        expert = stem.removesuffix("gate_proj")
        fused = _taken(renamed, wanted, f"{expert}gate_up_proj")
        if fused and fused.shape and not fused.shape[0] % 2 and len(fused.ranges) == 1:
            (begin, end), shape = fused.ranges[0], (fused.shape[0] // 2, *fused.shape[1:])
            middle = (begin + end) // 2
            renamed[name] = Piece(fused.dtype, shape, ((begin, middle),))
            renamed[f"{expert}up_proj{suffix}"] = Piece(fused.dtype, shape, ((middle, end),))


def _taken(renamed: dict[str, Piece], wanted: Mapping[str, Tensor], stem: str) -> Piece | None:
    for spelling in (stem, f"{stem}.weight"):
        if spelling in renamed and spelling not in wanted:
            return renamed.pop(spelling)
    return None


_TOP = bytes(1 if byte & 0x7F == 0x7F else 0 for byte in range(256))  # noqa: PLR2004 - all exponent bits of the byte
_SECOND = bytes(1 if byte & 0x80 else 0 for byte in range(256))
_HALF_TOP = bytes(1 if byte & 0x7C == 0x7C else 0 for byte in range(256))  # noqa: PLR2004 - all five exponent bits


def has_nonfinite(dtype: str, raw: bytes) -> bool:
    """Whether a value's exponent is all ones, which is Inf or NaN; byte columns and one big AND, no loop."""
    if dtype == "F16":
        return 1 in raw[1::2].translate(_HALF_TOP)
    width = CASTABLE[dtype]
    top = int.from_bytes(raw[width - 1 :: width].translate(_TOP), "big")
    second = int.from_bytes(raw[width - 2 :: width].translate(_SECOND), "big")
    return bool(top & second)
