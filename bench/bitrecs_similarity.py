"""Similarity: the exact search on one core at three sizes, and which disguises of a copy it sees."""

from __future__ import annotations

import random
import sys
from collections.abc import Callable

from bench.interface import Figures, benchmark, printed_number
from chalicelib.bitrecs import similarity
from chalicelib.bitrecs.contracts import BitrecsSettings

_ONE_CORE = {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
_BUDGET_MS = 50.0
# Reordering moves a text by 0.07, as specified, and the report distance is 0.05: that disguise is mostly not seen.
_WANTED_SHARE = 0.9
_SEARCH = """
import statistics, time
import numpy as np
from chalicelib.bitrecs.similarity import Index
rng = np.random.default_rng(1)
common = rng.normal(size=(1, 1024)).astype(np.float32)
index, size = Index(), {size}
for first in range(0, size, 2048):
    count = min(2048, size - first)
    rows = rng.normal(size=(count, 1024)).astype(np.float32) + common * {alike}
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    index.add([f"{{number:036d}}" for number in range(first, first + count)], rows.tobytes())
query = rows[0].tobytes()
brute = np.concatenate((index._head[:size], index._tail[:size]), axis=1) if {brute} else None
def once():
    started = time.perf_counter()
    if brute is None:
        index.nearest(query, below=0.05, limit=5)
    else:
        distances = 1 - brute @ np.frombuffer(query, np.float32)
        np.argpartition(distances, 5)[:5]
    return (time.perf_counter() - started) * 1000
once()
print(statistics.median(once() for _ in range(9)))
"""
_TEXT = (
    "recommend products that fit the customer and the basket explain each choice in one short sentence prefer items "
    "of the same brand never repeat what was bought before order them by how well they match season price and taste "
    "answer with a list of names only be honest about doubt and leave out what is sold out or too expensive"
)
_WORDS = _TEXT.split()


def milliseconds(size: int, *, alike: float = 0.6, brute: bool = False) -> float:
    """One search among so many vectors; `alike` says how much all of them have in common."""
    code = _SEARCH.format(size=size, alike=alike, brute=brute)
    return printed_number(sys.executable, code, environment=_ONE_CORE)


@benchmark("bitrecs similarity search, 1,000 artifacts", unit="ms", at_most=1)
def at_1_000() -> Figures:
    return Figures(milliseconds(1_000), _BUDGET_MS, "the peer is the budget")


@benchmark("bitrecs similarity search, 10,000 artifacts", unit="ms", at_most=1)
def at_10_000() -> Figures:
    return Figures(milliseconds(10_000), _BUDGET_MS, "the peer is the budget")


@benchmark("bitrecs similarity search, 100,000 artifacts", unit="ms", at_most=1)
def at_100_000() -> Figures:
    brute = milliseconds(100_000, brute=True)
    crowded = milliseconds(100_000, alike=4.0)
    note = f"the peer is the budget; brute force {brute:.1f}ms, all artifacts near each other {crowded:.1f}ms"
    return Figures(milliseconds(100_000), _BUDGET_MS, note)


Disguise = Callable[[str, random.Random], str]


def _swapped(text: str, dice: random.Random) -> str:
    """Its sentences in another order."""
    parts = text.split(". ")
    dice.shuffle(parts)
    return ". ".join(parts)


def _reworded(words: int) -> Disguise:
    def reword(text: str, dice: random.Random) -> str:
        parts = text.split(" ")
        for at in dice.sample(range(len(parts)), words):
            if "{{" not in parts[at]:
                parts[at] = "".join(dice.choice("abcdefghij") for _ in range(6))
        return " ".join(parts)

    return reword


_DISGUISES: dict[str, Disguise] = {
    "white space": lambda text, _: text.replace(" ", " \n\t "),
    "capitals": lambda text, _: text.upper().replace("{{SKU}}", "{{sku}}").replace("{{PERSONA}}", "{{persona}}"),
    "look-alike letters": lambda text, _: text.replace("e", "е").replace("a", "а").replace("o", "ο"),
    "invisible letters": lambda text, _: text.replace("s", "s\u200b"),
    "full-width letters": lambda text, _: (
        "".join(chr(ord(c) + 0xFEE0) if c.isalpha() else c for c in text)
        .replace("{{ｓｋｕ}}", "{{sku}}")
        .replace("{{ｐｅｒｓｏｎａ}}", "{{persona}}")
    ),
    "comments": lambda text, _: f"<!-- mine -->{text}{{# all of it #}}",
    "renamed variables": lambda text, _: text.replace("{{sku}}", "{{sku_info}}").replace(
        "{{persona}}", "{{cart_json}}"
    ),
    "sentences reordered": _swapped,
    "2 words": _reworded(2),
    "5 words": _reworded(5),
    "a sentence more": lambda text, _: f"{text} Always be polite and brief.",
}


def _prompt(seed: int) -> str:
    dice = random.Random(seed)
    sentences = [" ".join(dice.choice(_WORDS) for _ in range(12)) for _ in range(40)]
    return ". ".join(["Look at {{sku}} for {{persona}}", *sentences])


def _vector(prompt: str) -> list[float]:
    return list(similarity.vector(similarity.pieces("CHUTES", "m", prompt, "{{num_recs}}", [])))


def _distance(one: list[float], other: list[float]) -> float:
    return 1 - sum(a * b for a, b in zip(one, other, strict=True))


@benchmark("bitrecs evasions reported", unit="", at_least=1)
def evasions() -> Figures:
    limit = BitrecsSettings().similarity_report_distance
    prompts = {seed: _prompt(seed) for seed in range(25)}
    vectors = {seed: _vector(prompt) for seed, prompt in prompts.items()}
    seen = {
        name: sum(
            _distance(vectors[seed], _vector(disguise(prompt, random.Random(seed)))) < limit
            for seed, prompt in prompts.items()
        )
        for name, disguise in _DISGUISES.items()
    }
    pairs = [(a, b) for a in prompts for b in prompts if a < b]
    false = sum(_distance(vectors[a], vectors[b]) < limit for a, b in pairs)
    share = sum(seen.values()) / (len(prompts) * len(_DISGUISES))
    missed = ", ".join(f"{name} {count}/{len(prompts)}" for name, count in seen.items() if count < len(prompts))
    note = f"false alarms {false}/{len(pairs)}; not always seen: {missed or 'none'}"
    return Figures(share, _WANTED_SHARE, note)
