"""One world per test; GitHub runs for the whole module."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from chalicelib.bitrecs import store, tasks_index
from chalicelib.kernel import chain, flows
from tests.bitrecs.github import GitHub, running
from tests.bitrecs.world import KEY, NOW, PASSWORD, World, run_tasks_here
from tests.harness.client import Client, whole_app


@pytest.fixture(scope="module")
def _github_server() -> Iterator[GitHub]:
    with running() as github:
        yield github


@pytest.fixture
def github(_github_server: GitHub) -> GitHub:
    _github_server.gists.clear()
    _github_server.requests.clear()
    _github_server.keys.clear()
    _github_server.behaviour = None
    return _github_server


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str, Any]]:
    """Flows that were started."""
    found: list[tuple[str, str, Any]] = []
    for name, stand_in in run_tasks_here(found).items():
        monkeypatch.setattr(flows, name, stand_in)
    tasks_index.forget_loaded()
    chain._load.cache_clear()
    return found


@pytest.fixture
def world(
    cloud: None,
    started: list[tuple[str, str, Any]],
    github: GitHub,
    freeze: Callable[[float], None],
    configure: Callable[..., None],
) -> World:
    """Three validators are connected; nobody has submitted anything."""
    freeze(NOW)
    configure(
        BITRECS_GITHUB_API_URL=github.url,
        BITRECS_OPENROUTER_API_URL=github.url,
        BITRECS_SCREENER_PASSWORD=PASSWORD,
        BITRECS_RATE_LIMIT_READ_PER_MIN="10000",
        BITRECS_COMMITMENT_RETRY_SECONDS="0",
    )
    store.add_api_key(KEY, "tests")
    made = World(Client(whole_app()), github)
    made.sync()
    made.validators = made.connect()
    return made
