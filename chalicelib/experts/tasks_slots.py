"""Who may fetch from a stranger's server now: one submission per hotkey, a few in all.

A slot is a lease. A flow that dies in between keeps it no longer than its fetch could have taken; the same submission
that comes again has its own slot back.
"""

from __future__ import annotations

from chalicelib.kernel import clock
from chalicelib.kernel.tables import until_decided

from . import domain, store_slots
from .contracts import FetchSettings

_TRIES = 2
_SECONDS_AROUND_A_TRY = 30.0


def take(pubkey: str, submission_id: str) -> bool:
    """Whether this submission may fetch now."""
    settings = FetchSettings.current()
    seconds = _TRIES * (settings.fetch_total_s + _SECONDS_AROUND_A_TRY)

    def decide() -> bool:
        held, turn = store_slots.leases()
        now = clock.now()
        lease = {"submission_id": submission_id, "until": now + seconds}
        after = domain.leased(held, pubkey, lease, now=now, limit=settings.fetch_concurrency)
        if after is not None:
            store_slots.save_leases(after, turn=turn)
        return after is not None

    return until_decided(decide)


def give_back(submission_id: str) -> None:
    """The fetch is over, whatever came of it."""

    def decide() -> None:
        held, turn = store_slots.leases()
        after = {pubkey: lease for pubkey, lease in held.items() if lease["submission_id"] != submission_id}
        if after != held:
            store_slots.save_leases(after, turn=turn)

    until_decided(decide)
