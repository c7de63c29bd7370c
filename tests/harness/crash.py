"""Kills work between any two AWS calls, runs it again, and tells where the world ended up."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from chalicelib.kernel import aws
from chalicelib.kernel.wire import from_wire
from tests.harness.cloud import empty_cloud
from tests.harness.faults import Fault, script, trouble

_VOLATILE = ("_w",)


class Killed(BaseException):
    """The process is gone; no handler of ours may catch this."""


@dataclass(frozen=True)
class Ending:
    """The final state of a run that was killed around its n-th call, and then repeated."""

    call: int
    operation: str
    after_the_call: bool
    state: Any


def endings(prepare: Callable[[], object], act: Callable[[], object], state: Callable[[], Any]) -> Iterator[Ending]:
    """One ending per call of `act` and side of it; each starts from an empty cloud."""
    for number, operation in enumerate(_calls_of(prepare, act), 1):
        for applied in (False, True):
            with empty_cloud():
                prepare()
                try:
                    with trouble(script({number: Fault(Killed(), applied)})):
                        act()
                except Killed:
                    act()
                yield Ending(number, operation, applied, state())


def undisturbed(prepare: Callable[[], object], act: Callable[[], object], state: Callable[[], Any]) -> Any:
    """The final state when nothing goes wrong."""
    with empty_cloud():
        prepare()
        act()
        return state()


def tables(*names: str, without: tuple[str, ...] = ()) -> dict[str, dict[str, Any]]:
    """Every item of the tables by key, less what differs from run to run."""
    found: dict[str, dict[str, Any]] = {}
    for name in names:
        for page in aws.client("dynamodb").get_paginator("scan").paginate(TableName=f"subnet-functions-local-{name}"):
            for wire in page["Items"]:
                item = from_wire(wire)
                kept = {key: value for key, value in item.items() if key not in (*_VOLATILE, *without)}
                found[f"{name}: {item['pk']} / {item['sk']}"] = kept
    return found


def _calls_of(prepare: Callable[[], object], act: Callable[[], object]) -> list[str]:
    with empty_cloud():
        prepare()
        with trouble(script({})) as happened:
            act()
    return happened.operations
