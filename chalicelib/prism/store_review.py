"""PRISM's access patterns 9 to 13: what review found, the similarity index, prints, the diversity sample."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence

from chalicelib.kernel.tables import get_many, transact, until_decided
from chalicelib.kernel.wire import Item

from .store import bucket, entering, table

MEMBERS_PER_KEY = 16
GALLERY_SIZE = 64


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
