"""The harness's cheap undo of a transaction leaves what DynamoDB's would."""

from __future__ import annotations

import pytest

from chalicelib.kernel.tables import ConditionFailed, Table, transact

table = Table("chain")


def test_a_refused_transaction_leaves_every_item_as_it_was(cloud: None) -> None:
    table.put({"pk": "a", "sk": "1", "held": {"by": ["x"]}})
    table.put({"pk": "b", "sk": "1"})
    writes = [
        table.updating("a", "1", "SET #held.#more = :yes, #n = :yes", yes=True),
        table.putting_new({"pk": "a", "sk": "new"}),
        table.deleting("b", "1"),
        table.checking("nothing", "1", when="attribute_exists(#pk)"),
    ]

    with pytest.raises(ConditionFailed) as refused:
        transact(writes)

    assert set(refused.value.failed) == {3}
    assert table.get("a", "1") == {"pk": "a", "sk": "1", "held": {"by": ["x"]}}
    assert table.get("a", "new") is None
    assert table.get("b", "1") == {"pk": "b", "sk": "1"}
    transact(writes[:3])
    assert table.get("a", "1") == {"pk": "a", "sk": "1", "held": {"by": ["x"], "more": True}, "n": True}
    assert table.get("b", "1") is None
