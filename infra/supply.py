"""What a deployment needs before and keeps after: layers in the artifact bucket, Chalice's memory of what it made."""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime
from pathlib import Path

from botocore.exceptions import ClientError

from infra import names, stack, tasks
from infra.stack import Client
from layers import build

ROOT = Path(__file__).parent.parent


def publish_layers(client: Client, stage: str, systems: Collection[str]) -> dict[str, tuple[str, str]]:
    """Build the layers that a stage's tasks ask for and put them where CloudFormation finds them, named by content."""
    wanted = sorted({layer for task in tasks.of_stage(systems) for layer in task.layers})
    if not wanted:
        return {}
    bucket = stack.artifact_bucket(client, stage)
    published = {}
    for name in wanted:
        packed = build.build(name)
        key = f"layers/{packed.name}"
        if _stored(client, bucket, key) is None:
            client("s3").put_object(Bucket=bucket, Key=key, Body=packed.read_bytes())
        published[name] = (bucket, key)
    return published


def existing_functions(client: Client, stage: str) -> set[str]:
    """The tasks whose functions stand in a stage."""
    prefix = names.physical(stage, "")
    found = set()
    for page in client("lambda").get_paginator("list_functions").paginate():
        for function in page["Functions"]:
            if function["FunctionName"].startswith(prefix):
                found.add(function["FunctionName"].removeprefix(prefix))
    return found


def state_file(stage: str) -> Path:
    """Where Chalice writes down what it deployed; without it, it would make a second API."""
    return ROOT / ".chalice" / "deployed" / f"{stage}.json"


def keep_state(client: Client, stage: str) -> None:
    bucket = stack.artifact_bucket(client, stage)
    client("s3").put_object(Bucket=bucket, Key=_state_key(stage), Body=state_file(stage).read_bytes())


def restore_state(client: Client, stage: str) -> None:
    """Another machine may have deployed last: of its notes and ours the newer ones count."""
    bucket, file = stack.artifact_bucket(client, stage), state_file(stage)
    kept = _stored(client, bucket, _state_key(stage))
    if kept is None or (file.exists() and file.stat().st_mtime > kept.timestamp()):
        return
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(client("s3").get_object(Bucket=bucket, Key=_state_key(stage))["Body"].read())


def _state_key(stage: str) -> str:
    return f"chalice/{stage}.json"


def _stored(client: Client, bucket: str, key: str) -> datetime | None:
    """When an object was written, None where there is none."""
    try:
        written: datetime = client("s3").head_object(Bucket=bucket, Key=key)["LastModified"]
    except ClientError as error:
        if error.response["Error"]["Code"] in {"404", "NoSuchKey"}:
            return None
        raise
    return written
