"""Evaluation sets: opening one is what begins a new cycle."""

from __future__ import annotations

from chalicelib.kernel import chain, clock
from chalicelib.kernel.wire import Item

from . import domain_stages, store


def first_set() -> Item:
    """The set that every deployment starts with; reveals of any age count in it."""
    return store.current_set() or store.open_set(None, domain_stages.problems_of_set(_drawn()), first_block=0)


def next_set() -> Item:
    """A new cycle from this block on: hotkeys and gists are free again."""
    current = first_set()
    head = chain.head()
    problems = domain_stages.problems_of_set(_drawn())
    return store.open_set(current["set_id"], problems, first_block=head.block if head else 0)


def _drawn() -> list[str]:
    """Some optional problems, different ones each time."""
    left = list(domain_stages.OPTIONAL_PROBLEMS)
    return [left.pop(int(clock.new_hex(8), 16) % len(left)) for _ in range(domain_stages.OPTIONAL_PER_SET)]
