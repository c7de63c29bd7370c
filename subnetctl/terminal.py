"""Results go to stdout and nothing else does: words to stderr, JSON when asked, tables and bars only for people."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, NoReturn

import typer
from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)
from rich.table import Table

words = Console(stderr=True, highlight=False)
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
    table = Table(*columns, box=None, header_style="bold")
    for row in found:
        table.add_row(*("" if row.get(column) is None else str(row[column]) for column in columns))
    results.print(table)


def say(text: str) -> None:
    """A word to the person who watches."""
    words.print(text)


def refuse(text: str, *, code: str = "refused") -> NoReturn:
    """Say why not, and end with a status that scripts notice."""
    if _Mode.json:
        sys.stderr.write(json.dumps({"detail": text, "code": code}) + "\n")
    else:
        words.print(f"[red]refused:[/red] {text}")
    raise typer.Exit(1)


@contextmanager
def progress(label: str, total: float | None, *, of_bytes: bool = False) -> Iterator[Any]:
    """A bar on stderr while something long runs; the caller advances it with the yielded function."""
    columns: list[Any] = [TextColumn("{task.description}"), BarColumn()]
    columns += [DownloadColumn(), TransferSpeedColumn()] if of_bytes else [TextColumn("{task.completed}/{task.total}")]
    with Progress(*columns, TimeRemainingColumn(), console=words, transient=True) as bar:
        task: TaskID = bar.add_task(label, total=total)
        yield lambda amount: bar.advance(task, amount)
