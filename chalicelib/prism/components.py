"""A component of a project as two things that can be compared: a hash of what it says, a graph of what it does.

The part of the speciality that attribution rests on. `HASH_VERSION` changes with the form of the syntax dump.
"""

from __future__ import annotations

import ast
import hashlib
import re
from collections.abc import Iterator

from chalicelib.kernel.values import frozen

from .archive import Rejected
from .inspection import dotted, dumped, parse
from .project import Project

HASH_VERSION = "py3.11-1"
_NOISE = re.compile(r"tiny|small|model|module|block|network|net")
_NOT_ALPHANUMERIC = re.compile(r"[^a-z0-9]")
_SHORTENED_ROOTS = {"self", "torch", "nn"}
_KEPT_PARTS = 2
_MAX_TOKENS = 2000


@frozen
class Components:
    """Architecture and training of a project, as families and variants know them."""

    family_hash: str
    training_hash: str
    architecture: frozenset[int]
    training: frozenset[int]


def of(project: Project) -> Components:
    architecture, training = project.component(project.architecture), project.component(project.training)
    named = component_hash(architecture), graph(architecture)
    trained = named if training == architecture else (component_hash(training), graph(training))
    return Components(named[0], trained[0], named[1], trained[1])


def component_hash(files: dict[str, str]) -> str:
    """Comments and layout do not count, names and constants do; a folder around everything does not."""
    folders = {path.split("/", 1)[0] if "/" in path else "" for path in files}
    strip = len(folders) == 1 and "" not in folders
    parts = []
    for path in sorted(files):
        shown = path.split("/", 1)[1] if strip else path
        parts.append(f"{shown}\n{_content(path, files[path])}")
    return hashlib.sha256("\n---\n".join(parts).encode("utf-8", "replace")).hexdigest()


def graph(files: dict[str, str]) -> frozenset[int]:
    """The tokens of classes, functions, imports and calls, hashed; of very many a fair sample."""
    tokens: set[str] = set()
    for path, text in files.items():
        if path.endswith(".py"):
            tokens.update(_tokens(parse(path, text)))
    return frozenset(sorted(_short_hash(token) for token in tokens)[:_MAX_TOKENS])


def _content(path: str, text: str) -> str:
    if not path.endswith(".py"):
        return text
    try:
        return dumped(path, parse(path, text))
    except Rejected:
        return text


def _tokens(tree: ast.Module) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.ClassDef):
            yield "class:" + _NOISE.sub("", _NOT_ALPHANUMERIC.sub("", node.name.lower()))
        elif isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            yield "function:" + node.name
        elif isinstance(node, ast.Import):
            yield from ("import:" + alias.name.split(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield "import:" + (node.module or "").split(".")[0]
        elif isinstance(node, ast.Call):
            yield "call:" + _call(node)


def _call(node: ast.Call) -> str:
    parts = dotted(node.func, most=8).split(".")
    return ".".join(parts[-_KEPT_PARTS:] if parts[0] in _SHORTENED_ROOTS else parts)


def _short_hash(token: str) -> int:
    return int.from_bytes(hashlib.blake2b(token.encode("utf-8", "replace"), digest_size=8).digest(), "big")
