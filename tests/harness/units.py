"""What DynamoDB would charge for a call, from the items themselves: the emulator's own figures are wrong.

Writes: a unit per KB of the larger of old and new, twice in a transaction, and what each index has to change. Reads: a
unit per 4 KB, half where eventual consistency will do.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

from moto.backends import get_backend
from moto.core.models import DEFAULT_ACCOUNT_ID
from moto.dynamodb.models.dynamo_type import DynamoType
from moto.dynamodb.models.table import Table

Wire = dict[str, Any]
Key = tuple[str, str]
_WRITE_BYTES = 1024
_READ_BYTES = 4096
_ACTIONS = ("Put", "Update", "Delete", "ConditionCheck")


def size(item: Wire) -> int:
    """Bytes of an item: names and values; numbers take about one byte for two digits."""
    return sum(len(name.encode()) + _value_size(value) for name, value in item.items())


def _value_size(value: Wire) -> int:
    ((kind, content),) = value.items()
    if kind == "S":
        return len(content.encode())
    if kind == "N":
        return len(content.strip("-0.")) // 2 + 2
    if kind == "B":
        return len(content) * 3 // 4 if isinstance(content, str) else len(content)  # the emulator keeps base64
    if kind == "M":
        return 3 + sum(1 + len(name.encode()) + _value_size(inner) for name, inner in content.items())
    if kind == "L":
        return 3 + sum(1 + _value_size(inner) for inner in content)
    return sum(len(element.encode()) for element in content) if kind == "SS" else 1


def written_keys(operation: str, params: Wire) -> list[tuple[str, Key]]:
    """Tables and keys that a write names, one per charged item."""
    if operation == "TransactWriteItems":
        writes = [entry[action] for entry in params["TransactItems"] for action in _ACTIONS if action in entry]
        return [(write["TableName"], _key(write.get("Item") or write["Key"])) for write in writes]
    if operation == "BatchWriteItem":
        return [
            (name, _key(entry["PutRequest"]["Item"] if "PutRequest" in entry else entry["DeleteRequest"]["Key"]))
            for name, entries in params["RequestItems"].items()
            for entry in entries
        ]
    return [(params["TableName"], _key(params.get("Item") or params["Key"]))]


def stored(wanted: Iterable[tuple[str, Key]]) -> list[Wire]:
    """The items as they stand now; an absent one is empty."""
    return [_stored(name, key) for name, key in wanted]


def charged(operation: str, wanted: list[tuple[str, Key]], before: list[Wire], after: list[Wire]) -> float:
    """Write units of one call, failed conditions included."""
    units = 0.0
    for (name, _), old, new in zip(wanted, before, after, strict=True):
        units += _blocks(max(size(old), size(new)), _WRITE_BYTES) * (2 if operation == "TransactWriteItems" else 1)
        units += sum(_index_units(index, old, new) for index in _indexes(name))
    return units


def read(operation: str, params: Wire, answer: Wire) -> float:
    """Read units of one call; a projection counts as what it returned."""
    if operation == "GetItem":
        found = size(answer.get("Item") or {})
        return _blocks(found, _READ_BYTES) * _share(params)
    if operation == "BatchGetItem":
        units = 0.0
        for name, asked in params["RequestItems"].items():
            items = answer["Responses"].get(name, [])
            missing = len(asked["Keys"]) - len(items)
            units += (sum(_blocks(size(item), _READ_BYTES) for item in items) + missing) * _share(asked)
        return units
    if operation in {"Query", "Scan"}:
        return _blocks(sum(size(item) for item in answer.get("Items", [])), _READ_BYTES) * _share(params)
    return 0.0


def _share(params: Wire) -> float:
    return 1.0 if params.get("ConsistentRead") else 0.5


def _blocks(length: int, block: int) -> int:
    return max(1, math.ceil(length / block))


def _index_units(index: Any, old: Wire, new: Wire) -> int:
    """What one index writes: nothing where what it holds stays the same, twice where its key moves."""
    names = [part["AttributeName"] for part in index.schema]
    was, becomes = (_projected(index, names, item) for item in (old, new))
    if was == becomes:
        return 0
    if was and becomes and all(was[name] == becomes[name] for name in names):
        return _blocks(max(size(was), size(becomes)), _WRITE_BYTES)
    return sum(_blocks(size(entry), _WRITE_BYTES) for entry in (was, becomes) if entry)


def _projected(index: Any, names: list[str], item: Wire) -> Wire:
    if not all(name in item for name in names):
        return {}
    kind = index.projection.get("ProjectionType", "ALL")
    if kind == "ALL":
        return item
    kept = {*names, "pk", "sk", *index.projection.get("NonKeyAttributes", ())}
    return {name: value for name, value in item.items() if name in kept}


def stored_table(name: str) -> Table:
    """A table as the emulator holds it."""
    table: Table = get_backend("dynamodb")[DEFAULT_ACCOUNT_ID]["us-east-1"].tables[name]
    return table


def _indexes(name: str) -> list[Any]:
    table = stored_table(name)
    return [*table.global_indexes, *table.indexes]


def _stored(name: str, key: Key) -> Wire:
    pk, sk = (DynamoType({"S": part}) for part in key)
    item = stored_table(name).items.get(pk, {}).get(sk)
    return {attribute: value.to_regular_json() for attribute, value in item.attrs.items()} if item else {}


def _key(item: Wire) -> Key:
    return item["pk"]["S"], item["sk"]["S"]
