"""An AWS in the test's own process: moto, with stores as `infra/` declares them."""

from __future__ import annotations

import copy
import functools
import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

from moto.backends import get_backend
from moto.core.base_backend import BackendDict
from moto.core.models import DEFAULT_ACCOUNT_ID, botocore_stubber
from moto.dynamodb.models.dynamo_type import DynamoType
from moto.dynamodb.models.dynamo_type import Item as StoredItem
from moto.s3.models import FakeKey

from chalicelib.kernel import aws, tables
from chalicelib.kernel.wire import Item, to_wire
from infra import template
from tests.harness import emulation
from tests.harness.units import stored_table

# Tables' items by partition and sort key, buckets' versions by key.
Contents = tuple[dict[str, Any], dict[str, dict[str, list[dict[str, Any]]]]]
_MEMORY: dict[str, tuple[Any, Contents]] = {}
Made = TypeVar("Made")
_CREDENTIALS = {
    "AWS_ACCESS_KEY_ID": "test",
    "AWS_SECRET_ACCESS_KEY": "test",
    "AWS_DEFAULT_REGION": "us-east-1",
    "STAGE": "local",
}
_TABLE_FIELDS = {
    "TableName",
    "AttributeDefinitions",
    "KeySchema",
    "BillingMode",
    "GlobalSecondaryIndexes",
    "LocalSecondaryIndexes",
}


@functools.cache
def _stores() -> tuple[list[dict[str, Any]], list[str]]:
    resources = template.build("local", variables={})["Resources"].values()
    tables = [
        {name: value for name, value in resource["Properties"].items() if name in _TABLE_FIELDS}
        for resource in resources
        if resource["Type"] == "AWS::DynamoDB::Table"
    ]
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
    """Every table and bucket of the template, empty. Clouds follow one another; none is inside another."""
    _credentials()
    assert not botocore_stubber.enabled
    botocore_stubber.enabled = True
    try:
        tables, buckets = _stores()
        for table in tables:
            emulation.create_table(table)
        for bucket in buckets:
            get_backend("s3")[DEFAULT_ACCOUNT_ID]["aws"].create_bucket(bucket, emulation.REGION)
        yield
    finally:
        botocore_stubber.enabled = False
        BackendDict.reset()


def remembered(name: str, make: Callable[[], Made]) -> Made:
    """What `make` answers and leaves in the cloud; made once a process, and from then on put there as it was."""
    if name not in _MEMORY:
        _MEMORY[name] = (make(), _contents())
    else:
        _put_back(*_MEMORY[name][1])
    made: Made = copy.copy(_MEMORY[name][0])
    return made


def _put_back(tables: dict[str, Any], buckets: dict[str, dict[str, list[dict[str, Any]]]]) -> None:
    for table, items in tables.items():
        stored_table(table).items = copy.deepcopy(items)
    for bucket, objects in buckets.items():
        for key, versions in objects.items():
            _bucket(bucket).keys.setlist(key, [_object(state) for state in versions])


def _contents() -> Contents:
    tables, buckets = _stores()
    names = [table["TableName"] for table in tables]
    items = {name: copy.deepcopy(stored_table(name).items) for name in names}
    return items, {name: {key: _states(found) for key, found in _bucket(name).keys.lists()} for name in buckets}


def _states(versions: list[FakeKey]) -> list[dict[str, Any]]:
    """Not the objects themselves: a cloud that ends empties whatever objects there are."""
    return [copy.deepcopy(version.__getstate__()) for version in versions]


def _object(state: dict[str, Any]) -> FakeKey:
    found: Any = FakeKey.__new__(FakeKey)
    found.__setstate__(copy.deepcopy(state))
    return found  # type: ignore[no-any-return] # its class keeps no track of its own type


def _bucket(name: str) -> Any:
    return get_backend("s3")[DEFAULT_ACCOUNT_ID]["aws"].buckets[name]


def stock(table: tables.Table, items: Iterable[Item]) -> None:
    """Put items straight into the emulator, without a request: a history of a hundred thousand takes seconds."""
    held = stored_table(table.name)
    for item in items:
        wire = to_wire(item)
        pk, sk = DynamoType(wire["pk"]), DynamoType(wire["sk"])
        held.items[pk][sk] = StoredItem(pk, sk, wire)
