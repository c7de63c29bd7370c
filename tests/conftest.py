"""Fixtures that every test may use: an empty cloud, settings, a client, a clock that stands still."""

from __future__ import annotations

import gc
import os
from collections.abc import Callable, Iterator

import hypothesis
import pytest

from chalicelib.kernel import settings
from tests.harness.client import Client, whole_app
from tests.harness.cloud import empty_cloud

os.environ.setdefault("ENV_FILE", os.devnull)
# How fast examples come is a matter of the machine.
hypothesis.settings.register_profile("any machine", suppress_health_check=[hypothesis.HealthCheck.too_slow])
hypothesis.settings.load_profile("any machine")


def pytest_collection_finish() -> None:
    """What was imported and collected stays; looking through it for rubbish took a fifth of the time."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 20)


@pytest.fixture
def cloud() -> Iterator[None]:
    """Empty tables and buckets."""
    with empty_cloud():
        yield


@pytest.fixture
def configure(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., None]]:
    """Set variables for one test: `configure(LEOMA_ADMIN_HOTKEYS=…)`."""

    def configure_now(**variables: str) -> None:
        for name, value in variables.items():
            monkeypatch.setenv(name, value)
        settings.forget_all()

    yield configure_now
    monkeypatch.undo()
    settings.forget_all()


@pytest.fixture
def client(cloud: None) -> Client:
    """The whole app, all mounts at their default prefixes."""
    return Client(whole_app())


@pytest.fixture
def freeze(configure: Callable[..., None]) -> Callable[[float], None]:
    """Hold the server's clock still."""

    def freeze_at(moment: float) -> None:
        configure(CLOCK_FROZEN_AT=str(moment))

    return freeze_at
