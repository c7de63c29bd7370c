"""Leoma's commands: publish a task, rank now, submit verdicts, watch the ranks."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.live import Live
from rich.table import Table
from rich.text import Text

from chalicelib.kernel import flows

from . import api, clients, cloud, terminal, wallets

_BATCH_LIMIT = 100
_SHOWN = 20

app = typer.Typer(no_args_is_help=True, help="Leoma: tasks, samples and ranks of the image-to-video subnet.")
Url = Annotated[str | None, typer.Option(help="Base URL of the mount; default: the laptop's.")]


@app.command("publish-task")
def publish_task(
    task_id: Annotated[int, typer.Option("--task-id", min=1, max=2**31 - 1, help="Number of the task.")],
    prefix: Annotated[str, typer.Option(help="Folder of its clips in the samples bucket.")],
    description: Annotated[str | None, typer.Option(help="What the clip shows.")] = None,
    require_clips: Annotated[bool, typer.Option("--require-clips", help="Refuse while clips are missing.")] = False,
) -> None:
    """Make a task the latest, so that validators judge it."""
    cloud.connect()
    event = {"task_id": task_id, "prefix": prefix, "description": description, "require_clips": require_clips}
    outcome = flows.invoke("leoma-publish", event)
    if prefix.strip("/") != str(task_id):
        terminal.say(f"warning: task views point to {task_id}/, whatever the prefix is")
    if outcome["missing"]:
        terminal.say("warning: not in the bucket yet: " + ", ".join(outcome["missing"]))
    if outcome["published"]:
        terminal.result(outcome, human=f"task {task_id} is the latest")
    elif outcome["latest"] is not None and outcome["latest"] >= task_id:
        terminal.result(outcome, human=f"nothing to do: the latest task is {outcome['latest']}")
    else:
        terminal.refuse("the clips are not in the bucket yet", code="clips_missing")


@app.command()
def rank() -> None:
    """Recompute verdicts, scores, ranks and weights now; waits for a run in progress."""
    cloud.connect()
    outcome = flows.invoke("leoma-rank", {})
    ranked = outcome["ranked"]
    human = "another run did it" if ranked is None else f"{_counted(ranked, 'miner')} ranked"
    terminal.result(outcome, human=human)


@app.command()
def submit(
    file: Annotated[Path, typer.Argument(help="JSON: a list of samples, or {samples: […]}.")],
    wallet_name: wallets.WalletName = wallets.DEFAULT_NAME,
    hotkey: wallets.HotkeyName = wallets.DEFAULT_NAME,
    wallet_path: wallets.WalletPath = wallets.DEFAULT_PATH,
    url: Url = None,
) -> None:
    """Send verdicts as a validator, signed, a hundred at a time; those of one task carry an evaluation signature."""
    signer = wallets.load(wallet_name, hotkey, wallet_path)
    samples = _read(file)
    leoma = clients.Leoma(cloud.api_url(url, "leoma"), signer)
    stored: list[dict[str, Any]] = []
    with terminal.progress("samples", len(samples)) as advance:
        for first in range(0, len(samples), _BATCH_LIMIT):
            batch = samples[first : first + _BATCH_LIMIT]
            stored += leoma.submit(batch)
            advance(len(batch))
    terminal.result(stored, human=f"{_counted(len(stored), 'sample')} stored")


@app.command()
def watch(
    url: Url = None,
    every: Annotated[float, typer.Option(help="Seconds between looks.", min=1, max=86_400)] = 12,
    times: Annotated[int, typer.Option(help="Stop after so many looks; 0: never.", min=0)] = 0,
) -> None:
    """A live table of the ranks; it outlives an API that does not answer for a while."""
    leoma = clients.Leoma(cloud.api_url(url, "leoma"))
    if terminal.wants_json():
        terminal.result(leoma.ranks())
        return
    looks = 0
    table = _table(leoma.ranks())
    with Live(table, console=terminal.results) as live:
        while not times or (looks := looks + 1) < times:
            time.sleep(every)
            try:
                table = _table(leoma.ranks())
            except (api.Refused, OSError) as error:
                table.caption = Text(f"not fresh: {error}")
            live.update(table)
    if not terminal.results.is_terminal:
        terminal.results.print()  # the last table is written there without the end of its line


def _counted(number: int, what: str) -> str:
    return f"1 {what}" if number == 1 else f"{number} {what}s"


def _read(file: Path) -> list[dict[str, Any]]:
    try:
        content = json.loads(file.read_text("utf-8-sig"))
    except ValueError as error:
        terminal.refuse(f"{file} is not JSON: {error}", code="bad_file")
    samples = content.get("samples") if isinstance(content, dict) else content
    if not isinstance(samples, list) or not samples or not all(isinstance(sample, dict) for sample in samples):
        terminal.refuse(f"{file} holds no list of samples", code="bad_file")
    return samples


def _table(found: dict[str, Any]) -> Table:
    count = len(found["ranks"])
    caption = "nobody is ranked yet" if not count else f"the first {_SHOWN} of {count}" if count > _SHOWN else None
    table = Table(box=None, header_style="bold", caption=caption, caption_justify="left")
    for name in ("rank", "uid", "miner", "passed", "pass rate", "block"):
        table.add_column(name, justify="left" if name == "miner" else "right", overflow="fold")
    for entry in found["ranks"][:_SHOWN]:
        rate = f"{100 * entry['pass_rate']:.1f} %"
        uid, block = ("-" if entry[name] is None else str(entry[name]) for name in ("uid", "block"))
        table.add_row(str(entry["rank"]), uid, entry["miner_hotkey"], str(entry["passed_count"]), rate, block)
    return table
