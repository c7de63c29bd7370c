"""Bytes to checked JSON and back: exact integers, no NaN, bounded depth, nothing that DynamoDB could not hold."""

from __future__ import annotations

import json
import re
from typing import Any

import pydantic_core

MAX_DEPTH = 64
MAX_INTEGER_DIGITS = 38

LARGEST_FLOAT = 9.9e125  # what a DynamoDB number holds

# Only a body with such a token can hold a number outside what we take; the others are spared the walk.
_SUSPICIOUS_NUMBER = re.compile(rb"[eE]\+?\d{3}|\d{27}")
_OPENERS = re.compile(rb"[\[{]")


class BadJson(ValueError):
    """The bytes are not the JSON that we take."""


def decode(raw: bytes, *, refuse_duplicates: bool = False) -> Any:
    """Parse a request body; of duplicate keys the last wins unless the route refuses them."""
    try:
        value = pydantic_core.from_json(raw, allow_inf_nan=False)
    except ValueError as error:
        raise BadJson(str(error)) from None
    if len(_OPENERS.findall(raw)) > MAX_DEPTH and _depth(value) > MAX_DEPTH:
        raise BadJson(f"nested deeper than {MAX_DEPTH} levels")
    if _SUSPICIOUS_NUMBER.search(raw):
        _check_numbers(value)
    if refuse_duplicates:
        json.loads(raw, object_pairs_hook=_unique)
    return value


def encode(value: Any) -> bytes:
    """Compact UTF-8 JSON of contracts, dataclasses, dicts and lists; integers stay exact, NaN never leaves."""
    return pydantic_core.to_json(value, inf_nan_mode="null")


def canonical(value: Any) -> bytes:
    """Sorted keys, no spaces, UTF-8: the form for hashes and signed messages of our own."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode()


def _depth(value: Any) -> int:
    """Containers on the longest way down, the outermost and the empty ones included."""
    depth = 0
    level = [value]
    while containers := [node for node in level if isinstance(node, (dict, list))]:
        depth += 1
        level = [below for node in containers for below in (node.values() if isinstance(node, dict) else node)]
    return depth


def _check_numbers(value: Any) -> None:
    pending = [value]
    while pending:
        node = pending.pop()
        if isinstance(node, dict):
            pending.extend(node.values())
        elif isinstance(node, list):
            pending.extend(node)
        elif isinstance(node, float) and not abs(node) <= LARGEST_FLOAT:
            raise BadJson("a number is out of range")
        elif isinstance(node, int) and not -(10**MAX_INTEGER_DIGITS) < node < 10**MAX_INTEGER_DIGITS:
            raise BadJson("an integer has too many digits")


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise BadJson("a key appears twice in one object")
    return found
