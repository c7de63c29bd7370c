"""Who was first: a project as sets of hashed traits, an index that finds near-duplicates, and exact scores.

The part of the speciality that compares. Nothing here grows with history: a project is looked up under a fixed number
of index keys (bands of a one-permutation MinHash over its 5-token shingles), each of which holds a bounded number of
the earliest members, and only the few that share most keys are compared exactly.
"""

from __future__ import annotations

import ast
import hashlib
import json
import struct
import tokenize
import zlib
from collections.abc import Iterable, Iterator, Mapping

from chalicelib.kernel.values import frozen

from .inspection import dotted, dumped, parse
from .project import Project

SHINGLE_TOKENS = 5
SKETCH_CELLS = 64
_TIGHT = (10, 8)  # bands, rows: of two sets that share 87 % of their union, 98 % meet in a band; of unlike ones none
_ENTRY = (8, 8)
_FILES = (6, 4)
_MANY_FILES = 25
_EMPTY = 0xFFFF_FFFF_FFFF_FFFF
_SKIPPED = {
    tokenize.COMMENT,
    tokenize.NL,
    tokenize.NEWLINE,
    tokenize.INDENT,
    tokenize.DEDENT,
    tokenize.ENCODING,
    tokenize.ENDMARKER,
}
_PLACEHOLDERS = {tokenize.STRING: "STR", tokenize.NUMBER: "NUM"}

Traits = frozenset[int]


@frozen
class Part:
    """The sets that two projects, or two training parts, are compared by."""

    files: Traits
    features: Traits
    shingles: Traits


@frozen
class Print:
    """A project as review remembers it."""

    whole: Part
    training: Part
    entry: Traits

    def compared(self, *, training_only: bool) -> Part:
        return self.training if training_only else self.whole


def take(project: Project) -> Print:
    """The traits of a project; its training part stands for itself."""
    trees = {path: parse(path, text) for path, text in project.python_files.items()}
    training = {path for path in project.training if path in trees}
    parts = {path: _of_file(path, text, trees[path]) for path, text in project.python_files.items()}
    return Print(
        whole=_union(parts.values()),
        training=_union(parts[path] for path in training),
        entry=frozenset(map(_hash, _entry_traits(trees[project.entrypoint]))),
    )


def score(mine: Part, theirs: Part) -> float:
    """The larger of: equal files; structure and wording together."""
    blended = 0.7 * jaccard(mine.features, theirs.features) + 0.3 * jaccard(mine.shingles, theirs.shingles)
    return max(jaccard(mine.files, theirs.files), blended)


def jaccard(mine: Traits, theirs: Traits) -> float:
    union = len(mine | theirs)
    return len(mine & theirs) / union if union else 0.0


def same(mine: Part, theirs: Part) -> bool:
    return mine.files == theirs.files


def keys_to_read(found: Print, code_hash: str, *, training_only: bool) -> list[str]:
    """Under which keys earlier submissions like this one stand."""
    part = found.compared(training_only=training_only)
    return [code_key(code_hash), *_part_keys(part, "T" if training_only else "W"), *entry_keys(found)]


def keys_to_write(found: Print) -> list[str]:
    """Under which keys later submissions will find this one, whatever kind they are."""
    keys = [*_part_keys(found.whole, "W"), *_part_keys(found.training, "T"), *entry_keys(found)]
    return list(dict.fromkeys(keys))


def code_key(code_hash: str) -> str:
    """Intake enters this one: it names the first that came with exactly this content."""
    return f"CODE#{code_hash}"


def entry_keys(found: Print) -> list[str]:
    return _bands("E", found.entry, *_ENTRY)


def _part_keys(part: Part, name: str) -> list[str]:
    exact = hashlib.sha256(b"".join(value.to_bytes(8, "big") for value in sorted(part.files))).hexdigest()[:32]
    keys = [f"{name}=#{exact}", *_bands(name, part.shingles, *_TIGHT)]
    if len(part.files) >= _MANY_FILES:
        keys += _bands(f"{name}F", part.files, *_FILES)
    return keys


def _bands(name: str, traits: Traits, bands: int, rows: int) -> list[str]:
    signature = minhash(traits, bands * rows)
    cut = [signature[first : first + rows] for first in range(0, bands * rows, rows)]
    return [
        f"{name}{number}#{hashlib.blake2b(struct.pack(f'>{rows}Q', *band), digest_size=12).hexdigest()}"
        for number, band in enumerate(cut)
    ]


def minhash(traits: Traits, cells: int) -> list[int]:
    """One permutation: every trait falls into one cell, which keeps its smallest; empty cells borrow from others."""
    smallest = [_EMPTY] * cells
    for trait in traits:
        cell = trait % cells
        smallest[cell] = min(smallest[cell], trait)
    if not traits:
        return smallest
    return [value if value != _EMPTY else _borrowed(smallest, cell) for cell, value in enumerate(smallest)]


def _borrowed(smallest: list[int], cell: int) -> int:
    """Where to borrow follows from the cell alone, so that equal sets borrow equally."""
    state = cell * 0x9E3779B97F4A7C15 + 1
    while True:
        state = (state * 6364136223846793005 + 1442695040888963407) & _EMPTY
        value = smallest[(state >> 33) % len(smallest)]
        if value != _EMPTY:
            return value


def sketch(traits: Traits) -> str:
    """A short stand-in for a set, of which the likeness of two sets can be estimated."""
    return "".join(f"{value & 0xFFFF:04x}" for value in minhash(traits, SKETCH_CELLS))


def likeness(mine: str, theirs: str) -> float:
    """The estimated Jaccard similarity of two sketched sets."""
    cells = range(0, SKETCH_CELLS * 4, 4)
    return sum(mine[at : at + 4] == theirs[at : at + 4] for at in cells) / SKETCH_CELLS


def rank(buckets: Mapping[str, Iterable[str]]) -> list[str]:
    """Members of the given index entries, those that share most keys first, of equals the earliest."""
    shared: dict[str, int] = {}
    for members in buckets.values():
        for member in members:
            shared[member] = shared.get(member, 0) + 1
    return sorted(shared, key=lambda member: (-shared[member], member))


def pack(found: Print) -> bytes:
    """The print as an object of a few kilobytes."""
    sets = {
        "whole": [sorted(found.whole.files), sorted(found.whole.features), sorted(found.whole.shingles)],
        "training": [sorted(found.training.files), sorted(found.training.features), sorted(found.training.shingles)],
        "entry": sorted(found.entry),
    }
    return zlib.compress(json.dumps(sets, separators=(",", ":")).encode(), 1)


def unpack(raw: bytes) -> Print:
    sets = json.loads(zlib.decompress(raw))
    whole, training = (Part(*map(frozenset, sets[name])) for name in ("whole", "training"))
    return Print(whole, training, frozenset(sets["entry"]))


def _of_file(path: str, text: str, tree: ast.Module) -> Part:
    """One file's traits; its own path is a trait of structure, not of its content."""
    dump = hashlib.sha256(dumped(path, tree).encode("utf-8", "replace")).hexdigest()
    name = path.rsplit("/", 1)[-1]
    features = {f"path:{name}", "ext:.py", f"dump:{dump[:16]}", *_entry_traits(tree)}
    features |= {f"import:{root}" for root in _import_roots(tree)}
    return Part(
        files=frozenset({_hash(dump)}),
        features=frozenset(map(_hash, features)),
        shingles=frozenset(map(_hash, _shingles(text))),
    )


def _union(parts: Iterable[Part]) -> Part:
    kept = list(parts)
    return Part(
        frozenset().union(*(part.files for part in kept)),
        frozenset().union(*(part.features for part in kept)),
        frozenset().union(*(part.shingles for part in kept)),
    )


def _entry_traits(tree: ast.Module) -> set[str]:
    """Node types, bases of classes, names of functions and of what is called."""
    traits = set()
    for node in ast.walk(tree):
        traits.add(f"node:{type(node).__name__}")
        if isinstance(node, ast.ClassDef):
            traits |= {f"base:{dotted(base)}" for base in node.bases}
        elif isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            traits.add(f"function:{node.name}")
        elif isinstance(node, ast.Call):
            traits.add(f"call:{call_name(node)}")
    return traits


def call_name(node: ast.Call) -> str:
    function = node.func
    return function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", "")


def _import_roots(tree: ast.Module) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name.split(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield (node.module or "").split(".")[0]


def _shingles(text: str) -> Iterator[str]:
    """Runs of five tokens; strings and numbers are all alike, comments and layout do not count."""
    words: list[str] = []
    tokens = tokenize.generate_tokens(iter(text.splitlines(keepends=True)).__next__)
    try:
        words.extend(_PLACEHOLDERS.get(token.type, token.string) for token in tokens if token.type not in _SKIPPED)
    except (tokenize.TokenError, SyntaxError):
        words.append("END")
    if len(words) < SHINGLE_TOKENS:
        yield " ".join(words)
    for first in range(len(words) - SHINGLE_TOKENS + 1):
        yield " ".join(words[first : first + SHINGLE_TOKENS])


def _hash(text: str) -> int:
    return int.from_bytes(hashlib.blake2b(text.encode("utf-8", "replace"), digest_size=8).digest(), "big")
