"""What the code asks of AWS, its roles allow: the emulators allow everything, so nobody else would notice."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from typing import Any

import pytest
from botocore import xform_name
from botocore.session import get_session

from infra import names, template
from tests.rules.source import modules

SERVICES = {"dynamodb": "dynamodb", "s3": "s3", "stepfunctions": "states", "lambda": "lambda"}
# Operations whose permission has another name.
ALLOWED_BY = {
    "dynamodb:transact_write_items": ["PutItem", "UpdateItem", "DeleteItem", "ConditionCheckItem"],
    "dynamodb:transact_get_items": ["GetItem"],
    "s3:head_object": ["GetObject"],
    "s3:head_bucket": ["ListBucket"],
    "s3:list_objects_v2": ["ListBucket"],
    "s3:list_parts": ["ListMultipartUploadParts"],
    "s3:list_multipart_uploads": ["ListBucketMultipartUploads"],
    "s3:create_multipart_upload": ["PutObject"],
    "s3:complete_multipart_upload": ["PutObject"],
    "s3:upload_part": ["PutObject"],
    "s3:upload_part_copy": ["GetObject", "PutObject"],
    "s3:copy_object": ["GetObject", "PutObject"],
    "s3:delete_objects": ["DeleteObject"],
    "lambda:invoke": ["InvokeFunction"],
}
# Words that are operations of a service and something else in our code.
OTHERWISE = {"s3": {"create_session"}}


def words_of(path_of: ast.Module) -> Iterator[str]:
    for node in ast.walk(path_of):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.value
        if isinstance(node, ast.Attribute):
            yield node.attr


def asked() -> set[str]:
    """Every operation that the kernel's AWS modules name, as `service:operation`."""
    found = set()
    for module in modules("chalicelib/kernel"):
        if module.path.stem not in {"tables", "blobs", "flows"}:
            continue
        words = set(words_of(ast.parse(module.text)))
        for service in SERVICES:
            model = get_session().get_service_model(service)
            operations = {xform_name(name) for name in model.operation_names} - OTHERWISE.get(service, set())
            found |= {f"{service}:{operation}" for operation in words & operations}
    return found


def needed(operation: str) -> set[str]:
    service, _, name = operation.partition(":")
    actions = ALLOWED_BY.get(operation, ["".join(word.capitalize() for word in name.split("_"))])
    return {f"{SERVICES[service]}:{action}" for action in actions}


@pytest.mark.parametrize("operation", sorted(asked()))
def test_every_operation_is_allowed_to_a_system_that_has_all_kinds_of_stores(operation: str) -> None:
    granted = {
        action for statement in policy("Experts") if statement["Effect"] == "Allow" for action in statement["Action"]
    }
    assert needed(operation) <= granted


def test_something_was_asked() -> None:
    assert {"dynamodb:put_item", "s3:put_object", "stepfunctions:start_execution", "lambda:invoke"} <= asked()


@pytest.mark.parametrize("system", names.SYSTEMS)
def test_a_system_may_touch_its_own_stores_alone(system: str) -> None:
    others = [other for other in names.SYSTEMS if other != system]
    said = str(policy(names.logical(system)))
    assert f"subnet-functions-dev-{system}" in said
    assert not [other for other in others if f"-dev-{other}" in said or f"'{other.capitalize()}" in said]


def policy(system: str) -> list[dict[str, Any]]:
    resources = template.build("dev", variables={})["Resources"]
    found: list[dict[str, Any]] = resources[f"{system}Access"]["Properties"]["PolicyDocument"]["Statement"]
    return found
