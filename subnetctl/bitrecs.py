"""Bitrecs: keys, validators, bans, sets and the intake for its operator; check, submit and queue for miners."""

from __future__ import annotations

import os
from datetime import datetime
from http import HTTPStatus
from typing import Annotated
from urllib.parse import quote

import typer

from chalicelib.bitrecs import domain_views, store, store_work, tasks_sets
from chalicelib.bitrecs.contracts import BitrecsSettings, SetGroup
from chalicelib.kernel import clock, flows, keys

from . import api, clients, cloud, terminal, wallets

app = typer.Typer(no_args_is_help=True, help="Artifact submissions and their evaluation.")
api_key = typer.Typer(no_args_is_help=True, help="Keys for the routes that are not public.")
validator = typer.Typer(no_args_is_help=True, help="The validators that may connect.")
ban = typer.Typer(no_args_is_help=True, help="Miners that may not submit.")
evaluation_set = typer.Typer(no_args_is_help=True, help="Evaluation sets; each one is a cycle.")
submissions = typer.Typer(no_args_is_help=True, help="The intake switch.")
for name, group in (
    ("api-key", api_key),
    ("validator", validator),
    ("ban", ban),
    ("set", evaluation_set),
    ("submissions", submissions),
):
    app.add_typer(group, name=name)

_CLIENT_VERSION = "2.0.2"

Url = Annotated[str | None, typer.Option(help="Base URL of the mount; default: the laptop's.")]
Address = Annotated[str, typer.Argument(help="SS58 address of the hotkey.")]
Account = Annotated[str, typer.Option("--github-account", help="GitHub account that owns the gist.")]
GistId = Annotated[str, typer.Option("--gist-id", help="The gist with the artifact.")]
CreatedAt = Annotated[str, typer.Option("--created-at", help="The gist's creation time; default: GitHub is asked.")]


@api_key.command("create")
def create_key(label: Annotated[str, typer.Option("--label", help="What the key is for.")] = "") -> None:
    """Print a new key; it is stored as a hash and never shown again."""
    cloud.connect()
    key = f"br_{clock.new_hex(24)}"
    key_id = store.add_api_key(key, label)
    terminal.say(f"the key's id is {key_id}; this is the only time that the key is shown")
    terminal.result({"id": key_id, "key": key} if terminal.wants_json() else key)


@api_key.command("list")
def list_keys() -> None:
    """Every key by its id."""
    cloud.connect()
    rows = [
        {
            "id": item["id"],
            "label": item["name"],
            "created_at": domain_views.stamp(item["created_at"]),
            "revoked_at": domain_views.stamp(item.get("revoked_at")),
        }
        for item in store.api_keys()
    ]
    terminal.rows(rows, ["id", "label", "created_at", "revoked_at"])


@api_key.command("revoke")
def revoke_key(key_id: Annotated[str, typer.Argument(metavar="ID", help="As `api-key list` shows it.")]) -> None:
    """A revoked key opens nothing from now on."""
    cloud.connect()
    if not store.revoke_api_key(key_id):
        terminal.refuse(f"there is no API key with the id {key_id}", code="key_not_found")
    terminal.result({"revoked": key_id}, human=f"revoked {key_id}")


@validator.command("add")
def add_validator(hotkey: Address, name: Annotated[str, typer.Option(help="Shown to everybody.")]) -> None:
    """Let a validator connect."""
    cloud.connect()
    store.add_validator(_address(hotkey), name)
    terminal.result({"hotkey": hotkey, "name": name}, human=f"{name} may connect")


@validator.command("remove")
def remove_validator(hotkey: Address) -> None:
    """Take a validator off the list; a session that is open ends with its next silence."""
    cloud.connect()
    if not store.remove_validator(_address(hotkey)):
        terminal.refuse(f"{hotkey} is not on the list", code="validator_not_found")
    terminal.result({"removed": hotkey}, human=f"removed {hotkey}")


@validator.command("list")
def list_validators() -> None:
    """Who may connect."""
    cloud.connect()
    rows = [{"hotkey": item["sk"], "name": item["name"]} for item in store.validators()]
    terminal.rows(rows, ["hotkey", "name"])


@ban.command("add")
def add_ban(hotkey: Address, reason: Annotated[str, typer.Option(help="Kept with the ban.")]) -> None:
    """Ban a miner: no submissions, no place in queues, no weight."""
    cloud.connect()
    store.ban(_address(hotkey), reason, os.environ.get("USER", "operator"))
    _recompute()
    terminal.result({"hotkey": hotkey, "reason": reason}, human=f"banned {hotkey}")


@ban.command("remove")
def remove_ban(hotkey: Address) -> None:
    """Lift a ban."""
    cloud.connect()
    if not store.unban(_address(hotkey)):
        terminal.refuse(f"{hotkey} is not banned", code="ban_not_found")
    _recompute()
    terminal.result({"removed": hotkey}, human=f"lifted the ban of {hotkey}")


@ban.command("list")
def list_bans() -> None:
    """Who is banned, and why."""
    cloud.connect()
    rows = [
        {"hotkey": item["sk"], "reason": item["reason"], "by": item["by"], "at": domain_views.stamp(item["at"])}
        for item in store.bans()
    ]
    terminal.rows(rows, ["hotkey", "reason", "by", "at"])


@evaluation_set.command("create")
def create_set() -> None:
    """Open a new evaluation set: a new cycle, in which hotkeys and gists are free again."""
    cloud.connect()
    opened = tasks_sets.next_set()
    _recompute()
    shown = {
        "set_id": opened["set_id"],
        "created_at": domain_views.stamp(opened["created_at"]),
        "first_block": opened["first_block"],
        "problems": opened["problems"],
    }
    terminal.result(shown, human=f"set {opened['set_id']} is open from block {opened['first_block']} on")


@submissions.command("on")
def submissions_on() -> None:
    """Take submissions."""
    _switch(enabled=True)


@submissions.command("off")
def submissions_off() -> None:
    """Refuse submissions."""
    _switch(enabled=False)


@app.command()
def check(
    github_account: Account,
    gist_id: GistId,
    wallet_name: wallets.WalletName = wallets.DEFAULT_NAME,
    hotkey: wallets.HotkeyName = wallets.DEFAULT_NAME,
    wallet_path: wallets.WalletPath = wallets.DEFAULT_PATH,
    created_at: CreatedAt = "",
    url: Url = None,
) -> None:
    """Have an artifact checked before anything goes on chain."""
    signer = wallets.load(wallet_name, hotkey, wallet_path)
    bitrecs = clients.Bitrecs(cloud.api_url(url, "bitrecs"), signer)
    found = bitrecs.check(created_at or _created_at(gist_id), github_account, gist_id)
    terminal.result(found, human="the artifact is in order")


@app.command()
def submit(
    github_account: Account,
    gist_id: GistId,
    wallet_name: wallets.WalletName = wallets.DEFAULT_NAME,
    hotkey: wallets.HotkeyName = wallets.DEFAULT_NAME,
    wallet_path: wallets.WalletPath = wallets.DEFAULT_PATH,
    created_at: CreatedAt = "",
    openrouter_key: Annotated[str, typer.Option(help="Temporary key, for artifacts that use OpenRouter.")] = "",
    client_version: Annotated[str, typer.Option(help="Version that the transport string names.")] = _CLIENT_VERSION,
    url: Url = None,
) -> None:
    """Submit an artifact whose commitment is on chain."""
    signer = wallets.load(wallet_name, hotkey, wallet_path)
    bitrecs = clients.Bitrecs(cloud.api_url(url, "bitrecs"), signer)
    made_at = created_at or _created_at(gist_id)
    accepted = bitrecs.submit(made_at, github_account, gist_id, version=client_version, openrouter_key=openrouter_key)
    terminal.result(accepted, human=f"accepted as {accepted['artifact_id']}")


@app.command()
def queue(stage: Annotated[SetGroup, typer.Option(help="Whom they wait for.")] = "screener_1", url: Url = None) -> None:
    """Who waits, in the order in which they are taken."""
    found = clients.Bitrecs(cloud.api_url(url, "bitrecs")).queue(stage)
    terminal.rows(found, ["agent_id", "name", "miner_hotkey", "status", "created_at"])


def _address(hotkey: str) -> str:
    try:
        keys.public_key(hotkey)
    except keys.BadAddress as error:
        terminal.refuse(f"{hotkey} is not an SS58 address of this network: {error}", code="bad_hotkey")
    return hotkey


def _recompute() -> None:
    """What pollers read follows at once."""
    store_work.note_change()
    flows.invoke("bitrecs-tick", {"run": "snapshots"})


def _switch(*, enabled: bool) -> None:
    cloud.connect()
    store.switch_submissions(enabled=enabled)
    terminal.result({"submissions": enabled}, human=f"submissions are {'on' if enabled else 'off'}")


def _created_at(gist_id: str) -> str:
    """GitHub's time in the form that is signed."""
    base = BitrecsSettings.current().github_api_url.rstrip("/")
    reply = api.call("GET", f"{base}/gists/{quote(gist_id, safe='')}", headers={"User-Agent": "subnetctl"})
    if reply.status == HTTPStatus.NOT_FOUND:
        terminal.refuse(f"GitHub knows no gist {gist_id}", code="gist_invalid")
    created_at = reply.body.get("created_at") if reply.ok and isinstance(reply.body, dict) else None
    if created_at is None:
        text = f"GitHub answers {reply.status} when asked for the gist; --created-at spares the question"
        terminal.refuse(text, code="github_unavailable")
    return datetime.fromisoformat(str(created_at)).isoformat()
