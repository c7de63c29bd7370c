"""The claim tree: OpenZeppelin's StandardMerkleTree over `[uint64 epoch, uint32 index, bytes32, bytes32, uint64]`.

A leaf is keccak256(keccak256(five words)), a node keccak256 of its two children in byte order; the nodes stand in one
array of 2n - 1, root first, leaves ascending from the end. Sorted pairs make a proof a plain list of hashes, and the
double hash of 160 bytes can never be mistaken for a node's 64.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterable, Iterator, Sequence

from chalicelib.kernel.values import frozen

SCHEME = "oz-std-keccak-v1"
LEAF_TYPES = ("uint64", "uint32", "bytes32", "bytes32", "uint64")
AMOUNT_MODE = "per_epoch"
HASH = 32
RECORD = HASH + HASH + 8
_RANK = 4
_RANKED = HASH + _RANK

Hash = Callable[[bytes], bytes]


@frozen
class Leaf:
    """What one miner may claim in an epoch."""

    index: int
    hotkey: bytes
    recipient: bytes
    amount: int


def keccak256() -> Hash:
    """The hash function; the library is loaded by those who hash."""
    from Crypto.Hash.keccak import new  # noqa: PLC0415 - two milliseconds that most requests never need

    return lambda data: new(data=data, digest_bits=256).digest()


def words(epoch: int, leaf: Leaf) -> bytes:
    """The ABI encoding: five 32-byte words, integers big-endian."""
    numbers = epoch.to_bytes(HASH, "big") + leaf.index.to_bytes(HASH, "big")
    return numbers + leaf.hotkey + leaf.recipient + leaf.amount.to_bytes(HASH, "big")


def leaf_hash(epoch: int, leaf: Leaf) -> bytes:
    digest = keccak256()
    return digest(digest(words(epoch, leaf)))


def fold(leaf: bytes, proof: Iterable[bytes]) -> bytes:
    """The root that a proof leads to."""
    digest = keccak256()
    for sibling in proof:
        leaf = digest(leaf + sibling if leaf < sibling else sibling + leaf)
    return leaf


def verifies(root: bytes, epoch: int, leaf: Leaf, proof: Sequence[bytes]) -> bool:
    return fold(leaf_hash(epoch, leaf), proof) == root


@frozen
class Tree:
    """All nodes in one block of bytes, and where each claim's leaf stands: 68 bytes per claim."""

    nodes: bytes | bytearray
    order: array[int]

    @property
    def size(self) -> int:
        return len(self.order)

    @property
    def root(self) -> bytes:
        return self.node(0)

    def node(self, position: int) -> bytes:
        return bytes(self.nodes[position * HASH : (position + 1) * HASH])

    def leaf(self, index: int) -> bytes:
        return self.node(self.order[index])

    def proof(self, index: int) -> list[bytes]:
        """The siblings from a claim's leaf to the root."""
        return list(self._siblings(self.order[index]))

    def _siblings(self, position: int) -> Iterator[bytes]:
        while position:
            yield self.node(position + 1 if position % 2 else position - 1)
            position = (position - 1) // 2


def build(epoch: int, leaves: Iterable[Leaf]) -> Tree:
    """Hash every leaf, sort, hash upwards; leaves come in claim order and are not kept."""
    digest = keccak256()
    hashed = (digest(digest(words(epoch, leaf))) + leaf.index.to_bytes(_RANK, "big") for leaf in leaves)
    ranked = in_order(hashed, size=_RANKED)
    if not ranked:
        raise ValueError("an epoch without claims has no tree")
    count = len(ranked) // _RANKED
    last = 2 * count - 2
    nodes = bytearray(HASH * (2 * count - 1))
    order = array("I", bytes(4 * count))
    for rank in range(count):
        entry, position = ranked[rank * _RANKED : (rank + 1) * _RANKED], last - rank
        nodes[position * HASH : (position + 1) * HASH] = entry[:HASH]
        order[int.from_bytes(entry[HASH:], "big")] = position
    del ranked
    _hash_upwards(nodes, count, digest)
    return Tree(nodes, order)


def in_order(records: Iterable[bytes], *, size: int = RECORD) -> bytearray:
    """Records of one size, ascending, for the memory of their bytes: shelved by first byte, sorted shelf by shelf."""
    shelves = [bytearray() for _ in range(256)]
    for record in records:
        shelves[record[0]] += record
    found = bytearray()
    for shelf in shelves:
        unsorted = bytes(shelf)
        shelf.clear()
        found += b"".join(sorted(unsorted[first : first + size] for first in range(0, len(unsorted), size)))
    return found


def _hash_upwards(nodes: bytearray, count: int, digest: Hash) -> None:
    """A node's children are neighbours in the array; the smaller goes first."""
    for position in range(count - 2, -1, -1):
        first = (2 * position + 1) * HASH
        pair = bytes(nodes[first : first + 2 * HASH])
        left, right = pair[:HASH], pair[HASH:]
        start = position * HASH
        nodes[start : start + HASH] = digest(pair if left < right else right + left)


def pack(leaf: Leaf) -> bytes:
    """A claim as 72 bytes; sorted, they stand in the order of their hotkeys' addresses."""
    return leaf.hotkey + leaf.recipient + leaf.amount.to_bytes(8, "big")


def unpack(records: bytes | bytearray, first: int = 0) -> Iterator[Leaf]:
    """Claims of packed records; `first` is the index of the first."""
    for offset in range(0, len(records), RECORD):
        record = bytes(records[offset : offset + RECORD])
        yield Leaf(
            first + offset // RECORD,
            record[:HASH],
            record[HASH : 2 * HASH],
            int.from_bytes(record[2 * HASH :], "big"),
        )
