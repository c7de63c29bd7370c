"""What Pool's routes take and answer, and its knobs."""

from __future__ import annotations

from chalicelib.kernel.settings import Settings


class PoolSettings(Settings, system="pool"):
    """Pool's knobs."""
