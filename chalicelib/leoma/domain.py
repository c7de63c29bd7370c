"""Leoma's decisions: who may call, what a list shows."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Container, Iterable

from chalicelib.kernel.errors import Forbidden, Unauthenticated

from .contracts import Miner, MinerList

_TIMESTAMP = re.compile(r"[0-9]{1,12}")


def signed_message(body: bytes, timestamp: str) -> bytes:
    """The hex digest of the exact body, a colon, and the timestamp as it was sent."""
    return f"{hashlib.sha256(body).hexdigest()}:{timestamp}".encode()


def check_timestamp(timestamp: str, *, now: float, window: int) -> None:
    """Both directions, the edge included."""
    if not _TIMESTAMP.fullmatch(timestamp):
        raise Unauthenticated("Invalid timestamp format", code="invalid_timestamp")
    if abs(int(now) - int(timestamp)) > window:
        raise Unauthenticated(f"Timestamp expired (max {window}s)", code="timestamp_expired")


def check_caller(*, blacklisted: bool) -> None:
    if blacklisted:
        raise Unauthenticated("Hotkey is blacklisted", code="hotkey_blacklisted")


def check_registered(hotkey: str, admins: Container[str], *, registered: bool) -> None:
    """Admins pass; everybody else is a validator of the last sync."""
    if hotkey not in admins and not registered:
        raise Unauthenticated(
            "Validator not registered. Stake must reach the minimum at the last metagraph sync",
            code="validator_not_registered",
        )


def check_admin(hotkey: str, admins: Container[str]) -> None:
    if hotkey not in admins:
        raise Forbidden("Admin access required", code="admin_required")


def miner_list(miners: Iterable[Miner]) -> MinerList:
    """Every stored miner by uid."""
    ordered = sorted(miners, key=lambda miner: miner.uid)
    return MinerList(miners=ordered, total=len(ordered), valid_count=sum(miner.is_valid for miner in ordered))
