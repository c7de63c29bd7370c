"""Sizes that keep the code readable: no file and no function grows past what a reader can hold."""

from __future__ import annotations

import re

from tests.rules.source import ROOT, module, modules

LONGEST_FILE = 400
LONGEST_FUNCTION = 60
LONGEST_OF_ALL_BUT_ONE_PERCENT = 40
_SCANS = re.compile(r"""\.scan\(|["'](scan|execute_statement|batch_execute_statement)["']""")
_UNFINISHED = re.compile(r"\b(TO" + r"DO|FIX" + r"ME|XX" + r"X)\b|NotImplemented" + "Error")
_ELSEWHERE = re.compile(r"(?<![\w.])/(work|home|Users|root)/\w|\.\./shared\b")
_SHIPPED = ("chalicelib", "infra", "local", "subnetctl")
_TEXTS = ("*.md", "*.toml", "*.yaml", "*.yml", "Makefile", ".env.example", "*.html", "*.js", "*.css")


def test_no_file_is_longer_than_four_hundred_lines() -> None:
    assert {found.name: found.lines for found in modules() if found.lines > LONGEST_FILE} == {}


def test_no_function_is_longer_than_sixty_lines() -> None:
    long = {f"{found.name}:{name}": size for found in modules() for name, size in found.functions()}
    assert {name: size for name, size in long.items() if size > LONGEST_FUNCTION} == {}


def test_ninety_nine_of_a_hundred_functions_fit_into_forty_lines() -> None:
    sizes = sorted(size for found in modules(*_SHIPPED) for _, size in found.functions())
    assert sizes[int(len(sizes) * 0.99)] <= LONGEST_OF_ALL_BUT_ONE_PERCENT


def test_nothing_that_serves_requests_scans_a_table() -> None:
    assert [found.name for found in modules("chalicelib") if _SCANS.search(found.text)] == []


def test_nothing_is_left_unfinished() -> None:
    assert [found.name for found in (*modules(), module("app.py")) if _UNFINISHED.search(found.text)] == []


def test_the_repository_names_no_place_on_somebody_s_machine() -> None:
    folders = [ROOT, *(ROOT / name for name in (*_SHIPPED, "docs", "bench", ".github", ".ci"))]
    texts = [
        path for folder in folders for kind in _TEXTS for path in folder.glob(kind if folder == ROOT else f"**/{kind}")
    ]
    texts += [found.path for found in modules(*_SHIPPED, "bench")]
    assert [str(path.relative_to(ROOT)) for path in texts if _ELSEWHERE.search(path.read_text("utf-8"))] == []
