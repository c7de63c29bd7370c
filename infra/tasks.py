"""The tasks that the systems declare in the kernel's registry: each is one Lambda function."""

from __future__ import annotations

import functools
import importlib
from collections.abc import Collection

from chalicelib.kernel.jobs import TASKS, Task
from infra import names
from infra.fragments import CHAIN

_MODULES = ("chalicelib.kernel.tasks", *(f"chalicelib.{system}.tasks" for system in names.SYSTEMS))


@functools.cache
def declared() -> tuple[Task, ...]:
    """Every task, in the order of the systems and of their declaration."""
    for module in _MODULES:
        importlib.import_module(module)
    return tuple(task for task in TASKS.values() if task.handler.startswith("chalicelib."))


def of_system(system: str) -> list[Task]:
    return [task for task in declared() if task.system == system]


def of_chalice(systems: Collection[str] = names.SYSTEMS) -> list[Task]:
    """Those of some systems and the chain that Chalice deploys; the others run in a container image."""
    return [task for task in of_stage(systems) if not task.image]


def of_stage(systems: Collection[str]) -> list[Task]:
    return [task for task in declared() if task.system in {CHAIN, *systems}]
