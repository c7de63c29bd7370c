"""Commands of PRISM: uploads for miners; the queue, holds and leases for operators."""

from __future__ import annotations

import base64
import dataclasses
import io
import zipfile
from pathlib import Path
from typing import Annotated, Any

import typer

from chalicelib.kernel import clock
from chalicelib.prism import archive, inspection, project, store, store_families, tasks_claim, tasks_finish
from chalicelib.prism.archive import Rejected
from chalicelib.prism.contracts import (
    COMPLETED,
    HELD,
    MAX_ERROR,
    PENDING,
    RUNNING,
    HoldQuery,
    PrismSettings,
    Resolution,
)

from . import clients, cloud, terminal, wallets

app = typer.Typer(no_args_is_help=True, help="PRISM: projects, the queue, holds, leases.")

Url = Annotated[str | None, typer.Option("--url", help="Base URL of the mount; default: the laptop's.")]
_LONG_AGO = (1980, 1, 1, 0, 0, 0)
_PAUSE_SECONDS = 0.5
_RECOVER_AFTER_SECONDS = 30
_LEFT_OUT = {"__pycache__", ".git", ".venv"}


@app.command()
def submit(
    path: Annotated[Path, typer.Argument(exists=True, help="A project's folder, a zip, or one Python file.")],
    wallet_name: wallets.WalletName = wallets.DEFAULT_NAME,
    hotkey: wallets.HotkeyName = wallets.DEFAULT_NAME,
    wallet_path: wallets.WalletPath = wallets.DEFAULT_PATH,
    url: Url = None,
    follow: Annotated[bool, typer.Option(help="Wait for the verdict.")] = True,
) -> None:
    """Pack a project, check it with the server's own rules, sign, upload, follow it to its verdict."""
    body = _packed(path)
    _check(body)
    signer = wallets.load(wallet_name, hotkey, wallet_path)
    prism = clients.Prism(cloud.api_url(url, "prism"), signer)
    created = prism.submit(body)
    if not follow:
        terminal.result(created, human=f"{created['id']} is pending")
        return
    terminal.say(f"{created['id']} is pending")
    found = _follow(prism, created["id"])
    terminal.result(found, human=_verdict(found))
    if found["status"] not in {COMPLETED, HELD}:
        raise typer.Exit(1)


def _packed(path: Path) -> dict[str, Any]:
    if path.is_dir():
        return {"code": base64.b64encode(_zip(path)).decode(), "filename": "project.zip"}
    if path.suffix == ".zip":
        return {"code": base64.b64encode(path.read_bytes()).decode(), "filename": "project.zip"}
    try:
        return {"code": path.read_text("utf-8"), "filename": "model.py"}
    except UnicodeDecodeError:
        terminal.refuse(f"{path} is not UTF-8 text", code="not_utf8")


def _zip(folder: Path) -> bytes:
    """The same folder is always the same archive."""
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as packed:
        for file in sorted(folder.rglob("*")):
            inside = file.relative_to(folder)
            if file.is_file() and not _LEFT_OUT & set(inside.parts):
                entry = zipfile.ZipInfo(inside.as_posix(), _LONG_AGO)
                packed.writestr(entry, file.read_bytes(), zipfile.ZIP_DEFLATED)
    return content.getvalue()


def _check(body: dict[str, Any]) -> None:
    """What review will say before it compares with others, without uploading anything."""
    settings = PrismSettings.current()
    if len(body["code"].encode()) > settings.max_code_bytes:
        terminal.refuse(f"the project is larger than {settings.max_code_bytes} bytes of text", code="too_large")
    limits = archive.Limits(settings.plagiarism_storage_max_files, settings.plagiarism_storage_max_bytes)
    try:
        found = project.read(archive.sources(body["filename"], body["code"], limits))
        inspection.screen(found)
        inspection.check(found)
    except Rejected as rejection:
        terminal.refuse(str(rejection), code="would_be_rejected")


def _follow(prism: clients.Prism, submission_id: str) -> dict[str, Any]:
    """Ask until the submission has its verdict; each change of status is said once."""
    said = PENDING
    while True:
        found: dict[str, Any] = prism.submission(submission_id)
        if found["status"] != said:
            terminal.say(f"{submission_id} is {found['status']}")
            said = found["status"]
        if said not in {PENDING, RUNNING}:
            return found
        clock.sleep(_PAUSE_SECONDS)


def _verdict(found: dict[str, Any]) -> str:
    if found["final_score"] is None:
        return f"{found['status']}: {found['error']}"
    return f"{found['status']} with {found['final_score']:.4f}" + (f": {found['error']}" if found["error"] else "")


@app.command()
def process() -> None:
    """Claim and evaluate until the queue is empty."""
    cloud.connect()
    if PrismSettings.current().execution_backend == "validators_only":
        terminal.refuse("PRISM_EXECUTION_BACKEND leaves evaluation to validators", code="validators_only")
    done = []
    with terminal.progress("evaluating", None) as advance:
        while submission_id := tasks_claim.process_next():
            done.append(_ended(submission_id))
            advance(1)
    terminal.result(
        {"processed": done},
        human="\n".join(f"{found['submission_id']} {found['status']}" for found in done) or "nothing was pending",
    )


def _ended(submission_id: str) -> dict[str, Any]:
    """Wait for the end; an execution that got lost on the way is started again."""
    asked = clock.monotonic()
    while (found := store.get(submission_id)).status == RUNNING:
        if clock.monotonic() - asked > _RECOVER_AFTER_SECONDS:
            tasks_claim.recover()
            asked = clock.monotonic()
        clock.sleep(_PAUSE_SECONDS)
    score = found.score.get("final_score")
    return {"submission_id": found.id, "status": found.status, "error": found.error, "final_score": score}


@app.command()
def holds(
    status: Annotated[str, typer.Option(help="pending, resolved or rejected; empty: all.")] = PENDING,
) -> None:
    """Attributions that wait for a decision."""
    try:
        query = HoldQuery.model_validate({"status": status or None})
    except ValueError:
        terminal.refuse("--status is pending, resolved or rejected, or empty for all", code="unknown_status")
    cloud.connect()
    found = [
        dataclasses.asdict(hold) | {"created_at": clock.stamp(hold.created_at)}
        for hold in store_families.holds(query.status, query.limit)
    ]
    terminal.rows(found, ("id", "submission_id", "status", "confidence", "reason", "created_at"))


@app.command()
def resolve(
    hold_id: Annotated[str, typer.Argument(help="As `prism holds` shows it.")],
    architecture: Annotated[str, typer.Option(help="new, existing, transfer or reject.")],
    training: Annotated[str, typer.Option(help="new, existing, transfer, reject or none.")] = "none",
    architecture_id: Annotated[str | None, typer.Option(help="The family that is meant.")] = None,
    training_variant_id: Annotated[str | None, typer.Option(help="The variant that is meant.")] = None,
    reason: Annotated[str | None, typer.Option(help="Told to the miner when the project is rejected.")] = None,
) -> None:
    """Decide a hold."""
    try:
        decision = Resolution.model_validate(
            {
                "architecture_action": architecture,
                "training_action": training,
                "architecture_id": architecture_id,
                "training_variant_id": training_variant_id,
                "reason": reason,
            }
        )
    except ValueError:
        if reason and len(reason) > MAX_ERROR:
            terminal.refuse(f"--reason has more than {MAX_ERROR} characters", code="reason_too_long")
        terminal.refuse("--architecture or --training is none of the known actions", code="unknown_action")
    cloud.connect()
    outcome = tasks_finish.resolve(hold_id, decision)
    terminal.result(outcome, human="rejected" if outcome["rejected"] else "resolved")


@app.command()
def requeue(
    submission_id: Annotated[str, typer.Argument(help="As its miner knows it; it failed with its attempts exhausted.")],
) -> None:
    """Put a submission whose runs or leases were all lost back to its place in the queue."""
    cloud.connect()
    tasks_claim.pardon(submission_id)
    terminal.result({"id": submission_id, "status": PENDING}, human=f"{submission_id} is pending again")


@app.command()
def assignments() -> None:
    """Leases that validators hold, the one that ends first on top."""
    cloud.connect()
    found = [
        {
            "id": lease.id,
            "submission_id": lease.submission_id,
            "validator_hotkey": lease.validator_hotkey,
            "status": lease.status,
            "attempt": lease.attempt,
            "deadline_at": clock.stamp(lease.deadline_at),
        }
        for lease in store.leases()
    ]
    terminal.rows(found, ("id", "submission_id", "validator_hotkey", "status", "attempt", "deadline_at"))
