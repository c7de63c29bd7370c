"""The peers' own environment: what they need is installed beside the project, never into it."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from bench.interface import ROOT
from local.bootstrap import Environment, ensure, exclusive

ENVIRONMENT = Environment(".envs/peers", "the peers", ("-r", "bench/requirements.txt"), ("bench/requirements.txt",))
FOLDER = ROOT / "bench" / "peer"


def python() -> Path:
    """An interpreter that has the peers' libraries; installs them on first use."""
    with exclusive(ROOT / ".envs"):
        ensure(ENVIRONMENT)
    return ENVIRONMENT.python


def answer(*arguments: str) -> Any:
    """What a program of `bench/peer` prints, as JSON."""
    command = [str(python()), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=FOLDER, env={})
    return json.loads(done.stdout)


@contextmanager
def server(*arguments: str) -> Iterator[int]:
    """A program of `bench/peer` that prints the port it serves on; it ends with the block."""
    command = [str(python()), *arguments]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=FOLDER, env={}) as process:
        assert process.stdout is not None
        try:
            yield int(process.stdout.readline())
        finally:
            process.terminate()
