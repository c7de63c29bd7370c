"""Makes AWS fail on purpose, below our own modules: scripted by call number, or at random from a seed."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest
from botocore.exceptions import ClientError, ConnectionClosedError, ReadTimeoutError

from chalicelib.kernel import aws, clock

_NO_CALLS = {"generate_presigned_url", "generate_presigned_post", "get_paginator", "get_waiter", "can_paginate"}


@dataclass(frozen=True)
class Fault:
    """What goes wrong with one call; `applied`: the service had done its work when the answer was lost."""

    error: BaseException
    applied: bool = False


def refused(code: str, **response: Any) -> Fault:
    """The service answers with an error."""
    return Fault(ClientError({"Error": {"Code": code, "Message": "injected"}, **response}, "injected"))


def cancelled(*reasons: str | Mapping[str, Any]) -> Fault:
    """A transaction is cancelled for these reasons, one per write."""
    told = [{"Code": reason} if isinstance(reason, str) else dict(reason) for reason in reasons]
    return refused("TransactionCanceledException", CancellationReasons=told)


def answer_lost() -> Fault:
    """The write happened, nobody heard of it."""
    return Fault(ReadTimeoutError(endpoint_url="injected"), applied=True)


def never_sent() -> Fault:
    """The connection was gone before the request left."""
    return Fault(ConnectionClosedError(endpoint_url="injected"))


Plan = Callable[[int, str], Fault | None]


def script(faults: Mapping[int, Fault]) -> Plan:
    """The faults of the n-th calls, counted from 1; the others pass."""
    return lambda number, _operation: faults.get(number)


def always(fault: Fault) -> Plan:
    return lambda _number, _operation: fault


def at_random(seed: int, share: float) -> Plan:
    """Every kind of trouble that passes, for this share of the calls; replayable by its seed."""
    dice = random.Random(seed)
    kinds = (refused("ThrottlingException"), refused("InternalServerError"), answer_lost(), never_sent())

    def plan(_number: int, _operation: str) -> Fault | None:
        return dice.choice(kinds) if dice.random() < share else None

    return plan


@dataclass
class Trouble:
    """What happened: every call in order with its request, and how long our code napped in between."""

    calls: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    naps: list[float] = field(default_factory=list)

    @property
    def operations(self) -> list[str]:
        return [operation for operation, _ in self.calls]


class FaultyClient:
    """A client whose calls fail as planned; all services share one count."""

    def __init__(self, real: Any, plan: Plan, trouble: Trouble) -> None:
        self._real = real
        self._plan = plan
        self._trouble = trouble

    def __getattr__(self, name: str) -> Any:
        real = getattr(self._real, name)
        if name.startswith("_") or name in _NO_CALLS or not callable(real):
            return real

        def call(**request: Any) -> Any:
            self._trouble.calls.append((name, request))
            fault = self._plan(len(self._trouble.calls), name)
            if fault is None:
                return real(**request)
            if fault.applied:
                real(**request)
            raise fault.error

        return call


@contextmanager
def trouble(plan: Plan, *, sleeping: bool = False) -> Iterator[Trouble]:
    """Every AWS call in the block goes through the plan; naps are noted, and taken only when `sleeping`."""
    happened = Trouble()
    real_client, real_sleep = aws.client, clock.sleep

    def client(service: str, *options: Any) -> Any:
        return FaultyClient(real_client(service, *options), plan, happened)

    def sleep(seconds: float) -> None:
        happened.naps.append(seconds)
        if sleeping:
            real_sleep(seconds)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(aws, "client", client)
        patch.setattr(clock, "sleep", sleep)
        yield happened
