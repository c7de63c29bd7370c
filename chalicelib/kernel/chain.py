"""The copy of chain state that every consumer reads: a head, and one whole snapshot per subnet, switched atomically.

`CHAIN / HEAD` holds the newest block seen; `SNAP#<system> / HEAD` names the snapshot's version, block and age;
`SNAP#<system>#<version> / <page>` hold its bytes. Readers cost one get, and one query when the version is new to them.
"""

from __future__ import annotations

import functools
import hashlib
import zlib
from typing import Any, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from . import clock, codec
from .tables import ConditionFailed, Table
from .values import frozen
from .wire import Item

table = Table("chain")

_PAGE_BYTES = 300_000
_OLD_VERSION_SECONDS = 3600
_NOT_BACKWARDS = "attribute_not_exists(#block) OR #block <= :block"


class Neuron(BaseModel):
    """One registered hotkey; `model` is what registry and hub would say of its model, where a source knows."""

    model_config = ConfigDict(frozen=True, extra="ignore", defer_build=True)

    uid: int = Field(ge=0, le=65535)
    hotkey: str
    coldkey: str = ""
    stake_rao: int = Field(0, ge=0, lt=10**20)
    validator_permit: bool = False
    registered_at_block: int = Field(0, ge=0)
    balance_rao: int | None = Field(None, ge=0, lt=10**20)
    last_update: int = Field(0, ge=0)
    model: dict[str, Any] | None = None


class Commitment(BaseModel):
    """What a hotkey revealed on chain, and in which block."""

    model_config = ConfigDict(frozen=True, extra="ignore", defer_build=True)

    hotkey: str
    block: int = Field(ge=0)
    data: str


class Subnet(BaseModel):
    """A subnet's whole state at one block."""

    model_config = ConfigDict(frozen=True, extra="ignore", defer_build=True)

    netuid: int = Field(ge=0, le=65535)
    neurons: tuple[Neuron, ...] = ()
    commitments: tuple[Commitment, ...] = ()

    @model_validator(mode="after")
    def _one_neuron_per_uid_and_hotkey(self) -> Self:
        for field in ("uid", "hotkey"):
            if len({getattr(neuron, field) for neuron in self.neurons}) != len(self.neurons):
                raise ValueError(f"two neurons share one {field}")
        return self

    @functools.cached_property
    def by_hotkey(self) -> dict[str, Neuron]:
        return {neuron.hotkey: neuron for neuron in self.neurons}

    @functools.cached_property
    def commitments_of(self) -> dict[str, tuple[Commitment, ...]]:
        """Commitments per hotkey, oldest first."""
        found: dict[str, list[Commitment]] = {}
        for commitment in sorted(self.commitments, key=lambda entry: entry.block):
            found.setdefault(commitment.hotkey, []).append(commitment)
        return {hotkey: tuple(entries) for hotkey, entries in found.items()}


class ChainUnreadable(RuntimeError):
    """The source gave nothing usable; the copy stays as it is and ages."""


@frozen
class Reading:
    """One consistent look at the chain."""

    block: int
    subnets: dict[str, Subnet]


@frozen
class Head:
    """The newest block observed and when."""

    block: int
    observed_at: float


@frozen
class Snapshot:
    """A subnet's copy with its block and age."""

    block: int
    synced_at: float
    version: str
    subnet: Subnet


HEAD_KEY = (table, "CHAIN", "HEAD")


def snapshot_key(system: str) -> tuple[Table, str, str]:
    """For readers that fetch the snapshot's head together with other items."""
    return (table, f"SNAP#{system}", "HEAD")


def head() -> Head | None:
    return head_of(table.get("CHAIN", "HEAD"))


def head_of(item: Item | None) -> Head | None:
    return Head(item["block"], item["observed_at"]) if item else None


def snapshot(system: str) -> Snapshot | None:
    """The subnet's copy; None before the first sync."""
    return snapshot_of(system, table.get(f"SNAP#{system}", "HEAD"))


def snapshot_of(system: str, item: Item | None) -> Snapshot | None:
    if not item:
        return None
    subnet = _load(system, item["version"])
    return Snapshot(item["block"], item["synced_at"], item["version"], subnet)


def save_head(block: int) -> bool:
    """Remember the newest block; a lower one changes nothing."""
    change = "SET #block = :block, #observed_at = :now"
    try:
        table.update("CHAIN", "HEAD", change, when=_NOT_BACKWARDS, block=block, now=clock.now())
    except ConditionFailed:
        return False
    return True


def save_snapshot(system: str, block: int, subnet: Subnet) -> bool:
    """Write the pages of a new version, then switch; a lower block changes and refreshes nothing."""
    raw = codec.encode(subnet.model_dump(mode="json"))
    digest = hashlib.sha256(raw).hexdigest()[:24]
    current = table.get(f"SNAP#{system}", "HEAD")
    if current and current["block"] > block:
        return False
    if current and current["version"].startswith(digest):
        return _switch(system, block, subnet, current["version"])
    version = f"{digest}-{clock.new_hex(4)}"  # never a version again that may be on its way out
    _save_pages(system, version, zlib.compress(raw, 6))
    switched = _switch(system, block, subnet, version)
    if not switched:
        _retire(system, version)
    elif current:
        _retire(system, current["version"])
    return switched


def _switch(system: str, block: int, subnet: Subnet, version: str) -> bool:
    change = "SET #block = :block, #version = :version, #synced_at = :now, #netuid = :netuid"
    try:
        table.update(
            f"SNAP#{system}", "HEAD", change, when=_NOT_BACKWARDS,
            block=block, version=version, now=clock.now(), netuid=subnet.netuid,
        )  # fmt: skip
    except ConditionFailed:
        return False
    return True


def _save_pages(system: str, version: str, packed: bytes) -> None:
    pages = [packed[first : first + _PAGE_BYTES] for first in range(0, len(packed), _PAGE_BYTES)]
    table.put_many(
        {"pk": f"SNAP#{system}#{version}", "sk": f"{number:04d}", "bytes": page, "pages": len(pages)}
        for number, page in enumerate(pages)
    )


def _retire(system: str, version: str) -> None:
    """Readers that saw the old version still find it for a while."""
    for page in table.query_all(f"SNAP#{system}#{version}", fields=("pk", "sk")):
        table.update(page["pk"], page["sk"], "SET #ttl = :ttl", ttl=int(clock.now()) + _OLD_VERSION_SECONDS)


@functools.lru_cache(maxsize=16)
def _load(system: str, version: str) -> Subnet:
    pages = list(table.query_all(f"SNAP#{system}#{version}", consistent=True))
    if not pages or len(pages) != pages[0]["pages"]:
        raise RuntimeError(f"the {system} snapshot {version} is not whole")
    return Subnet.model_validate_json(zlib.decompress(b"".join(page["bytes"] for page in pages)))
