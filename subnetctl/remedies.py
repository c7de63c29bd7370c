"""What each code of a refusal means and what to do about it; `errors.toml` beside this file says it."""

from __future__ import annotations

import functools
import tomllib
from pathlib import Path

_FILE = Path(__file__).with_name("errors.toml")


@functools.cache
def known() -> dict[str, tuple[str, str]]:
    """Cause and remedy by code."""
    return {code: (cause, remedy) for code, (cause, remedy) in tomllib.loads(_FILE.read_text("utf-8")).items()}


def remedy(code: str) -> str:
    """What to do; nothing for a code that only a command itself has, whose words say it already."""
    return known()[code][1] if code in known() else ""
