"""The stages of `.chalice/config.json`: what follows from the task registry, and what the operator sets.

`python -m infra.stages` brings the file up to date after tasks changed; a test fails until that is done. Role ARNs,
layers and bucket names carry the account that the stage is pinned to; a fresh clone is pinned to the emulator's.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from chalicelib.kernel import mounts
from chalicelib.kernel.jobs import Task
from chalicelib.kernel.settings import KernelSettings
from infra import fragments, names, stores, tasks

FILE = Path(__file__).parent.parent / ".chalice" / "config.json"
EMULATOR_ACCOUNT = "000000000000"
_ROLE = re.compile(r"arn:[a-z-]+:iam::(\d{12}):role/")


@dataclass(frozen=True)
class Pin:
    """Where a stage lives: the parts of its settings that Chalice cannot work out."""

    account: str = EMULATOR_ACCOUNT
    partition: str = "aws"
    layers: Mapping[str, str] = field(default_factory=dict)

    def role(self, stage: str, name: str) -> str:
        return f"arn:{self.partition}:iam::{self.account}:role/{names.physical(stage, name)}"


def read() -> dict[str, Any]:
    found: dict[str, Any] = json.loads(FILE.read_text("utf-8"))
    return found


def write(config: dict[str, Any], file: Path = FILE) -> None:
    """One line per function, so that two people who add tasks do not collide."""
    text = json.dumps(config, indent=2)
    compact = re.sub(r'(": )\{\s*("(?:lambda_timeout|iam_role_arn)"[^{}]*?)\s*\}', _on_one_line, text)
    file.write_text(compact + "\n", "utf-8")


def pin_of(config: dict[str, Any], stage: str) -> Pin:
    """What the file says now."""
    settings = config["stages"][stage]
    found = _ROLE.match(settings.get("iam_role_arn", ""))
    layers = settings.get("layer_arns", {})
    if not found:
        return Pin(layers=layers)
    return Pin(found[1], settings["iam_role_arn"].split(":")[1], layers)


def derived(config: dict[str, Any], pins: Mapping[str, Pin] | None = None) -> dict[str, Any]:
    """The file as it must be: settings of every task for every stage, pinned where a pin is given."""
    stages = {}
    for stage, settings in config["stages"].items():
        pin = (pins or {}).get(stage) or pin_of(config, stage)
        stages[stage] = _stage(stage, settings, pin, systems(config, stage))
    functions = {task.name: _size(task) for task in tasks.of_chalice()}
    return {**config, "lambda_functions": functions, "stages": stages}


def variables(config: dict[str, Any], stage: str) -> dict[str, str]:
    """The environment of a stage's functions."""
    return {**config.get("environment_variables", {}), **config["stages"][stage].get("environment_variables", {})}


def systems(config: dict[str, Any], stage: str) -> list[str]:
    """What a stage serves, by its MOUNTS; the claim server is the pool's."""
    listed = KernelSettings.load(variables(config, stage)).mounts
    served = mounts.systems(mount.partition("=")[0].strip() for mount in listed)
    return [system for system in names.SYSTEMS if system in served]


def _stage(stage: str, settings: dict[str, Any], pin: Pin, served: list[str]) -> dict[str, Any]:
    given = settings.get("environment_variables", {})
    environment = {
        **given,
        "STAGE": stage,
        "AWS_ACCOUNT_ID": pin.account,
        **_buckets(stage, given, pin),
    }
    functions = {}
    for task in tasks.of_chalice(served):
        layers = [pin.layers[layer] for layer in task.layers if layer in pin.layers]
        role: dict[str, Any] = {"iam_role_arn": pin.role(stage, task.name)}
        functions[task.name] = role | ({"layers": layers} if layers else {})
    pinned = {
        "api_gateway_stage": stage,
        "iam_role_arn": pin.role(stage, "api"),
        "layer_arns": dict(pin.layers),
        "environment_variables": environment,
        "lambda_functions": functions,
    }
    return {**settings, **pinned}


def _buckets(stage: str, given: Mapping[str, str], pin: Pin) -> dict[str, str]:
    """Names that the operator chose stay; ours follow the account."""
    found = {}
    for system in names.SYSTEMS:
        for resource in fragments.load(system).of_type(stores.BUCKET).values():
            variable = f"{system}_{resource['Metadata']['Knob']}".upper()
            chosen = given.get(variable, "")
            ours = names.bucket(stage, resource["Properties"]["BucketName"], account=pin.account)
            is_ours = chosen.startswith(names.bucket(stage, resource["Properties"]["BucketName"], account=""))
            found[variable] = chosen if chosen and not is_ours else ours
    return found


def _size(task: Task) -> dict[str, int]:
    return {"lambda_timeout": task.timeout, "lambda_memory_size": task.memory}


def _on_one_line(found: re.Match[str]) -> str:
    return f"{found[1]}{{{' '.join(found[2].split())}}}"


if __name__ == "__main__":
    write(derived(read()))
