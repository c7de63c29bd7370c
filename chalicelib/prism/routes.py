"""PRISM's HTTP surface: parse, decide, store, answer."""

from __future__ import annotations

from chalicelib.kernel.routing import Router

api = Router(
    "prism",
    "PRISM",
    "Model-project zips, their review, the attribution of architecture and training, validator assignments, weights.",
)
