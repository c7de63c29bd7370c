"""Wallets as btcli keeps them: `~/.bittensor/wallets/<name>/hotkeys/<hotkey>`, and its option names."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import sr25519
import typer

from chalicelib.kernel import keys

from . import terminal

_SEED_BYTES = 32
_ED25519_CRYPTO_TYPE = 0

WalletName = Annotated[str, typer.Option("--wallet-name", "--name", help="Name of the wallet.")]
WalletPath = Annotated[Path, typer.Option("--wallet-path", "-p", help="Folder of the wallets.")]
HotkeyName = Annotated[str, typer.Option("--hotkey", "-H", help="Name of the hotkey.")]
# What btcli also calls them; taken everywhere, and in no help.
OTHER_NAMES = {
    "--wallet.name": "--wallet-name", "--wallet_name": "--wallet-name",
    "--wallet.path": "--wallet-path", "--wallet_path": "--wallet-path",
    "--wallet.hotkey": "--hotkey", "--wallet_hotkey": "--hotkey", "--wallet-hotkey": "--hotkey",
}  # fmt: skip
DEFAULT_NAME = "default"
DEFAULT_PATH = Path("~/.bittensor/wallets")


@dataclass(frozen=True)
class Hotkey:
    """A hotkey that can sign."""

    public: bytes
    secret: bytes
    scheme: str = keys.SR25519

    @property
    def address(self) -> str:
        return keys.address(self.public)

    def sign(self, message: bytes) -> bytes:
        if self.scheme == keys.ED25519:
            from nacl.signing import SigningKey  # noqa: PLC0415 - few wallets need it

            return SigningKey(self.secret).sign(message).signature
        return bytes(sr25519.sign((self.public, self.secret), message))


def named_alike(word: str) -> str:
    """A word of the command line, with btcli's other names for an option replaced by the one that is shown."""
    name, equals, value = word.partition("=")
    return OTHER_NAMES.get(name, name) + equals + value


def load(name: str, hotkey: str, path: Path) -> Hotkey:
    """Read a hotkey file; hotkeys are not encrypted."""
    file = path.expanduser() / name / "hotkeys" / hotkey
    try:
        content: dict[str, Any] = json.loads(file.read_text("utf-8"))
    except OSError:
        terminal.refuse(f"there is no hotkey file {file}: create one with `btcli wallet new-hotkey`", code="no_wallet")
    except ValueError:
        terminal.refuse(f"{file} is not a readable hotkey file (encrypted hotkeys cannot sign here)", code="bad_wallet")
    return from_keyfile(content, str(file))


def from_keyfile(content: dict[str, Any], where: str) -> Hotkey:
    """The key inside a keyfile's JSON: its seed, or the expanded private key beside its public key."""
    seed = _bytes(content.get("secretSeed"))
    private, public = _bytes(content.get("privateKey")), _bytes(content.get("publicKey"))
    if content.get("cryptoType") == _ED25519_CRYPTO_TYPE and len(seed) == _SEED_BYTES:
        from nacl.signing import SigningKey  # noqa: PLC0415 - few wallets need it

        return Hotkey(bytes(SigningKey(seed).verify_key), seed, keys.ED25519)
    if len(seed) == _SEED_BYTES:
        public, private = (bytes(part) for part in sr25519.pair_from_seed(seed))
    if not (private and public):
        terminal.refuse(f"{where} holds neither a seed nor a private key", code="bad_wallet")
    return Hotkey(public, private)


def _bytes(text: str | None) -> bytes:
    try:
        return bytes.fromhex((text or "").removeprefix("0x"))
    except ValueError:
        return b""
