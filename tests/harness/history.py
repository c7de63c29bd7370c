"""A long history for the price of a loop: items that differ in their sort key alone, straight into the emulator."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from moto.dynamodb.models.dynamo_type import DynamoType, Item, LimitedSizeDict

from chalicelib.kernel.tables import Table
from chalicelib.kernel.wire import to_wire
from tests.harness import units


def put_alike(table: Table, item: dict[str, Any], sort_keys: Iterable[str]) -> None:
    """The item once under each sort key of its partition."""
    wire = to_wire(item | {"sk": "-"})
    sample = Item(DynamoType(wire["pk"]), DynamoType(wire["sk"]), wire)
    partition = units.stored_table(table.name).items[sample.hash_key]
    for text in sort_keys:
        key = DynamoType({"S": text})
        attributes = LimitedSizeDict()
        dict.update(attributes, sample.attrs)
        dict.__setitem__(attributes, "sk", key)
        made = Item(sample.hash_key, key, {})
        made.attrs = attributes
        partition[key] = made
