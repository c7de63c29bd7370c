"""A browser and a server for page tests; both live as long as the module."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

import app as app_module
from tests.harness.browser import CHROMIUM, NO_CHROMIUM, Page, chromium
from tests.harness.client import over_http


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    if not CHROMIUM:
        pytest.skip(NO_CHROMIUM)
    with chromium(tmp_path_factory.mktemp("chromium")) as tab:
        yield tab


@pytest.fixture
def base_url(cloud: None) -> Iterator[str]:
    """The whole app behind the laptop's gateway, on an empty cloud."""
    with over_http(app_module.build()) as url:
        yield url


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """Where a test leaves its screenshots."""
    return tmp_path
