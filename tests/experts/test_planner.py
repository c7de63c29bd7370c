"""The planner: exactly the wanted bytes, out of parts that storage takes."""

from __future__ import annotations

import os
import random
from pathlib import Path

import pytest
import typer

from chalicelib.experts import slices
from chalicelib.experts.slices import Copied, Grafted, Range, Sent
from chalicelib.experts.tensors import BrokenFile
from subnetctl import experts_transfer
from tests.experts import models

MIB = 1024 * 1024


def bytes_of(parts: list[slices.Part], content: bytes) -> bytes:
    """What storage would make of a plan; every part but the last must have 5 MiB."""
    out = []
    for part in parts:
        match part:
            case Copied(found):
                out.append(content[found.begin : found.end])
            case Sent(pieces):
                out.append(b"".join(p if isinstance(p, bytes) else content[p.begin : p.end] for p in pieces))
            case Grafted(pieces, found):
                head = b"".join(p if isinstance(p, bytes) else content[p.begin : p.end] for p in pieces)
                assert found.size >= slices.SMALLEST_PART
                out.append(head + content[found.begin : found.end])
    assert all(len(made) >= slices.SMALLEST_PART for made in out[:-1])
    return b"".join(out)


@pytest.mark.parametrize("seed", range(30))
def test_a_plan_makes_exactly_the_wanted_bytes_of_legal_parts(seed: int) -> None:
    source = random.Random(seed)
    content = os.urandom(16 * MIB)
    pieces: list[slices.Segment] = [os.urandom(source.choice([1, 3000, 6 * MIB]))]
    for _ in range(source.randint(1, 12)):
        size = source.choice([1, 100, MIB, 5 * MIB - 1, 5 * MIB, 5 * MIB + 1, 9 * MIB, 12 * MIB])
        begin = source.randint(0, len(content) - size)
        pieces.append(Range(0, begin, begin + size))
    wanted = b"".join(p if isinstance(p, bytes) else content[p.begin : p.end] for p in pieces)

    assert bytes_of(slices.parts(pieces), content) == wanted


def test_a_range_above_five_gibibytes_is_split_and_too_many_parts_are_refused() -> None:
    parts = slices.parts([b"x", Range(0, 0, 61 * 1024 * MIB)])
    sizes = [part.range.size for part in parts if isinstance(part, Copied)]

    assert max(sizes) <= slices.LARGEST_PART
    assert sum(sizes) + slices.SMALLEST_PART == 61 * 1024 * MIB
    with pytest.raises(BrokenFile, match="parts"):
        slices.parts([Range(0, n * 20 * MIB, n * 20 * MIB + 6 * MIB) for n in range(10_001)])


def test_the_checksum_is_the_one_that_storage_keeps() -> None:
    assert slices.crc64nvme(b"123456789") == 0xAE8B14860A799888
    assert slices.crc64nvme(b"") == 0


def test_a_local_file_that_is_no_model_is_told_before_it_travels(tmp_path: Path) -> None:
    broken, other = tmp_path / "model.safetensors", tmp_path / "model.bin"
    broken.write_bytes(b"\xff" * 100)
    other.write_bytes(models.model().raw)

    with pytest.raises(BrokenFile, match="header"):
        experts_transfer.upload_model(broken)
    with pytest.raises(typer.Exit):
        experts_transfer.upload_model(other)
