"""One browser for all page tests; a server for each, on an empty cloud."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.harness.browser import CHROMIUM, NO_CHROMIUM, Page, chromium
from tests.harness.client import over_http, whole_app


@pytest.fixture(scope="session")
def page(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    if not CHROMIUM:
        pytest.skip(NO_CHROMIUM)
    with chromium(tmp_path_factory.mktemp("chromium")) as tab:
        yield tab


@pytest.fixture
def base_url(cloud: None) -> Iterator[str]:
    """The whole app behind the laptop's gateway, on an empty cloud."""
    with over_http(whole_app()) as url:
        yield url
