"""Who may do what: one policy per system, one role per task; every resource is named."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from infra import names

_READ_ITEMS = ["dynamodb:GetItem", "dynamodb:BatchGetItem", "dynamodb:Query", "dynamodb:DescribeTable"]
_WRITE_ITEMS = [
    "dynamodb:PutItem",
    "dynamodb:UpdateItem",
    "dynamodb:DeleteItem",
    "dynamodb:BatchWriteItem",
    "dynamodb:ConditionCheckItem",
]
_OBJECTS = [
    "s3:GetObject",
    "s3:PutObject",
    "s3:DeleteObject",
    "s3:AbortMultipartUpload",
    "s3:ListMultipartUploadParts",
]
_BUCKETS = ["s3:ListBucket", "s3:ListBucketMultipartUploads"]
_EXECUTIONS = ["states:DescribeExecution", "states:StopExecution"]
_CALLBACKS = ["states:SendTaskSuccess", "states:SendTaskFailure", "states:SendTaskHeartbeat"]


def allow(actions: Iterable[str], resources: list[Any]) -> dict[str, Any]:
    return {"Effect": "Allow", "Action": sorted(actions), "Resource": resources}


def read_items(stage: str, table: str, indexes: Iterable[str] = ()) -> dict[str, Any]:
    return allow(_READ_ITEMS, _table_and_indexes(stage, table, indexes))


def use_items(stage: str, table: str, indexes: Iterable[str] = ()) -> dict[str, Any]:
    return allow([*_READ_ITEMS, *_WRITE_ITEMS], _table_and_indexes(stage, table, indexes))


def read_stream(stage: str, table_key: str, table: str) -> list[dict[str, Any]]:
    """Lambda looks whether a role may do all of it before it takes an event source."""
    actions = ["dynamodb:DescribeStream", "dynamodb:GetRecords", "dynamodb:GetShardIterator"]
    streams = names.arn("dynamodb", f"table/{names.physical(stage, table)}/stream/*")
    return [
        allow(actions, [{"Fn::GetAtt": [table_key, "StreamArn"]}]),
        allow(["dynamodb:ListStreams"], [streams]),
    ]


def use_bucket(bucket_key: str) -> list[dict[str, Any]]:
    arn = {"Fn::GetAtt": [bucket_key, "Arn"]}
    return [allow(_OBJECTS, [{"Fn::Join": ["", [arn, "/*"]]}]), allow(_BUCKETS, [arn])]


def use_machine(stage: str, machine: str) -> list[dict[str, Any]]:
    name = names.physical(stage, machine)
    executions = names.arn("states", f"execution:{name}:*")
    arn = names.machine_arn(stage, machine)
    return [
        allow(["states:StartExecution", "states:ListExecutions", *_CALLBACKS], [arn]),
        allow(_EXECUTIONS, [executions]),
    ]


def use_queue(queue_arns: list[Any]) -> dict[str, Any]:
    actions = ["sqs:ReceiveMessage", "sqs:DeleteMessage", "sqs:GetQueueAttributes", "sqs:SendMessage"]
    return allow(actions, queue_arns)


def invoke(stage: str, tasks: Iterable[str]) -> dict[str, Any]:
    return allow(["lambda:InvokeFunction"], [names.function_arn(stage, task) for task in tasks])


def write_log(function: str) -> dict[str, Any]:
    streams = names.arn("logs", f"log-group:/aws/lambda/{function}:*")
    return allow(["logs:CreateLogStream", "logs:PutLogEvents"], [streams])


def read_secrets(named: Iterable[str]) -> list[dict[str, Any]]:
    """Those that variables name; Secrets Manager ends its ARNs with six letters of its own."""
    kinds: dict[str, list[Any]] = {"ssm:GetParameter": [], "secretsmanager:GetSecretValue": []}
    for reference in sorted(set(named)):
        service, _, name = reference.partition(":")
        if service == "ssm":
            kinds["ssm:GetParameter"].append(names.arn("ssm", f"parameter/{name.removeprefix('/')}"))
        else:
            kinds["secretsmanager:GetSecretValue"].append(names.arn(service, f"secret:{name}-??????"))
    return [allow([action], resources) for action, resources in kinds.items() if resources]


def role(
    stage: str, name: str, service: str, statements: list[dict[str, Any]], policies: Iterable[Any] = ()
) -> dict[str, Any]:
    properties: dict[str, Any] = {
        "RoleName": names.physical(stage, name),
        "AssumeRolePolicyDocument": {
            "Version": "2012-10-17",
            "Statement": [{"Effect": "Allow", "Principal": {"Service": service}, "Action": "sts:AssumeRole"}],
        },
        "Policies": [
            {
                "PolicyName": "own",
                "PolicyDocument": {"Version": "2012-10-17", "Statement": statements},
            }
        ],
    }
    managed = list(policies)
    if managed:
        properties["ManagedPolicyArns"] = managed
    return {"Type": "AWS::IAM::Role", "Properties": properties}


def policy(stage: str, name: str, statements: list[dict[str, Any]]) -> dict[str, Any]:
    return {
        "Type": "AWS::IAM::ManagedPolicy",
        "Properties": {
            "ManagedPolicyName": names.physical(stage, name),
            "PolicyDocument": {"Version": "2012-10-17", "Statement": statements},
        },
    }


def _table_and_indexes(stage: str, table: str, indexes: Iterable[str]) -> list[Any]:
    name = names.physical(stage, table)
    return [
        names.table_arn(stage, table),
        *(names.arn("dynamodb", f"table/{name}/index/{index}") for index in indexes),
    ]
