"""How alike two artifacts are: normalised text, its hash, a hashed feature vector, and an exact search among many.

Vectors are made without numpy; the search needs it and runs in a task. It is brute force that looks at a quarter of
the dimensions first: what is left can add at most the product of the remaining lengths, so nothing near is skipped.
"""

from __future__ import annotations

import hashlib
import math
import operator
import re
import unicodedata
from array import array
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

from .contracts import Artifact

DIMENSIONS = 1024
HEAD_DIMENSIONS = 256
_WORD_WEIGHT = 1.0
_LETTERS_WEIGHT = 0.5
_MODEL_WEIGHT = 3.0
_LETTERS = 5
_SIGN_BIT = 1 << 63
_ROUNDING = 1e-5
_GATHERED_SHARE = 8
# So many more than asked for are measured in double precision: single precision cannot order equals.
_SPARE = 256
_ID_BYTES = 36

_COMMENT_LINES = re.compile(r"^[ \t]*#[ \t].*$", re.MULTILINE)
_TOKENS = re.compile(r"\{\{[^{}]*\}\}|\w+")
_BLANKS = re.compile(r"\s+")
_BLANKS_IN_VARIABLE = re.compile(r"\{\{[-+]?\s*(\w+)\s*[-+]?\}\}")
_LOOKALIKES = {
    "a": "аαɑ", "b": "Ьβ", "c": "сϲ", "d": "ԁ", "e": "еεҽ", "g": "ɡ", "h": "һнℎ", "i": "іιı", "j": "јϳ",
    "k": "кκ", "l": "ӏ", "m": "мϻ", "n": "ηп", "o": "оοσ", "p": "рρ", "q": "ԛ", "r": "г", "s": "ѕ", "t": "тτ",
    "u": "υս", "v": "ѵν", "w": "ԝω", "x": "хχ", "y": "уγү", "z": "ᴢ",
}  # fmt: skip
_HOMOGLYPHS = {ord(twin): latin for latin, twins in _LOOKALIKES.items() for twin in twins}


def normalise(text: str) -> str:
    """What is left when case, spacing, invisible and look-alike letters and comments no longer count."""
    composed = unicodedata.normalize("NFKC", text)
    if not composed.isascii():
        composed = "".join(letter for letter in composed if unicodedata.category(letter) != "Cf")
    plain = composed.casefold().translate(_HOMOGLYPHS)
    plain = _COMMENT_LINES.sub(" ", without(without(plain, "<!--", "-->"), "{#", "#}"))
    return _BLANKS.sub(" ", _BLANKS_IN_VARIABLE.sub(r"{{\1}}", plain)).strip()


def without(text: str, opening: str, closing: str) -> str:
    """The text with every `opening…closing` cut out; one pass, whatever the text holds."""
    kept = []
    at = 0
    while (start := text.find(opening, at)) >= 0:
        end = text.find(closing, start + len(opening))
        if end < 0:
            break
        kept.append(text[at:start])
        at = end + len(closing)
    kept.append(text[at:])
    return " ".join(kept) if len(kept) > 1 else text


def pieces(provider: str, model: str, system: str, user: str, fewshots: Iterable[str]) -> tuple[str, str, str]:
    """Provider, model and prose of an artifact, normalised."""
    prose = " ".join(normalise(part) for part in (system, user, *fewshots))
    return normalise(provider), normalise(model), prose.strip()


def pieces_of(artifact: Artifact) -> tuple[str, str, str]:
    contents = [example["content"] for example in artifact.fewshot_examples]
    return pieces(
        artifact.provider, artifact.model, artifact.system_prompt_template, artifact.user_prompt_template, contents
    )


def fingerprint(parts: tuple[str, str, str]) -> str:
    """The hash that two exact copies share."""
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()


def vector(parts: tuple[str, str, str]) -> array[float]:
    """Signed feature hashing of words, word triples and letter runs; length 1, or 0 for an empty text."""
    sums = [0.0] * DIMENSIONS
    for feature, (weight, count) in _features(parts).items():
        number = int.from_bytes(hashlib.blake2b(feature.encode(), digest_size=8).digest(), "big")
        value = weight * (1 + math.log(count))
        sums[number % DIMENSIONS] += -value if number & _SIGN_BIT else value
    length = math.sqrt(math.fsum(value * value for value in sums))
    return array("f", (value / length for value in sums) if length else sums)


def _features(parts: tuple[str, str, str]) -> dict[str, tuple[float, int]]:
    provider, model, prose = parts
    words = _TOKENS.findall(prose)
    kinds = (
        (_MODEL_WEIGHT, (f"m:{token}" for text in (provider, model) for token in _TOKENS.findall(text))),
        (_WORD_WEIGHT, (f"w:{word}" for word in words)),
        (_WORD_WEIGHT, (f"t:{a} {b} {c}" for a, b, c in zip(words, words[1:], words[2:], strict=False))),
        (_LETTERS_WEIGHT, (f"c:{prose[at : at + _LETTERS]}" for at in range(len(prose) - _LETTERS + 1))),
    )
    return {feature: (weight, count) for weight, found in kinds for feature, count in Counter(found).items()}


class Index:
    """Vectors by agent, searched exactly; grows, never forgets."""

    def __init__(self) -> None:
        import numpy as np  # noqa: PLC0415 - only the task has it

        self._np = np
        self.ids: list[str] = []
        self._known: set[str] = set()
        self._head = np.empty((0, HEAD_DIMENSIONS), np.float32)
        self._tail = np.empty((0, DIMENSIONS - HEAD_DIMENSIONS), np.float32)
        self._tail_length = np.empty(0, np.float32)

    def __contains__(self, agent: str) -> bool:
        return agent in self._known

    def add(self, agents: Sequence[str], rows: bytes) -> None:
        """Rows are float32, one after the other; agents already known are skipped."""
        np = self._np
        matrix = np.frombuffer(rows, np.float32).reshape(len(agents), DIMENSIONS)
        fresh = [number for number, agent in enumerate(agents) if agent not in self._known]
        if not fresh:
            return
        if len(fresh) < len(agents):
            matrix = matrix[fresh]
        start, end = len(self.ids), len(self.ids) + len(fresh)
        self._reserve(end)
        self._head[start:end] = matrix[:, :HEAD_DIMENSIONS]
        self._tail[start:end] = matrix[:, HEAD_DIMENSIONS:]
        self._tail_length[start:end] = np.linalg.norm(self._tail[start:end], axis=1)
        self.ids += [agents[number] for number in fresh]
        self._known.update(agents[number] for number in fresh)

    def nearest(self, query: bytes, *, below: float, limit: int) -> list[tuple[str, float]]:
        """The agents nearer than `below`, nearest first, with their cosine distance."""
        np, size = self._np, len(self.ids)
        wanted = np.frombuffer(query, np.float32)
        head, tail = wanted[:HEAD_DIMENSIONS], wanted[HEAD_DIMENSIONS:]
        most = self._head[:size] @ head
        bound = most + self._tail_length[:size] * float(np.linalg.norm(tail))
        candidates = np.flatnonzero(bound > 1 - below - _ROUNDING)
        if len(candidates) * _GATHERED_SHARE > size:
            cosine = (most + self._tail[:size] @ tail)[candidates]
        else:
            cosine = most[candidates] + self._tail[candidates] @ tail
        candidates = candidates[cosine > 1 - below - _ROUNDING]
        cosine = cosine[cosine > 1 - below - _ROUNDING]
        if len(candidates) > limit + _SPARE:
            candidates = candidates[np.argpartition(cosine, -limit - _SPARE)[-limit - _SPARE :]]
        found = [(self.ids[row], self._distance(row, wanted)) for row in candidates]
        near = sorted((distance, agent) for agent, distance in found if distance < below)
        return [(agent, distance) for distance, agent in near[:limit]]

    def _distance(self, row: int, wanted: Any) -> float:
        np = self._np
        own = np.concatenate((self._head[row], self._tail[row])).astype(np.float64)
        distance = 1.0 - float(own @ wanted.astype(np.float64))
        return round(min(2.0, max(0.0, distance)), 7)

    def _reserve(self, size: int) -> None:
        np, room = self._np, len(self._tail_length)
        if size <= room:
            return
        room = max(size, room + room // 4)
        used = len(self.ids)
        for name in ("_head", "_tail", "_tail_length"):
            old = getattr(self, name)
            grown = np.empty((room, *old.shape[1:]), np.float32)
            grown[:used] = old[:used]
            setattr(self, name, grown)


def nearest_of_few(
    query: bytes, agents: Sequence[str], rows: bytes, *, below: float, limit: int
) -> list[tuple[str, float]]:
    """The same without numpy, for as few agents as a request can afford to compare one by one."""
    wanted, stored = array("f", query), array("f", rows)
    near = []
    for number, agent in enumerate(agents):
        own = stored[number * DIMENSIONS : (number + 1) * DIMENSIONS]
        distance = round(min(2.0, max(0.0, 1.0 - math.fsum(map(operator.mul, own, wanted)))), 7)
        if distance < below:
            near.append((distance, agent))
    return [(agent, distance) for distance, agent in sorted(near)[:limit]]


def pack(agents: Sequence[str], rows: bytes) -> bytes:
    """A segment of the stored index: agent ids, then their vectors."""
    return len(agents).to_bytes(4, "big") + "".join(agents).encode("ascii") + rows


def unpack(segment: bytes) -> tuple[list[str], bytes]:
    count = int.from_bytes(segment[:4], "big")
    names, rows = segment[4 : 4 + count * _ID_BYTES].decode("ascii"), segment[4 + count * _ID_BYTES :]
    return [names[at : at + _ID_BYTES] for at in range(0, len(names), _ID_BYTES)], rows
