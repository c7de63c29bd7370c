"""The patches fit one release of the emulator and say so."""

from __future__ import annotations

import importlib.metadata
import sys

import pytest

from local import emulator_patches


def test_another_version_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.metadata, "version", lambda _name: "1.5.34")
    with pytest.raises(emulator_patches.UnexpectedInternals, match=r"found 1\.5\.34"):
        emulator_patches.patch(sys.executable)
