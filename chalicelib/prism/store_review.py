"""PRISM's access patterns 9 to 13: what review found, the similarity index, prints, the diversity sample."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence

from chalicelib.kernel import clock
from chalicelib.kernel.tables import ConditionFailed, get_many, transact, until_decided
from chalicelib.kernel.wire import Item

from .store import bucket, entering, table

MEMBERS_PER_KEY = 16
GALLERY_SIZE = 64
UNREAD_AT_ONCE = 8
_READERS_SECONDS = 60


def save_review(submission_id: str, found: Item) -> None:
    """9: what attribution needs, written once review has passed; a repeat writes the same."""
    table.put({"pk": f"SUB#{submission_id}", "sk": "REVIEW", "found": found})


def members(keys: Sequence[str]) -> dict[str, list[str]]:
    """10: who stands under the keys, the earliest first."""
    items = get_many([(table, f"IX#{key}", "-") for key in keys])
    found = zip(keys, items, strict=True)
    return {key: sorted(item.get("members") or {item["first"]}) for key, item in found if item}


def enter(keys: Sequence[str], name: str) -> None:
    """11: be found under the keys; a key that is full keeps its earliest, who are the originals."""
    standing = members(keys)
    open_keys = [key for key in keys if name not in standing.get(key, ()) and _has_room(standing.get(key, []))]
    if open_keys:
        until_decided(lambda: transact([entering(key, name) for key in open_keys]))


def _has_room(found: list[str]) -> bool:
    return len(found) < MEMBERS_PER_KEY


def unread_before(place: str) -> list[Item]:
    """11a: the first of the earlier ones that nobody can find in the index yet."""
    before = {"place": place}
    return table.query("UNREAD", where="#sk < :place", values=before, limit=UNREAD_AT_ONCE, consistent=True).items


def may_read(place: str, reader: str) -> bool:
    """Whether a later one may read an earlier one: once each and not for long, for it may be one that kills readers."""
    now = clock.now()
    change = "SET #since = if_not_exists(#since, :now) ADD #readers :mine"
    fresh = "attribute_not_exists(#since) OR (#since > :long_ago AND NOT contains(#readers, :me))"
    try:
        table.update(
            "UNREAD", place, change, when=f"attribute_exists(#pk) AND ({fresh})",
            now=now, long_ago=now - _READERS_SECONDS, mine={reader}, me=reader,
        )  # fmt: skip
    except ConditionFailed:
        forget_unread(place)
        return False
    return True


def forget_unread(place: str) -> None:
    """It is in the index, or will never be."""
    table.delete("UNREAD", place)


def keep_print(submission_id: str, raw: bytes) -> None:
    """12: written before anybody can find the submission in the index."""
    bucket().put(f"prints/{submission_id}", raw)


def stored_print(submission_id: str) -> bytes | None:
    return bucket().get(f"prints/{submission_id}")


def gallery() -> list[dict[str, str]]:
    """13: a fair sample of all evaluated entrypoints: those whose ids hash lowest."""
    item = table.get("STATE", "gallery")
    return [_exhibit(text) for text in sorted((item or {}).get("members", ()))]


def exhibit(submission_id: str, place: str, hotkey: str, sketch: str, hanging: Sequence[Mapping[str, str]]) -> None:
    """Enter the sample if the id hashes low enough, and push the highest out."""
    text = "|".join((_lot(submission_id), place, hotkey, sketch))
    if len(hanging) < GALLERY_SIZE:
        table.update("STATE", "gallery", "ADD #members :one", one={text})
    elif text < hanging[-1]["text"]:
        table.update("STATE", "gallery", "ADD #members :one", one={text})
        table.update("STATE", "gallery", "DELETE #members :last", last={hanging[-1]["text"]})


def _lot(submission_id: str) -> str:
    return hashlib.blake2b(submission_id.encode(), digest_size=8).hexdigest()


def _exhibit(text: str) -> dict[str, str]:
    _, place, rest = text.split("|", 2)
    hotkey, sketch = rest.rsplit("|", 1)
    return {"text": text, "place": place, "hotkey": hotkey, "sketch": sketch}
