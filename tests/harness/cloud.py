"""An AWS in the test's own process: moto behind one lock (threads tear it), stores as `infra/` declares them."""

from __future__ import annotations

import copy
import functools
import os
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from moto import mock_aws
from moto.dynamodb import models
from moto.dynamodb.models.dynamo_type import DynamoType
from moto.dynamodb.models.dynamo_type import Item as StoredItem
from moto.dynamodb.models.table import Table
from moto.dynamodb.responses import DynamoHandler
from moto.s3.responses import S3Response

from chalicelib.kernel import aws, tables
from chalicelib.kernel.wire import Item, to_wire
from infra import template
from tests.harness.units import stored_table

_LOCK = threading.RLock()
_CREDENTIALS = {
    "AWS_ACCESS_KEY_ID": "test",
    "AWS_SECRET_ACCESS_KEY": "test",
    "AWS_DEFAULT_REGION": "us-east-1",
    "STAGE": "local",
}
_TABLE_FIELDS = (
    "TableName",
    "AttributeDefinitions",
    "KeySchema",
    "BillingMode",
    "GlobalSecondaryIndexes",
    "LocalSecondaryIndexes",
)


def _serialised(call: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(call)
    def locked(*args: Any, **kwargs: Any) -> Any:
        with _LOCK:
            return call(*args, **kwargs)

    return locked


class _CopyingItemsOnly:
    """Stands for the copy module where moto backs up whole tables, once for every item of a transaction."""

    @staticmethod
    def deepcopy(value: Any) -> Any:
        return value if isinstance(value, Table) else copy.deepcopy(value)


def _undoing(transact: Callable[..., None]) -> Callable[..., None]:
    """The same all or nothing as with moto's backup, for the price of the items that the transaction names."""

    @functools.wraps(transact)
    def all_or_nothing(backend: models.DynamoDBBackend, transact_items: list[dict[str, Any]]) -> None:
        before = []
        for entry in transact_items:
            ((_, request),) = entry.items()
            key = request.get("Key") or request["Item"]
            table = backend.tables[request["TableName"]]
            pk, sk = DynamoType(key["pk"]), DynamoType(key["sk"])
            before.append((table, pk, sk, copy.deepcopy(table.items.get(pk, {}).get(sk))))
        try:
            transact(backend, transact_items)
        except Exception:
            for table, pk, sk, item in before:
                if item is None:
                    table.items.get(pk, {}).pop(sk, None)
                else:
                    table.items[pk][sk] = item
            raise

    return all_or_nothing


def _in_order(table: Table) -> list[Any]:
    """Moto's own order of a whole table, which it takes for each query, without a cast for each comparison."""
    items = [item for partition in table.items.values() for item in partition.values()]
    return sorted(items, key=lambda item: (item.hash_key.value, item.range_key.value))


Table.all_items = _in_order  # type: ignore[method-assign, assignment] # see there
models.copy = _CopyingItemsOnly  # type: ignore[assignment, attr-defined] # see there
models.DynamoDBBackend.transact_write_items = _undoing(models.DynamoDBBackend.transact_write_items)  # type: ignore[method-assign] # see there
DynamoHandler.call_action = _serialised(DynamoHandler.call_action)  # type: ignore[method-assign] # see the docstring
S3Response._key_response = _serialised(S3Response._key_response)  # type: ignore[method-assign] # the same for objects


@functools.cache
def _stores() -> tuple[list[dict[str, Any]], list[str]]:
    resources = template.build("local", variables={})["Resources"].values()
    tables = [resource["Properties"] for resource in resources if resource["Type"] == "AWS::DynamoDB::Table"]
    buckets = [r["Properties"]["BucketName"] for r in resources if r["Type"] == "AWS::S3::Bucket"]
    return tables, [name for name in buckets if isinstance(name, str)]


@functools.cache
def _credentials() -> None:
    """Once per process: clients outlive their clouds, since making them is most of a small test's time."""
    os.environ.update(_CREDENTIALS)
    os.environ.pop("AWS_ENDPOINT_URL", None)
    aws.forget_clients()


@contextmanager
def empty_cloud() -> Iterator[None]:
    """Every table and bucket of the template, empty."""
    _credentials()
    with mock_aws():
        tables, buckets = _stores()
        for table in tables:
            aws.client("dynamodb").create_table(**{field: table[field] for field in _TABLE_FIELDS if field in table})
        for bucket in buckets:
            aws.client("s3").create_bucket(Bucket=bucket)
        yield


def stock(table: tables.Table, items: Iterable[Item]) -> None:
    """Put items straight into the emulator, without a request: a history of a hundred thousand takes seconds."""
    held = stored_table(table.name)
    for item in items:
        wire = to_wire(item)
        pk, sk = DynamoType(wire["pk"]), DynamoType(wire["sk"])
        held.items[pk][sk] = StoredItem(pk, sk, wire)
