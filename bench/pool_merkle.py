"""The claim tree of 100,000 claims, against OpenZeppelin's library and against the hashing alone."""

from __future__ import annotations

import json
import os
import random
import resource
import shutil
import subprocess
import sys
import time
from pathlib import Path

from bench.interface import ROOT, Figures, alternating, benchmark, printed_number
from chalicelib.pool import merkle

CLAIMS = 100_000
MANY = 1_000_000
LIBRARY = "@openzeppelin/merkle-tree"
_THEIRS = """
const { StandardMerkleTree } = require(process.argv[1]);
const { randomBytes } = require("node:crypto");
const word = () => "0x" + randomBytes(32).toString("hex");
const rows = [...Array(%d).keys()].map((index) => ["5", String(index), word(), word(), String(index + 1)]);
const started = performance.now();
const tree = StandardMerkleTree.of(rows, ["uint64", "uint32", "bytes32", "bytes32", "uint64"]);
for (let index = 0; index < rows.length; index += 1) tree.getProof(index);
console.log((performance.now() - started) / 1000);
"""
_MEMORY = """
import resource, os
from chalicelib.pool import merkle
def claims():
    for index in range(%d):
        yield merkle.Leaf(index, os.urandom(32), os.urandom(32), index + 1)
tree = merkle.build(5, claims())
for index in range(0, tree.size, 1000): tree.proof(index)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
"""


def _claims() -> list[merkle.Leaf]:
    dice = random.Random(5)
    return [merkle.Leaf(index, dice.randbytes(32), dice.randbytes(32), index + 1) for index in range(CLAIMS)]


def _ours(claims: list[merkle.Leaf]) -> float:
    started = time.perf_counter()
    tree = merkle.build(5, claims)
    for claim in claims:
        tree.proof(claim.index)
    return time.perf_counter() - started


def _bare_hashing() -> float:
    """As many hashes of the same lengths: two per leaf, one per node."""
    digest = merkle.keccak256()
    words, leaf, pair = os.urandom(160), os.urandom(32), os.urandom(64)
    started = time.perf_counter()
    for _ in range(CLAIMS):
        digest(words)
        digest(leaf)
        digest(pair)
    return time.perf_counter() - started


def _library() -> str:
    folders = [ROOT / "node_modules", *map(Path, filter(None, os.environ.get("NODE_PATH", "").split(":")))]
    found = next((folder / LIBRARY for folder in folders if (folder / LIBRARY).is_dir()), None)
    if not found or not shutil.which("node"):
        raise RuntimeError(f"needs node and `npm install {LIBRARY}`")
    return str(found)


@benchmark("pool.merkle.library", unit="s", at_most=0.5)
def against_the_library() -> Figures:
    """Tree and every proof, theirs in a process of its own."""
    command = ["node", "-e", _THEIRS % CLAIMS, _library()]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return Figures(_ours(_claims()), float(json.loads(done.stdout)), f"{CLAIMS} claims, tree and all proofs")


@benchmark("pool.merkle.hashing", unit="s", at_most=2.0)
def against_bare_hashing() -> Figures:
    """Everything but the hashing may cost as much as the hashing."""
    claims = _claims()
    mine, bare = alternating([lambda: _ours(claims), _bare_hashing], rounds=3)
    return Figures(mine, bare, f"{CLAIMS} claims, tree and all proofs; the peer is 3 hashes per claim")


@benchmark("pool.merkle.memory", unit="MiB", at_most=1.0)
def memory_of_a_million() -> Figures:
    """The whole process at a million claims, against 320 bytes a claim and an interpreter."""
    peak = printed_number(sys.executable, _MEMORY % MANY)
    return Figures(peak, 320 * MANY / 2**20 + 30, f"{MANY} claims; this process: {_own_peak():.0f} MiB")


def _own_peak() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
