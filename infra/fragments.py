"""A fragment is one YAML file of plain CloudFormation resources per system.

`${task:leoma-rank}` and its like stand for names and ARNs that depend on the stage.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from infra import names

FOLDER = Path(__file__).parent
CHAIN = "chain"
_REFERENCE = re.compile(r"\$\{(task|table|machine|queue|name):([a-z0-9-]+)\}")


@dataclass(frozen=True)
class Fragment:
    """What one system needs: resources by logical id, and what is special about a task."""

    system: str
    resources: dict[str, dict[str, Any]]
    tasks: dict[str, dict[str, Any]]

    def of_type(self, kind: str) -> dict[str, dict[str, Any]]:
        return {key: resource for key, resource in self.resources.items() if resource["Type"] == kind}


def load(system: str, stage: str = "") -> Fragment:
    """`Deployed` adds what the laptop's runner does by itself."""
    document = yaml.safe_load((FOLDER / f"{system}.yaml").read_text("utf-8"))
    unknown = set(document) - {"Resources", "Deployed", "Tasks"}
    if unknown:
        raise ValueError(f"{system}.yaml: unknown sections {sorted(unknown)}")
    resources = document.get("Resources") or {}
    for key, more in (document.get("Deployed") or {}).items() if stage != names.LOCAL else ():
        given = resources.get(key, {})
        resources[key] = given | more | {"Properties": given.get("Properties", {}) | more.get("Properties", {})}
    for key in resources:
        if not key.startswith(system.capitalize()):
            raise ValueError(f"{system}.yaml: {key} must start with {system.capitalize()}")
    return Fragment(system, resources, document.get("Tasks") or {})


def resolve(value: Any, stage: str) -> Any:
    """Replace every reference below a value; text around one makes it a Fn::Sub."""
    if isinstance(value, dict):
        return {key: resolve(item, stage) for key, item in value.items()}
    if isinstance(value, list):
        return [resolve(item, stage) for item in value]
    if isinstance(value, str) and _REFERENCE.search(value):
        text = _REFERENCE.sub(lambda found: _target(found[1], found[2], stage), value)
        return {"Fn::Sub": text} if "${" in text else text
    return value


def references(value: Any) -> set[tuple[str, str]]:
    """Every (kind, name) that a value mentions."""
    if isinstance(value, dict):
        return set().union(*(references(item) for item in value.values()))
    if isinstance(value, list):
        return set().union(*(references(item) for item in value))
    if isinstance(value, str):
        return {(found[1], found[2]) for found in _REFERENCE.finditer(value)}
    return set()


def _target(kind: str, name: str, stage: str) -> str:
    if kind == "name":
        return names.physical(stage, name)
    arns = {
        "task": names.function_arn,
        "table": names.table_arn,
        "machine": names.machine_arn,
        "queue": names.queue_arn,
    }
    return str(arns[kind](stage, name)["Fn::Sub"])
