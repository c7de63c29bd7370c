"""Functions that run in a container image: where strangers' code is executed, so they may do nothing and reach nobody.

Chalice cannot deploy them. They live in a network without any route out and have a role that allows nothing but
the network interface that Lambda itself attaches.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from chalicelib.kernel.jobs import Task
from infra import access, names

_NETWORK = "Isolated"
_INTERFACES = "service-role/AWSLambdaENIManagementAccess"
_ZONES = 2
_SCRATCH_MIB = 4096
_AT_ONCE = 10
_UNTAGGED_DAYS = 14


def network(stage: str) -> dict[str, Any]:
    """Subnets that no route leaves, and a security group that lets nothing out."""
    tags = [{"Key": "Name", "Value": names.physical(stage, "isolated")}]
    resources: dict[str, Any] = {
        f"{_NETWORK}Vpc": {
            "Type": "AWS::EC2::VPC",
            "Properties": {"CidrBlock": "10.94.0.0/24", "EnableDnsSupport": False, "Tags": tags},
        },
        f"{_NETWORK}Group": {
            "Type": "AWS::EC2::SecurityGroup",
            "Properties": {
                "GroupDescription": "Nothing comes in, nothing goes out",
                "VpcId": {"Ref": f"{_NETWORK}Vpc"},
                "SecurityGroupEgress": [
                    {"IpProtocol": "icmp", "FromPort": 252, "ToPort": 86, "CidrIp": "127.0.0.1/32"}
                ],
            },
        },
    }
    for zone in range(_ZONES):
        resources[f"{_NETWORK}Subnet{zone}"] = {
            "Type": "AWS::EC2::Subnet",
            "Properties": {
                "VpcId": {"Ref": f"{_NETWORK}Vpc"},
                "CidrBlock": f"10.94.0.{zone * 128}/25",
                "AvailabilityZone": {"Fn::Select": [zone, {"Fn::GetAZs": ""}]},
                "Tags": tags,
            },
        }
    return resources


def repository(stage: str, image: str) -> dict[str, Any]:
    """Where an image is pushed; untagged ones, replaced by a newer build, go away."""
    rule = {
        "rulePriority": 1,
        "selection": {
            "tagStatus": "untagged",
            "countType": "sinceImagePushed",
            "countUnit": "days",
            "countNumber": _UNTAGGED_DAYS,
        },
        "action": {"type": "expire"},
    }
    properties = {
        "RepositoryName": names.physical(stage, image),
        "ImageScanningConfiguration": {"ScanOnPush": True},
        "ImageTagMutability": "IMMUTABLE",
        "LifecyclePolicy": {"LifecyclePolicyText": json.dumps({"rules": [rule]})},
    }
    return {f"{names.logical(image)}Repository": {"Type": "AWS::ECR::Repository", "Properties": properties}}


def function(stage: str, task: Task, uris: Mapping[str, str]) -> dict[str, Any]:
    """The function, once its image was pushed."""
    if task.image not in uris:
        return {}
    key = names.logical(task.name)
    properties = {
        "FunctionName": names.physical(stage, task.name),
        "PackageType": "Image",
        "Architectures": ["x86_64"],
        "Code": {"ImageUri": uris[task.image]},
        "ImageConfig": {"Command": [task.handler]},
        "Role": {"Fn::GetAtt": [f"{key}Role", "Arn"]},
        "Timeout": task.timeout,
        "MemorySize": task.memory,
        "EphemeralStorage": {"Size": _SCRATCH_MIB},
        "ReservedConcurrentExecutions": _AT_ONCE,
        "Environment": {"Variables": {"STAGE": stage}},
        "VpcConfig": {
            "SubnetIds": [{"Ref": f"{_NETWORK}Subnet{zone}"} for zone in range(_ZONES)],
            "SecurityGroupIds": [{"Ref": f"{_NETWORK}Group"}],
        },
    }
    depends = [f"{key}Role", f"{key}Log"]
    return {key: {"Type": "AWS::Lambda::Function", "DependsOn": depends, "Properties": properties}}


def role(stage: str, task: Task) -> dict[str, Any]:
    """Lambda may attach the interface with it; code that holds its credentials may do nothing."""
    from_inside = {"ArnEquals": {"lambda:SourceFunctionArn": names.function_arn(stage, task.name)}}
    nothing = {"Effect": "Deny", "Action": ["*"], "Resource": ["*"], "Condition": from_inside}
    log = access.write_log(names.physical(stage, task.name))
    interfaces = {"Fn::Sub": f"arn:${{AWS::Partition}}:iam::aws:policy/{_INTERFACES}"}
    return access.role(stage, task.name, "lambda.amazonaws.com", [log, nothing], [interfaces])
