"""The language that projects are trained on: made anew for every submission, equally hard for all.

Its structure is always the same; which tokens carry it follows from the submission's id, which nobody knows while
writing the project. So a project can only score by learning, never by knowing.
"""

from __future__ import annotations

import hashlib
import random
from array import array

SEED = 1337
VOCABULARY = 4096
_ACTIVE = 256
_HABIT = 0.75
_ZIPF = 1.1


class Language:
    """Sequences of tokens in which most tokens have one usual successor and the rest follow Zipf's law."""

    def __init__(self, submission_id: str) -> None:
        self._source = random.Random(hashlib.sha256(f"{SEED}:{submission_id}".encode()).digest())  # noqa: S311
        self._words = self._source.sample(range(VOCABULARY), _ACTIVE)
        self._weights = [1 / (rank + 1) ** _ZIPF for rank in range(_ACTIVE)]
        order = self._source.sample(range(_ACTIVE), _ACTIVE)
        self._successor = dict(zip(order, order[1:] + order[:1], strict=True))

    def sequences(self, count: int, length: int) -> list[array[int]]:
        return [self._sequence(length) for _ in range(count)]

    def _sequence(self, length: int) -> array[int]:
        draws = self._source.choices(range(_ACTIVE), self._weights, k=length)
        current, tokens = draws[0], array("i")
        for draw in draws:
            tokens.append(self._words[current])
            current = self._successor[current] if self._source.random() < _HABIT else draw
        return tokens
