"""The samples behind votes: a part of Leoma's access patterns (rows 13 and 15), read once per process.

A batch never changes, so what was read of it stays true.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Mapping, Sequence

from . import contracts_sheets, store
from .contracts_sheets import Entry, Texts, Vote

RECENT = 500
_REMEMBERED_BATCHES = 256

Found = tuple[str, Entry, Vote]

_remembered: dict[tuple[str, str], list[Entry]] = {}
_remembering = threading.Lock()


def entries(wanted: Iterable[tuple[str, str]]) -> dict[tuple[str, str], list[Entry]]:
    """Batches by (validator, name)."""
    names = list(dict.fromkeys(wanted))
    with _remembering:
        found = {name: _remembered[name] for name in names if name in _remembered}
    missing = [name for name in names if name not in found]
    if missing:
        read = {name: contracts_sheets.entries_of(body) for name, body in store.batches(missing).items()}
        found |= read
        _remember(read)
    return found


def _remember(read: Mapping[tuple[str, str], list[Entry]]) -> None:
    with _remembering:
        for name, batch in list(read.items())[:_REMEMBERED_BATCHES]:
            if len(_remembered) >= _REMEMBERED_BATCHES:
                del _remembered[next(iter(_remembered))]
            _remembered[name] = batch


def texts_at(validator: str, name: str, place: int) -> Texts:
    """A stored sample's artifacts, wherever they stand."""
    entry = entries([(validator, name)])[validator, name][place]
    if entry.texts is not None:
        return entry.texts
    first, second, third = store.far_texts(validator, name)[place]
    return (first, second, third)


def located(votes: Sequence[tuple[str, Vote]]) -> list[Found]:
    """The samples behind votes, in the order of the votes."""
    read = entries((validator, vote.batch) for validator, vote in votes)
    return [(validator, read[validator, vote.batch][vote.place], vote) for validator, vote in votes]
