"""State machines: a fragment gives the flow, every task state gets the same retries unless it has its own."""

from __future__ import annotations

import json
import re
from typing import Any

from infra import access, fragments, names

MACHINE = "AWS::StepFunctions::StateMachine"
RETRY = {
    "ErrorEquals": [
        "Unavailable",
        "Lambda.ServiceException",
        "Lambda.AWSLambdaException",
        "Lambda.SdkClientException",
        "Lambda.TooManyRequestsException",
        "Lambda.Unknown",
    ],
    "IntervalSeconds": 2,
    "MaxAttempts": 5,
    "BackoffRate": 2,
    "MaxDelaySeconds": 60,
    "JitterStrategy": "FULL",
}
_HOUR = 3600


def complete(key: str, resource: dict[str, Any], stage: str) -> dict[str, dict[str, Any]]:
    """The machine and the role that may invoke the tasks its definition names, and nothing else."""
    given = resource["Properties"]
    short = given["StateMachineName"]
    definition = {"TimeoutSeconds": _HOUR, **given["Definition"]}
    definition["States"] = _with_retries(definition["States"])
    text, substitutions = _substitute(json.dumps(definition), stage)
    properties = {
        "StateMachineType": "STANDARD",
        **given,
        "StateMachineName": names.physical(stage, short),
        "RoleArn": {"Fn::GetAtt": [f"{key}Role", "Arn"]},
        "Definition": json.loads(text),
        "DefinitionSubstitutions": substitutions,
    }
    mentioned = fragments.references(given["Definition"])
    statements = [access.invoke(stage, sorted(name for kind, name in mentioned if kind == "task"))]
    return {
        key: {"Type": MACHINE, "Properties": properties},
        f"{key}Role": access.role(stage, short, "states.amazonaws.com", statements),
    }


def states(definition: dict[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    """Every state of a flow by name, those inside Map and Parallel too."""
    found = []
    for name, state in definition["States"].items():
        found.append((name, state))
        for inner in _inner(state):
            found.extend(states(inner))
    return found


def _inner(state: dict[str, Any]) -> list[dict[str, Any]]:
    nested = [state[part] for part in ("ItemProcessor", "Iterator") if part in state]
    return [*nested, *state.get("Branches", [])]


def _with_retries(flow: dict[str, Any]) -> dict[str, Any]:
    return {name: _with_retry(state) for name, state in flow.items()}


def _with_retry(state: dict[str, Any]) -> dict[str, Any]:
    completed = dict(state)
    if state["Type"] == "Task":
        completed.setdefault("Retry", [RETRY])
    for part in ("ItemProcessor", "Iterator"):
        if part in state:
            completed[part] = {**state[part], "States": _with_retries(state[part]["States"])}
    if "Branches" in state:
        completed["Branches"] = [{**branch, "States": _with_retries(branch["States"])} for branch in state["Branches"]]
    return completed


def _substitute(text: str, stage: str) -> tuple[str, dict[str, Any]]:
    """`${task:leoma-rank}` becomes `${TaskLeomaRank}`: a definition is no place for intrinsic functions."""
    substitutions: dict[str, Any] = {}

    def replace(found: re.Match[str]) -> str:
        placeholder = names.logical(found[1], found[2])
        substitutions[placeholder] = fragments.resolve(found[0], stage)
        return f"${{{placeholder}}}"

    return re.sub(r"\$\{([a-z]+):([a-z0-9-]+)\}", replace, text), substitutions
