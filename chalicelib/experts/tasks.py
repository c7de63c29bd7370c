"""Experts's background work."""

from __future__ import annotations

from chalicelib.kernel.jobs import Jobs

from .contracts import ExpertsSettings
from .store import table

jobs = Jobs("experts", __name__, table, ExpertsSettings.current)
tick = jobs.tick
