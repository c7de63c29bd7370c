"""A stand-in substrate node on loopback: real runtime metadata, storage encoded by it, JSON-RPC over a websocket."""

from __future__ import annotations

import gzip
import json
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from scalecodec.base import RuntimeConfigurationObject, ScaleBytes
from scalecodec.type_registry import load_type_registry_preset
from substrateinterface.storage import StorageKey
from websockets.exceptions import ConnectionClosed
from websockets.sync.server import ServerConnection, serve

GENESIS = "0x" + "11" * 32
STORAGE = {"state_queryStorageAt", "state_getKeysPaged", "state_getStorageAt", "state_getStorage"}
_BESIDE = Path(__file__).parents[3] / "shared" / "data" / "subtensor_metadata_v14.hex.gz"


def metadata_file() -> Path | None:
    """Recorded runtime metadata, where somebody has it: `SUBTENSOR_METADATA`, or beside the checkout."""
    named = os.environ.get("SUBTENSOR_METADATA")
    path = Path(named) if named else _BESIDE
    return path if path.is_file() else None


class Chain:
    """Storage by block; tests write entries by name and see them encoded as the runtime would."""

    def __init__(self, metadata_hex: str) -> None:
        self.metadata_hex = metadata_hex
        self.block = 1000
        self.storage: dict[str, str] = {}
        self.requests: list[str] = []
        self.genesis = GENESIS
        self.spec_version = 1
        self.heal()
        self._config = RuntimeConfigurationObject(implements_scale_info=True, ss58_format=42)
        self._config.update_type_registry(load_type_registry_preset("core"))
        self._metadata = self._config.create_scale_object("MetadataVersioned", ScaleBytes(metadata_hex))
        self._metadata.decode()
        self._config.add_portable_registry(self._metadata)

    def heal(self) -> None:
        """No connection is dropped, no question about storage refused or left open."""
        self.drop_after: int | None = None
        self.refusal = ""
        self.silent = False

    def put(self, module: str, entry: str, params: list[Any], value: Any) -> None:
        key = StorageKey.create_from_storage_function(module, entry, params, self._config, self._metadata)
        encoded = self._config.create_scale_object(key.value_scale_type).encode(value)
        self.storage[key.to_hex()] = encoded.to_hex()

    def answer(self, method: str, params: list[Any]) -> Any:
        self.requests.append(method)
        return getattr(self, "rpc_" + method)(*params)

    def rpc_chain_getHead(self) -> str:  # noqa: N802 - the RPC's own name
        return _hash_of(self.block)

    def rpc_chain_getBlockHash(self, number: int | None = None) -> str:  # noqa: N802
        return self.genesis if number == 0 else _hash_of(self.block if number is None else number)

    def rpc_chain_getHeader(self, block_hash: str) -> dict[str, Any]:  # noqa: N802
        number = int(block_hash, 16)
        return {"number": hex(number), "parentHash": _hash_of(number - 1), "digest": {"logs": []}}

    def rpc_state_getRuntimeVersion(self, *_at: str) -> dict[str, Any]:  # noqa: N802
        return {"specVersion": self.spec_version, "transactionVersion": 1, "specName": "node-subtensor"}

    def rpc_state_getMetadata(self, *_at: str) -> str:  # noqa: N802
        return self.metadata_hex

    def rpc_state_getKeysPaged(self, prefix: str, count: int, start: str | None, *_at: str) -> list[str]:  # noqa: N802
        keys = sorted(key for key in self.storage if key.startswith(prefix))
        return [key for key in keys if start is None or key > start][:count]

    def rpc_state_queryStorageAt(self, keys: list[str], at: str) -> list[dict[str, Any]]:  # noqa: N802
        return [{"block": at, "changes": [[key, self.storage.get(key)] for key in keys]}]

    def rpc_state_getStorageAt(self, key: str, *_at: str) -> str | None:  # noqa: N802
        return self.storage.get(key)

    def rpc_state_getStorage(self, key: str, *_at: str) -> str | None:  # noqa: N802
        return self.storage.get(key)

    def rpc_rpc_methods(self) -> dict[str, Any]:
        return {"methods": sorted(name.removeprefix("rpc_") for name in dir(self) if name.startswith("rpc_"))}

    def rpc_system_properties(self) -> dict[str, Any]:
        return {"ss58Format": 42, "tokenDecimals": 9, "tokenSymbol": "TAO"}

    def rpc_system_chain(self) -> str:
        return "Stand-in"


def recorded_chain(path: Path) -> Chain:
    return Chain(gzip.decompress(path.read_bytes()).decode().strip())


@contextmanager
def serving(chain: Chain) -> Iterator[str]:
    """The node's address, while the block runs."""
    with serve(_conversation(chain), "127.0.0.1", 0, max_size=None) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield f"ws://127.0.0.1:{server.socket.getsockname()[1]}"
        server.shutdown()
        thread.join()


def _conversation(chain: Chain) -> Callable[[ServerConnection], None]:
    def talk(connection: ServerConnection) -> None:
        try:
            for message in connection:
                request = json.loads(message)
                if chain.drop_after is not None and len(chain.requests) >= chain.drop_after:
                    connection.socket.close()
                    return
                result = {"result": chain.answer(request["method"], request["params"])}
                if chain.silent and request["method"] in STORAGE:
                    continue
                if chain.refusal and request["method"] in STORAGE:
                    result = {"error": {"code": 4003, "message": chain.refusal}}
                connection.send(json.dumps({"jsonrpc": "2.0", "id": request["id"], **result}))
        except ConnectionClosed:
            return

    return talk


def _hash_of(number: int) -> str:
    return "0x" + number.to_bytes(32, "big").hex()
