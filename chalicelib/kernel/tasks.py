"""The chain sync: copies blocks, neurons and commitments into the `chain` table."""

from __future__ import annotations

from . import chain, chain_source
from .jobs import Jobs
from .settings import KernelSettings

jobs = Jobs("chain", __name__, chain.table, KernelSettings.current, layers=("chain",))
tick = jobs.tick


@jobs.every("chain_sync_seconds", on=("chain", "sweep"))
def sync() -> None:
    """One look at the chain; a subnet that the source does not know keeps its copy."""
    reading = chain_source.source().read()
    chain.save_head(reading.block)
    for system, subnet in reading.subnets.items():
        chain.save_snapshot(system, reading.block, subnet)
