"""Put a template up and wait until it stands; the same on AWS and on an emulator."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable
from typing import Any

from botocore.exceptions import ClientError

from infra import names, stores

Client = Callable[[str], Any]

CAPABILITIES = ["CAPABILITY_IAM", "CAPABILITY_NAMED_IAM", "CAPABILITY_AUTO_EXPAND"]
_INLINE_BYTES = 51_200
_UNCHANGED = "No updates are to be performed"
_STANDS = {"CREATE_COMPLETE", "UPDATE_COMPLETE", "IMPORT_COMPLETE", "UPDATE_COMPLETE_CLEANUP_IN_PROGRESS"}


class StackFailed(RuntimeError):
    """The stack did not reach what was asked; the message names the first resource that refused and why."""


def stack_name(stage: str) -> str:
    return names.physical(stage, "stack")


def apply(client: Client, stage: str, template: dict[str, Any]) -> bool:
    """Create or update the stack of a stage; False when nothing was to be done."""
    cloudformation = client("cloudformation")
    stack = stack_name(stage)
    source = template_source(client, stage, template)
    began = time.time()
    changed = _submit(cloudformation, stack, source)
    if changed:
        wait(cloudformation, stack, began)
    expire_items(client("dynamodb"), template)
    return changed


def template_source(client: Client, stage: str, template: dict[str, Any]) -> dict[str, str]:
    """The template as an argument of CloudFormation's calls: inline, or by URL when it is long."""
    body = body_of(template)
    if len(body) <= _INLINE_BYTES:
        return {"TemplateBody": body.decode()}
    s3 = client("s3")
    bucket = artifact_bucket(client, stage)
    key = f"templates/{hashlib.sha256(body).hexdigest()}.json"
    s3.put_object(Bucket=bucket, Key=key, Body=body)
    return {"TemplateURL": f"{s3.meta.endpoint_url}/{bucket}/{key}"}


def body_of(template: dict[str, Any]) -> bytes:
    """As few bytes as it takes: CloudFormation counts them."""
    return json.dumps(template, sort_keys=True, separators=(",", ":")).encode()


def artifact_bucket(client: Client, stage: str) -> str:
    """Where templates, layers and packages lie; made on first use, closed and encrypted like every bucket."""
    account = client("sts").get_caller_identity()["Account"]
    bucket = f"{names.APP}-{stage}-artifacts-{account}"
    s3 = client("s3")
    try:
        s3.head_bucket(Bucket=bucket)
    except ClientError as error:
        if error.response["Error"]["Code"] not in {"404", "NoSuchBucket"}:
            raise
        _create_bucket(s3, bucket)
    return bucket


def wait(cloudformation: Any, stack: str, began: float) -> None:
    """Return when the stack stands; otherwise say which resource failed first, and why."""
    pause = 0.05
    while True:
        found = status(cloudformation, stack)
        if found in _STANDS:
            return
        if found is None or not found.endswith("_IN_PROGRESS"):
            raise StackFailed(f"{stack} is {found}: {_first_failure(cloudformation, stack, began)}")
        time.sleep(pause)
        pause = min(pause * 1.5, 5)


def expire_items(dynamodb: Any, template: dict[str, Any]) -> None:
    """Switch expiry on where it is off: an emulator takes the template's word for it and does nothing."""
    for resource in template["Resources"].values():
        if resource["Type"] != stores.TABLE:
            continue
        table = resource["Properties"]["TableName"]
        expiry = dynamodb.describe_time_to_live(TableName=table)["TimeToLiveDescription"]
        if expiry["TimeToLiveStatus"] in {"DISABLED", "DISABLING"}:
            wanted = resource["Properties"]["TimeToLiveSpecification"]
            dynamodb.update_time_to_live(TableName=table, TimeToLiveSpecification=wanted)


def status(cloudformation: Any, stack: str) -> str | None:
    """None where there is no such stack, or only a change set that was never executed."""
    try:
        found = cloudformation.describe_stacks(StackName=stack)["Stacks"]
    except ClientError as error:
        if "does not exist" in error.response["Error"]["Message"]:
            return None
        raise
    stands = str(found[0]["StackStatus"])
    return None if stands in {"DELETE_COMPLETE", "REVIEW_IN_PROGRESS"} else stands


def standing_template(cloudformation: Any, stack: str) -> dict[str, Any] | None:
    """What the stack was last made from; None where there is none."""
    if status(cloudformation, stack) is None:
        return None
    found: dict[str, Any] = cloudformation.get_template(StackName=stack)["TemplateBody"]
    return found


def outputs(cloudformation: Any, stack: str) -> dict[str, str]:
    found = cloudformation.describe_stacks(StackName=stack)["Stacks"][0].get("Outputs", [])
    return {output["OutputKey"]: output["OutputValue"] for output in found}


def make_room(cloudformation: Any, stack: str) -> None:
    """A stack whose very first creation failed holds nothing and can only be deleted."""
    if status(cloudformation, stack) == "ROLLBACK_COMPLETE":
        delete(cloudformation, stack)


def delete(cloudformation: Any, stack: str) -> None:
    """Take the stack down and wait; tables and buckets stay."""
    cloudformation.delete_stack(StackName=stack)
    pause = 0.05
    while (found := status(cloudformation, stack)) is not None:
        if found.endswith("_FAILED"):
            raise StackFailed(f"{stack} is {found}: {_first_failure(cloudformation, stack, 0)}")
        time.sleep(pause)
        pause = min(pause * 1.5, 5)


def _submit(cloudformation: Any, stack: str, source: dict[str, str]) -> bool:
    arguments = {"StackName": stack, "Capabilities": CAPABILITIES, **source}
    make_room(cloudformation, stack)
    if status(cloudformation, stack) is None:
        cloudformation.create_stack(**arguments)
        return True
    try:
        cloudformation.update_stack(**arguments)
    except ClientError as error:
        if _UNCHANGED not in error.response["Error"]["Message"]:
            raise
        return False
    return True


def _first_failure(cloudformation: Any, stack: str, began: float) -> str:
    events = cloudformation.describe_stack_events(StackName=stack)["StackEvents"]
    failed = [
        event
        for event in events
        if event["ResourceStatus"].endswith("_FAILED") and event["Timestamp"].timestamp() >= began - 1
    ]
    if not failed:
        return "no resource says why"
    first = failed[-1]
    return f"{first['LogicalResourceId']}: {first.get('ResourceStatusReason', 'no reason given')}"


def _create_bucket(s3: Any, bucket: str) -> None:
    region = s3.meta.region_name
    place = {} if region == "us-east-1" else {"CreateBucketConfiguration": {"LocationConstraint": region}}
    s3.create_bucket(Bucket=bucket, **place)
    s3.put_public_access_block(Bucket=bucket, PublicAccessBlockConfiguration=stores.NOT_PUBLIC)
