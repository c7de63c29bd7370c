"""What our checks of a signature cost on top of the bare curve arithmetic."""

from __future__ import annotations

import sr25519

from bench.interface import Figures, alternating, benchmark, cpu_milliseconds
from chalicelib.kernel import keys

_MESSAGE = b"9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08:1700000000"


@benchmark("kernel.signature", unit="ms", at_most=1.2)
def signature() -> Figures:
    """Address and hex signature to a verdict, against the library alone on raw bytes."""
    public, secret = sr25519.pair_from_seed(bytes(32))
    address = keys.address(public)
    raw = bytes(sr25519.sign((public, secret), _MESSAGE))
    text = raw.hex()

    def ours() -> bool:
        return keys.verify(keys.public_key(address), _MESSAGE, keys.signature_from_hex(text))

    def bare() -> bool:
        return bool(sr25519.verify(raw, _MESSAGE, public))

    sides = [lambda: cpu_milliseconds(ours, times=1000, rounds=1), lambda: cpu_milliseconds(bare, times=1000, rounds=1)]
    mine, theirs = alternating(sides, rounds=7)
    return Figures(mine, theirs)
