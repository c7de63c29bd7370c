"""Experts's HTTP surface: parse, decide, store, answer."""

from __future__ import annotations

from chalicelib.kernel.routing import Router

api = Router(
    "experts",
    "Experts",
    "Expert-group slices of a mixture-of-experts model, the full model, checkpoint submissions and phases.",
)
