"""The repository's Python as data: files, functions, and who imports what from where."""

from __future__ import annotations

import ast
import functools
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
SYSTEMS = ("prism", "pool", "experts", "bitrecs", "leoma")
PACKAGES = ("chalicelib", "infra", "local", "subnetctl", "bench", "tests", "layers")


@dataclass(frozen=True)
class Import:
    """One imported module; `lazy` when it stands inside a function."""

    module: str
    line: int
    lazy: bool

    @property
    def root(self) -> str:
        return self.module.partition(".")[0]

    @property
    def is_standard(self) -> bool:
        return self.root in sys.stdlib_module_names


@dataclass(frozen=True)
class Module:
    """One source file."""

    path: Path

    @property
    def name(self) -> str:
        return str(self.path.relative_to(ROOT))

    @functools.cached_property
    def text(self) -> str:
        return self.path.read_text("utf-8")

    @functools.cached_property
    def tree(self) -> ast.Module:
        return ast.parse(self.text)

    @property
    def lines(self) -> int:
        return len(self.text.splitlines())

    @functools.cached_property
    def imports(self) -> tuple[Import, ...]:
        """Absolute names; `from . import x` counts as the module x, since that is what it loads here."""
        return tuple(self._imports(self.tree, lazy=False))

    def functions(self) -> Iterator[tuple[str, int]]:
        """Name and length of every function, decorators not counted."""
        for node in ast.walk(self.tree):
            if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
                yield node.name, (node.end_lineno or node.lineno) - node.lineno + 1

    def _imports(self, node: ast.AST, *, lazy: bool) -> Iterator[Import]:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.Import):
                yield from (Import(alias.name, child.lineno, lazy) for alias in child.names)
            elif isinstance(child, ast.ImportFrom):
                yield from self._from(child, lazy=lazy)
            else:
                inside = isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda))
                yield from self._imports(child, lazy=lazy or inside)

    def _from(self, statement: ast.ImportFrom, *, lazy: bool) -> Iterator[Import]:
        base = statement.module or ""
        if statement.level:
            package = self.path.relative_to(ROOT).parent.parts
            here = package[: len(package) - statement.level + 1]
            base = ".".join((*here, *([base] if base else [])))
        for alias in statement.names:
            full = f"{base}.{alias.name}"
            is_module = (ROOT / Path(*full.split("."))).with_suffix(".py").exists()
            yield Import(full if is_module else base, statement.lineno, lazy)


@functools.cache
def modules(*packages: str) -> tuple[Module, ...]:
    """Every Python file of the packages; of all when none is named, `app.py` included."""
    folders = packages or PACKAGES
    paths = [path for folder in folders for path in sorted((ROOT / folder).rglob("*.py"))]
    if not packages:
        paths.append(ROOT / "app.py")
    return tuple(Module(path) for path in paths if "node_modules" not in path.parts)


def module(name: str) -> Module:
    return Module(ROOT / name)
