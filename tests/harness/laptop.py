"""The laptop as its user starts it: a process of its own, on a free port, with a state folder of its own."""

from __future__ import annotations

import ctypes
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.request import urlopen

from botocore.session import get_session

from local import bootstrap

SECONDS_UNTIL_GIVEN_UP = 120
_SET_SIGNAL_AT_DEATH_OF_PARENT = 1
ROOT = Path(__file__).resolve().parent.parent.parent


def die_with_the_tests() -> None:
    """A test run that is killed has no time to stop its servers."""
    prctl = getattr(ctypes.CDLL(None), "prctl", None)
    if prctl:
        prctl(_SET_SIGNAL_AT_DEATH_OF_PARENT, signal.SIGTERM)


def eventually(true: Callable[[], bool]) -> None:
    """For what happens in another process; only a hang makes it fail."""
    deadline = time.monotonic() + SECONDS_UNTIL_GIVEN_UP
    while not true():
        assert time.monotonic() < deadline, "it never came true"
        time.sleep(0.05)


class NotReady(AssertionError):
    """The server ended instead of serving; carries what it said and its status."""

    def __init__(self, status: int, said: str) -> None:
        super().__init__(f"status {status}: {said}")
        self.status = status
        self.said = said


class Laptop:
    """One server process; `start` again after `stop` or `kill` is a restart."""

    def __init__(self, state_dir: Path, **variables: str) -> None:
        self.state_dir = state_dir
        self.variables = variables
        self.url = ""
        self.process: subprocess.Popen[str] | None = None

    def start(self, **variables: str) -> Laptop:
        """Returns when it serves; raises NotReady when it will not."""
        bootstrap.ensure(bootstrap.CLOUD)
        self.process = self._launch(variables)
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line.startswith("ready "):
            raise NotReady(self.wait(), self.said())
        self.url = line.removeprefix("ready ").rstrip("\n")
        return self

    def _launch(self, variables: dict[str, str]) -> subprocess.Popen[str]:
        self.state_dir.parent.mkdir(parents=True, exist_ok=True)
        environment = {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ}
        environment |= {"ENV_FILE": os.devnull, "PORT": "0", "STATE_DIR": str(self.state_dir)}
        with self._log.open("w") as log:
            return subprocess.Popen(
                [sys.executable, "-m", "local.run"],
                cwd=ROOT,
                env=environment | self.variables | variables,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                start_new_session=True,
                preexec_fn=die_with_the_tests,  # noqa: PLW1509 - one system call, no locks
            )

    @property
    def _log(self) -> Path:
        return self.state_dir.with_name(f"{self.state_dir.name}.log")

    def said(self) -> str:
        """What went to standard error since the last start."""
        return self._log.read_text()

    @property
    def cloud(self) -> dict[str, Any]:
        """What `subnetctl` reads."""
        content: dict[str, Any] = json.loads((self.state_dir / "cloud.json").read_text())
        return content

    @property
    def environment(self) -> dict[str, str]:
        """Variables for a process that is to work on this cloud."""
        return {
            "AWS_ENDPOINT_URL": str(self.cloud["endpoint"]),
            "AWS_ACCESS_KEY_ID": "test",
            "AWS_SECRET_ACCESS_KEY": "test",
            "AWS_DEFAULT_REGION": "us-east-1",
            "STATE_DIR": str(self.state_dir),
        }

    def client(self, service: str) -> Any:
        """A client of its cloud."""
        return get_session().create_client(
            service,
            endpoint_url=self.cloud["endpoint"],
            region_name="us-east-1",
            aws_access_key_id="test",
            aws_secret_access_key="test",
        )

    def get(self, path: str) -> Any:
        with urlopen(self.url + path, timeout=SECONDS_UNTIL_GIVEN_UP) as reply:
            return json.loads(reply.read())

    def stop(self, how: signal.Signals = signal.SIGTERM) -> int:
        """Signal its process group, as a terminal does; its exit status."""
        assert self.process is not None
        os.killpg(self.process.pid, how)
        return self.wait()

    def wait(self) -> int:
        """Its exit status, once it has ended."""
        assert self.process is not None
        assert self.process.stdout is not None
        with self.process.stdout:
            return self.process.wait(SECONDS_UNTIL_GIVEN_UP)

    def close(self) -> None:
        if self.process and self.process.poll() is None:
            self.stop()
