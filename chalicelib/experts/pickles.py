"""Reads what `torch.save` writes without ever executing it: a zip of stored members and a pickle of few opcodes.

A part of `slices`: what a stranger's `.pt` file says it holds. Torch itself would follow a stride of zero into
terabytes and inflate a compressed member without end, so sizes are believed only where the file really has the bytes.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Callable
from typing import Any

from chalicelib.kernel.values import frozen

from .tensors import BrokenFile

Read = Callable[[int, int], bytes]

STORAGES = {"BFloat16Storage": ("BF16", 2), "HalfStorage": ("F16", 2), "FloatStorage": ("F32", 4)}
_ORDERED_DICT = "collections.OrderedDict"
_REBUILD = "torch._utils._rebuild_tensor_v2"
_ALLOWED = {_ORDERED_DICT, _REBUILD, *(f"torch.{name}" for name in STORAGES)}
_WRAPPER = "model_state_dict"
_LARGEST_COUNT = 2**53
_MOST_DIMENSIONS = 32
_DEEPEST_STACK = 1_000_000
_REBUILD_ARGUMENTS = (6, 7)


class Forbidden(BrokenFile):
    """The pickle wants something that is not allowed; `name` says what."""


@frozen
class Stored:
    """A tensor of the file: `begin` to `end` are bytes of the file itself."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    begin: int
    end: int


@frozen
class _Global:
    name: str


@frozen
class _Storage:
    dtype: str
    item_bytes: int
    key: str
    count: int


@frozen
class _View:
    storage: _Storage
    offset: int
    shape: tuple[int, ...]
    stride: tuple[int, ...]


class _Mark:
    """Where a group of stack entries begins."""


class Machine:
    """The pickle opcodes that a state dict needs; whatever is not in the table is refused by its number."""

    def __init__(self, data: bytes, most_operations: int) -> None:
        self._data = data
        self._position = 0
        self._left = most_operations
        self._stack: list[Any] = []
        self.memo: dict[int, Any] = {}

    def run(self) -> Any:
        """The object that the pickle describes."""
        while True:
            self._left -= 1
            if self._left < 0 or len(self._stack) > _DEEPEST_STACK:
                raise BrokenFile("the pickle takes too many steps")
            opcode = self.take(1)[0]
            if opcode == _STOP:
                return self.pop()
            step = _STEPS.get(opcode)
            if step is None:
                raise Forbidden(f"forbidden pickle opcode 0x{opcode:02x}")
            step(self)

    def take(self, count: int) -> bytes:
        end = self._position + count
        if end > len(self._data):
            raise BrokenFile("the pickle ends in the middle")
        taken = self._data[self._position : end]
        self._position = end
        return taken

    def number(self, form: str) -> int:
        return int(struct.unpack(form, self.take(struct.calcsize(form)))[0])

    def line(self) -> str:
        end = self._data.find(b"\n", self._position)
        if end < 0:
            raise BrokenFile("the pickle ends in the middle")
        line = self.take(end - self._position + 1)
        return _text(line[:-1])

    def push(self, value: Any) -> None:
        self._stack.append(value)

    def pop(self) -> Any:
        if not self._stack or isinstance(self._stack[-1], _Mark):
            raise BrokenFile("the pickle takes more than it put")
        return self._stack.pop()

    def pop_to_mark(self) -> list[Any]:
        for index in range(len(self._stack) - 1, -1, -1):
            if isinstance(self._stack[index], _Mark):
                taken = self._stack[index + 1 :]
                del self._stack[index:]
                return taken
        raise BrokenFile("the pickle takes more than it put")

    def many(self, count: int) -> tuple[Any, ...]:
        return tuple(reversed([self.pop() for _ in range(count)]))

    def remember(self, index: int) -> None:
        value = self.pop()
        self.push(value)
        self.memo[index] = value

    def recall(self, index: int) -> None:
        if index not in self.memo:
            raise BrokenFile("the pickle recalls what it never kept")
        self.push(self.memo[index])

    def load(self, module: Any, name: Any) -> None:
        full = f"{module}.{name}"
        if full not in _ALLOWED:
            raise Forbidden(f"forbidden global {full[:100]}")
        self.push(_Global(full))

    def stack_import(self) -> None:
        module, name = self.many(2)
        self.load(module, name)

    def persistent(self) -> None:
        match self.pop():
            case ("storage", _Global(name), str(key), str(), int(count)) if name.startswith("torch."):
                kind = STORAGES.get(name.removeprefix("torch."))
                if kind is None or type(count) is not int or not 0 <= count <= _LARGEST_COUNT:
                    raise BrokenFile("a storage of an unusable kind or size")
                self.push(_Storage(*kind, key, count))
            case _:
                raise Forbidden("a persistent id that names no storage")

    def reduce(self) -> None:
        function, arguments = self.many(2)
        if function == _Global(_ORDERED_DICT) and arguments == ():
            self.push({})
        elif function == _Global(_REBUILD) and isinstance(arguments, tuple):
            self.push(_view(arguments))
        else:
            raise Forbidden("the pickle calls what may not be called")

    def build(self) -> None:
        """An OrderedDict carries attributes (torch puts versions there), which nobody needs; nothing else may."""
        _state, owner = self.pop(), self.pop()
        if not isinstance(owner, dict):
            raise Forbidden("the pickle sets attributes")
        self.push(owner)

    def set_items(self, items: list[Any]) -> None:
        owner = self.pop()
        if not isinstance(owner, dict) or len(items) % 2:
            raise BrokenFile("the pickle puts items into something that takes none")
        for key, value in zip(items[::2], items[1::2], strict=True):
            if not isinstance(key, (str, int)):
                raise BrokenFile("a key that is neither text nor number")
            if key in owner:
                raise BrokenFile(f"the key {str(key)[:100]!r} appears twice")
            owner[key] = value
        self.push(owner)

    def append(self, items: list[Any]) -> None:
        owner = self.pop()
        if not isinstance(owner, list):
            raise BrokenFile("the pickle appends to something that is no list")
        owner.extend(items)
        self.push(owner)


def _text(raw: bytes) -> str:
    try:
        return raw.decode()
    except UnicodeDecodeError:
        raise BrokenFile("the pickle holds text that is no UTF-8") from None


def _view(arguments: tuple[Any, ...]) -> _View:
    if len(arguments) not in _REBUILD_ARGUMENTS or not isinstance(arguments[0], _Storage):
        raise BrokenFile("a tensor is rebuilt from something else")
    storage, offset, shape, stride = arguments[:4]
    counts = (offset, *shape, *stride) if isinstance(shape, tuple) and isinstance(stride, tuple) else (None,)
    if not all(type(count) is int and 0 <= count <= _LARGEST_COUNT for count in counts):
        raise BrokenFile("a tensor whose sizes are no numbers")
    if len(shape) != len(stride) or len(shape) > _MOST_DIMENSIONS:
        raise BrokenFile("a tensor with another number of strides than of dimensions")
    return _View(storage, offset, shape, stride)


_STOP = ord(".")
_STEPS: dict[int, Callable[[Machine], None]] = {
    0x80: lambda m: _check_protocol(m.take(1)[0]),
    0x95: lambda m: void(m.take(8)),
    ord("("): lambda m: m.push(_Mark()),
    ord("}"): lambda m: m.push({}),
    ord("]"): lambda m: m.push([]),
    ord(")"): lambda m: m.push(()),
    ord("N"): lambda m: m.push(None),
    0x88: lambda m: m.push(True),
    0x89: lambda m: m.push(False),
    ord("K"): lambda m: m.push(m.take(1)[0]),
    ord("M"): lambda m: m.push(m.number("<H")),
    ord("J"): lambda m: m.push(m.number("<i")),
    0x8A: lambda m: m.push(int.from_bytes(m.take(m.take(1)[0]), "little", signed=True)),
    ord("G"): lambda m: m.push(struct.unpack(">d", m.take(8))[0]),
    ord("X"): lambda m: m.push(_text(m.take(m.number("<I")))),
    0x8C: lambda m: m.push(_text(m.take(m.take(1)[0]))),
    0x8D: lambda m: m.push(_text(m.take(m.number("<Q")))),
    ord("q"): lambda m: m.remember(m.take(1)[0]),
    ord("r"): lambda m: m.remember(m.number("<I")),
    0x94: lambda m: m.remember(len(m.memo)),
    ord("h"): lambda m: m.recall(m.take(1)[0]),
    ord("j"): lambda m: m.recall(m.number("<I")),
    ord("t"): lambda m: m.push(tuple(m.pop_to_mark())),
    0x85: lambda m: m.push(m.many(1)),
    0x86: lambda m: m.push(m.many(2)),
    0x87: lambda m: m.push(m.many(3)),
    ord("c"): lambda m: m.load(m.line(), m.line()),
    0x93: lambda m: m.stack_import(),
    ord("Q"): lambda m: m.persistent(),
    ord("R"): lambda m: m.reduce(),
    ord("b"): lambda m: m.build(),
    ord("s"): lambda m: m.set_items(list(m.many(2))),
    ord("u"): lambda m: m.set_items(m.pop_to_mark()),
    ord("a"): lambda m: m.append(list(m.many(1))),
    ord("e"): lambda m: m.append(m.pop_to_mark()),
}
_NEWEST_PROTOCOL = 5


def _check_protocol(version: int) -> None:
    if version > _NEWEST_PROTOCOL:
        raise BrokenFile(f"pickle protocol {version}")


def void(_value: Any) -> None:
    """A frame's length says nothing that the opcodes do not."""


def state_dict(pickle: bytes, members: dict[str, tuple[int, int]], most_operations: int) -> list[Stored]:
    """The tensors of the pickled dict; `members` says where in the file each storage lies."""
    found = Machine(pickle, most_operations).run()
    if isinstance(found, dict) and isinstance(found.get(_WRAPPER), dict):
        found = found[_WRAPPER]
    if not isinstance(found, dict) or not found:
        raise BrokenFile("the checkpoint is no state dict with tensors")
    used: set[str] = set()
    tensors = []
    for name, view in found.items():
        if not isinstance(name, str) or not isinstance(view, _View):
            raise BrokenFile(f"{str(name)[:100]!r} is no tensor")
        if view.storage.key in used:
            raise BrokenFile(f"{name[:100]!r} shares its storage with another tensor")
        used.add(view.storage.key)
        tensors.append(_stored(name, view, members))
    return tensors


def _stored(name: str, view: _View, members: dict[str, tuple[int, int]]) -> Stored:
    storage, shown = view.storage, name[:100]
    if storage.key not in members:
        raise BrokenFile(f"{shown!r}: the file has no storage {storage.key[:40]!r}")
    begin, end = members[storage.key]
    if end - begin != storage.count * storage.item_bytes:
        raise BrokenFile(f"{shown!r}: the storage has {end - begin} bytes, not {storage.count * storage.item_bytes}")
    count = math.prod(view.shape)
    if count > _LARGEST_COUNT or view.offset + count > storage.count:
        raise BrokenFile(f"{shown!r}: the tensor is larger than its storage")
    if not _is_contiguous(view):
        raise BrokenFile(f"{shown!r}: the tensor is not contiguous")
    first = begin + view.offset * storage.item_bytes
    return Stored(name, storage.dtype, view.shape, first, first + count * storage.item_bytes)


def _is_contiguous(view: _View) -> bool:
    expected = 1
    for size, stride in zip(reversed(view.shape), reversed(view.stride), strict=True):
        if size != 1 and stride != expected:
            return False
        expected *= max(size, 1)
    return True
