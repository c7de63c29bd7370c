"""Which codes the project refuses with, where and with which status: read from its source, so none is forgotten."""

from __future__ import annotations

import ast
import re
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

from chalicelib.kernel.http import STATUS
from infra import gateway

ROOT = Path(__file__).resolve().parent.parent
_BY_NAME = {kind.__name__: kind for kind in STATUS}
_GATEWAY_CODE = re.compile(r'"code":"(\w+)"')
_OUTCOME = "Unacceptable"  # of a checkpoint: told by GET /submission/{id}, not as a refusal
Places = dict[str, set[tuple[str, int]]]


def found() -> Places:
    """By code: the systems (or `any`) that refuse with it, and the status; 0 is an outcome that a 200 tells."""
    places: Places = defaultdict(set)
    for kind, status in STATUS.items():
        places[kind.default_code].add(("any", status))
    trees = {path: ast.parse(path.read_text("utf-8")) for path in sorted((ROOT / "chalicelib").rglob("*.py"))}
    constants = {name: value for tree in trees.values() for name, value in _constants(tree)}
    for path, tree in trees.items():
        owner = path.relative_to(ROOT / "chalicelib").parts[0]
        for code, status in _in(tree, constants):
            places[code].add(("any" if owner == "kernel" else owner, status))
    for response in gateway.responses().values():
        for code in _GATEWAY_CODE.findall(response["body"]):
            places[code].add(("any", response["status"] or 400))
    for call in _calls(ast.parse((ROOT / "local" / "gateway.py").read_text("utf-8"))):
        if _called(call) == "refusal" and isinstance(call.args[2], ast.Constant):
            assert isinstance(call.args[0], ast.Constant)
            places[str(call.args[2].value)].add(("any", int(str(call.args[0].value))))
    return places


def _in(tree: ast.Module, constants: dict[str, str]) -> Iterator[tuple[str, int]]:
    for call in _calls(tree):
        name = _called(call)
        if name == _OUTCOME and call.args and (outcome := _text(call.args[0], constants)):
            yield outcome, 0
        for keyword in call.keywords:
            if keyword.arg == "code" and (code := _text(keyword.value, constants)):
                yield code, STATUS[_BY_NAME[name]] if name in _BY_NAME else 0


def _text(node: ast.expr, constants: dict[str, str]) -> str:
    """A literal, or the constant that a name stands for; else nothing."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return node.value
    return constants.get(str(getattr(node, "attr", getattr(node, "id", ""))), "")


def _constants(tree: ast.Module) -> Iterator[tuple[str, str]]:
    for node in tree.body:
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
            yield from ((target.id, node.value.value) for target in node.targets if isinstance(target, ast.Name))


def _calls(tree: ast.Module) -> Iterator[ast.Call]:
    return (node for node in ast.walk(tree) if isinstance(node, ast.Call))


def _called(call: ast.Call) -> str:
    return str(getattr(call.func, "attr", getattr(call.func, "id", "")))
