"""Counted windows: the next request after the last place is refused with the true wait, however slowly they came."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from chalicelib.kernel import limits
from chalicelib.kernel.tables import Table
from tests.harness.race import all_at_once

NOW = 1_700_000_000.0
LIMIT = limits.Limit(3, 60)
TABLE = Table("bitrecs")

Freeze = Callable[[float], None]


def take() -> float:
    return limits.wait_in_window(TABLE, "somebody", LIMIT)


@pytest.mark.usefixtures("cloud")
def test_the_window_opens_with_its_first_request_and_closes_as_a_whole(freeze: Freeze) -> None:
    waits = []
    for second in (0, 10, 59, 59.5, 60, 61):
        freeze(NOW + second)
        waits.append(take())

    assert waits == [0.0, 0.0, 0.0, 0.5, 0.0, 0.0]


@pytest.mark.usefixtures("cloud")
def test_many_at_once_get_no_more_places_than_there_are(freeze: Freeze) -> None:
    freeze(NOW)

    waits = all_at_once([take] * 12)

    assert sorted(waits) == [0.0] * 3 + [60.0] * 9
