"""Every Leoma test starts with three validators, three valid miners and a hundred published tasks."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.harness.cloud import remembered

from .world import ADMIN, NOW, publish, subnet, sync


@pytest.fixture
def world(cloud: None, freeze: Callable[[float], None], configure: Callable[..., None]) -> None:
    freeze(NOW)
    configure(LEOMA_ADMIN_HOTKEYS=ADMIN.hotkey)
    remembered("leoma", begin)


def begin() -> None:
    sync(subnet())
    publish(100)
