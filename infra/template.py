"""One CloudFormation template per stage, for laptop and AWS alike: fragments, and what they share."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from chalicelib.kernel import secrets
from chalicelib.kernel.jobs import Task
from chalicelib.kernel.settings import env_file
from infra import access, events, fragments, images, machines, names, schedules, stores, tasks, watch
from infra.fragments import CHAIN, Fragment
from layers.build import PYTHON

NEEDS_FUNCTION = {events.SOURCE, "AWS::Lambda::EventInvokeConfig"}


@dataclass(frozen=True)
class Supplies:
    """What was made for a deployment beforehand: layers by name as (bucket, key), images by name as URI.

    Event sources of tasks that are not in `functions` are left out, for AWS refuses them (None: all exist).
    """

    layers: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    images: Mapping[str, str] = field(default_factory=dict)
    functions: Collection[str] | None = None


def build(
    stage: str,
    *,
    systems: Iterable[str] = names.SYSTEMS,
    variables: Mapping[str, str] | None = None,
    supplies: Supplies = Supplies(),
) -> dict[str, Any]:
    """The whole template; `variables` hold the names of buckets (default: the environment, then `.env`)."""
    found = {**env_file(), **os.environ} if variables is None else variables
    parts = [fragments.load(system, stage) for system in (CHAIN, *systems)]
    resources = {**watch.common(stage), **_api_role(parts, stage)}
    for part in parts:
        resources |= _system(part, stage, found)
        resources |= _images(part.system, stage, supplies)
    resources |= _layers(stage, supplies)
    kept = {key: value for key, value in resources.items() if _possible(value, supplies.functions)}
    return {
        "AWSTemplateFormatVersion": "2010-09-09",
        "Description": f"{names.APP} {stage}: what stands around the functions",
        "Resources": fragments.resolve(kept, stage),
        "Outputs": {
            "Alarms": {"Value": {"Ref": watch.TOPIC}, "Description": "subscribe to be told"},
            **{layer_key(name): {"Value": {"Ref": layer_key(name)}} for name in supplies.layers},
        },
    }


def layer_key(name: str) -> str:
    """The logical id, and the output that holds the ARN of the layer's newest version."""
    return f"{names.logical(name)}Layer"


def bucket_name(stage: str, resource: Mapping[str, Any], system: str, variables: Mapping[str, str]) -> Any:
    """The knob's value where one is set: the functions read the name from that knob."""
    knob = resource["Metadata"]["Knob"]
    for variable in (f"{system}_{knob}".upper(), knob):
        if variables.get(variable):
            return variables[variable]
    name = names.bucket(stage, resource["Properties"]["BucketName"])
    return {"Fn::Sub": name} if "${" in name else name


def _system(part: Fragment, stage: str, variables: Mapping[str, str]) -> dict[str, Any]:
    resources: dict[str, Any] = {}
    for key, resource in part.resources.items():
        resources |= _complete(key, resource, part.system, stage, variables)
    resources |= watch.dead_letters(stage, part.system)
    resources |= _access_policy(part, stage, variables)
    for task in tasks.of_system(part.system):
        resources |= _task(task, part, stage)
    return resources


def _complete(
    key: str, resource: dict[str, Any], system: str, stage: str, variables: Mapping[str, str]
) -> dict[str, Any]:
    match resource["Type"]:
        case stores.TABLE:
            short = resource["Properties"]["TableName"]
            return {key: stores.table(resource, stage), **watch.table(stage, key, short)}
        case stores.BUCKET:
            return stores.bucket(key, resource, bucket_name(stage, resource, system, variables))
        case machines.MACHINE:
            short = resource["Properties"]["StateMachineName"]
            return {**machines.complete(key, resource, stage), **watch.machine(stage, key, short)}
        case events.SOURCE:
            return {key: events.source(resource, system, stage)}
        case events.QUEUE:
            return {key: events.queue(resource, system, stage)}
        case _:
            return {key: resource}


def _task(task: Task, part: Fragment, stage: str) -> dict[str, Any]:
    statements = [
        access.write_log(names.physical(stage, task.name)),
        *part.tasks.get(task.name, {}).get("Statements", []),
    ]
    policies = [{"Ref": _policy_key(system)} for system in {part.system: None, CHAIN: None}]
    if part.tasks.get(task.name, {}).get("Alone"):
        policies = []
    elif part.system == CHAIN:
        statements.append(access.use_items(stage, CHAIN))
    own = access.role(stage, task.name, "lambda.amazonaws.com", statements, policies)
    return {
        f"{names.logical(task.name)}Role": images.role(stage, task) if task.image else own,
        **schedules.for_task(stage, task),
        **watch.task(stage, task.name),
    }


def _images(system: str, stage: str, supplies: Supplies) -> dict[str, Any]:
    """Image functions, and what they share; the laptop runs them in a sandbox of its own."""
    wanted = [task for task in tasks.of_system(system) if task.image and stage != names.LOCAL]
    resources: dict[str, Any] = images.network(stage) if wanted else {}
    for task in wanted:
        resources |= images.repository(stage, task.image) | images.function(stage, task, supplies.images)
    return resources


def _layers(stage: str, supplies: Supplies) -> dict[str, Any]:
    """A new version per content; old ones stay, for running functions hold on to them."""
    return {
        layer_key(name): {
            "Type": "AWS::Lambda::LayerVersion",
            "DeletionPolicy": "Retain",
            "UpdateReplacePolicy": "Retain",
            "Properties": {
                "LayerName": names.physical(stage, name),
                "Content": {"S3Bucket": bucket, "S3Key": key},
                "CompatibleRuntimes": [f"python{PYTHON}"],
                "CompatibleArchitectures": ["x86_64"],
            },
        }
        for name, (bucket, key) in supplies.layers.items()
    }


def _api_role(parts: list[Fragment], stage: str) -> dict[str, Any]:
    statements = [access.write_log(names.api_function(stage))]
    policies = [{"Ref": _policy_key(part.system)} for part in parts]
    role = access.role(stage, "api", "lambda.amazonaws.com", statements, policies)
    return {"ApiRole": role, **watch.api(stage)}


def _access_policy(part: Fragment, stage: str, variables: Mapping[str, str]) -> dict[str, Any]:
    """What the API and every task of a system may touch; all read the chain copy, its sync writes it."""
    statements = [*_own_tables(part, stage), *_own_flows(part, stage)]
    for key in part.of_type(stores.BUCKET):
        statements += access.use_bucket(key)
    statements += access.read_secrets(_secrets_of(part.system, variables))
    return {_policy_key(part.system): access.policy(stage, part.system, statements)}


def _secrets_of(system: str, variables: Mapping[str, str]) -> list[str]:
    """Those that its own variables name, and those of variables that belong to no system."""
    foreign = tuple(f"{other}_".upper() for other in names.SYSTEMS if other != system)
    return [text for name, text in variables.items() if secrets.is_name(text) and not name.startswith(foreign)]


def _own_tables(part: Fragment, stage: str) -> list[dict[str, Any]]:
    grant = access.read_items if part.system == CHAIN else access.use_items
    statements = []
    for key, resource in part.of_type(stores.TABLE).items():
        properties = resource["Properties"]
        indexes = [index["IndexName"] for index in properties.get("GlobalSecondaryIndexes", [])]
        statements.append(grant(stage, properties["TableName"], indexes))
        if "StreamSpecification" in properties:
            statements += access.read_stream(stage, key, properties["TableName"])
    return statements


def _own_flows(part: Fragment, stage: str) -> list[dict[str, Any]]:
    statements = []
    for resource in part.of_type(machines.MACHINE).values():
        statements += access.use_machine(stage, resource["Properties"]["StateMachineName"])
    own = [task.name for task in tasks.of_system(part.system)]
    queues = [f"{part.system}-dead"]
    queues += [resource["Properties"]["QueueName"] for resource in part.of_type(events.QUEUE).values()]
    if own and part.system != CHAIN:
        statements.append(access.invoke(stage, own))
    statements.append(access.use_queue([names.queue_arn(stage, queue) for queue in queues]))
    return statements


def _policy_key(system: str) -> str:
    return f"{names.logical(system)}Access"


def _possible(resource: dict[str, Any], functions: Collection[str] | None) -> bool:
    if functions is None or resource["Type"] not in NEEDS_FUNCTION:
        return True
    return all(name in functions for kind, name in fragments.references(resource) if kind == "task")
