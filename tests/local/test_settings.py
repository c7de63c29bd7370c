"""What ends a start, whichever variable holds it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from chalicelib.kernel.settings import SettingError
from local.settings import chain_source, check_all, knobs_that_are_set


@pytest.mark.parametrize(
    ("variables", "said"),
    [
        ({"CHAIN_SYNC_SECONDS": "0"}, "CHAIN_SYNC_SECONDS holds '0': it must be"),
        ({"CHAIN_SOURCE": "chain.json"}, "CHAIN_SOURCE holds 'chain.json': it must be file:PATH"),
        ({"CHAIN_SOURCE": "ws:"}, "CHAIN_SOURCE holds 'ws:': it must be file:PATH"),
        (
            {"ENVIRONMENT": "production", "FETCH_ALLOW_PRIVATE": "TRUE"},
            "FETCH_ALLOW_PRIVATE holds 'TRUE': it must be 0",
        ),
        ({"STATE_DIR": ""}, "STATE_DIR holds '': it must be a folder"),
        ({"AWS_ENDPOINT_URL": "localhost:4566"}, "AWS_ENDPOINT_URL holds 'localhost:4566': it must be the http://"),
        ({"AWS_ENDPOINT_URL": "http://[::1"}, "AWS_ENDPOINT_URL holds 'http://[::1': it must be"),
    ],
)
def test_settings_are_checked_at_start(configure: Callable[..., None], variables: dict[str, str], said: str) -> None:
    configure(**variables)
    with pytest.raises(SettingError) as caught:
        check_all()
    assert str(caught.value).startswith(said)


def test_a_chain_file_is_named_by_its_whole_path(configure: Callable[..., None]) -> None:
    configure(CHAIN_SOURCE="file:somewhere/chain.json")
    assert chain_source() == f"file:{Path.cwd()}/somewhere/chain.json"
    configure(CHAIN_SOURCE="wss://node.example:443")
    assert chain_source() == "wss://node.example:443"


def test_without_a_chain_it_is_the_state_folder_s_own(configure: Callable[..., None], tmp_path: Path) -> None:
    configure(CHAIN_SOURCE="", STATE_DIR=str(tmp_path))
    assert chain_source() == f"file:{tmp_path}/chain.json"


def test_only_declared_variables_are_knobs_and_empty_ones_are_set(configure: Callable[..., None]) -> None:
    configure(LEOMA_ADMIN_HOTKEYS="", CHAIN_SYNC_SECONDS="5", SECRET_OF_THE_USER="x")
    found = knobs_that_are_set()
    assert found["LEOMA_ADMIN_HOTKEYS"] == ""
    assert found["CHAIN_SYNC_SECONDS"] == "5"
    assert "SECRET_OF_THE_USER" not in found
