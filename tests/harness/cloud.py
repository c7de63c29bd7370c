"""An AWS in the test's own process: moto, with stores as `infra/` declares them."""

from __future__ import annotations

import functools
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from moto.backends import get_backend
from moto.core.base_backend import BackendDict
from moto.core.models import DEFAULT_ACCOUNT_ID, botocore_stubber
from moto.dynamodb.models.dynamo_type import DynamoType
from moto.dynamodb.models.dynamo_type import Item as StoredItem

from chalicelib.kernel import aws, tables
from chalicelib.kernel.wire import Item, to_wire
from infra import template
from tests.harness import emulation
from tests.harness.units import stored_table

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


def stock(table: tables.Table, items: Iterable[Item]) -> None:
    """Put items straight into the emulator, without a request: a history of a hundred thousand takes seconds."""
    held = stored_table(table.name)
    for item in items:
        wire = to_wire(item)
        pk, sk = DynamoType(wire["pk"]), DynamoType(wire["sk"])
        held.items[pk][sk] = StoredItem(pk, sk, wire)
