"""PRISM's background work."""

from __future__ import annotations

from chalicelib.kernel.jobs import Jobs

from .contracts import PrismSettings
from .store import table

jobs = Jobs("prism", __name__, table, PrismSettings.current)
tick = jobs.tick
