"""Publication of an epoch in steps that may each be lost and repeated: stage, write leaves chunk by chunk, publish.

The same functions serve the state machine that pays out windows and the operator's command.
"""

from __future__ import annotations

import functools
import hashlib
import json
from array import array
from collections.abc import Iterable, Iterator

from chalicelib.kernel import clock, keys
from chalicelib.kernel.tables import until_decided
from chalicelib.kernel.values import frozen
from chalicelib.kernel.wire import Item

from . import consensus, domain, merkle, store, store_claims, store_work
from .contracts import PoolSettings
from .contracts_records import Credit, Epoch, Miner

_READ_AT_ONCE = 100


@frozen
class Staged:
    """A tree that stands in the bucket under the digest of its claims."""

    epoch: int
    digest: str
    leaves: int
    total_units: int
    root: str


def stage(epoch: int, claims: bytearray) -> tuple[Staged, merkle.Tree]:
    """Hash the tree of claims that are in order and keep both; the same claims always end under the same keys.

    The claims are gone afterwards: a million of them and their tree need not be in memory together.
    """
    digest, total = digest_of(claims), sum(leaf.amount for leaf in merkle.unpack(claims))
    bucket, folder = store_claims.bucket(), _folder(epoch, digest)
    bucket.put(f"{folder}/claims.bin", claims)
    tree = merkle.build(epoch, _used_up(claims))
    bucket.put(f"{folder}/nodes.bin", tree.nodes)
    bucket.put(f"{folder}/order.bin", tree.order.tobytes())
    return Staged(epoch, digest, tree.size, total, tree.root.hex()), tree


def _used_up(claims: bytearray) -> Iterator[merkle.Leaf]:
    yield from merkle.unpack(claims)
    claims.clear()


def digest_of(claims: bytearray) -> str:
    """The digest under which these claims would be staged."""
    return hashlib.sha256(claims).hexdigest()[:32]


def write_chunk(staged: Staged, first: int, tree: merkle.Tree | None = None) -> int:
    """Write the leaves of one chunk; answers where the next begins."""
    tree = tree or _load(staged)
    last = min(first + PoolSettings.current().publish_chunk, staged.leaves)
    span = {"first": first * merkle.RECORD, "last": last * merkle.RECORD - 1}
    packed = store_claims.bucket().get(f"{_folder(staged.epoch, staged.digest)}/claims.bin", **span)
    if packed is None:
        raise RuntimeError(f"the claims of epoch {staged.epoch} are not staged")
    store_claims.write_leaves([_leaf_item(staged, leaf, tree) for leaf in merkle.unpack(packed, first)])
    store_claims.note_progress(staged.epoch, staged.digest, last)
    return last


def _leaf_item(staged: Staged, leaf: merkle.Leaf, tree: merkle.Tree) -> Item:
    content = {
        "index": leaf.index,
        "recipient": leaf.recipient,
        "amount": leaf.amount,
        "leaf": tree.leaf(leaf.index),
        "proof": b"".join(tree.proof(leaf.index)),
    }
    return store_claims.leaf_item(staged.epoch, keys.address(leaf.hotkey), staged.digest, content)


def _load(staged: Staged) -> merkle.Tree:
    bucket, folder = store_claims.bucket(), _folder(staged.epoch, staged.digest)
    nodes, order = bucket.get(f"{folder}/nodes.bin"), bucket.get(f"{folder}/order.bin")
    if nodes is None or order is None:
        raise RuntimeError(f"the tree of epoch {staged.epoch} is not staged")
    return merkle.Tree(nodes, array("I", order))


def publish(staged: Staged) -> bool:
    """The last step: from here on the epoch exists. False when it did before."""
    now = clock.now()
    uri = f"s3://{PoolSettings.current().epochs_bucket}/{_manifest_key(staged.epoch)}"
    found = Epoch(staged.epoch, staged.root, staged.leaves, staged.total_units, 0, now, now, uri, staged.digest)
    if store_claims.epoch(staged.epoch) is None:
        _put_manifest(found)
    if store_claims.publish(found, merkle.SCHEME, merkle.AMOUNT_MODE):
        return True
    published = store_claims.epoch(staged.epoch)
    assert published is not None
    _put_manifest(published)
    return False


def _put_manifest(found: Epoch) -> None:
    """What an epoch is, for who reads the bucket; whoever comes second puts the published one's back."""
    manifest = {
        "epoch": found.number,
        "root": "0x" + found.root,
        "num_of_leaves": found.leaves,
        "total_units": found.total_units,
        "scheme": merkle.SCHEME,
        "leaf_types": merkle.LEAF_TYPES,
        "claims": f"{_folder(found.number, found.digest)}/claims.bin",
        "claim_record": "hotkey: 32 bytes, recipient: 32 bytes, amount: 8 bytes big-endian; by hotkey",
    }
    raw = json.dumps(manifest, indent=2).encode()
    store_claims.bucket().put(_manifest_key(found.number), raw, content_type="application/json")


def _manifest_key(epoch: int) -> str:
    return f"epochs/{epoch}/epoch.json"


def _folder(epoch: int, digest: str) -> str:
    return f"epochs/{epoch}/{digest}"


# ---- windows


def window_records(window: int) -> list[bytes]:
    """What a window pays: shares of its budget by reputation, to whom its miners are paid now."""
    settings = PoolSettings.current()
    active = [hotkey for hotkey, row in store_claims.activity(window).items() if domain.may_be_paid(row, settings)]
    found = {miner.hotkey: miner for miner in _miners(active) if not miner.banned}
    shares = domain.payouts({hotkey: miner.reputation for hotkey, miner in found.items()}, settings)
    return [record(hotkey, found[hotkey].paid_to, amount) for hotkey, amount in shares.items()]


def record(hotkey: str, recipient: str, amount: int) -> bytes:
    return merkle.pack(merkle.Leaf(0, keys.public_key(hotkey), keys.public_key(recipient), amount))


def _miners(hotkeys: Iterable[str]) -> Iterator[Miner]:
    wanted = sorted(hotkeys)
    for first in range(0, len(wanted), _READ_AT_ONCE):
        yield from store_claims.miners(wanted[first : first + _READ_AT_ONCE])


# ---- credits


def pay_credits() -> int:
    """Pay every credit that is owed, each in a transaction of its own; what two runs pay at once is paid once."""
    paid = 0
    while owed := store_work.owed(limit=50):
        for key, credits_of_one in owed:
            for credit in credits_of_one:
                until_decided(functools.partial(_pay, credit))
                paid += 1
            store_work.settled(key)
    return paid


def _pay(credit: Credit) -> None:
    if store_work.is_paid(credit):
        return
    before = store.miner(credit.hotkey)
    if before.registered_at is None:
        return
    store_work.pay(credit, before, consensus.credited(before, credit), clock.now())
