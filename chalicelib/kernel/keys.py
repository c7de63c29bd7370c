"""SS58 addresses and hotkey signatures: strict, one meaning each, refused before any arithmetic where a key is weak.

The signature says which curve made it: schnorrkel sets the top bit of its last byte, a canonical Ed25519 signature
cannot. So exactly one verifier ever sees a signature.
"""

from __future__ import annotations

import base64
import binascii
import functools
import hashlib
import re
from collections.abc import Container

import sr25519

SS58_PREFIX = 42
KEY_BYTES = 32
SIGNATURE_BYTES = 64
ED25519 = "ed25519"
SR25519 = "sr25519"
BOTH = (ED25519, SR25519)

_ALPHABET = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"
_DIGIT = {letter: value for value, letter in enumerate(_ALPHABET)}
_LOOKS_LIKE_SS58 = re.compile(r"[1-9A-HJ-NP-Za-km-z]{47,48}")
_HEX_SIGNATURE = re.compile(r"(0[xX])?([0-9a-fA-F]{128})")
_BASE64URL_SIGNATURE = re.compile(r"([A-Za-z0-9_-]{86})(?:==)?")
_MARKER_BYTE = 63
_MARKER_BIT = 0x80

# The points of small order and their non-canonical twins (RFC 8032): a signature under such a key proves nothing.
_SMALL_ORDER_Y = (
    "0000000000000000000000000000000000000000000000000000000000000000",
    "0100000000000000000000000000000000000000000000000000000000000000",
    "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05",
    "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a",
    "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
    "edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
    "eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
)
_WEAK_KEYS = frozenset(
    bytes.fromhex(y)[:31] + bytes([bytes.fromhex(y)[31] | sign]) for y in _SMALL_ORDER_Y for sign in (0, 0x80)
)


class BadAddress(ValueError):
    """Not the canonical SS58 form (prefix 42) of a usable 32-byte key."""


class BadSignature(ValueError):
    """The text does not encode 64 signature bytes in the one form that the route takes."""


def looks_like_ss58(text: str) -> bool:
    """Alphabet and length only: what the original servers check where no signature is involved."""
    return _LOOKS_LIKE_SS58.fullmatch(text) is not None


@functools.lru_cache(maxsize=4096)
def public_key(address: str) -> bytes:
    """The key behind an address; any other spelling of the same key is refused."""
    if not looks_like_ss58(address):
        raise BadAddress("not an SS58 address")
    number = 0
    for letter in address:
        number = number * 58 + _DIGIT[letter]
    try:
        decoded = number.to_bytes(1 + KEY_BYTES + 2, "big")
    except OverflowError:
        raise BadAddress("not a 32-byte key") from None
    body, checksum = decoded[:-2], decoded[-2:]
    if body[0] != SS58_PREFIX:
        raise BadAddress(f"the network prefix is not {SS58_PREFIX}")
    if _checksum(body) != checksum:
        raise BadAddress("the checksum is wrong")
    return body[1:]


def address(key: bytes) -> str:
    """The canonical SS58 address of a 32-byte key."""
    body = bytes([SS58_PREFIX]) + key
    number = int.from_bytes(body + _checksum(body), "big")
    letters = []
    while number:
        number, digit = divmod(number, 58)
        letters.append(_ALPHABET[digit])
    return "".join(reversed(letters))


def is_weak(key: bytes) -> bool:
    """The identity (which makes sr25519 accept one forged signature for every message) and the small-order points."""
    return key in _WEAK_KEYS


def signature_from_hex(text: str, *, prefixes: Container[str | None] = (None, "0x", "0X")) -> bytes:
    """128 hex digits of any case, behind one of the prefixes that the route takes (None: no prefix)."""
    match = _HEX_SIGNATURE.fullmatch(text)
    if not match or match[1] not in prefixes:
        raise BadSignature("a signature is 128 hex digits")
    return bytes.fromhex(match[2])


def signature_from_base64url(text: str) -> bytes:
    """86 URL-safe letters, padded or not; the unused bits must be zero, else two texts would name one signature."""
    match = _BASE64URL_SIGNATURE.fullmatch(text)
    if not match:
        raise BadSignature("a signature is 86 letters of URL-safe base64")
    try:
        decoded = base64.urlsafe_b64decode(match[1] + "==")
    except binascii.Error:
        raise BadSignature("not URL-safe base64") from None
    if base64.urlsafe_b64encode(decoded).rstrip(b"=").decode() != match[1]:
        raise BadSignature("the unused bits of the last letter are not zero")
    return decoded


def scheme_of(signature: bytes) -> str:
    return SR25519 if signature[_MARKER_BYTE] & _MARKER_BIT else ED25519


def verify(
    key: bytes, message: bytes, signature: bytes, *, schemes: Container[str] = BOTH, wrapped: bool = True
) -> bool:
    """Whether the key signed the message, bare or (`wrapped`) in `<Bytes>` as browser wallets do."""
    if len(key) != KEY_BYTES or len(signature) != SIGNATURE_BYTES or is_weak(key):
        return False
    scheme = scheme_of(signature)
    if scheme not in schemes:
        return False
    check = _verify_sr25519 if scheme == SR25519 else _verify_ed25519
    if check(key, message, signature):
        return True
    return wrapped and check(key, b"<Bytes>" + message + b"</Bytes>", signature)


def _verify_sr25519(key: bytes, message: bytes, signature: bytes) -> bool:
    try:
        return bool(sr25519.verify(signature, message, key))
    except ValueError:  # neither every key nor every signature is a point and a scalar
        return False


def _verify_ed25519(key: bytes, message: bytes, signature: bytes) -> bool:
    from nacl.bindings import crypto_sign_open  # noqa: PLC0415 - 28 ms of import that most requests never need
    from nacl.exceptions import BadSignatureError  # noqa: PLC0415

    try:
        crypto_sign_open(signature + message, key)
    except BadSignatureError:
        return False
    return True


def _checksum(body: bytes) -> bytes:
    return hashlib.blake2b(b"SS58PRE" + body, digest_size=64).digest()[:2]
