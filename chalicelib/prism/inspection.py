"""What a project's source may say: a text screen, then the contract that its syntax tree has to keep.

A courtesy to authors and a first filter, never a boundary: strangers' code runs in the sandbox alone.
"""

from __future__ import annotations

import ast
import posixpath
import re
import sys
import warnings
from collections.abc import Iterable, Iterator

from .archive import Rejected
from .project import Project

SCREENED_CHARACTERS = 120_000
MAX_ERROR = 500
# As many as the largest single file can hold, and a megabyte of ordinary Python. Parsing, walking and hashing take tens
# of microseconds a word: two megabytes of the densest source, which pack into 26 kB, would take minutes.
MAX_WORDS = 200_000
REQUIRED = ("build_model", "get_recipe")
HOOKS = ("configure_optimizer", "inference_logits", "infer", "compute_loss", "train_step")
ALLOWED_IMPORTS = frozenset({"__future__", "collections", "dataclasses", "math", "prism_challenge", "torch", "typing"})
FORBIDDEN_CALLS = frozenset({"eval", "exec", "open", "compile", "input", "__import__"})
_REFLECTIVE = {"__builtins__", "__class__", "__dict__", "__globals__", "__import__", "__mro__", "__subclasses__"}
_SYSTEMIC = {"system", "popen", "spawn", "fork", "remove", "unlink", "rmdir"}
FORBIDDEN_ATTRIBUTES = frozenset(_REFLECTIVE | _SYSTEMIC)
_REFLECTION = frozenset({"getattr", "setattr", "delattr"})
_FORBIDDEN_PATHS = frozenset(
    {"torch.hub", "torch.load", "torch.ops", "torch.utils.cpp_extension", "torch.classes", "torch.ctypes"}
)
_SCREEN = (
    re.compile(r"\b(os\.system|subprocess|socket|requests|httpx|paramiko)\b"),
    re.compile(r"\b(open\s*\(|eval\s*\(|exec\s*\()"),
    re.compile(r"/etc/passwd|\.ssh|AWS_SECRET|OPENAI_API_KEY", re.IGNORECASE),
)
_WORD = re.compile(r"\w+|[^\w\s]|\n")
_CONSTANTS = (ast.Constant, ast.Tuple, ast.List, ast.Dict, ast.Set)
_TOP_LEVEL = "top-level code may only define imports, constants, classes, and functions"


def screen(project: Project) -> None:
    """Plain text search over all Python text, comments included; nothing is parsed that would take too long."""
    text = "\n".join(project.python_files.values())
    if any(count > MAX_WORDS for count, _ in enumerate(_WORD.finditer(text), 1)):
        raise Rejected(f"the source holds more than {MAX_WORDS} words, signs and lines")
    screened = text[:SCREENED_CHARACTERS]
    if any(pattern.search(screened) for pattern in _SCREEN):
        raise Rejected("submission violates Prism safety rules")


def parse(path: str, text: str) -> ast.Module:
    """The syntax tree; whatever the parser chokes on is the author's problem, not ours."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of the stranger's style
            return ast.parse(text)
    except SyntaxError as error:
        raise Rejected(f"{path}: {error.msg} (line {error.lineno})"[:MAX_ERROR]) from None
    except (ValueError, RecursionError, MemoryError) as error:
        raise Rejected(f"{path}: {type(error).__name__}: the source cannot be parsed"[:MAX_ERROR]) from None


def dumped(path: str, tree: ast.Module) -> str:
    """The tree as text, to be hashed; Python itself refuses to write very long numbers out."""
    try:
        return ast.dump(tree, annotate_fields=False)
    except ValueError:
        raise Rejected(f"{path}: a number has too many digits") from None


def check(project: Project) -> None:
    """The entrypoint keeps the contract; every Python file imports, calls and reaches only what it may."""
    trees = {path: parse(path, text) for path, text in project.python_files.items()}
    try:
        _check_entrypoint(trees[project.entrypoint])
        local = _local_names(trees)
        for tree in trees.values():
            _check_imports(tree, local)
            _check_reach(tree)
    except RecursionError:
        raise Rejected("the source is nested too deeply") from None


def _check_entrypoint(tree: ast.Module) -> None:
    for position, node in enumerate(tree.body):
        docstring = position == 0 and isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
        if not docstring and not _is_definition(node):
            raise Rejected(_TOP_LEVEL)
    functions = {node.name: node for node in tree.body if isinstance(node, ast.FunctionDef)}
    missing = [name for name in REQUIRED if name not in functions]
    if missing:
        raise Rejected("missing functions: " + ", ".join(missing))
    for name in (*REQUIRED, *HOOKS):
        function = functions.get(name)
        if function and (function.args.vararg or function.args.kwarg):
            raise Rejected(f"{name} may not use *args or **kwargs")


def _is_definition(node: ast.stmt) -> bool:
    if isinstance(node, (ast.Import, ast.ImportFrom, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)):
        return True
    if isinstance(node, (ast.Assign, ast.AnnAssign)):
        return node.value is None or isinstance(node.value, _CONSTANTS)
    return False


def _local_names(trees: Iterable[str]) -> set[str]:
    """Modules of the project; one that shadows Python's own or an installed one opens no door."""
    names = set()
    for path in trees:
        for part in (posixpath.basename(path).removesuffix(".py"), *posixpath.dirname(path).split("/")[1:]):
            if part in sys.stdlib_module_names or part in ALLOWED_IMPORTS:
                if path.endswith(part + ".py"):
                    raise Rejected(f"{path} may not be named like the module {part}")
                continue
            names.add(part)
    return names


def _check_imports(tree: ast.Module, local: set[str]) -> None:
    found = sorted({root for root in _imports(tree) if root not in ALLOWED_IMPORTS and root not in local})
    if found:
        raise Rejected("forbidden imports: " + ", ".join(found)[:MAX_ERROR])


def _imports(tree: ast.Module) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name.split(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and not node.level:
            yield (node.module or "").split(".")[0]


def _check_reach(tree: ast.Module) -> None:
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            _check_call(node)
        elif isinstance(node, ast.Attribute):
            if node.attr in FORBIDDEN_ATTRIBUTES:
                raise Rejected(f"forbidden attribute: {node.attr}")
            _check_path(dotted(node))
        elif isinstance(node, (ast.Import, ast.ImportFrom)):
            for path in _imported_paths(node):
                _check_path(path)


def _check_call(node: ast.Call) -> None:
    if not isinstance(node.func, ast.Name):
        return
    name = node.func.id
    if name in FORBIDDEN_CALLS:
        raise Rejected(f"forbidden call: {name}")
    texts = [argument.value for argument in node.args if isinstance(argument, ast.Constant)]
    if name in _REFLECTION and any(isinstance(text, str) and text.startswith("__") for text in texts):
        raise Rejected(f"forbidden call: {name} with a dunder name")


def _check_path(path: str) -> None:
    for forbidden in _FORBIDDEN_PATHS:
        if path == forbidden or path.startswith(forbidden + "."):
            raise Rejected(f"forbidden attribute: {forbidden}")


def _imported_paths(node: ast.Import | ast.ImportFrom) -> Iterator[str]:
    for alias in node.names:
        yield alias.name if isinstance(node, ast.Import) else f"{node.module}.{alias.name}"


def dotted(node: ast.expr, most: int = 4) -> str:
    """`torch.nn.Linear` of an attribute chain; empty where its root is no plain name or too many links away."""
    parts: list[str] = []
    while isinstance(node, ast.Attribute):
        if len(parts) == most:
            return ""
        parts.append(node.attr)
        node = node.value
    return ".".join([node.id, *reversed(parts)]) if isinstance(node, ast.Name) else ""
