"""The claim tree: golden vectors, OpenZeppelin's library, and proofs that must not hold."""

from __future__ import annotations

import json
import os
import random
import shutil
import subprocess
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chalicelib.kernel import keys
from chalicelib.pool import merkle
from chalicelib.pool.merkle import Leaf

DAVE = "5DAAnrj7VHTznn2AWBemMuyBwZWs6FNFjdyVXUeYum3PTXFy"
ALICE = "5GrwvaEF5zXb26Fz9rcQpDWS57CtERHpNehXCPcNoHGKutQY"
LIBRARY = "@openzeppelin/merkle-tree"
SCRIPT = """
const { StandardMerkleTree } = require(process.argv[1]);
let text = "";
process.stdin.on("data", (part) => (text += part)).on("end", () => {
  const rows = JSON.parse(text);
  const tree = StandardMerkleTree.of(rows, ["uint64", "uint32", "bytes32", "bytes32", "uint64"]);
  console.log(JSON.stringify({ root: tree.root, proofs: rows.map((_, index) => tree.getProof(index)) }));
});
"""


def leaves(count: int, seed: int = 1) -> list[Leaf]:
    dice = random.Random(seed)
    return [
        Leaf(index, dice.randbytes(32), dice.randbytes(32), dice.choice([1, 2**64 - 1, dice.randrange(1, 2**64)]))
        for index in range(count)
    ]


def test_the_hash_is_keccak_and_not_sha3() -> None:
    empty = "c5d2460186f7233c927e7db2dcc703c0e500b653ca82273b7bfad8045d85a470"
    assert merkle.keccak256()(b"").hex() == empty


def test_a_tree_of_one_is_its_leaf() -> None:
    tree = merkle.build(1144, [Leaf(0, keys.public_key(ALICE), keys.public_key(DAVE), 5)])

    assert tree.root.hex() == "0bfb10b412e4e6afd5d502555ab534b698df04ad1da6aae113872567867ba61c"
    assert tree.proof(0) == []
    with pytest.raises(ValueError, match="without claims"):
        merkle.build(1144, [])


@given(st.integers(1, 70), st.integers(0, 1000))
@settings(max_examples=40, deadline=None)
def test_every_proof_holds_for_its_leaf_and_for_no_other(count: int, seed: int) -> None:
    claims = leaves(count, seed)
    tree = merkle.build(9, claims)
    for claim in claims:
        proof = tree.proof(claim.index)
        assert merkle.verifies(tree.root, 9, claim, proof)
        assert not merkle.verifies(tree.root, 10, claim, proof)
        changed = Leaf(claim.index, claim.hotkey, claim.recipient, claim.amount % (2**64 - 1) + 1)
        assert not merkle.verifies(tree.root, 9, changed, proof)


def test_an_inner_node_is_no_leaf_and_a_thousand_wrong_proofs_fail() -> None:
    claims = leaves(33)
    tree, dice = merkle.build(9, claims), random.Random(3)
    for _ in range(1000):
        claim = dice.choice(claims)
        proof = tree.proof(claim.index)
        other = tree.proof(dice.choice(claims).index)
        wrong = dice.choice(
            [proof[1:], proof[:-1], [*proof, tree.root], other, [os.urandom(32)], list(reversed(proof))]
        )
        assert wrong == proof or not merkle.verifies(tree.root, 9, claim, wrong)


def test_claims_packed_and_sorted_stand_in_the_order_of_their_addresses() -> None:
    claims = leaves(200)
    packed = merkle.in_order(merkle.pack(claim) for claim in claims)
    assert packed == b"".join(sorted(merkle.pack(claim) for claim in claims))
    addresses = [keys.address(leaf.hotkey) for leaf in merkle.unpack(packed)]

    assert addresses == sorted(addresses)
    assert [leaf.index for leaf in merkle.unpack(packed[merkle.RECORD :], 1)] == list(range(1, 200))


def library() -> str | None:
    """Where the npm package is installed: beside the project, or where NODE_PATH says."""
    folders = [Path.cwd() / "node_modules", *map(Path, filter(None, os.environ.get("NODE_PATH", "").split(":")))]
    return next((str(folder / LIBRARY) for folder in folders if (folder / LIBRARY).is_dir()), None)


@pytest.mark.parametrize("count", [1, 2, 3, 4, 5, 7, 8, 31, 100, 257])
def test_root_and_proofs_are_those_of_openzeppelin_s_library(count: int) -> None:
    node, package = shutil.which("node"), library()
    if not node or not package:
        pytest.skip(f"needs node and `npm install {LIBRARY}` (in the project's folder, or under NODE_PATH)")
    claims = leaves(count)
    rows = [
        [str(9), str(claim.index), "0x" + claim.hotkey.hex(), "0x" + claim.recipient.hex(), str(claim.amount)]
        for claim in claims
    ]
    done = subprocess.run(
        [node, "-e", SCRIPT, package], input=json.dumps(rows), capture_output=True, text=True, check=True
    )
    theirs, ours = json.loads(done.stdout), merkle.build(9, claims)

    assert theirs["root"] == "0x" + ours.root.hex()
    assert theirs["proofs"] == [["0x" + item.hex() for item in ours.proof(claim.index)] for claim in claims]
