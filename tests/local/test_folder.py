"""A state folder has one server at a time, and what a killed one left lying is put away."""

from __future__ import annotations

import fcntl
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from local.folder import FolderRefused, StateFolder


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "deep" / "state"


@pytest.fixture
def folder(path: Path) -> Iterator[StateFolder]:
    claimed = StateFolder(path)
    yield claimed
    claimed.close()


def test_a_second_server_is_refused_while_the_first_runs(path: Path, folder: StateFolder) -> None:
    with pytest.raises(FolderRefused, match=rf"in use by another server \(process {os.getpid()}\)"):
        StateFolder(path)


def test_the_cloud_of_a_server_that_is_gone_gets_time_to_save(path: Path) -> None:
    path.mkdir(parents=True)
    gone = subprocess.run([sys.executable, "-c", "import os; print(os.getpid())"], capture_output=True, check=True)
    with (path / "lock").open("w") as lock:
        lock.write(gone.stdout.decode().strip())
        lock.flush()
        fcntl.flock(lock, fcntl.LOCK_EX)
        threading.Timer(0.3, lambda: fcntl.flock(lock, fcntl.LOCK_UN)).start()
        StateFolder(path).close()


def test_a_newer_version_is_refused(path: Path) -> None:
    path.mkdir(parents=True)
    for version in (2, "3", None):
        (path / "state.json").write_text(json.dumps({"version": version}))
        with pytest.raises(FolderRefused, match="newer version"):
            StateFolder(path)


def test_the_chain_is_the_sample_until_a_file_of_its_own_stands_there(
    path: Path, folder: StateFolder, tmp_path: Path
) -> None:
    sample = tmp_path / "sample.json"
    sample.write_text("1")
    for _ in range(2):
        folder.link_chain("chain.json", sample)
        assert (path / "chain.json").resolve() == sample.resolve()
    (tmp_path / "moved.json").write_text("2")
    (tmp_path / "moved.json").replace(path / "chain.json")
    folder.link_chain("chain.json", sample)

    assert ((path / "chain.json").read_text(), sample.read_text()) == ("2", "1")


def test_what_was_announced_is_known_next_time_but_not_taken_for_running(path: Path, folder: StateFolder) -> None:
    assert folder.last_port == 0
    folder.announce("http://127.0.0.1:4321", "http://127.0.0.1:8000")
    assert json.loads((path / "cloud.json").read_text()) == {
        "endpoint": "http://127.0.0.1:4321",
        "api_url": "http://127.0.0.1:8000",
        "pid": os.getpid(),
        "state_version": 1,
    }
    folder.close()
    assert not (path / "cloud.json").exists()
    again = StateFolder(path)
    assert again.last_port == 4321
    folder._lock = again.lock_descriptor  # the fixture closes this one


def test_a_cloud_may_have_an_address_without_a_port(path: Path, folder: StateFolder) -> None:
    for address in ("https://cloud.example", "https://cloud.example/aws/"):
        folder.announce(address, "http://127.0.0.1:8000")
        assert folder.last_port == 0
        assert json.loads((path / "cloud.json").read_text())["endpoint"] == address


def test_leftovers_of_a_killed_server_are_put_away(path: Path) -> None:
    (path / "tables").mkdir(parents=True)
    (path / "tmp" / "ministack-lambda-x").mkdir(parents=True)
    for name in ("cloud.json", "tables/dynamodb.json.tmp", "tables/dynamodb.json"):
        (path / name).write_text("{}")
    claimed = StateFolder(path)
    assert {str(file.relative_to(path)) for file in path.rglob("*")} == {"lock", "tables", "tables/dynamodb.json"}
    claimed.close()


def test_a_folder_that_cannot_be_made_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(FolderRefused, match="cannot be used: Not a directory"):
        StateFolder(tmp_path / "file" / "state")
