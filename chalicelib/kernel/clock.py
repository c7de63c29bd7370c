"""The one place where time and randomness enter."""

from __future__ import annotations

import os
import random
import time as _time
import uuid
from datetime import UTC, datetime

_JITTER = random.Random()  # noqa: S311 - spreads retries, hides nothing


def now() -> float:
    """Seconds since 1970; `CLOCK_FROZEN_AT` holds it still in tests."""
    frozen = os.environ.get("CLOCK_FROZEN_AT")
    return float(frozen) if frozen else _time.time()


def wall() -> float:
    """The same, whatever a test holds still: others judge by their own clocks what is signed for them."""
    return _time.time()


def monotonic() -> float:
    return _time.monotonic()


def sleep(seconds: float) -> None:
    _time.sleep(seconds)


def jitter(ceiling: float) -> float:
    """Full jitter: competitors that failed together do not come back together."""
    return _JITTER.uniform(0, ceiling)


def new_uuid() -> str:
    return str(uuid.uuid4())


def new_hex(size: int = 16) -> str:
    return os.urandom(size).hex()


def stamp(at: float) -> str:
    """`2026-11-20T23:17:18.051489Z`"""
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def stamp_seconds(at: float) -> str:
    """`2026-11-20T23:17:18Z`"""
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
