"""The state folder: claimed by one server at a time, refused when a newer version wrote it."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import sys
import time
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

STATE_VERSION = 1
SECONDS_FOR_A_LAST_SAVE = 60


class FolderRefused(Exception):
    """One line: which folder, and why it cannot be used."""


class StateFolder:
    """Holds the lock until the process, and every child that was given `lock_descriptor`, has ended."""

    def __init__(self, path: Path) -> None:
        self.path = path.absolute()
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            self._lock = os.open(self.path / "lock", os.O_RDWR | os.O_CREAT, 0o644)
            self._take()
        except OSError as error:
            raise FolderRefused(f"STATE_DIR {path} cannot be used: {error.strerror}") from None

    @property
    def lock_descriptor(self) -> int:
        return self._lock

    @property
    def last_port(self) -> int:
        """Where the cloud listened last time, 0 when nobody knows."""
        port = _read(self.path / "state.json").get("port", 0)
        return port if isinstance(port, int) else 0

    def announce(self, endpoint: str, api_url: str) -> None:
        """Tell `subnetctl` where the cloud and the API are."""
        state = {"version": STATE_VERSION, "port": urlsplit(endpoint).port or 0}
        _write(self.path / "state.json", state)
        here = {"endpoint": endpoint, "api_url": api_url, "pid": os.getpid(), "state_version": STATE_VERSION}
        _write(self.path / "cloud.json", here)

    def link_chain(self, name: str, sample: Path) -> None:
        """The laptop's own chain is the sample, until somebody moves it on, which puts a file in the link's place."""
        own = self.path / name
        if own.is_symlink():
            own.unlink()
        if not own.exists():
            own.symlink_to(sample)

    def close(self) -> None:
        """Nothing runs here any more, but for a cloud that still saves."""
        (self.path / "cloud.json").unlink(missing_ok=True)
        os.truncate(self._lock, 0)
        os.close(self._lock)

    def _take(self) -> None:
        try:
            self._claim()
            self._refuse_newer()
            self._clean()
        except (FolderRefused, OSError):
            os.close(self._lock)
            raise

    def _claim(self) -> None:
        """The cloud of a server that was killed may still be saving: that is worth a moment's wait."""
        deadline = time.monotonic() + SECONDS_FOR_A_LAST_SAVE
        told_at = deadline - SECONDS_FOR_A_LAST_SAVE + 1
        while True:
            try:
                fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                owner = int(os.pread(self._lock, 20, 0) or b"0")
                if _alive(owner) or time.monotonic() > deadline:
                    self._refuse_shared(owner)
                if time.monotonic() > told_at:
                    print(f"waiting for the last save into {self.path}", file=sys.stderr, flush=True)
                    told_at = deadline
                time.sleep(0.05)
            else:
                os.truncate(self._lock, 0)
                os.pwrite(self._lock, str(os.getpid()).encode(), 0)
                return

    def _refuse_shared(self, owner: int) -> None:
        raise FolderRefused(
            f"STATE_DIR {self.path} is in use by another server (process {owner}): "
            "stop it, or give this one a STATE_DIR of its own"
        )

    def _refuse_newer(self) -> None:
        found = _read(self.path / "state.json").get("version", 0)
        if not isinstance(found, int) or found > STATE_VERSION:
            raise FolderRefused(
                f"STATE_DIR {self.path} was written by a newer version of Subnet Functions "
                f"(state version {found}, this one knows {STATE_VERSION}): update, or use another folder"
            )

    def _clean(self) -> None:
        """What a server that was killed could not take away."""
        (self.path / "cloud.json").unlink(missing_ok=True)
        shutil.rmtree(self.path / "tmp", ignore_errors=True)
        for leftover in (self.path / "tables").glob("*.tmp"):
            leftover.unlink()


def _alive(pid: int) -> bool:
    if pid <= 0:
        return False
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _read(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def _write(path: Path, content: dict[str, Any]) -> None:
    """Whole or not at all, for others read it at any moment."""
    draft = path.with_suffix(".draft")
    draft.write_text(json.dumps(content, indent=1) + "\n", "utf-8")
    draft.replace(path)
