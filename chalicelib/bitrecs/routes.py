"""Bitrecs's HTTP surface: parse, decide, store, answer."""

from __future__ import annotations

from chalicelib.kernel.routing import Router

api = Router(
    "bitrecs",
    "Bitrecs",
    "Signed artifact submissions checked against chain and gist, similarity, the evaluation queue, scores and weights.",
)
