"""The guards of the live chain, for the mutation run: take one away, and the named tests must fail."""

from __future__ import annotations

from tests.harness.mutation import Guard


def chain(name: str, guard: str, without: str) -> Guard:
    return Guard(name, "chalicelib/kernel/chain_substrate.py", guard, without, "tests/chain/test_substrate.py")


GUARDS = [
    chain("another chain", "if self._genesis and found != self._genesis:", "if False:"),
    chain("a renamed entry", "if node.get_metadata_storage_function(module, entry, block_hash=at) is None:", "if False:"),
    chain("whatever a node sends", "except Exception as error:", "except OSError as error:"),
    chain("a broken connection is not used again", "            self.close()\n            raise ChainUnreadable(f", "            raise ChainUnreadable(f"),
    chain("child keys give away", "return max(0, own - given) + brought", "return own + brought"),
    chain("parent keys bring in", "return max(0, own - given) + brought", "return own - given"),
    chain("root stake moves by the subnet's keys", "own, key = held[hotkey, net], (hotkey, netuid)", "own, key = held[hotkey, net], (hotkey, netuid) if net else (hotkeys[0], netuid)"),
    chain("root stake weighs less", "inherited(h, ROOT) * weight // _U64", "inherited(h, ROOT)"),
    chain("everything at one block", "list(params), block_hash=self._at).value", "list(params)).value"),
]  # fmt: skip
