"""Take a stage down. Data outlives it unless the operator says twice that it must not."""

from __future__ import annotations

from typing import Any

from botocore.exceptions import ClientError

from infra import stack, stores
from infra.stack import Client

_GONE = {"ResourceNotFoundException", "NoSuchBucket", "404"}
_AT_ONCE = 1000


def remove_data(client: Client, stage: str, template: dict[str, Any]) -> list[str]:
    """Delete every table and bucket of the template, and the artifact bucket; answers their names."""
    removed = []
    for resource in template["Resources"].values():
        properties = resource.get("Properties", {})
        if resource["Type"] == stores.TABLE and _remove_table(client("dynamodb"), properties["TableName"]):
            removed.append(properties["TableName"])
        if resource["Type"] == stores.BUCKET and remove_bucket(client("s3"), properties["BucketName"]):
            removed.append(properties["BucketName"])
    artifacts = stack.artifact_bucket(client, stage)
    remove_bucket(client("s3"), artifacts)
    return [*removed, artifacts]


def remove_bucket(s3: Any, bucket: str) -> bool:
    """Empty a bucket, then delete it."""
    try:
        for page in s3.get_paginator("list_objects_v2").paginate(Bucket=bucket):
            keys = [{"Key": found["Key"]} for found in page.get("Contents", [])]
            for first in range(0, len(keys), _AT_ONCE):
                s3.delete_objects(Bucket=bucket, Delete={"Objects": keys[first : first + _AT_ONCE], "Quiet": True})
        s3.delete_bucket(Bucket=bucket)
    except ClientError as error:
        if error.response["Error"]["Code"] in _GONE:
            return False
        raise
    return True


def _remove_table(dynamodb: Any, table: str) -> bool:
    try:
        dynamodb.update_table(TableName=table, DeletionProtectionEnabled=False)
        dynamodb.get_waiter("table_exists").wait(TableName=table)
        dynamodb.delete_table(TableName=table)
    except ClientError as error:
        if error.response["Error"]["Code"] in _GONE:
            return False
        raise
    return True
