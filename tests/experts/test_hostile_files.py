"""What strangers would hand in: zips and pickles that lie. Refused by reading little and executing nothing."""

from __future__ import annotations

import io
import os
import pickle
import random
import struct
import subprocess
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from chalicelib.experts import checkpoints, pickles, tasks_evaluation, tensors
from chalicelib.experts.pickles import Forbidden
from chalicelib.experts.tensors import BrokenFile
from tests.experts import models
from tests.experts.hostile import read

PYTHON = Path(tasks_evaluation.interpreter("torch"))
NAME = "model.layers.0.mlp.experts.1.up_proj.weight"


class Ref:
    """A tensor in a pickle, told apart by `Pickler` below."""

    def __init__(self, key: str, shape: tuple[int, ...], *, stride: tuple[int, ...] | None = None, offset: int = 0,
                 kind: str = "FloatStorage", count: int | None = None) -> None:  # fmt: skip
        self.key, self.shape, self.offset, self.kind = key, shape, offset, kind
        self.stride = contiguous(shape) if stride is None else stride
        self.count = product(shape) if count is None else count


def product(shape: tuple[int, ...]) -> int:
    total = 1
    for size in shape:
        total *= size
    return total


def contiguous(shape: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(product(shape[place + 1 :]) for place in range(len(shape)))


def op_text(text: str) -> bytes:
    return b"X" + struct.pack("<I", len(text.encode())) + text.encode()


def op_number(value: int) -> bytes:
    if 0 <= value < 256:
        return b"K" + bytes([value])
    raw = value.to_bytes(value.bit_length() // 8 + 1, "little", signed=True)
    return b"\x8a" + bytes([len(raw)]) + raw


def op_tuple(values: tuple[int, ...]) -> bytes:
    return b"(" + b"".join(map(op_number, values)) + b"t"


def op_tensor(ref: Ref) -> bytes:
    storage = b"(" + op_text("storage") + f"ctorch\n{ref.kind}\n".encode() + op_text(ref.key) + op_text("cpu")
    storage += op_number(ref.count) + b"tQ"
    rebuilt = b"ctorch._utils\n_rebuild_tensor_v2\n(" + storage + op_number(ref.offset) + op_tuple(ref.shape)
    return rebuilt + op_tuple(ref.stride) + b"\x89ccollections\nOrderedDict\n)RtR"


def pickled(refs: dict[str, Ref]) -> bytes:
    return b"\x80\x02}(" + b"".join(op_text(name) + op_tensor(ref) for name, ref in refs.items()) + b"u."


def zipped(members: dict[str, bytes], *, method: int = zipfile.ZIP_STORED) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", method) as archive:
        for name, raw in members.items():
            archive.writestr(zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0)), raw, compress_type=method)
    return out.getvalue()


def checkpoint(program: bytes | None = None, data: bytes = b"\0" * 24, **members: bytes) -> bytes:
    program = pickled({NAME: Ref("0", (2, 3))}) if program is None else program
    return zipped({"x/data.pkl": program, "x/data/0": data, "x/version": b"3\n"} | members)


def reduced(function: Callable[..., Any], *arguments: Any) -> bytes:
    """What the standard library makes of an object that wants to call something."""

    class Wish:
        def __reduce__(self) -> tuple[Any, tuple[Any, ...]]:
            return function, arguments

    return pickle.dumps({NAME: Wish()}, protocol=2)


def test_a_plain_checkpoint_is_read_where_it_lies() -> None:
    data = os.urandom(24)
    raw = checkpoint(data=data)

    piece = read(raw, ".pt")[NAME]

    assert (piece.dtype, piece.shape) == ("F32", (2, 3))
    assert raw[slice(*piece.ranges[0])] == data


PICKLES = {
    "os.system": reduced(os.system, "touch /tmp/marker"),
    "eval": reduced(eval, "1"),
    "getattr": reduced(getattr, "a", "upper"),
    "subprocess": reduced(subprocess.Popen, ["true"]),
    "nested import": b"\x80\x02cos\nsystem\n(X\x04\x00\x00\x00truetR.",
    "stack global": b"\x80\x04\x8c\x02os\x8c\x06system\x93\x8c\x04true\x85R.",
    "inst": b"(X\x04\x00\x00\x00trueios\nsystem\n.",
    "obj": b"(cos\nsystem\nX\x04\x00\x00\x00trueo.",
    "newobj": b"\x80\x02cos\nsystem\n)\x81.",
    "extension registry": b"\x80\x02\x82\x01.",
    "persistent text": b"Pid\n.",
    "a persistent id of another kind": b"\x80\x02(X\x03\x00\x00\x00urlX\x01\x00\x00\x00aK\x01tQ.",
    "torch.load itself": b"\x80\x02ctorch\nload\n.",
    "a storage that is none": b"\x80\x02ctorch\nUntypedStorage\n.",
    "rebuild of another kind": b"\x80\x02ctorch._utils\n_rebuild_parameter\n.",
    "attributes on a global": b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\n}b.",
    "a dict with arguments": b"\x80\x02ccollections\nOrderedDict\n(K\x01tR.",
    "a text opcode of old": b"S'x'\n.",
    "a long of a gigabyte": b"\x80\x02\x8b\x00\x00\x00\x40.",
    "protocol 9": b"\x80\x09}.",
    "nothing on the stack": b"\x80\x02.",
    "no mark": b"\x80\x02}u.",
    "recall of nothing": b"\x80\x02h\x05.",
    "cut": b"\x80\x02}(X\xff\xff\x00\x00a",
    "cut global": b"\x80\x02ccollections",
    "no stop": b"\x80\x02}",
    "no dict": b"\x80\x02K\x01.",
    "an empty dict": b"\x80\x02}.",
    "numbers for tensors": b"\x80\x02}(X\x01\x00\x00\x00aK\x01u.",
    "a key that is a dict": b"\x80\x02}(}K\x01u.",
    "a key twice": b"\x80\x02}(X\x01\x00\x00\x00aK\x01X\x01\x00\x00\x00aK\x01u.",
    "odd items": b"\x80\x02}(K\x01u.",
    "endless": b"\x80\x02" + b"}0" * 20_000 + b".",
    "a million steps": b"\x80\x02" + b"N" * 1_000_000 + b".",
    "text that is none": b"\x80\x02X\x01\x00\x00\x00\xff.",
}


@pytest.mark.parametrize("name", PICKLES)
def test_a_pickle_that_wants_more_is_refused(name: str) -> None:
    with pytest.raises(BrokenFile):
        read(checkpoint(PICKLES[name]), ".pt", most_operations=50_000, most_pickle=2_000_000)
    assert not Path("/tmp/marker").exists()


def test_a_forbidden_global_is_named() -> None:
    with pytest.raises(Forbidden, match=r"system"):
        read(checkpoint(PICKLES["os.system"]), ".pt")


TENSORS = {
    "stride zero": {NAME: Ref("0", (2**20, 2**20), stride=(0, 0), count=6)},
    "a transposed view": {NAME: Ref("0", (3, 2), stride=(1, 3))},
    "a step": {NAME: Ref("0", (3,), stride=(2,), count=6)},
    "an offset too far": {NAME: Ref("0", (2, 3), offset=1)},
    "more than the storage": {NAME: Ref("0", (2, 4), count=6)},
    "a storage larger than its member": {NAME: Ref("0", (2, 3), count=2**40)},
    "a storage smaller than its member": {NAME: Ref("0", (2,), count=2)},
    "another float than the member": {NAME: Ref("0", (2, 3), kind="HalfStorage")},
    "a storage of doubles": {NAME: Ref("0", (3,), kind="DoubleStorage")},
    "a missing member": {NAME: Ref("7", (2, 3))},
    "a member above": {NAME: Ref("../version", (2, 3))},
    "one storage for two": {NAME: Ref("0", (3,), count=6), "b": Ref("0", (3,), offset=3, count=6)},
    "a huge product": {NAME: Ref("0", (2**50, 2**50), stride=(0, 0), count=6)},
    "negative": {NAME: Ref("0", (-2, 3), stride=(3, 1), count=6)},
    "a stride less": {NAME: Ref("0", (2, 3), stride=(3,))},
    "many dimensions": {NAME: Ref("0", (1,) * 40, count=6)},
}


@pytest.mark.parametrize("name", TENSORS)
def test_a_tensor_that_is_not_what_its_storage_holds_is_refused(name: str) -> None:
    with pytest.raises(BrokenFile):
        read(checkpoint(pickled(TENSORS[name])), ".pt")


def test_a_view_into_a_larger_storage_is_its_own_bytes() -> None:
    data = os.urandom(24)
    raw = checkpoint(pickled({NAME: Ref("0", (3,), offset=2, count=6)}), data)

    assert raw[slice(*read(raw, ".pt")[NAME].ranges[0])] == data[8:20]


def twice_named() -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr("x/data.pkl", b"a")
        with pytest.warns(UserWarning, match="Duplicate name"):
            archive.writestr("x/data.pkl", b"b")
    return out.getvalue()


def overlapping() -> bytes:
    """Two entries of the directory that point at one member."""
    raw = bytearray(checkpoint())
    first = raw.index(b"PK\x01\x02")
    second = raw.index(b"PK\x01\x02", first + 4)
    raw[second + 42 : second + 46] = raw[first + 42 : first + 46]
    return bytes(raw)


def reaching_over() -> bytes:
    """A member that takes the bytes of its neighbour for its own."""
    raw = bytearray(checkpoint(pickled({NAME: Ref("0", (12,))})))
    entry = raw.index(b"PK\x01\x02", raw.index(b"PK\x01\x02") + 4)
    raw[entry + 20 : entry + 28] = struct.pack("<II", 48, 48)
    return bytes(raw)


def one_hidden() -> bytes:
    """A directory of three members that says two."""
    raw = bytearray(checkpoint())
    end = raw.rindex(b"PK\x05\x06")
    raw[end + 8 : end + 12] = struct.pack("<HH", 2, 2)
    return bytes(raw)


def changed(old: bytes, new: bytes, *, last: bool = False) -> bytes:
    raw = checkpoint()
    at = raw.rindex(old) if last else raw.index(old)
    return raw[:at] + new + raw[at + len(old) :]


ZIPS: dict[str, Callable[[], bytes]] = {
    "nothing": lambda: b"",
    "a bare pickle": lambda: pickled({NAME: Ref("0", (2, 3))}),
    "a tar": lambda: b"\0" * 512,
    "deflated": lambda: zipped({"x/data.pkl": b"\0" * 10_000_000}, method=zipfile.ZIP_DEFLATED),
    "bzip2": lambda: zipped({"x/data.pkl": b"\0" * 10_000}, method=zipfile.ZIP_BZIP2),
    "no pickle": lambda: zipped({"x/data/0": b""}),
    "a pickle too deep": lambda: zipped({"x/y/data.pkl": b""}),
    "two pickles": lambda: zipped({"x/data.pkl": b"", "y/data.pkl": b""}),
    "a large pickle": lambda: checkpoint(b"\x80\x02" + b"N" * 1_100_000),
    "a path above": lambda: checkpoint(**{"x/../../etc/passwd": b""}),
    "an absolute path": lambda: checkpoint(**{"/etc/passwd": b""}),
    "a backslash": lambda: checkpoint(**{"x\\y": b""}),
    "big endian": lambda: checkpoint(**{"x/byteorder": b"big"}),
    "many members": lambda: checkpoint(**{f"x/{number}": b"" for number in range(500)}),
    "a name twice": twice_named,
    "overlapping members": overlapping,
    "cut": lambda: checkpoint()[:-30],
    "bytes behind": lambda: checkpoint() + b"\0" * 50,
    "bytes before": lambda: b"\0" * 100_000 + checkpoint(),
    "a comment": lambda: changed(b"\0\0", b"\x05\0", last=True) + b"hello",
    "another name inside": lambda: changed(b"x/data/0", b"x/data/1"),
    "another method inside": lambda: changed(b"PK\x03\x04\x14\0\0\0\0\0", b"PK\x03\x04\x14\0\0\0\x08\0"),
    "encrypted": lambda: changed(b"PK\x01\x02\x14\x03\x14\0\0\0", b"PK\x01\x02\x14\x03\x14\0\x01\0"),
    "a directory elsewhere": lambda: changed(b"PK\x05\x06", b"PK\x05\x07", last=True),
    "zip64 without a record": lambda: checkpoint()[:-6] + b"\xff\xff\xff\xff\0\0",
}


@pytest.mark.parametrize("name", ZIPS)
def test_a_container_that_lies_is_refused(name: str) -> None:
    with pytest.raises(BrokenFile):
        read(ZIPS[name](), ".pt")


@pytest.mark.parametrize(
    ("raw", "reason"),
    [
        (lambda: checkpoint(PICKLES["a dict with arguments"]), "may not be called"),
        (lambda: checkpoint(PICKLES["attributes on a global"]), "sets attributes"),
        (twice_named, "appears twice"),
        (reaching_over, "overlap"),
        (one_hidden, "more than its members"),
    ],
)
def test_the_reason_is_the_rule_that_was_broken_first(raw: Callable[[], bytes], reason: str) -> None:
    with pytest.raises(BrokenFile, match=reason):
        read(raw(), ".pt")


def test_random_damage_to_a_checkpoint_never_breaks_the_reader() -> None:
    good = checkpoint()
    source = random.Random(2)
    for _ in range(5000):
        raw = bytearray(good)
        for _ in range(source.randint(1, 4)):
            raw[source.randrange(len(raw))] = source.randint(0, 255)
        try:
            read(bytes(raw), ".pt")
        except BrokenFile:
            continue


def test_random_opcodes_never_break_the_machine() -> None:
    source = random.Random(3)
    alphabet = [*pickles._STEPS, ord("."), 0, 1, 2, 65, 10]
    for _ in range(20_000):
        program = bytes(source.choice(alphabet) for _ in range(source.randint(1, 40)))
        try:
            pickles.Machine(program, 1000).run()
        except BrokenFile:
            continue


# ---- files of torch itself


@pytest.fixture(scope="module")
def made_by_torch(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    folder = tmp_path_factory.mktemp("torch")
    program = (
        "import sys, torch, collections\n"
        "folder = sys.argv[1]\n"
        f"name = {NAME!r}\n"
        "def save(name, value, **more): torch.save(value, f'{folder}/{name}.pt', **more)\n"
        "base = torch.arange(6, dtype=torch.float32).reshape(2, 3)\n"
        "save('plain', {name: base})\n"
        "save('half', {name: base.half()})\n"
        "save('bfloat', {name: base.bfloat16()})\n"
        "save('ordered', collections.OrderedDict({name: base}))\n"
        "save('module', torch.nn.Linear(3, 2).state_dict())\n"
        "more = {'epoch': 3, 'history': [1.5, None, True], 'note': {'a': ()}}\n"
        "save('wrapped', {'model_state_dict': {name: base}, **more})\n"
        "save('protocol4', {name: base}, pickle_protocol=4)\n"
        "save('protocol5', {name: base}, pickle_protocol=5)\n"
        "save('slice', {name: torch.arange(60, dtype=torch.float32)[12:18].reshape(2, 3)})\n"
        "save('transposed', {name: base.T})\n"
        "save('expanded', {name: torch.zeros(1).expand(10**6, 10**6)})\n"
        "save('shared', {name: base, 'other': base})\n"
        "save('double', {name: base.double()})\n"
        "save('parameter', {name: torch.nn.Parameter(base)})\n"
        "save('sparse', {name: base.to_sparse()})\n"
        "save('legacy', {name: base}, _use_new_zipfile_serialization=False)\n"
        "save('object', torch.nn.Linear(3, 2))\n"
    )
    done = subprocess.run([PYTHON, "-c", program, str(folder)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return {path.stem: path.read_bytes() for path in folder.glob("*.pt")}


@pytest.mark.parametrize("name", ["plain", "half", "bfloat", "ordered", "wrapped", "protocol4", "protocol5"])
def test_what_torch_saves_is_read(made_by_torch: dict[str, bytes], name: str) -> None:
    raw = made_by_torch[name]
    piece = read(raw, ".pt")[NAME]

    assert piece.shape == (2, 3)
    assert models.unpack(raw[slice(*piece.ranges[0])], piece.dtype) == [0, 1, 2, 3, 4, 5]


def test_torch_s_modules_and_slices_are_read(made_by_torch: dict[str, bytes]) -> None:
    assert set(read(made_by_torch["module"], ".pt")) == {"weight", "bias"}
    raw = made_by_torch["slice"]
    assert models.unpack(raw[slice(*read(raw, ".pt")[NAME].ranges[0])], "F32") == [12, 13, 14, 15, 16, 17]


@pytest.mark.parametrize(
    "name", ["transposed", "expanded", "shared", "double", "parameter", "sparse", "legacy", "object"]
)
def test_what_torch_would_load_and_we_do_not(made_by_torch: dict[str, bytes], name: str) -> None:
    with pytest.raises(BrokenFile):
        read(made_by_torch[name], ".pt")


# ---- finiteness and naming


@pytest.mark.parametrize("dtype", ["F16", "BF16", "F32"])
def test_every_kind_of_nothing_is_seen_and_every_number_is_not(dtype: str) -> None:
    largest = {"F16": 65504.0, "BF16": 3.38e38, "F32": 3.4e38}[dtype]
    finite = models.pack([0.0, -0.0, 1e-7, largest, -largest, 1.0] * 50, dtype)
    assert not checkpoints.has_nonfinite(dtype, finite)
    width = checkpoints.CASTABLE[dtype]
    for bad in (float("inf"), float("-inf"), float("nan")):
        for place in (0, 77, 299):
            raw = bytearray(finite)
            raw[place * width : (place + 1) * width] = models.pack([bad], dtype)
            assert checkpoints.has_nonfinite(dtype, bytes(raw))


def directory(parts: dict[str, tuple[int, ...]]) -> tensors.Directory:
    raw = models.file_of({name: ("F32", shape, b"\0" * 4 * product(shape)) for name, shape in parts.items()})
    length = tensors.header_length(raw[:8], len(raw))
    return tensors.directory(raw[8 : 8 + length], len(raw))


def test_fused_and_separate_projections_mean_the_same() -> None:
    apart = directory({"e.3.gate_proj.weight": (2, 3), "e.3.up_proj.weight": (2, 3), "e.3.down_proj.weight": (3, 2)})
    fused = {"e.3.gate_up_proj": checkpoints.Piece("F32", (4, 3), ((100, 148),)),
             "e.3.down_proj": checkpoints.Piece("F32", (3, 2), ((10, 34),))}  # fmt: skip
    found = {tensor.name: piece.ranges for tensor, piece in checkpoints.compared(fused, apart)}
    assert found["e.3.gate_proj.weight"] == ((100, 124),)
    assert found["e.3.up_proj.weight"] == ((124, 148),)

    together = directory({"e.3.gate_up_proj": (4, 3)})
    halves = {"e.3.gate_proj.weight": checkpoints.Piece("F32", (2, 3), ((0, 24),)),
              "e.3.up_proj.weight": checkpoints.Piece("F32", (2, 3), ((50, 74),))}  # fmt: skip
    ((_, joined),) = checkpoints.compared(halves, together)
    assert (joined.shape, joined.ranges) == ((4, 3), ((0, 24), (50, 74)))
