"""What Experts's routes take and answer, and its knobs."""

from __future__ import annotations

from chalicelib.kernel.settings import Settings


class ExpertsSettings(Settings, system="experts"):
    """Experts's knobs."""
