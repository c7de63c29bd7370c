"""What Bitrecs's routes take and answer, and its knobs."""

from __future__ import annotations

from chalicelib.kernel.settings import Settings


class BitrecsSettings(Settings, system="bitrecs"):
    """Bitrecs's knobs."""
