"""Similarity: the exact search on one core at three sizes, and which disguises of a copy it sees."""

from __future__ import annotations

import itertools
import random
import re
import sys
from collections.abc import Callable
from dataclasses import dataclass

from bench.interface import Figures, benchmark, printed_number
from chalicelib.bitrecs import similarity
from chalicelib.bitrecs.contracts import BitrecsSettings

_ONE_CORE = {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
_BUDGET_MS = 50.0
_WANTED_SHARE = 0.95
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
_VOCABULARY = 600
_WORDS_PER_PROMPT = 600
_PROMPTS = 25


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


def _reordered(separator: str) -> Disguise:
    """Its sentences or paragraphs in another order: the shorter they are, the more words change neighbours."""

    def reorder(text: str, dice: random.Random) -> str:
        parts = text.split(separator)
        dice.shuffle(parts)
        return separator.join(parts)

    return reorder


def _reworded(words: int) -> Disguise:
    def reword(text: str, dice: random.Random) -> str:
        parts = text.split(" ")
        for at in dice.sample(range(len(parts)), words):
            if "{{" not in parts[at]:
                parts[at] = "".join(dice.choice("abcdefghij") for _ in range(6))
        return " ".join(parts)

    return reword


def _outside_variables(change: Callable[[str], str]) -> Disguise:
    """Variables keep their names, or the artifact would be refused."""
    return lambda text, _: "".join(
        part if part.startswith("{{") else change(part) for part in re.split(r"(\{\{\w+\}\})", text)
    )


DISGUISES: dict[str, Disguise] = {
    "white space": lambda text, _: text.replace(" ", " \n\t "),
    "capitals": _outside_variables(str.upper),
    "look-alike letters": _outside_variables(lambda text: text.replace("e", "е").replace("a", "а").replace("o", "ο")),
    "invisible letters": _outside_variables(lambda text: text.replace("s", "s\u200b")),
    "full-width letters": _outside_variables(
        lambda text: "".join(chr(ord(letter) + 0xFEE0) if letter.isalpha() else letter for letter in text)
    ),
    "comments": lambda text, _: f"<!-- mine -->{text}{{# all of it #}}",
    "renamed variables": lambda text, _: text.replace("{{sku}}", "{{sku_info}}").replace(
        "{{persona}}", "{{cart_json}}"
    ),
    "paragraphs reordered": _reordered("\n\n"),
    "sentences reordered": _reordered(". "),
    "1 word": _reworded(1),
    "2 words": _reworded(2),
    "5 words": _reworded(5),
    "10 words": _reworded(10),
    "20 words": _reworded(20),
    "a sentence more": lambda text, _: f"{text} Always be polite and brief.",
}


@dataclass(frozen=True)
class Detection:
    """How many copies of how many prompts were seen in each disguise, and how many strangers were taken for copies."""

    prompts: int
    seen: dict[str, int]
    false_alarms: int

    @property
    def share(self) -> float:
        return sum(self.seen.values()) / (self.prompts * len(self.seen))

    @property
    def false_share(self) -> float:
        return self.false_alarms / (self.prompts * (self.prompts - 1) / 2)


def detection(prompts: int) -> Detection:
    """The corpus in every disguise, against the distance below which an agent is reported."""
    limit = BitrecsSettings().similarity_report_distance
    texts = [_prompt(seed) for seed in range(prompts)]
    vectors = [_vector(text) for text in texts]
    seen = {
        name: sum(
            _distance(vector, _vector(disguise(text, random.Random(seed)))) < limit
            for seed, (text, vector) in enumerate(zip(texts, vectors, strict=True))
        )
        for name, disguise in DISGUISES.items()
    }
    pairs = itertools.combinations(vectors, 2)
    return Detection(prompts, seen, sum(_distance(one, other) < limit for one, other in pairs))


def _prompt(seed: int) -> str:
    """Six hundred words in sentences of few or many words, four to a paragraph; words come as often as in prose."""
    dice = random.Random(seed)
    words = [_word(dice) for _ in range(_VOCABULARY)]
    often = [1 / (rank + 3) for rank in range(_VOCABULARY)]
    usual = dice.uniform(8, 24)
    sentences = ["Look at {{sku}} for {{persona}}"]
    while sum(len(sentence.split()) for sentence in sentences) < _WORDS_PER_PROMPT:
        length = max(4, round(dice.gauss(usual, usual / 3)))
        sentences.append(" ".join(dice.choices(words, often, k=length)))
    paragraphs = [sentences[at : at + 4] for at in range(0, len(sentences), 4)]
    return "\n\n".join(". ".join(paragraph) for paragraph in paragraphs)


def _word(dice: random.Random) -> str:
    return "".join(dice.choice("bcdfglmnprst") + dice.choice("aeiou") for _ in range(dice.choice((1, 2, 2, 3))))


def _vector(prompt: str) -> list[float]:
    return list(similarity.vector(similarity.pieces("CHUTES", "m", prompt, "{{num_recs}}", [])))


def _distance(one: list[float], other: list[float]) -> float:
    return 1 - sum(a * b for a, b in zip(one, other, strict=True))


@benchmark("bitrecs evasions reported", unit="", at_least=1)
def evasions() -> Figures:
    found = detection(_PROMPTS)
    missed = ", ".join(f"{name} {count}/{_PROMPTS}" for name, count in found.seen.items() if count < _PROMPTS)
    note = f"false alarms {found.false_share:.1%}; not always seen: {missed or 'none'}"
    return Figures(found.share, _WANTED_SHARE, note)
