"""Counts AWS calls and the units they cost, below our own store modules."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from chalicelib.kernel import aws
from tests.harness import units

_COUNTED = ("dynamodb", "s3", "stepfunctions", "lambda")
_WRITES = ("PutItem", "UpdateItem", "DeleteItem", "BatchWriteItem", "TransactWriteItems")


@dataclass
class Spent:
    """Calls by operation, in sequence; read and write units as DynamoDB charges them (see `units`)."""

    calls: Counter[str] = field(default_factory=Counter)
    write_units: float = 0.0
    read_units: float = 0.0

    @property
    def total(self) -> int:
        return sum(self.calls.values())


@contextmanager
def counted() -> Iterator[Spent]:
    """What the block spends."""
    spent = Spent()
    sent = threading.local()

    def before(params: dict[str, Any], model: Any, **_: Any) -> None:
        sent.params = params
        if model.name in _WRITES:
            sent.keys = units.written_keys(model.name, params)
            sent.stood = units.stored(sent.keys)

    def after(parsed: dict[str, Any], model: Any, **_: Any) -> None:
        spent.calls[f"{model.service_model.service_name}:{model.name}"] += 1
        if model.name in _WRITES:
            spent.write_units += units.charged(model.name, sent.keys, sent.stood, units.stored(sent.keys))
        elif model.service_model.service_name == "dynamodb" and "Error" not in parsed:
            spent.read_units += units.read(model.name, sent.params, parsed)

    for service in _COUNTED:
        events = aws.client(service).meta.events
        events.register("provide-client-params.*", before, unique_id=f"before-{id(spent)}")
        events.register("after-call.*", after, unique_id=f"after-{id(spent)}")
    try:
        yield spent
    finally:
        for service in _COUNTED:
            events = aws.client(service).meta.events
            events.unregister("provide-client-params.*", unique_id=f"before-{id(spent)}")
            events.unregister("after-call.*", unique_id=f"after-{id(spent)}")
