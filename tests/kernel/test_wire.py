"""Values in tables: what goes in comes out, and what has no form is refused before it is sent."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chalicelib.kernel import wire
from chalicelib.kernel.tables import Table
from tests.harness.scale import scaled

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**38) + 1, 10**38 - 1) | st.text(max_size=9) | st.binary(max_size=9),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(min_size=1, max_size=5), inner, max_size=4),
    max_leaves=12,
)


@given(VALUES)
@settings(max_examples=scaled(300), deadline=None)
def test_what_goes_in_comes_out(value: Any) -> None:
    assert wire.decode(wire.encode(value)) == value


@given(st.floats(-9.8e125, 9.8e125, allow_nan=False))
@settings(max_examples=scaled(300), deadline=None)
def test_a_double_keeps_its_value_but_for_what_is_nearly_nothing(value: float) -> None:
    assert wire.decode(wire.encode(value)) == (value if abs(value) >= 1e-130 else 0)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf"), 1e126])
def test_a_number_beyond_the_table_s_range_is_refused(value: float) -> None:
    with pytest.raises(ValueError, match="does not fit"):
        wire.encode(value)


@pytest.mark.parametrize("value", [Decimal(1), object(), bytearray(b"x"), 1j])
def test_a_type_without_a_form_is_refused(value: Any) -> None:
    with pytest.raises(TypeError, match="has no form"):
        wire.encode({"nested": [value]})


@pytest.mark.usefixtures("cloud")
def test_an_item_survives_the_table() -> None:
    item = {
        "pk": "a", "sk": "b", "n": 10**37 + 1, "f": 0.1, "t": True, "x": None, "raw": b"\x00\xff",
        "list": [1, "a", [2.5]], "map": {"k": {"deep": -1}}, "set": {"a", "b"}, "empty": "", "tuple": (1, 2),
    }  # fmt: skip
    Table("leoma").put(item)
    assert Table("leoma").get("a", "b") == item | {"tuple": [1, 2]}
