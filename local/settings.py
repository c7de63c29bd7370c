"""What the laptop server itself needs to know, and what keeps it from starting."""

from __future__ import annotations

import os
from pathlib import Path
from urllib.parse import urlsplit

from chalicelib.kernel.settings import KernelSettings, SettingError, Settings, env_file, knob

ROOT = Path(__file__).resolve().parent.parent
SAMPLE_CHAIN = ROOT / "local" / "chain.json"
OWN_CHAIN = "chain.json"
_CHAIN_SOURCE_MUST_BE = "file:PATH, or the ws:// or wss:// address of a substrate node"


class LaptopSettings(Settings):
    """Read by `make run`; `subnetctl` finds the server through `STATE_DIR`."""

    host: str = knob("127.0.0.1", "where the local server listens")
    port: int = knob(8000, "where the local server listens; 0: any free port", minimum=0, maximum=65535)
    state_dir: str = knob(".local", "where the embedded cloud keeps its data; an empty folder is a fresh world")


def check_all() -> None:
    """Read every declared knob once; the first unusable one ends the start."""
    for settings in Settings.registry:
        settings.current()
    kernel = KernelSettings.current()
    if kernel.environment == "production" and kernel.fetch_allow_private:
        raise SettingError(
            "FETCH_ALLOW_PRIVATE", _held("FETCH_ALLOW_PRIVATE"), "0 together with ENVIRONMENT=production"
        )
    if not LaptopSettings.current().state_dir:
        raise SettingError("STATE_DIR", "", "a folder")
    _check_endpoint(_held("AWS_ENDPOINT_URL"))
    chain_source()


def _held(variable: str) -> str:
    """The text of a variable, from where the settings read it."""
    return os.environ.get(variable, env_file().get(variable, ""))


def _check_endpoint(endpoint: str) -> None:
    """Whether it can be one at all; nothing is asked there."""
    try:
        parts = urlsplit(endpoint)
        usable = not endpoint or (parts.scheme in {"http", "https"} and bool(parts.hostname) and parts.port != 0)
    except ValueError:
        usable = False
    if not usable:
        raise SettingError("AWS_ENDPOINT_URL", endpoint, "the http:// or https:// address of a cloud")


def chain_source() -> str:
    """`CHAIN_SOURCE` with an absolute path, as functions that run elsewhere need it; unset it is the laptop's own."""
    source = KernelSettings.current().chain_source
    kind, _, place = source.partition(":")
    if not source:
        return f"file:{Path(LaptopSettings.current().state_dir).absolute() / OWN_CHAIN}"
    if not place or kind not in {"file", "ws", "wss"}:
        raise SettingError("CHAIN_SOURCE", source, _CHAIN_SOURCE_MUST_BE)
    return f"file:{Path(place).absolute()}" if kind == "file" else source


def knobs_that_are_set() -> dict[str, str]:
    """Every declared variable of this environment, set to the empty string or not."""
    names = {
        variable for cls in Settings.registry for knob_name in cls.knobs for variable in cls.variable_names(knob_name)
    }
    return {name: os.environ[name] for name in sorted(names) if name in os.environ}
