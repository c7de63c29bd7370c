"""What PRISM's routes take and answer, and its knobs."""

from __future__ import annotations

from chalicelib.kernel.settings import Settings


class PrismSettings(Settings, system="prism", prefixed_only=True):
    """PRISM's knobs."""
