"""Change sets: what an update would do, before it does it; and taking over stores that an earlier stack left behind."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

from botocore.exceptions import ClientError

from infra import stack, stores

_IDENTIFIER = {stores.TABLE: "TableName", stores.BUCKET: "BucketName"}
_KEPT = ("Retain", "RetainExceptOnCreate")
_NOTHING = ("didn't contain changes", "No updates are to be performed")


@dataclass(frozen=True)
class Change:
    """One resource that an update touches; `replaces`: AWS would make a new one; `kept`: it outlives its removal."""

    action: str
    key: str
    kind: str
    replaces: bool
    kept: bool = False

    def __str__(self) -> str:
        return f"{self.action:<8}{self.kind:<36}{self.key}" + self._remark

    @property
    def _remark(self) -> str:
        if self.replaces:
            return "   (REPLACED)"
        return "   (its data stays)" if self.kept and self.kind in _IDENTIFIER else ""

    @property
    def loses_data(self) -> bool:
        return self.kind in _IDENTIFIER and (self.replaces or (self.action == "Remove" and not self.kept))


@dataclass(frozen=True)
class Plan:
    """A prepared change set; an empty one was already thrown away."""

    stack: str
    name: str
    changes: list[Change]


def prepare(client: stack.Client, stage: str, template: dict[str, Any]) -> Plan:
    """Ask CloudFormation what the template would change."""
    cloudformation = client("cloudformation")
    name = stack.stack_name(stage)
    kind = "CREATE" if stack.status(cloudformation, name) is None else "UPDATE"
    return _prepare(cloudformation, name, kind, stack.template_source(client, stage, template))


def execute(client: stack.Client, plan: Plan) -> None:
    """Carry a plan out and wait until the stack stands."""
    if not plan.changes:
        return
    cloudformation = client("cloudformation")
    began = time.time()
    cloudformation.execute_change_set(StackName=plan.stack, ChangeSetName=plan.name)
    stack.wait(cloudformation, plan.stack, began)


def discard(client: stack.Client, plan: Plan) -> None:
    if plan.changes:
        client("cloudformation").delete_change_set(StackName=plan.stack, ChangeSetName=plan.name)


def adopt(client: stack.Client, stage: str, template: dict[str, Any]) -> list[str]:
    """Bring in tables and buckets that outlived a stack, or their system's absence; answers their logical ids."""
    cloudformation = client("cloudformation")
    name = stack.stack_name(stage)
    standing = stack.standing_template(cloudformation, name)
    known = (standing or {}).get("Resources", {})
    stores_to_make = {key: resource for key, resource in _stores(template).items() if key not in known}
    left = {key: resource for key, resource in stores_to_make.items() if _exists(client, resource)}
    if not left:
        return []
    bare = standing or {key: value for key, value in template.items() if key != "Outputs"}
    bare = {**bare, "Resources": {**known, **left}}
    imports = [
        {
            "ResourceType": resource["Type"],
            "LogicalResourceId": key,
            "ResourceIdentifier": {_identifier(resource): resource["Properties"][_identifier(resource)]},
        }
        for key, resource in left.items()
    ]
    source = stack.template_source(client, stage, bare)
    execute(client, _prepare(cloudformation, name, "IMPORT", source, ResourcesToImport=imports))
    return sorted(left)


def _prepare(cloudformation: Any, name: str, kind: str, source: dict[str, str], **more: Any) -> Plan:
    label = f"{kind.lower()}-{int(time.time() * 1000)}"
    arguments = {"StackName": name, "ChangeSetName": label, "ChangeSetType": kind, **source, **more}
    cloudformation.create_change_set(Capabilities=stack.CAPABILITIES, **arguments)
    found = _prepared(cloudformation, name, label)
    if found["Status"] == "FAILED":
        cloudformation.delete_change_set(StackName=name, ChangeSetName=label)
        reason = found.get("StatusReason", "")
        if any(text in reason for text in _NOTHING):
            return Plan(name, label, [])
        raise stack.StackFailed(f"{name} cannot be changed so: {reason}")
    return Plan(name, label, [_change(change["ResourceChange"]) for change in found["Changes"]])


def _prepared(cloudformation: Any, name: str, label: str) -> dict[str, Any]:
    pause = 0.05
    while True:
        found: dict[str, Any] = cloudformation.describe_change_set(StackName=name, ChangeSetName=label)
        if found["Status"] in {"CREATE_COMPLETE", "FAILED"}:
            return found | {"Changes": _all_changes(cloudformation, name, label, found)}
        time.sleep(pause)
        pause = min(pause * 1.5, 3)


def _all_changes(cloudformation: Any, name: str, label: str, first: dict[str, Any]) -> list[dict[str, Any]]:
    changes: list[dict[str, Any]] = list(first["Changes"])
    token = first.get("NextToken")
    while token:
        page = cloudformation.describe_change_set(StackName=name, ChangeSetName=label, NextToken=token)
        changes += page["Changes"]
        token = page.get("NextToken")
    return changes


def _change(change: dict[str, Any]) -> Change:
    replaces = change.get("Replacement") == "True"
    kept = change.get("PolicyAction") in _KEPT
    return Change(change["Action"], change["LogicalResourceId"], change["ResourceType"], replaces, kept)


def _stores(template: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in template["Resources"].items() if value["Type"] in _IDENTIFIER}


def _identifier(resource: dict[str, Any]) -> str:
    return _IDENTIFIER[resource["Type"]]


def _exists(client: stack.Client, resource: dict[str, Any]) -> bool:
    name = resource["Properties"][_identifier(resource)]
    try:
        if resource["Type"] == stores.TABLE:
            client("dynamodb").describe_table(TableName=name)
        else:
            client("s3").head_bucket(Bucket=name)
    except ClientError as error:
        if error.response["Error"]["Code"] in {"ResourceNotFoundException", "404", "NoSuchBucket"}:
            return False
        raise
    return True
