"""Results go to stdout and nothing else does: words to stderr, JSON when asked, tables and bars only for people."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, NoReturn

import typer
from rich.console import Console
from rich.text import Text

from . import remedies

words = Console(stderr=True, highlight=False, soft_wrap=True)
results = Console(highlight=False, soft_wrap=True)


class _Mode:
    """How this run answers; set once, before any command."""

    json = False


def ask_for_json() -> None:
    _Mode.json = True


def wants_json() -> bool:
    return _Mode.json


def result(value: Any, *, human: str | None = None) -> None:
    """The command's answer: JSON for programs, `human` (or the value itself) for people."""
    if _Mode.json or human is None:
        text = (
            value if isinstance(value, str) and not _Mode.json else json.dumps(value, indent=None if _Mode.json else 2)
        )
        sys.stdout.write(text + "\n")
    else:
        sys.stdout.write(human + "\n")


def rows(found: Sequence[Mapping[str, Any]], columns: Iterable[str]) -> None:
    """A list as a table for people, as JSON for programs."""
    if _Mode.json:
        sys.stdout.write(json.dumps(list(found)) + "\n")
        return
    from rich.table import Table  # noqa: PLC0415 - most commands print no table

    names = list(columns)
    table = Table(box=None, header_style="bold")
    for name in names:
        numbers = any(isinstance(row.get(name), float) for row in found)
        table.add_column(name, justify="right" if numbers else "left", overflow="fold")
    for row in found:
        table.add_row(*(_cell(row.get(name)) for name in names))
    results.print(table)


def _cell(value: Any) -> Text:
    """As text that is nothing but text: brackets in it are no markup."""
    if value is None:
        return Text()
    if isinstance(value, bool):
        return Text("yes") if value else Text("no", style="red")
    return Text(f"{value:,.2f}" if isinstance(value, float) else str(value))


def say(text: str) -> None:
    """A word to the person who watches."""
    words.print(text, markup=False)


def refuse(text: str, *, code: str = "refused") -> NoReturn:
    """Say why not and what to do, and end with a status that scripts notice."""
    todo = remedies.remedy(code)
    if _Mode.json:
        sys.stderr.write(json.dumps({"detail": text, "code": code, "remedy": todo or None}) + "\n")
    else:
        words.print("refused:", style="red", end=" ")
        words.print(text, markup=False)
        if todo:
            words.print(f"{todo} (`subnetctl explain {code}` says more)", style="dim", markup=False)
    raise typer.Exit(1)


@contextmanager
def progress(label: str, total: float | None, *, of_bytes: bool = False) -> Iterator[Any]:
    """A bar on stderr while something long runs; the caller advances it with the yielded function."""
    from rich.progress import (  # noqa: PLC0415 - few commands take long
        BarColumn,
        DownloadColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
        TransferSpeedColumn,
    )  # fmt: skip

    columns: list[Any] = [TextColumn("{task.description}"), BarColumn()]
    columns += [DownloadColumn(), TransferSpeedColumn()] if of_bytes else [TextColumn("{task.completed}/{task.total}")]
    with Progress(*columns, TimeRemainingColumn(), console=words, transient=True, disable=not words.is_terminal) as bar:
        task = bar.add_task(label, total=total)
        yield lambda amount: bar.advance(task, amount)
