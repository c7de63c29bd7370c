"""A running pool for every test of this folder."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from chalicelib.kernel import flows
from tests.harness.client import Client, whole_app
from tests.harness.cloud import remembered
from tests.pool.world import NOW, Pool, add_seeds, at_block

Started = list[tuple[str, str, Any]]


@pytest.fixture(autouse=True)
def started(monkeypatch: pytest.MonkeyPatch) -> Started:
    """Flows are recorded; tests run by hand what they would do."""
    found: Started = []

    def record(machine: str, name: str, payload: Any) -> bool:
        found.append((machine, name, payload))
        return True

    monkeypatch.setattr(flows, "start_or_leave", record)
    monkeypatch.setattr(flows, "running", lambda machine: {name for of, name, _ in found if of == machine})
    return found


@pytest.fixture
def pool(cloud: None, freeze: Callable[[float], None], configure: Callable[..., None]) -> Pool:
    """Nine seeds, block 0, a clock that stands still, claims served and simulated."""
    freeze(NOW)
    configure(MERKLE_CLAIM_ENABLED="true", CLAIM_SIMULATION_ENABLED="true")
    return Pool(Client(whole_app()), seeds=remembered("pool", begin))


def begin() -> list[int]:
    at_block(0)
    return add_seeds(9)
