"""Safetensors headers that lie: refused after reading little."""

from __future__ import annotations

import json
import random
import struct
from typing import Any

import pytest

from chalicelib.experts import tensors
from chalicelib.experts.tensors import BrokenFile
from tests.experts import models
from tests.experts.hostile import read


def header(document: Any, data: bytes = b"") -> bytes:
    raw = document if isinstance(document, bytes) else json.dumps(document).encode()
    return struct.pack("<Q", len(raw)) + raw + data


def entry(dtype: Any = "F32", shape: Any = (2,), offsets: Any = (0, 8), **more: Any) -> dict[str, Any]:
    return {"dtype": dtype, "shape": shape, "data_offsets": offsets, **more}


EIGHT = b"\0" * 8
SAFETENSORS = {
    "nothing": b"",
    "seven bytes": b"\0" * 7,
    "a length of zero": struct.pack("<Q", 0) + b"{}",
    "a length of 2^64-1": struct.pack("<Q", 2**64 - 1) + b"{}",
    "a length beyond the file": struct.pack("<Q", 100) + b"{}",
    "a length beyond the limit": struct.pack("<Q", 17 * 1024 * 1024) + b"{" + b" " * (18 * 1024 * 1024),
    "no object": header(b"[]"),
    "a space first": header(b" {}"),
    "no json": header(b"{x}"),
    "cut json": header(b'{"a":'),
    "no utf-8": header(b'{"\xff\xfe":1}'),
    "deep": header(b'{"a":' + b"[" * 100_000 + b"]" * 100_000 + b"}"),
    "a name twice": header(
        b'{"a":' + json.dumps(entry()).encode() + b',"a":' + json.dumps(entry()).encode() + b"}", EIGHT
    ),
    "dtype twice": header(b'{"a":{"dtype":"F32","dtype":"F32","shape":[2],"data_offsets":[0,8]}}', EIGHT),
    "an entry that is none": header({"a": 5}),
    "a key more": header({"a": entry(stride=[1])}, EIGHT),
    "a key less": header({"a": {"dtype": "F32", "shape": [2]}}, EIGHT),
    "unknown dtype": header({"a": entry("F33")}, EIGHT),
    "dtype a number": header({"a": entry(4)}, EIGHT),
    "negative size": header({"a": entry(shape=[-2])}, EIGHT),
    "a fraction": header({"a": entry(shape=[2.0])}, EIGHT),
    "true as size": header({"a": entry("F64", shape=[True])}, EIGHT),
    "text as size": header({"a": entry(shape="2")}, EIGHT),
    "NaN as size": header(b'{"a":{"dtype":"F32","shape":[NaN],"data_offsets":[0,8]}}', EIGHT),
    "a product that overflows": header({"a": entry(shape=[2**32, 2**32, 0, 1])}, EIGHT),
    "a huge product": header({"a": entry(shape=[2**30, 2**30])}, EIGHT),
    "many dimensions": header({"a": entry("U8", shape=[1] * 1000, offsets=[0, 1])}, b"\0"),
    "an endless number": header(b'{"a":{"dtype":"F32","shape":[' + b"9" * 10_000 + b'],"data_offsets":[0,8]}}', EIGHT),
    "offsets reversed": header({"a": entry(offsets=[8, 0])}, EIGHT),
    "offsets negative": header({"a": entry(offsets=[-8, 0])}, EIGHT),
    "offsets too few": header({"a": entry(offsets=[0])}, EIGHT),
    "offsets too long": header({"a": entry(offsets=[0, 12])}, EIGHT),
    "beyond the file": header({"a": entry(shape=[4], offsets=[0, 16])}, EIGHT),
    "a hole": header({"a": entry(), "b": entry(offsets=[12, 20])}, b"\0" * 20),
    "a hole first": header({"a": entry(offsets=[4, 12])}, b"\0" * 12),
    "overlap": header({"a": entry(), "b": entry(offsets=[4, 12])}, b"\0" * 12),
    "the same bytes twice": header({"a": entry(), "b": entry()}, EIGHT),
    "bytes left over": header({"a": entry()}, b"\0" * 9),
    "half a byte": header({"a": entry("F4", shape=[3], offsets=[0, 1])}, b"\0"),
    "a name with half a pair": header({"\ud800": entry()}, EIGHT),
    "metadata with half a pair": header({"__metadata__": {"x": "\ud800"}, "a": entry()}, EIGHT),
    "metadata a list": header({"__metadata__": [], "a": entry()}, EIGHT),
    "metadata nested": header({"__metadata__": {"x": {}}, "a": entry()}, EIGHT),
}


@pytest.mark.parametrize("name", SAFETENSORS)
def test_a_header_that_lies_is_refused(name: str) -> None:
    with pytest.raises(BrokenFile):
        read(SAFETENSORS[name], ".safetensors")


def test_random_damage_to_a_header_never_breaks_the_reader() -> None:
    good = models.model().raw
    source = random.Random(1)
    for _ in range(3000):
        raw = bytearray(good[: 9000 + source.randint(0, 500)])
        for _ in range(source.randint(1, 6)):
            raw[source.randint(0, 2500)] = source.randint(0, 255)
        try:
            read(bytes(raw), ".safetensors")
        except BrokenFile:
            continue


def test_what_is_written_is_what_the_reader_takes() -> None:
    found = models.model()
    length = tensors.header_length(found.raw[:8], len(found.raw))
    listed = tensors.directory(found.raw[8 : 8 + length], len(found.raw))

    assert {tensor.name for tensor in listed.tensors} == set(found.parts)
    assert (8 + length) % 8 == 0


@pytest.mark.parametrize(("length", "size"), [(2**63, 2**64), (100_000_001, 2**40), (1, 500), (493, 500), (2, 9)])
def test_a_header_s_length_is_believed_within_the_file_and_the_limit_alone(length: int, size: int) -> None:
    with pytest.raises(BrokenFile):
        tensors.header_length(length.to_bytes(8, "little"), size)
    assert tensors.header_length((492).to_bytes(8, "little"), 500) == 492


@pytest.mark.parametrize("name", ["deep", "an endless number"])
def test_the_reason_is_about_the_file_and_not_about_us(name: str) -> None:
    with pytest.raises(BrokenFile, match="a number or a nesting is out of bounds"):
        read(SAFETENSORS[name], ".safetensors")
