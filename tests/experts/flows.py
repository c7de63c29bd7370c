"""Walks a state machine of the template in the test's process, task by task, with its choices and catches."""

from __future__ import annotations

import functools
import importlib
import json
from typing import Any

from chalicelib.kernel.jobs import TASKS
from infra import template


@functools.cache
def definition(machine: str) -> dict[str, Any]:
    resources = template.build("local", variables={})["Resources"].values()
    found = [
        resource["Properties"]["Definition"]
        for resource in resources
        if resource["Type"] == "AWS::StepFunctions::StateMachine"
        and resource["Properties"]["StateMachineName"].endswith(machine)
    ]
    return dict(found[0])


def walk(machine: str, event: dict[str, Any]) -> list[str]:
    """Run an execution to its end; answers the states it went through."""
    states, name, passed = definition(machine)["States"], definition(machine)["StartAt"], []
    while True:
        state = states[name]
        passed.append(name)
        if state["Type"] in {"Succeed", "Fail"}:
            return passed
        if state["Type"] == "Wait":
            name = state["Next"]
            continue
        if state["Type"] == "Choice":
            name = chosen(state, event)
            continue
        name, event = step(state, event)
        if not name:
            return passed


def chosen(state: dict[str, Any], event: dict[str, Any]) -> str:
    for choice in state["Choices"]:
        if event.get(choice["Variable"].removeprefix("$.")) == choice["StringEquals"]:
            return str(choice["Next"])
    return str(state["Default"])


def step(state: dict[str, Any], event: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    """One task; what it raises goes where its Catch says."""
    try:
        result = call(state["Resource"], event)
    except Exception as error:  # noqa: BLE001 - a state machine catches everything
        place = state["Catch"][0]
        cause = json.dumps({"errorType": type(error).__name__, "errorMessage": str(error)})
        told = {"Error": type(error).__name__, "Cause": cause}
        return place["Next"], event | ({"error": told} if "ResultPath" in place else {})
    path = state.get("ResultPath", "$")
    places = {None: event, "$": result}
    after = places[path] if path in places else event | {path.removeprefix("$."): result}
    return state.get("Next", ""), after


def call(resource: Any, event: dict[str, Any]) -> Any:
    task = next(task for name, task in TASKS.items() if resource_of(name) in json.dumps(resource))
    module, _, function = task.handler.rpartition(".")
    return getattr(importlib.import_module(module), function)(json.loads(json.dumps(event)), None)


def resource_of(task: str) -> str:
    """How a definition names a task's function."""
    return "Task" + "".join(word.capitalize() for word in task.split("-")) + "}"
