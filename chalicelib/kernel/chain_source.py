"""Where chain state comes from: a JSON file on a laptop, a substrate node deployed."""

from __future__ import annotations

import functools
import json
from pathlib import Path
from typing import Any, Protocol

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from . import clock, mounts
from .chain import ChainUnreadable, Reading, Subnet
from .settings import KernelSettings, SettingError

_MUST_BE = "file:PATH, or the ws:// or wss:// address of a substrate node"
_LARGEST_BLOCK = 2**40
_SUBNETS = ("prism", "pool", "experts", "bitrecs", "leoma")


class Source(Protocol):
    def read(self) -> Reading: ...


class ChainFile(BaseModel):
    """The laptop's chain: a block that moves on with the clock unless frozen, and each subnet's state."""

    model_config = ConfigDict(extra="ignore", defer_build=True)

    block: int = Field(ge=0, lt=_LARGEST_BLOCK)
    block_at: float | None = Field(None, ge=0, lt=1e11)
    block_seconds: float = Field(12, gt=0, lt=1e6)
    frozen: bool = False
    subnets: dict[str, Subnet] = {}

    @model_validator(mode="before")
    @classmethod
    def _known_subnets(cls, content: Any) -> Any:
        """Other names are unknown keys; a netuid that the file leaves out is the knob's."""
        if not isinstance(content, dict) or not isinstance(content.get("subnets"), dict):
            return content
        settings = KernelSettings.current()
        given = {name: subnet for name, subnet in content["subnets"].items() if name in _SUBNETS}
        numbered = {
            name: {"netuid": getattr(settings, f"{name}_netuid"), **subnet} if isinstance(subnet, dict) else subnet
            for name, subnet in given.items()
        }
        return {**content, "subnets": numbered}

    def block_now(self, now: float) -> int:
        """A file whose clock has run away would lift the copy to a block that no later one reaches."""
        stands = self.frozen or self.block_at is None
        passed = 0.0 if stands else max(0.0, (now - (self.block_at or 0)) // self.block_seconds)
        if self.block + passed >= _LARGEST_BLOCK:
            raise ChainUnreadable(f"block_at and block_seconds say that block {self.block + passed:g} is reached")
        return self.block + int(passed)


class FileSource:
    """Re-reads its file on every sync."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def read(self) -> Reading:
        try:
            content = ChainFile.model_validate(json.loads(self.path.read_text("utf-8")))
        except OSError as error:
            raise ChainUnreadable(f"{self.path}: {error.strerror}") from None
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(str(part) for part in first["loc"])
            raise ChainUnreadable(f"{self.path}: {where}: {first['msg']}") from None
        except (ValueError, RecursionError) as error:
            raise ChainUnreadable(f"{self.path}: not JSON: {error}") from None
        return Reading(content.block_now(clock.now()), content.subnets)


def source() -> Source:
    """The source that `CHAIN_SOURCE` names."""
    settings = KernelSettings.current()
    text = settings.chain_source
    if text.startswith("file:"):
        return FileSource(Path(text.removeprefix("file:")))
    if text.startswith(("ws://", "wss://")):
        served = mounts.systems(mount.partition("=")[0].strip() for mount in settings.mounts)
        netuids = ((name, getattr(settings, f"{name}_netuid")) for name in _SUBNETS if name in served)
        return _live(text, settings.chain_genesis, *netuids)
    raise SettingError("CHAIN_SOURCE", text, _MUST_BE)


@functools.cache
def _live(url: str, genesis: str, *netuids: tuple[str, int]) -> Source:
    """One connection and one decoded runtime for the life of the process; a node is asked for what is served alone."""
    from .chain_substrate import SubstrateSource  # noqa: PLC0415 - its libraries are in the sync's own layer

    return SubstrateSource(url, dict(netuids), genesis)
