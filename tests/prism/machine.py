"""Runs PRISM's state machines in the test's process: the definitions of `infra/prism.yaml`, the tasks themselves."""

from __future__ import annotations

import functools
import importlib
import json
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from chalicelib.kernel.flows import TaskFailed
from chalicelib.kernel.jobs import TASKS
from infra import fragments

GOOD = {"q_arch": 0.8, "q_recipe": 0.7, "train_loss": 1.0}
_TASK = re.compile(r"\$\{task:([a-z-]+)\}")


@functools.cache
def definitions() -> dict[str, dict[str, Any]]:
    machines = fragments.load("prism").of_type("AWS::StepFunctions::StateMachine").values()
    return {found["Properties"]["StateMachineName"]: found["Properties"]["Definition"] for found in machines}


class ExecutionFailed(Exception):
    """The execution reached a Fail state."""


@dataclass
class Machines:
    """Stands in for Step Functions and Lambda; `evaluate` stands in for the sandbox."""

    evaluate: Callable[[dict[str, Any]], dict[str, Any]] = lambda _event: {"metrics": GOOD}
    at_once: bool = True
    started: dict[str, dict[str, Any]] = field(default_factory=dict)
    states: dict[str, str] = field(default_factory=dict)
    before_task: Callable[[str], None] = lambda _task: None

    def start(self, machine: str, name: str, payload: Any) -> bool:
        if name in self.states:
            return False
        self.started[name] = {"machine": machine, "input": json.loads(json.dumps(payload))}
        self.states[name] = "RUNNING"
        if self.at_once and machine == "prism-evaluation":
            self.run(name)
        return True

    def run(self, name: str) -> None:
        """One execution, from its first state to its last."""
        started = self.started[name]
        try:
            _walk(definitions()[started["machine"]], started["input"], self.call)
        except ExecutionFailed:
            self.states[name] = "FAILED"
        else:
            self.states[name] = "SUCCEEDED"

    def status(self, _machine: str, name: str) -> str | None:
        return self.states.get(name)

    def call(self, task: str, event: Any) -> Any:
        self.before_task(task)
        if task == "prism-evaluate":
            return self.evaluate(event)
        return self.invoke(task, event)

    def invoke(self, task: str, payload: Any, *, seconds: float | None = None) -> Any:
        module, _, name = TASKS[task].handler.rpartition(".")
        handler = getattr(importlib.import_module(module), name)
        try:
            return json.loads(json.dumps(handler(json.loads(json.dumps(payload)), None)))
        except Exception as error:
            raise TaskFailed(task, type(error).__name__, str(error)) from error


def _walk(definition: dict[str, Any], data: dict[str, Any], call: Callable[[str, Any], Any]) -> None:
    name = definition["StartAt"]
    while True:
        state = definition["States"][name]
        match state["Type"]:
            case "Succeed":
                return
            case "Fail":
                raise ExecutionFailed(state.get("Cause"))
            case "Choice":
                name = _choice(state, data)
            case "Wait":
                name = state["Next"]
            case _:
                name = _task(state, data, call)
        if not name:
            return


def _choice(state: dict[str, Any], data: dict[str, Any]) -> str:
    for choice in state["Choices"]:
        if _at(data, choice["Variable"]) == choice["StringEquals"]:
            return str(choice["Next"])
    return str(state["Default"])


def _task(state: dict[str, Any], data: dict[str, Any], call: Callable[[str, Any], Any]) -> str:
    found = _TASK.fullmatch(state["Resource"])
    assert found
    try:
        result = call(found[1], _parameters(state, data))
    except TaskFailed as failure:
        catch = state["Catch"][0]
        _put(data, catch.get("ResultPath"), {"Error": failure.kind, "Cause": str(failure)})
        return str(catch["Next"])
    _put(data, state.get("ResultPath"), result)
    return str(state.get("Next", ""))


def _parameters(state: dict[str, Any], data: dict[str, Any]) -> Any:
    if "Parameters" not in state:
        return data
    given = state["Parameters"].items()
    return {key.removesuffix(".$"): _at(data, value) if key.endswith(".$") else value for key, value in given}


def _at(data: dict[str, Any], path: str) -> Any:
    for part in path.removeprefix("$.").split("."):
        data = data[part]
    return data


def _put(data: dict[str, Any], path: str | None, value: Any) -> None:
    if path:
        data[path.removeprefix("$.")] = value
