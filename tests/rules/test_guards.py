"""The list of guards is current: each stands where the list says, so that `make mutate` can take it away."""

from __future__ import annotations

import pytest

from tests.harness.mutation import ROOT, Guard, guards


@pytest.mark.parametrize("guard", guards(), ids=lambda guard: f"{guard.file}: {guard.name}")
def test_a_listed_guard_stands_where_the_list_says(guard: Guard) -> None:
    assert guard.stands_once(), f"{guard.file} no longer holds {guard.guard!r} once; update the list of guards"
    assert all((ROOT / name.partition("::")[0]).exists() for name in guard.tests.split())
