"""Arithmetic on tensors, as a program of its own: frames of numbers come in, frames go out, nothing else is reachable.

It runs in an interpreter that has numpy, without the credentials of the task that feeds it. A frame is a length, JSON,
and the byte strings whose sizes the JSON tells.
"""

from __future__ import annotations

import hashlib
import json
import sys
from typing import Any, BinaryIO

SKETCH = 256
NOISE = 0.02


def read_frame(stream: BinaryIO) -> tuple[dict[str, Any], list[bytes]] | None:
    """The next frame; None at the end."""
    head = stream.read(4)
    if len(head) < 4:  # noqa: PLR2004 - the length word
        return None
    found: dict[str, Any] = json.loads(stream.read(int.from_bytes(head, "little")))
    return found, [stream.read(size) for size in found.get("sizes", ())]


def write_frame(stream: BinaryIO, fields: dict[str, Any], blobs: list[bytes]) -> None:
    raw = json.dumps(fields | {"sizes": [len(blob) for blob in blobs]}).encode()
    stream.write(len(raw).to_bytes(4, "little") + raw)
    stream.writelines(blobs)
    stream.flush()


def to_floats(raw: bytes, dtype: str) -> Any:
    """Stored numbers as float32."""
    import numpy as np  # noqa: PLC0415 - this module is also read where there is no numpy

    if dtype == "BF16":
        return (np.frombuffer(raw, "<u2").astype(np.uint32) << np.uint32(16)).view(np.float32)
    return np.frombuffer(raw, {"F16": "<f2", "F32": "<f4"}[dtype]).astype(np.float32)


def from_floats(values: Any, dtype: str) -> bytes:
    """float32 as stored numbers, rounded once, to the nearest and to even."""
    import numpy as np  # noqa: PLC0415

    if dtype == "BF16":
        bits = np.ascontiguousarray(values, np.float32).view(np.uint32)
        odd = (bits >> np.uint32(16)) & np.uint32(1)
        return bytes(((bits + np.uint32(0x7FFF) + odd) >> np.uint32(16)).astype("<u2").tobytes())
    return bytes(values.astype({"F16": "<f2", "F32": "<f4"}[dtype]).tobytes())


class Meter:
    """Compares a checkpoint with its base, chunk after chunk of one tensor after the other."""

    def __init__(self) -> None:
        import numpy as np  # noqa: PLC0415

        self._np = np
        self._name = ""
        self._noise: Any = None
        self._signs: Any = None
        self._sketch = np.zeros(SKETCH)

    def _start(self, name: str) -> None:
        """Noise and signs depend on the tensor's name alone."""
        seed = int.from_bytes(hashlib.sha256(name.encode()).digest(), "big")
        self._name = name
        self._noise = self._np.random.Generator(self._np.random.Philox(seed & (2**128 - 1)))
        self._signs = self._np.random.Generator(self._np.random.Philox(seed >> 128))

    def measure(self, fields: dict[str, Any], blobs: list[bytes]) -> dict[str, Any]:
        """Sums over one chunk; chunks of a tensor come in order and hold a multiple of the sketch's length."""
        np = self._np
        if fields["name"] != self._name:
            self._start(fields["name"])
        candidate, base = (to_floats(raw, dtype) for raw, dtype in zip(blobs, fields["dtypes"], strict=True))
        target = self._noise.standard_normal(base.size, dtype=np.float32) * np.float32(NOISE)
        moved = (candidate - base).astype(np.float64)
        signs = self._signs.integers(0, 2, base.size, dtype=np.int8) * 2 - 1
        signed = np.zeros(-(-base.size // SKETCH) * SKETCH)
        signed[: base.size] = moved * signs
        self._sketch += signed.reshape(-1, SKETCH).sum(axis=0)
        return {
            "candidate_loss": float(np.square((candidate - target).astype(np.float64)).sum()),
            "base_loss": float(np.square((base - target).astype(np.float64)).sum()),
            "moved": float(np.square(moved).sum()),
            "norm": float(np.square(base.astype(np.float64)).sum()),
            "elements": int(base.size),
        }

    def sketch(self) -> list[float]:
        """The direction of the whole update in few numbers."""
        norm = float(self._np.sqrt(self._np.square(self._sketch).sum()))
        return [round(float(value) / norm, 7) for value in self._sketch] if norm else []


def step(fields: dict[str, Any], blobs: list[bytes]) -> tuple[dict[str, Any], list[bytes]]:
    """One step of the outer optimiser on a chunk: base, checkpoints, then the momentum if there is one."""
    import numpy as np  # noqa: PLC0415

    dtypes, rate, inertia = fields["dtypes"], np.float32(fields["lr"]), np.float32(fields["momentum"])
    base, *found = (to_floats(raw, dtype) for raw, dtype in zip(blobs, dtypes, strict=True))
    momentum = found.pop() if fields["has_momentum"] else None
    gradient = np.zeros_like(base)
    for checkpoint in found:
        gradient += (base - checkpoint) / np.float32(len(found))
    velocity = gradient if momentum is None else inertia * momentum + gradient
    towards = gradient + inertia * velocity if fields["nesterov"] else velocity
    moved = base - rate * towards
    raw = from_floats(moved, dtypes[0])
    finite = bool(np.isfinite(to_floats(raw, dtypes[0])).all() and np.isfinite(velocity).all())
    return {"finite": finite}, [raw, from_floats(velocity, "F32")]


def main() -> None:
    """Answer frames until they end."""
    import numpy as np  # noqa: PLC0415

    meter = Meter()
    source, sink = sys.stdin.buffer, sys.stdout.buffer
    with np.errstate(all="ignore"):
        while (frame := read_frame(source)) is not None:
            fields, blobs = frame
            answer: list[bytes] = []
            if fields["op"] == "measure":
                told = meter.measure(fields, blobs)
            elif fields["op"] == "sketch":
                told = {"sketch": meter.sketch()}
            else:
                told, answer = step(fields, blobs)
            write_frame(sink, told, answer)


if __name__ == "__main__":
    main()
