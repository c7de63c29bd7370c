"""Pool's HTTP surface: parse, decide, store, answer."""

from __future__ import annotations

from chalicelib.kernel.routing import Router

api = Router(
    "pool",
    "Pool",
    "Leases, evolution and evaluation batches, consensus results, reputation, recipient coldkeys and Merkle claims.",
    trailing_slash=True,
)
claims = Router("claims", "Merkle claims", "Proofs and claims of published epochs.", trailing_slash=True)
