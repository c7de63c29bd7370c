"""PRISM on an empty cloud, its machines running in the test's process."""

from __future__ import annotations

import pytest

from chalicelib.kernel import flows
from tests.harness.client import Client
from tests.prism.machine import Machines
from tests.prism.world import NOW, TOKEN, Configure, Freeze, Prism


@pytest.fixture
def machines(monkeypatch: pytest.MonkeyPatch) -> Machines:
    found = Machines()
    for name in ("start", "status", "invoke"):
        monkeypatch.setattr(flows, name, getattr(found, name))
    monkeypatch.setattr(flows, "start_or_leave", found.start)
    return found


@pytest.fixture
def prism(client: Client, machines: Machines, freeze: Freeze, configure: Configure) -> Prism:
    freeze(NOW)
    configure(PRISM_SHARED_TOKEN=TOKEN)
    return Prism(client, freeze)
