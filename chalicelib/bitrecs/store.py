"""Bitrecs's access patterns, one function each."""

from __future__ import annotations

from chalicelib.kernel.tables import Table

table = Table("bitrecs")
