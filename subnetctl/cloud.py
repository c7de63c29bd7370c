"""Where the operator's commands act: the laptop's cloud, another emulator, or AWS with the operator's credentials."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from chalicelib.kernel import aws, settings
from chalicelib.kernel.settings import KernelSettings

from . import terminal

_LAPTOP_CREDENTIALS = {
    "AWS_ACCESS_KEY_ID": "test",
    "AWS_SECRET_ACCESS_KEY": "test",
    "AWS_DEFAULT_REGION": aws.REGION,
}


def state_dir() -> Path:
    return Path(os.environ.get("STATE_DIR") or settings.env_file().get("STATE_DIR") or ".local")


def laptop() -> dict[str, Any] | None:
    """What the running laptop server says of itself."""
    try:
        found: dict[str, Any] = json.loads((state_dir() / "cloud.json").read_text("utf-8"))
    except (OSError, ValueError):
        return None
    return found


def is_given() -> bool:
    """Whether the environment names a cloud other than the laptop's."""
    return bool(aws.endpoint("dynamodb")) or KernelSettings.current().stage != "local"


def connect() -> None:
    """Point every AWS client of this process at the right cloud."""
    if is_given():
        return
    running = laptop()
    if running is None:
        terminal.refuse(f"no server runs on {state_dir()}: start one with `make run`", code="no_cloud")
    os.environ.update(_LAPTOP_CREDENTIALS)
    os.environ["AWS_ENDPOINT_URL"] = running["endpoint"]
    aws.forget_clients()


def api_url(given: str | None, mount: str) -> str:
    """The base URL of a mount: the one given, or the laptop's."""
    if given:
        return given.rstrip("/")
    running = laptop()
    if running is None:
        terminal.refuse("which API? Give --url, or start the laptop with `make run`", code="no_url")
    prefixes = {name: prefix for name, _, prefix in (mount.partition("=") for mount in KernelSettings.current().mounts)}
    if mount not in prefixes:
        terminal.refuse(f"{mount} is not mounted here; MOUNTS names {', '.join(prefixes)}", code="not_mounted")
    return str(running["api_url"]).rstrip("/") + prefixes[mount].rstrip("/")


def change_chain_file(change: Callable[[Any], Any]) -> None:
    """The laptop's chain with a change in it: whole or not at all; a link to the sample ceases to be one."""
    kind, _, place = KernelSettings.current().chain_source.partition(":")
    if kind not in {"", "file"}:
        terminal.refuse("this needs CHAIN_SOURCE=file:PATH", code="not_local")
    path = Path(place) if kind else state_dir() / "chain.json"
    try:
        content = change(json.loads(path.read_text("utf-8")))
        draft = path.with_name(f".{path.name}.draft")
        draft.write_text(json.dumps(content, indent=1) + "\n", "utf-8")
        draft.replace(path)
    except (OSError, ValueError, TypeError, LookupError) as error:
        terminal.refuse(f"the chain file {path} cannot be changed: {error}", code="bad_chain_file")
    terminal.say(f"the laptop's chain is {path}")
