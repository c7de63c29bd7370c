"""The harness counts what DynamoDB would charge: sizes, transactions, indexes, failed conditions."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from chalicelib.kernel.tables import ConditionFailed, Table, get_many, transact
from tests.harness.budget import counted

pytestmark = pytest.mark.usefixtures("cloud")

PLAIN = Table("leoma")
INDEXED = Table("pool")  # its index `due` keeps `timer`
KB3 = "x" * 2900


def item(**values: Any) -> dict[str, Any]:
    return {"pk": "a", "sk": "b", **values}


def refused_put() -> None:
    with pytest.raises(ConditionFailed):
        PLAIN.put_new(item(text="y"))


WRITES: dict[str, tuple[dict[str, Any] | None, Callable[[], Any], float]] = {
    "small": (None, lambda: PLAIN.put(item()), 1),
    "three-kb": (None, lambda: PLAIN.put(item(text=KB3)), 3),
    "three-kb-of-bytes": (None, lambda: PLAIN.put(item(raw=bytes(2900))), 3),
    "nested": (None, lambda: PLAIN.put(item(list=[{"text": KB3, "n": [1, None, True]}])), 3),
    "update-of-three-kb": (item(text=KB3), lambda: PLAIN.update("a", "b", "SET #n = :n", n=1), 3),
    "shrunk": (item(text=KB3), lambda: PLAIN.put(item()), 3),
    "deleted": (item(text=KB3), lambda: PLAIN.delete("a", "b"), 3),
    "refused": (item(text=KB3), refused_put, 3),
    "batch": (None, lambda: PLAIN.put_many([item(text=KB3), item(sk="c") | {"sk": "c"}]), 4),
    "transaction": (None, lambda: transact([PLAIN.putting(item(text=KB3)), INDEXED.putting(item())]), 8),
    "check": (item(), lambda: transact([PLAIN.checking("a", "b", when="attribute_exists(#pk)")]), 2),
    "into-an-index": (None, lambda: INDEXED.put(item(due_pk="d", due_sk="1", text=KB3)), 4),
}


@pytest.mark.parametrize(("stood", "write", "wanted"), WRITES.values(), ids=WRITES)
def test_a_write_costs_what_dynamodb_charges(
    stood: dict[str, Any] | None, write: Callable[[], Any], wanted: float
) -> None:
    if stood:
        PLAIN.put(stood)
    with counted() as spent:
        write()
    assert (spent.write_units, spent.total) == (wanted, 1)


def test_an_index_is_charged_for_what_it_has_to_change() -> None:
    INDEXED.put(item(due_pk="d", due_sk="1"))
    changes: list[tuple[dict[str, Any], float]] = [
        ({"other": 1}, 1),
        ({"timer": "t"}, 2),
        ({"due_sk": "2"}, 3),
    ]
    for change, wanted in changes:
        ((name, value),) = change.items()
        with counted() as spent:
            INDEXED.update("a", "b", f"SET #{name} = :value", value=value)
        assert spent.write_units == wanted, change
    with counted() as removed:
        INDEXED.update("a", "b", "REMOVE #due_sk")
    assert removed.write_units == 2


@pytest.mark.parametrize(
    ("read", "wanted"),
    [
        (lambda: PLAIN.get("a", "b"), 2),
        (lambda: PLAIN.get("a", "b", consistent=False), 1),
        (lambda: PLAIN.get("a", "missing"), 1),
        (lambda: get_many([(PLAIN, "a", "b"), (PLAIN, "a", "missing")]), 3),
        (lambda: PLAIN.query("a"), 1),
        (lambda: PLAIN.query("a", consistent=True), 2),
    ],
)
def test_a_read_costs_what_dynamodb_charges(read: Callable[[], Any], wanted: float) -> None:
    PLAIN.put(item(text="x" * 5000))
    with counted() as spent:
        read()
    assert spent.read_units == wanted
