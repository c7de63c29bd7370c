"""Limits: exactly as many as allowed, whoever comes at once, and the refusal says the true wait."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from chalicelib.kernel import limits
from chalicelib.kernel.limits import Limit
from chalicelib.kernel.tables import Table
from tests.harness.faults import answer_lost, script, trouble
from tests.harness.race import all_at_once
from tests.harness.scale import scaled

NOW = 1_700_000_000.0
TABLE = Table("leoma")
FIVE = Limit(5, 5)

Freeze = Callable[[float], None]
pytestmark = pytest.mark.usefixtures("cloud")


@pytest.fixture(autouse=True)
def _clock(freeze: Freeze) -> None:
    freeze(NOW)


@pytest.mark.parametrize("seed", range(scaled(3)))
def test_of_a_hundred_at_once_exactly_the_burst_passes(seed: int) -> None:
    waits = all_at_once([lambda: limits.wait_before(TABLE, f"b{seed}", FIVE)] * 100)
    assert sorted(waits)[:5] == [0.0] * 5
    assert sorted(waits)[5:] == pytest.approx([1.0] * 95)


def test_the_wait_is_the_true_one(freeze: Freeze) -> None:
    for _ in range(5):
        assert limits.wait_before(TABLE, "b", FIVE) == 0.0
    freeze(NOW + 0.25)
    wait = limits.wait_before(TABLE, "b", FIVE)
    assert wait == pytest.approx(0.75)
    freeze(NOW + 0.25 + wait - 0.01)
    assert limits.wait_before(TABLE, "b", FIVE) > 0
    freeze(NOW + 0.25 + wait)
    assert limits.wait_before(TABLE, "b", FIVE) == 0.0
    assert limits.wait_before(TABLE, "b", FIVE) == pytest.approx(1.0)


@given(st.integers(1, 8), st.sampled_from([0.1, 1.0, 7.0, 60.0, 3600.0, 604800.0]), st.floats(0, 1000))
@example(3, 1.0, 0.123456)
@example(7, 0.1, 999.9999)
@settings(max_examples=scaled(15), deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_bucket_holds_its_count_whatever_the_numbers(
    freeze: Freeze, count: int, seconds: float, offset: float
) -> None:
    freeze(NOW + offset)
    TABLE.delete("LIMIT#b", "-")
    waits = [limits.wait_before(TABLE, "b", Limit(count, seconds)) for _ in range(count + 1)]
    assert waits[:-1] == [0.0] * count
    assert waits[-1] == pytest.approx(seconds / count, rel=1e-3)


def test_buckets_are_apart_and_an_empty_one_fills_again(freeze: Freeze) -> None:
    assert limits.wait_before(TABLE, "a", Limit(1, 10)) == 0.0
    assert limits.wait_before(TABLE, "b", Limit(1, 10)) == 0.0
    assert limits.wait_before(TABLE, "a", Limit(1, 10)) == pytest.approx(10.0)
    freeze(NOW + 10)
    assert limits.wait_before(TABLE, "a", Limit(1, 10)) == 0.0


def test_a_lost_answer_costs_one_place_only() -> None:
    with trouble(script({1: answer_lost()})):
        assert limits.wait_before(TABLE, "b", FIVE) == 0.0
    assert [limits.wait_before(TABLE, "b", FIVE) for _ in range(5)] == pytest.approx([0.0] * 4 + [1.0])
