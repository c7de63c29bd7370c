"""The peers' own environment: what they need is installed beside the project, never into it."""

from __future__ import annotations

import json
import subprocess
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
