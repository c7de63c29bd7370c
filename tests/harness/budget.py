"""Counts AWS calls and the units they cost, below our own store modules."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from chalicelib.kernel import aws

_COUNTED = ("dynamodb", "s3", "stepfunctions", "lambda")


@dataclass
class Spent:
    """Calls by operation, write units as DynamoDB reports them (transactions and indexes included)."""

    calls: Counter[str] = field(default_factory=Counter)
    write_units: float = 0.0

    @property
    def total(self) -> int:
        return sum(self.calls.values())


@contextmanager
def counted() -> Iterator[Spent]:
    """What the block spends."""
    spent = Spent()

    def ask_for_units(params: dict[str, Any], model: Any, **_: Any) -> None:
        if "ReturnConsumedCapacity" in model.input_shape.members:
            params.setdefault("ReturnConsumedCapacity", "TOTAL")

    def note(parsed: dict[str, Any], model: Any, **_: Any) -> None:
        spent.calls[f"{model.service_model.service_name}:{model.name}"] += 1
        if model.name.startswith(("Put", "Update", "Delete", "BatchWrite", "TransactWrite")):
            units = parsed.get("ConsumedCapacity") or []
            for unit in units if isinstance(units, list) else [units]:
                spent.write_units += unit.get("CapacityUnits", 0.0)

    for service in _COUNTED:
        events = aws.client(service).meta.events
        events.register("provide-client-params.*", ask_for_units, unique_id=f"units-{id(spent)}")
        events.register("after-call.*", note, unique_id=f"note-{id(spent)}")
    try:
        yield spent
    finally:
        for service in _COUNTED:
            events = aws.client(service).meta.events
            events.unregister("provide-client-params.*", unique_id=f"units-{id(spent)}")
            events.unregister("after-call.*", unique_id=f"note-{id(spent)}")
