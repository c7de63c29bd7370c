"""Leoma's background work."""

from __future__ import annotations

from chalicelib.kernel.jobs import Jobs

from .contracts import LeomaSettings
from .store import table

jobs = Jobs("leoma", __name__, table, LeomaSettings.current)
tick = jobs.tick
