"""The patches fit one release of the emulator and say so."""

from __future__ import annotations

import asyncio
import importlib.metadata
import sys
from typing import Any
from unittest import mock

import pytest

from local import emulator_patches


def test_another_version_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.metadata, "version", lambda _name: "1.5.34")
    with pytest.raises(emulator_patches.UnexpectedInternals, match=r"found 1\.5\.34"):
        emulator_patches.patch(sys.executable)


def test_writes_of_one_moment_leave_as_one_and_before_the_end() -> None:
    transport: Any = mock.Mock()

    async def answers() -> None:
        gathering: Any = emulator_patches.Gathering(transport)
        gathering.write(b"head")
        gathering.write(b"body")
        await asyncio.sleep(0)
        gathering.write(b"last")
        gathering.close()
        await asyncio.sleep(0)

    asyncio.run(answers())
    assert transport.mock_calls == [
        mock.call.writelines([b"head", b"body"]),
        mock.call.writelines([b"last"]),
        mock.call.close(),
    ]
