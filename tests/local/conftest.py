"""One laptop for all tests that only look at it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.harness.laptop import Laptop


@pytest.fixture(scope="session")
def laptop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Laptop]:
    server = Laptop(tmp_path_factory.mktemp("laptop") / "state", CHAIN_SYNC_SECONDS="1").start()
    yield server
    server.close()
