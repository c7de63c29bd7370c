"""Python values to DynamoDB's typed JSON and back: whole numbers stay int, the rest are IEEE doubles, never Decimal."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

Item = dict[str, Any]
WireItem = dict[str, dict[str, Any]]

# Beyond these a DynamoDB number does not go; contracts keep values far inside.
_SMALLEST = 1e-130
_LARGEST = 9.9e125


def to_wire(item: Mapping[str, Any]) -> WireItem:
    return {name: encode(value) for name, value in item.items()}


def from_wire(item: Mapping[str, Mapping[str, Any]]) -> Item:
    return {name: decode(value) for name, value in item.items()}


def encode(value: Any) -> dict[str, Any]:
    try:
        return _ENCODERS[type(value)](value)
    except KeyError:
        raise TypeError(f"{type(value).__name__} has no form in a table") from None


def decode(value: Mapping[str, Any]) -> Any:
    ((kind, content),) = value.items()
    return _DECODERS[kind](content)


def _encode_float(value: float) -> dict[str, Any]:
    if not abs(value) <= _LARGEST:
        raise ValueError(f"{value} does not fit into a table")
    return {"N": repr(value) if abs(value) >= _SMALLEST else "0"}


def _decode_number(text: str) -> int | float:
    try:
        return int(text)
    except ValueError:
        return float(text)


_ENCODERS: dict[type, Callable[[Any], dict[str, Any]]] = {
    str: lambda value: {"S": value},
    int: lambda value: {"N": str(value)},
    float: _encode_float,
    bool: lambda value: {"BOOL": value},
    type(None): lambda _value: {"NULL": True},
    bytes: lambda value: {"B": value},
    list: lambda value: {"L": [encode(element) for element in value]},
    tuple: lambda value: {"L": [encode(element) for element in value]},
    dict: lambda value: {"M": to_wire(value)},
    set: lambda value: {"SS": sorted(value)},
    frozenset: lambda value: {"SS": sorted(value)},
}
_DECODERS: dict[str, Callable[[Any], Any]] = {
    "S": lambda content: content,
    "N": _decode_number,
    "BOOL": lambda content: content,
    "NULL": lambda _content: None,
    "B": bytes,
    "L": lambda content: [decode(element) for element in content],
    "M": from_wire,
    "SS": set,
}
