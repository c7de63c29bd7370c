"""How hard to try: `CI_SCALE` multiplies every number of seeds, mutations and examples (1 in CI, 10 nightly)."""

from __future__ import annotations

import os

_SCALE = float(os.environ.get("CI_SCALE", "1"))


def scaled(count: int) -> int:
    return max(1, round(count * _SCALE))
