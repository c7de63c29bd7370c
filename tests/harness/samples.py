"""Bodies that a contract takes or nearly takes, made from its schema: a plain one, and one per odd value in a field."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

from pydantic import BaseModel

from tests.harness.wallets import wallet

ODD_VALUES: tuple[Any, ...] = (
    None, "", "x", "é\u0000", "a" * 5000, -1, 0, 1, 2**63, 10**37, 1.5, -1e120, True, [], [None], {}, {"x": []},
    [[]] * 300, wallet("odd").hotkey,
)  # fmt: skip


def plain(contract: type[BaseModel]) -> Any:
    """An instance with the smallest values that the schema allows."""
    schema = contract.model_json_schema()
    return _sample(schema, schema.get("$defs", {}), "")


def odd(contract: type[BaseModel]) -> Iterator[Any]:
    """The plain body with one odd value at one place, for every place and value; and without each field."""
    base = plain(contract)
    for path in _paths(base):
        for value in ODD_VALUES:
            yield _with(base, path, value)
        if path and isinstance(path[-1], str):
            yield _without(base, path)


def _sample(schema: dict[str, Any], definitions: dict[str, Any], name: str) -> Any:
    if "$ref" in schema:
        return _sample(definitions[schema["$ref"].rsplit("/", 1)[-1]], definitions, name)
    for key in ("const", "default"):
        if schema.get(key) is not None:
            return schema[key]
    if "enum" in schema:
        return schema["enum"][0]
    options = schema.get("anyOf") or schema.get("oneOf") or schema.get("allOf")
    if options:
        return _sample(options[0], definitions, name)
    return _of_type(schema, definitions, name)


def _of_type(schema: dict[str, Any], definitions: dict[str, Any], name: str) -> Any:
    kind = schema.get("type", "string")
    if kind == "object":
        fields = schema.get("properties", {})
        return {field: _sample(shape, definitions, field) for field, shape in fields.items()}
    if kind == "array":
        count = max(schema.get("minItems", 1), 1)
        return [_sample(schema.get("items", {}), definitions, name) for _ in range(count)]
    if kind in {"integer", "number"}:
        return max(schema.get("minimum", 1), schema.get("exclusiveMinimum", 0) + 1)
    if kind == "boolean":
        return True
    return None if kind == "null" else _text(schema, name)


def _text(schema: dict[str, Any], name: str) -> str:
    if any(word in name for word in ("hotkey", "coldkey", "miner", "validator", "key")):
        return wallet("sample").hotkey
    text = str(schema.get("examples", ["abcdef0123456789" * 4])[0])
    return text[: schema.get("maxLength", len(text))].ljust(schema.get("minLength", 0), "a")


def _paths(value: Any, path: tuple[str | int, ...] = ()) -> Iterator[tuple[str | int, ...]]:
    yield path
    children = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, child in list(children)[:40]:
        yield from _paths(child, (*path, key))


def _with(base: Any, path: tuple[str | int, ...], value: Any) -> Any:
    if not path:
        return value
    changed = copy.deepcopy(base)
    _parent(changed, path)[path[-1]] = value
    return changed


def _without(base: Any, path: tuple[str | int, ...]) -> Any:
    changed = copy.deepcopy(base)
    del _parent(changed, path)[path[-1]]
    return changed


def _parent(value: Any, path: tuple[str | int, ...]) -> Any:
    for key in path[:-1]:
        value = value[key]
    return value
