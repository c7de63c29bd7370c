"""Models and checkpoints made of bytes: no torch, every number known."""

from __future__ import annotations

import hashlib
import random
import struct
from dataclasses import dataclass
from typing import Any

from chalicelib.experts import tensors
from chalicelib.experts.tensors import Tensor

LAYERS, EXPERTS, HIDDEN, WIDTH, VOCAB = 2, 4, 8, 16, 32
ASSIGNMENT = {
    "0": {"0": [[0, 1], [1, 3]], "1": [[0, 0], [1, 2]]},
    "1": {"0": [[0, 0]], "1": [[0, 3]]},
}
WIDTHS = {"BF16": 2, "F16": 2, "F32": 4}


@dataclass(frozen=True)
class Model:
    """A safetensors file and the bytes of each of its tensors."""

    raw: bytes
    parts: dict[str, tuple[str, tuple[int, ...], bytes]]

    def names(self, group: str) -> set[str]:
        return {
            name
            for name in self.parts
            for layer, pairs in ASSIGNMENT[group].items()
            for _, expert in pairs
            if f"layers.{layer}.mlp.experts.{expert}." in name
        }


def shapes(*, hidden: int = HIDDEN, width: int = WIDTH, stacked: bool = False) -> dict[str, tuple[int, ...]]:
    """Names and shapes as a Qwen3 mixture of experts has them."""
    found: dict[str, tuple[int, ...]] = {"model.embed_tokens.weight": (VOCAB, hidden)}
    for layer in range(LAYERS):
        at = f"model.layers.{layer}"
        found[f"{at}.input_layernorm.weight"] = (hidden,)
        found[f"{at}.mlp.gate.weight"] = (EXPERTS, hidden)
        found[f"{at}.mlp.shared_experts.up_proj.weight"] = (width, hidden)
        if stacked:
            found[f"{at}.mlp.experts.gate_up_proj"] = (EXPERTS, hidden, 2 * width)
            found[f"{at}.mlp.experts.down_proj"] = (EXPERTS, width, hidden)
        for expert in range(0 if stacked else EXPERTS):
            for name, shape in (("gate", (width, hidden)), ("up", (width, hidden)), ("down", (hidden, width))):
                found[f"{at}.mlp.experts.{expert}.{name}_proj.weight"] = shape
        found[f"{at}.self_attn.q_proj.weight"] = (hidden, hidden)
    return found


def model(*, dtype: str = "F32", seed: int = 1, **options: Any) -> Model:
    """A whole model of small known numbers."""
    source = random.Random(seed)
    parts = {}
    for name, shape in sorted(shapes(**options).items()):
        count = 1
        for size in shape:
            count *= size
        parts[name] = (dtype, shape, numbers(source, count, dtype))
    return Model(file_of(parts), parts)


def numbers(source: random.Random, count: int, dtype: str) -> bytes:
    """Finite numbers around zero; large tensors repeat a block, for speed."""
    block = [source.uniform(-1, 1) for _ in range(min(count, 4096))]
    raw = pack(block, dtype)
    return (raw * (count // len(block) + 1))[: count * WIDTHS[dtype]]


def pack(values: list[float], dtype: str) -> bytes:
    if dtype == "BF16":
        return b"".join(struct.pack("<f", value)[2:] for value in values)
    return struct.pack(f"<{len(values)}{'e' if dtype == 'F16' else 'f'}", *values)


def unpack(raw: bytes, dtype: str) -> list[float]:
    if dtype == "BF16":
        return [struct.unpack("<f", b"\0\0" + raw[at : at + 2])[0] for at in range(0, len(raw), 2)]
    return list(struct.unpack(f"<{len(raw) // WIDTHS[dtype]}{'e' if dtype == 'F16' else 'f'}", raw))


def file_of(parts: dict[str, tuple[str, tuple[int, ...], bytes]], metadata: dict[str, str] | None = None) -> bytes:
    """A safetensors file of these tensors, in this order."""
    listed = [Tensor(name, dtype, shape, 0, len(raw)) for name, (dtype, shape, raw) in parts.items()]
    return tensors.header(listed, metadata or {}) + b"".join(raw for _, _, raw in parts.values())


def parts_of(raw: bytes) -> dict[str, tuple[str, tuple[int, ...], bytes]]:
    """The tensors of a safetensors file."""
    length = tensors.header_length(raw[:8], len(raw))
    found = tensors.directory(raw[8 : 8 + length], len(raw))
    at = found.data_offset
    return {t.name: (t.dtype, t.shape, raw[at + t.begin : at + t.end]) for t in found.tensors}


def scaled(source: Model, group: str, factor: float) -> bytes:
    """A checkpoint of a group: its base times a factor."""
    parts = {}
    for name in sorted(source.names(group)):
        dtype, shape, raw = source.parts[name]
        parts[name] = (dtype, shape, pack([value * factor for value in unpack(raw, dtype)], dtype))
    return file_of(parts)


def payload(wire: bytes) -> bytes:
    """What follows the envelope."""
    return wire[8 + int.from_bytes(wire[:8], "little") :]


def digest(raw: bytes) -> str:
    return f"sha256:{hashlib.sha256(raw).hexdigest()}"
