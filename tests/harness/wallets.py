"""Wallets of the well-known development keys, and signers of each kind."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import sr25519
from nacl.signing import SigningKey

from chalicelib.kernel import keys


@dataclass(frozen=True)
class Wallet:
    """A hotkey that signs; sr25519 unless said otherwise."""

    public: bytes
    secret: bytes
    scheme: str = keys.SR25519

    @property
    def hotkey(self) -> str:
        return keys.address(self.public)

    def sign(self, message: bytes) -> bytes:
        if self.scheme == keys.ED25519:
            return SigningKey(self.secret).sign(message).signature
        return bytes(sr25519.sign((self.public, self.secret), message))


def wallet(name: str) -> Wallet:
    """A wallet of its own for every name."""
    public, secret = sr25519.pair_from_seed(hashlib.sha256(name.encode()).digest())
    return Wallet(public, secret)


def ed25519_wallet(name: str) -> Wallet:
    key = SigningKey(hashlib.sha256(name.encode()).digest())
    return Wallet(bytes(key.verify_key), bytes(key), keys.ED25519)
