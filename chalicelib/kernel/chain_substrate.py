"""Chain state from a live subtensor node: one consistent look at one block, by storage reads in pages.

Stake is what validators see as a neuron's total: its alpha on the subnet plus its root stake weighted by `TaoWeight`,
both after what the subnet's child keys give away and bring in. Only the scheduled sync imports this module.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from . import telemetry
from .chain import ChainUnreadable, Commitment, Neuron, Reading, Subnet

PAGE = 256
ROOT = 0
_U64 = 2**64 - 1
_HEX = re.compile(r"0x(?:[0-9a-f]{2})*")
_ANSWER_SECONDS = 10
_NEEDED = {
    "SubtensorModule": (
        "Keys", "Owner", "ValidatorPermit", "LastUpdate", "BlockAtRegistration",
        "TotalHotkeyAlpha", "TaoWeight", "ParentKeys", "ChildKeys",
    ),
    "Commitments": ("CommitmentOf", "RevealedCommitments"),
    "System": ("Account",),
}  # fmt: skip


class SubstrateSource:
    """A node; `genesis` pins the chain it must serve, `netuids` says which subnet each system is."""

    def __init__(self, url: str, netuids: Mapping[str, int], genesis: str = "") -> None:
        self._url = url
        self._netuids = netuids
        self._genesis = genesis
        self._node: Any = None

    def read(self) -> Reading:
        """Everything at one block; whatever goes wrong, nothing is half read."""
        try:
            return self._read()
        except ChainUnreadable:
            raise
        except Exception as error:  # a node may send anything, and each library stumbles over it in its own way
            self.close()
            raise ChainUnreadable(f"{self._url}: {type(error).__name__}: {error}") from error

    def _read(self) -> Reading:
        node = self._connected()
        at = node.get_chain_head()
        block = node.get_block_number(at)
        node.init_runtime(block_hash=at)
        self._check_entries(node, at)
        look = _Look(node, at)
        return Reading(block, {system: look.subnet(netuid) for system, netuid in self._netuids.items()})

    def _connected(self) -> Any:
        from substrateinterface import SubstrateInterface  # noqa: PLC0415 - half a second, in the sync's layer only

        if self._node is None:
            node = SubstrateInterface(
                url=self._url, ss58_format=42, auto_reconnect=False, ws_options={"timeout": _ANSWER_SECONDS}
            )
            found = node.get_block_hash(0)
            if self._genesis and found != self._genesis:
                node.close()
                raise ChainUnreadable(f"{self._url} serves the chain {found}, not {self._genesis}")
            self._node = node
        return self._node

    def _check_entries(self, node: Any, at: str) -> None:
        """A runtime upgrade that renames what we read is told by name, before anything is read."""
        for module, entries in _NEEDED.items():
            for entry in entries:
                if node.get_metadata_storage_function(module, entry, block_hash=at) is None:
                    missing = f"runtime {node.runtime_version} has no storage entry {module}.{entry}"
                    self.close()
                    raise ChainUnreadable(f"{missing}: this version of Subnet Functions cannot read it")

    def close(self) -> None:
        """The next read connects anew."""
        if self._node is not None:
            try:
                self._node.close()
            except (OSError, EOFError) as error:
                telemetry.log("closing the node connection failed", error=repr(error))
            self._node = None


class _Look:
    """Reads at one block hash."""

    def __init__(self, node: Any, at: str) -> None:
        self._node = node
        self._at = at

    def subnet(self, netuid: int) -> Subnet:
        hotkeys: dict[int, str] = dict(self._map("SubtensorModule", "Keys", netuid))
        stakes = self._stakes(netuid, list(hotkeys.values()))
        registered = dict(self._map("SubtensorModule", "BlockAtRegistration", netuid))
        permits = self._one("SubtensorModule", "ValidatorPermit", netuid) or []
        updates = self._one("SubtensorModule", "LastUpdate", netuid) or []
        coldkeys = self._many("SubtensorModule", "Owner", [(hotkey,) for hotkey in hotkeys.values()])
        accounts = self._many("System", "Account", [(coldkey,) for coldkey in set(coldkeys.values()) if coldkey])
        neurons = [
            Neuron(
                uid=uid,
                hotkey=hotkey,
                coldkey=coldkeys.get((hotkey,)) or "",
                stake_rao=stakes[hotkey],
                validator_permit=bool(permits[uid]) if uid < len(permits) else False,
                registered_at_block=registered.get(uid, 0),
                last_update=updates[uid] if uid < len(updates) else 0,
                balance_rao=_free(accounts.get((coldkeys.get((hotkey,)),))),
            )
            for uid, hotkey in sorted(hotkeys.items())
        ]
        return Subnet(netuid=netuid, neurons=tuple(neurons), commitments=tuple(self._commitments(netuid)))

    def _stakes(self, netuid: int, hotkeys: list[str]) -> dict[str, int]:
        """The subnet's own child keys move both parts, its alpha and the root stake; the root has none."""
        ours = [(hotkey, netuid) for hotkey in hotkeys]
        parents = self._many("SubtensorModule", "ParentKeys", ours)
        children = self._many("SubtensorModule", "ChildKeys", ours)
        owners = {owner for entries in parents.values() for _share, owner in entries or ()}
        pairs = [(hotkey, net) for hotkey in {*hotkeys, *owners} for net in (netuid, ROOT)]
        stakes = self._many("SubtensorModule", "TotalHotkeyAlpha", pairs)
        held: dict[tuple[str, int], int] = {(hotkey, net): stakes[hotkey, net] or 0 for hotkey, net in pairs}

        def inherited(hotkey: str, net: int) -> int:
            own, key = held[hotkey, net], (hotkey, netuid)
            given: int = sum(own * share // _U64 for share, _child in children[key] or ())
            brought: int = sum(held[owner, net] * share // _U64 for share, owner in parents[key] or ())
            return max(0, own - given) + brought

        weight = self._one("SubtensorModule", "TaoWeight") or 0
        return {h: inherited(h, netuid) + inherited(h, ROOT) * weight // _U64 for h in hotkeys}

    def _commitments(self, netuid: int) -> Iterable[Commitment]:
        """Revealed texts with their blocks, and plain ones as they stand."""
        for hotkey, reveals in self._map("Commitments", "RevealedCommitments", netuid):
            for blob, block in reveals or ():
                text = revealed_text(blob)
                if text is not None:
                    yield Commitment(hotkey=hotkey, block=block, data=text)
        for hotkey, registration in self._map("Commitments", "CommitmentOf", netuid):
            for text in plain_texts(registration["info"]["fields"]):
                yield Commitment(hotkey=hotkey, block=registration["block"], data=text)

    def _map(self, module: str, entry: str, netuid: int) -> Iterable[tuple[Any, Any]]:
        found = self._node.query_map(module, entry, [netuid], block_hash=self._at, page_size=PAGE)
        return [(key.value, value.value) for key, value in found]

    def _one(self, module: str, entry: str, *params: Any) -> Any:
        return self._node.query(module, entry, list(params), block_hash=self._at).value

    def _many(self, module: str, entry: str, params: Iterable[tuple[Any, ...]]) -> dict[tuple[Any, ...], Any]:
        """Many keys of one map, a page per request."""
        found: dict[tuple[Any, ...], Any] = {}
        wanted = list(dict.fromkeys(params))
        for first in range(0, len(wanted), PAGE):
            page = wanted[first : first + PAGE]
            keys = [self._key(module, entry, each) for each in page]
            by_hex = {key.to_hex(): each for key, each in zip(keys, page, strict=True)}
            for key, value in self._node.query_multi(keys, block_hash=self._at):
                found[by_hex[key.to_hex()]] = value.value if value is not None else None
        return found

    def _key(self, module: str, entry: str, params: tuple[Any, ...]) -> Any:
        """The interface's own factory would ask the node for its head before every single key."""
        from substrateinterface.storage import StorageKey  # noqa: PLC0415 - as above

        return StorageKey.create_from_storage_function(
            module, entry, list(params), self._node.runtime_config, self._node.metadata
        )


def revealed_text(blob: str) -> str | None:
    """The text of a revealed commitment: it carries its own SCALE length in front."""
    raw = _raw(blob)
    size = (1, 2, 4)[raw[0] & 3] if raw and raw[0] & 3 != 3 else 0  # noqa: PLR2004 - SCALE's fourth mode is for giants
    length = int.from_bytes(raw[:size], "little") >> 2 if size else -1
    body = raw[size:] if size and length == len(raw) - size else raw
    try:
        return body.decode()
    except UnicodeDecodeError:
        return None


def plain_texts(fields: Any) -> Iterable[str]:
    """The readable raw fields of a plain commitment; hashes and time-locked ones say nothing yet."""
    for field in _flat(fields):
        for kind, content in field.items() if isinstance(field, dict) else ():
            if kind.startswith(("Raw", "BigRaw")):
                try:
                    yield _raw(content).decode()
                except UnicodeDecodeError:
                    continue


def _flat(fields: Any) -> Iterable[Any]:
    for field in fields:
        if isinstance(field, (list, tuple)):
            yield from _flat(field)
        else:
            yield field


def _raw(content: Any) -> bytes:
    """The codec shows bytes as text where they are UTF-8 and as hex where they are not."""
    if isinstance(content, (list, tuple)):
        return bytes(content)
    return bytes.fromhex(content[2:]) if _HEX.fullmatch(content) else content.encode()


def _free(account: Any) -> int | None:
    return account["data"]["free"] if account else None
