"""What an operator agrees to, beforehand or when asked."""

from __future__ import annotations

from collections.abc import Callable

Agree = Callable[[str], bool]


def asked(*, beforehand: bool) -> Agree:
    """Asks unless all was agreed to beforehand; anything but y or yes is a no."""
    return lambda question: beforehand or input(question).strip().lower() in {"y", "yes"}
