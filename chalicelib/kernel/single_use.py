"""Nonces and signatures that count once: one conditional put, judged by our own clock, never by TTL's."""

from __future__ import annotations

from . import clock
from .tables import ConditionFailed, Table, Write
from .wire import Item

_FREE = "attribute_not_exists(#pk) OR #expires_at < :now"


def consume(table: Table, kind: str, token: str, *, expires_at: float, use: str = "") -> bool:
    """Take a token for good. A second taker gets False, unless it names the same non-empty `use`."""
    when = f"{_FREE} OR #use = :use" if use else _FREE
    values: Item = {"now": clock.now()} | ({"use": use} if use else {})
    try:
        table.put(_item(kind, token, expires_at, use), when=when, **values)
    except ConditionFailed:
        return False
    return True


def consuming(table: Table, kind: str, token: str, *, expires_at: float) -> Write:
    """The same as part of a transaction, so that a refused request does not use the token up."""
    return table.putting(_item(kind, token, expires_at, ""), when=_FREE, now=clock.now())


def _item(kind: str, token: str, expires_at: float, use: str) -> Item:
    return {
        "pk": f"USED#{kind}#{token}",
        "sk": "-",
        "use": use,
        "expires_at": expires_at,
        "ttl": int(expires_at) + 1,
    }
