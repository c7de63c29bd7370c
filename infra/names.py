"""Physical names: one rule, so that code, template and Chalice agree on them without asking each other."""

from __future__ import annotations

import re
from typing import Any

APP = "subnet-functions"
SYSTEMS = ("prism", "pool", "experts", "bitrecs", "leoma")
LOCAL = "local"


def physical(stage: str, name: str) -> str:
    """The name of a table, function, machine, queue or role in a stage."""
    return f"{APP}-{stage}-{name}"


def api_function(stage: str) -> str:
    """Chalice names the function behind the API after the app and the stage."""
    return f"{APP}-{stage}"


def bucket(stage: str, name: str, account: str = "${AWS::AccountId}") -> str:
    """Bucket names are one space for the whole world, so a deployed one carries the account."""
    return name if stage == LOCAL else f"{APP}-{stage}-{name}-{account}"


def logical(*parts: str) -> str:
    """`leoma-rank`, `role` is LeomaRankRole."""
    return "".join(word.capitalize() for part in parts for word in re.split(r"[^A-Za-z0-9]+", part))


def arn(service: str, resource: str) -> dict[str, Any]:
    """The ARN of something in the stack's own account and region."""
    return {"Fn::Sub": f"arn:${{AWS::Partition}}:{service}:${{AWS::Region}}:${{AWS::AccountId}}:{resource}"}


def function_arn(stage: str, task: str) -> dict[str, Any]:
    return arn("lambda", f"function:{physical(stage, task)}")


def table_arn(stage: str, table: str) -> dict[str, Any]:
    return arn("dynamodb", f"table/{physical(stage, table)}")


def queue_arn(stage: str, queue: str) -> dict[str, Any]:
    return arn("sqs", physical(stage, queue))


def machine_arn(stage: str, machine: str) -> dict[str, Any]:
    return arn("states", f"stateMachine:{physical(stage, machine)}")


def role_arn(stage: str, role: str) -> dict[str, Any]:
    return {"Fn::Sub": f"arn:${{AWS::Partition}}:iam::${{AWS::AccountId}}:role/{physical(stage, role)}"}
