"""Frozen values: dataclasses whose methods are generated at their first instance.

Generating them takes half a millisecond per class, and there are a hundred; a cold request needs a handful.
"""

from __future__ import annotations

import dataclasses
import threading
from typing import Any, TypeVar, dataclass_transform

T = TypeVar("T")
_UNBUILT: set[type[Any]] = set()
_BUILDING = threading.RLock()


@dataclass_transform(frozen_default=True)
def frozen(cls: type[T]) -> type[T]:
    """The same as `dataclass(frozen=True)`, later. What `dataclasses` offers for instances works as usual."""

    def make(kind: type[Any], /, *_given: Any, **_named: Any) -> Any:
        if cls in _UNBUILT:
            _build(cls)
        return object.__new__(kind)

    _UNBUILT.add(cls)
    cls.__new__ = make  # type: ignore[assignment] # takes whatever the generated `__init__` takes
    return cls


def fields(cls: type[Any]) -> tuple[dataclasses.Field[Any], ...]:
    """As `dataclasses.fields`, for a class that may not have an instance yet."""
    _build(cls)
    return dataclasses.fields(cls)


def _build(cls: type[Any]) -> None:
    """Bases first: a dataclass takes over the fields of those that are dataclasses already."""
    with _BUILDING:
        for kind in reversed(cls.__mro__):
            if kind in _UNBUILT:
                dataclasses.dataclass(frozen=True)(kind)
                _UNBUILT.discard(kind)
