"""Records as items: graphs as bytes, moments and numbers as text that sorts. Part of `store`."""

from __future__ import annotations

import dataclasses
import struct
from typing import Any

from chalicelib.kernel.values import fields
from chalicelib.kernel.wire import Item


def micros(at: float) -> str:
    """A moment as text that sorts."""
    return f"{int(at * 1e6):017d}"


def descending(value: float) -> str:
    """A non-negative double as text whose order is the reverse."""
    (bits,) = struct.unpack(">Q", struct.pack(">d", max(value, 0.0) + 0.0))
    return f"{0xFFFF_FFFF_FFFF_FFFF - bits:016x}"


def packed(graph: frozenset[int]) -> bytes:
    return b"".join(value.to_bytes(8, "big") for value in sorted(graph))


def unpacked(raw: bytes) -> frozenset[int]:
    return frozenset(int.from_bytes(raw[at : at + 8], "big") for at in range(0, len(raw), 8))


def item_of(pk: str, sk: str, record: Any, *, without: tuple[str, ...] = ()) -> Item:
    """A record as an item; graphs as bytes."""
    item: Item = {"pk": pk, "sk": sk}
    for field in dataclasses.fields(record):
        if field.name not in without:
            value = getattr(record, field.name)
            item[field.name] = packed(value) if isinstance(value, frozenset) else value
    return item


def values_of(kind: type[Any], item: Item) -> dict[str, Any]:
    """The item's attributes that the record has."""
    found: dict[str, Any] = {}
    for field in fields(kind):
        if field.name in item:
            value = item[field.name]
            if isinstance(value, bytes):
                value = unpacked(value)
            found[field.name] = float(value) if field.type == "float" else value
    return found
