"""Leoma's commands: publish a task, rank now, submit verdicts, watch the ranks."""

from __future__ import annotations

import hashlib
import http.client
import json
import time
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import urlsplit

import typer
from rich.live import Live
from rich.table import Table

from chalicelib.kernel import flows

from . import cloud, signing, terminal, wallets

_BATCH_LIMIT = 100
_OK = 200
_TIMEOUT_SECONDS = 30
_FIELDS_OF_A_RESULT = ("confidence", "reasoning", "latency_ms", "original_artifacts", "generated_artifacts")
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
    human = "another run did it" if ranked is None else f"{ranked} miners ranked"
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
    base = cloud.api_url(url, "leoma")
    stored: list[dict[str, Any]] = []
    with terminal.progress("samples", len(samples)) as advance:
        for first in range(0, len(samples), _BATCH_LIMIT):
            batch = samples[first : first + _BATCH_LIMIT]
            stored += _send(base, signer, batch)
            advance(len(batch))
    terminal.result(stored, human=f"{len(stored)} samples stored")


@app.command()
def watch(
    url: Url = None,
    every: Annotated[float, typer.Option(help="Seconds between looks.", min=1)] = 12,
    times: Annotated[int, typer.Option(help="Stop after so many looks; 0: never.")] = 0,
) -> None:
    """A live table of the ranks."""
    base = cloud.api_url(url, "leoma")
    if terminal.wants_json():
        terminal.result(_call(base, "GET", "/scores/rank"))
        return
    looks = 0
    with Live(_table(_call(base, "GET", "/scores/rank")), console=terminal.results) as live:
        while not times or (looks := looks + 1) < times:
            time.sleep(every)
            live.update(_table(_call(base, "GET", "/scores/rank")))


def _read(file: Path) -> list[dict[str, Any]]:
    try:
        content = json.loads(file.read_text("utf-8"))
    except ValueError as error:
        terminal.refuse(f"{file} is not JSON: {error}", code="bad_file")
    samples = content.get("samples") if isinstance(content, dict) else content
    if not isinstance(samples, list) or not samples or not all(isinstance(sample, dict) for sample in samples):
        terminal.refuse(f"{file} holds no list of samples", code="bad_file")
    return samples


def _send(base: str, signer: signing.Signer, batch: list[dict[str, Any]]) -> list[dict[str, Any]]:
    body: dict[str, Any] = {"samples": batch}
    if len({str(sample.get("task_id", sample.get("sample_id"))) for sample in batch}) == 1:
        body["signature"] = "0x" + signer.sign(_evaluation_digest(batch)).hex()
    raw = json.dumps(body).encode()
    found: list[dict[str, Any]] = _call(base, "POST", "/samples/batch", raw, signing.leoma(signer, raw))
    return found


def _evaluation_digest(batch: list[dict[str, Any]]) -> bytes:
    """What the result object's signature signs: the entries in the order in which they are sent."""
    entries = [
        {
            "hotkey": sample.get("miner_hotkey"),
            "passed": sample.get("passed"),
            "status": "passed" if sample.get("passed") else "failed",
            "presentation_order": sample.get("presentation_order"),
            **{name: sample.get(name) for name in _FIELDS_OF_A_RESULT},
        }
        for sample in batch
    ]
    return hashlib.sha256(json.dumps(entries, sort_keys=True).encode()).digest()


def _call(base: str, method: str, path: str, body: bytes = b"", headers: dict[str, str] | None = None) -> Any:
    parts = urlsplit(base)
    kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
    connection = kind(parts.hostname or "", parts.port, timeout=_TIMEOUT_SECONDS)
    try:
        connection.request(
            method, parts.path + path, body or None, {"Content-Type": "application/json", **(headers or {})}
        )
        answer = connection.getresponse()
        raw = answer.read()
    finally:
        connection.close()
    try:
        found = json.loads(raw)
    except ValueError:
        terminal.refuse(f"{base}{path} answered {answer.status}, not JSON", code="not_the_api")
    if answer.status != _OK:
        terminal.refuse(f"{answer.status}: {found.get('detail')}", code=str(found.get("code", answer.status)))
    return found


def _table(found: dict[str, Any]) -> Table:
    table = Table("rank", "uid", "miner", "passed", "pass rate", "block", box=None, header_style="bold")
    for entry in found["ranks"][:_SHOWN]:
        rate = f"{100 * entry['pass_rate']:.1f} %"
        uid, block = ("-" if entry[name] is None else str(entry[name]) for name in ("uid", "block"))
        table.add_row(str(entry["rank"]), uid, entry["miner_hotkey"], str(entry["passed_count"]), rate, block)
    return table
