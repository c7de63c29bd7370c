"""`subnetctl` in the test's own process and on its cloud: no interpreter to start, no server to look for."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from typing import Any

import pytest

from subnetctl import cloud, main, terminal

Run = Callable[..., tuple[int, Any, str]]


def here(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Run:
    """Runs a command: its status, its result, its words."""
    monkeypatch.setattr(cloud, "connect", lambda: None)

    def run(*words: str) -> tuple[int, Any, str]:
        monkeypatch.setattr(sys, "argv", ["subnetctl", *words, "--json"])
        monkeypatch.setattr(terminal._Mode, "json", False)
        status = 0
        try:
            main.main()
        except SystemExit as end:
            status = int(end.code or 0)
        said = capfd.readouterr()
        return status, json.loads(said.out) if said.out.strip() else None, said.err

    return run
