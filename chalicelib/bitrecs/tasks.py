"""Bitrecs's background work."""

from __future__ import annotations

from chalicelib.kernel.jobs import Jobs

from .contracts import BitrecsSettings
from .store import table

jobs = Jobs("bitrecs", __name__, table, BitrecsSettings.current)
tick = jobs.tick
