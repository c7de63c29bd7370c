"""Pool's background work."""

from __future__ import annotations

from chalicelib.kernel.jobs import Jobs

from .contracts import PoolSettings
from .store import table

jobs = Jobs("pool", __name__, table, PoolSettings.current)
tick = jobs.tick
