"""Addresses and signatures: one meaning each, the curve chosen by the marker bit, weak keys refused."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chalicelib.kernel import keys
from tests.harness.scale import scaled
from tests.harness.wallets import Wallet, ed25519_wallet, wallet

ALICE = "5GrwvaEF5zXb26Fz9rcQpDWS57CtERHpNehXCPcNoHGKutQY"
MINISECRET = "5HB7kpn92RS7uF9uWn8bXSvPVKFPg8kPUFDd5sbveGjX6Dbi"
ZERO = "5C4hrfjw9DjXZTzV3MwzrrAr9P1MJhSrvWGWqi1eSuyUpnhM"
L = 2**252 + 27742317777372353535851937790883648493
SIGNERS = [wallet("signer"), ed25519_wallet("signer")]
MUTATIONS = scaled(100_000)


def known(address: str, message: str | bytes, signature: str, ident: str) -> object:
    raw = message.encode() if isinstance(message, str) else message
    return pytest.param(address, raw, bytes.fromhex(signature), id=ident)


KNOWN = [
    known(
        ALICE,
        hashlib.sha256(b"").hexdigest() + ":1700000000",
        "f6bc35bff1f1be01f2943695810992ff4728a95140efd1c20a0cd50ce8dc641a"
        "c94f9dffdd3cb3044cded4a5a0fe32435d87827be5b346f6493793809a59488d",
        "leoma-empty-body",
    ),
    known(
        ALICE,
        hashlib.sha256(b"").hexdigest() + ":1700000000",
        "a07f0ad858e412999a9e187b5d4885ab4fb0cada27bfb282e75933f51644cd21"
        "6797400ac3af5b5985d04bdabc81e2c2fba8fcfe49a2b046cbcb91a1f2eaba8d",
        "leoma-wrapped-in-bytes",
    ),
    known(
        ALICE,
        bytes.fromhex("c8fa7523917f91790991905ce007a0955a516bca2117bbd5941ddb28537eb3aa"),
        "5a5aeb93d23d52e1c0647252604b172bbd91f45c2881c698e18f9bb024ea8e14"
        "cf00d97ef236cf41e5ac7d3e842163c8cdfda9897962f4dd69783859719a1f8f",
        "leoma-evaluation",
    ),
    known(
        ALICE,
        "auth:1700000000",
        "1a25fa1040d78e057669b54066081ee9dc9627d53257dfa2f46563f2a001c703"
        "03f22b2928bdc241084679a4fc93bde3e96bd4172d5a2e4d4e9ace25510ee585",
        "pool-auth",
    ),
    known(
        MINISECRET,
        f"prism:{MINISECRET}:nonce-0001:1780000000:4620675819e63d5e467a35bdee8f4b1b76763d1782e1dcccba4315b059be07e6",
        "f4ab96700b271b788c76e17acf22952d7ba726c1e974ed25cbee414d6f96c637"
        "e4b55d32b288573fba34eed5d168e180da68eec0814277a29a525d5d5f642184",
        "prism-submission",
    ),
]


@pytest.mark.parametrize(("address", "message", "signature"), KNOWN)
def test_a_known_signature_verifies_and_for_nothing_else(address: str, message: bytes, signature: bytes) -> None:
    key = keys.public_key(address)
    assert keys.verify(key, message, signature)
    assert not keys.verify(key, message + b" ", signature)
    assert not keys.verify(wallet("other").public, message, signature)
    assert not keys.verify(key, message, signature, schemes=(keys.ED25519,))


def test_a_known_key_has_its_known_address() -> None:
    key = bytes.fromhex("03a107bff3ce10be1d70dd18e74bc09967e4d6309ba50d5f1ddc8664125531b8")
    assert keys.address(key) == "5C9TqVEs5Q51zUdjvp6tSsjHAfLseJKq1Dq6ULcuSLqEuRSf"
    assert keys.public_key("5C9TqVEs5Q51zUdjvp6tSsjHAfLseJKq1Dq6ULcuSLqEuRSf") == key


@given(st.binary(min_size=32, max_size=32))
@settings(max_examples=scaled(300), deadline=None)
def test_an_address_and_its_key_are_one_to_one(key: bytes) -> None:
    assert keys.public_key(keys.address(key)) == key


@pytest.mark.parametrize(
    "text",
    [
        "",
        ALICE[:-1],
        ALICE + "Y",
        " " + ALICE,
        ALICE + "\n",
        ALICE.lower(),
        ALICE.upper(),
        ALICE.replace("w", "ѡ"),
        ALICE[:-1] + "Z",
        "0x" + "d4" * 32,
        "15oF4uVJwmo4TdGW7VfQxNLavjCXviqxT9S1MgbjMNHr6Sp5",  # prefix 0
        "F7Hs",  # an account index
        "yGHXkYLYqxijLKKfd9Q2CB9shRVu8rPNBS53wvwGTutYg4zTg",  # a two-byte prefix
        "z" * 48,
        "1" * 48,
    ],
)
def test_another_spelling_of_a_key_is_no_address(text: str) -> None:
    with pytest.raises(keys.BadAddress):
        keys.public_key(text)


def test_no_mutated_address_is_taken_for_a_key() -> None:
    """Two checksum bytes let one in 65,536 through: such a text must be the one address of the key it names."""
    dice = random.Random(1)
    letters = keys._ALPHABET + "0OIl +/=é"
    accepted = 0
    for _ in range(MUTATIONS):
        text = list(ALICE)
        for _ in range(dice.randint(1, 3)):
            text[dice.randrange(len(text))] = dice.choice(letters)
        mutated = "".join(text)
        try:
            key = keys.public_key.__wrapped__(mutated)
        except keys.BadAddress:
            continue
        assert keys.address(key) == mutated
        accepted += mutated != ALICE
    assert accepted <= 10 + MUTATIONS // 10_000


@pytest.mark.parametrize("signer", SIGNERS, ids=lambda signer: signer.scheme)
def test_no_flipped_bit_of_a_signature_survives(signer: Wallet) -> None:
    signature = signer.sign(b"message")
    assert keys.verify(signer.public, b"message", signature)
    for bit in range(512):
        flipped = bytearray(signature)
        flipped[bit // 8] ^= 1 << bit % 8
        assert not keys.verify(signer.public, b"message", bytes(flipped)), bit


@pytest.mark.parametrize("signer", SIGNERS, ids=lambda signer: signer.scheme)
def test_no_flipped_bit_of_a_key_verifies_or_breaks(signer: Wallet) -> None:
    signature = signer.sign(b"message")
    for bit in range(256):
        flipped = bytearray(signer.public)
        flipped[bit // 8] ^= 1 << bit % 8
        assert not keys.verify(bytes(flipped), b"message", signature), bit


def test_no_random_signature_verifies_or_breaks_for_any_key() -> None:
    dice = random.Random(2)
    for _ in range(MUTATIONS // 10):
        assert not keys.verify(dice.randbytes(32), b"message", dice.randbytes(64))


@pytest.mark.parametrize("signer", SIGNERS, ids=lambda signer: signer.scheme)
def test_a_signature_may_be_wrapped_as_browser_wallets_do(signer: Wallet) -> None:
    wrapped = signer.sign(b"<Bytes>message</Bytes>")
    assert keys.verify(signer.public, b"message", wrapped)
    assert not keys.verify(signer.public, b"essage", wrapped)


@pytest.mark.parametrize("signer", SIGNERS, ids=lambda signer: signer.scheme)
def test_only_the_schemes_of_the_route_count(signer: Wallet) -> None:
    signature = signer.sign(b"message")
    other = keys.ED25519 if signer.scheme == keys.SR25519 else keys.SR25519
    assert keys.verify(signer.public, b"message", signature, schemes=(signer.scheme,))
    assert not keys.verify(signer.public, b"message", signature, schemes=(other,))
    assert not keys.verify(signer.public, b"message", signature, schemes=())


@pytest.mark.parametrize("marked", [False, True])
def test_the_marker_bit_alone_chooses_the_one_verifier_that_sees_a_signature(
    marked: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[str] = []

    def verifier(name: str) -> Callable[[bytes, bytes, bytes], bool]:
        def never(_key: bytes, _message: bytes, _signature: bytes) -> bool:
            seen.append(name)
            return False

        return never

    monkeypatch.setattr(keys, "_verify_sr25519", verifier("sr25519"))
    monkeypatch.setattr(keys, "_verify_ed25519", verifier("ed25519"))
    keys.verify(wallet("signer").public, b"message", bytes(63) + (b"\x80" if marked else b"\x7f"))
    assert set(seen) == {"sr25519" if marked else "ed25519"}


def test_the_identity_key_signs_nothing() -> None:
    forged = bytes(63) + b"\x80"
    assert keys._verify_sr25519(bytes(32), b"any message at all", forged), "why the guard is there"
    assert not keys.verify(keys.public_key(ZERO), b"any message at all", forged)


@pytest.mark.parametrize("weak", sorted(keys._WEAK_KEYS), ids=bytes.hex)
@pytest.mark.parametrize("signature", [bytes(64), bytes(63) + b"\x80", b"\x01" + bytes(63)], ids=bytes.hex)
def test_a_key_of_small_order_is_refused_before_any_arithmetic(
    weak: bytes, signature: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keys, "_verify_sr25519", lambda *_: True)
    monkeypatch.setattr(keys, "_verify_ed25519", lambda *_: True)
    assert keys.is_weak(weak)
    assert not keys.verify(weak, b"message", signature)


def test_an_ed25519_signature_has_one_form() -> None:
    """s + L names the same scalar: a second text for one signature."""
    signer = ed25519_wallet("signer")
    signature = signer.sign(b"message")
    second = signature[:32] + (int.from_bytes(signature[32:], "little") + L).to_bytes(32, "little")
    assert not keys.verify(signer.public, b"message", second)


@pytest.mark.parametrize(("key", "signature"), [(31, 64), (33, 64), (32, 63), (32, 65), (0, 0)])
def test_wrong_lengths_verify_nothing(key: int, signature: int) -> None:
    assert not keys.verify(bytes(range(1, key + 1)), b"message", b"\x01" * signature)


@pytest.mark.parametrize("prefix", ["", "0x", "0X"])
@pytest.mark.parametrize("digits", ["ab" * 64, "AB" * 64, "aB" * 64])
def test_hex_in_any_case_behind_a_prefix_that_the_route_takes(prefix: str, digits: str) -> None:
    assert keys.signature_from_hex(prefix + digits) == b"\xab" * 64
    with pytest.raises(keys.BadSignature):
        keys.signature_from_hex(prefix + digits, prefixes={"": ("0x",)}.get(prefix, (None,)))


@pytest.mark.parametrize(
    "text",
    ["", "0x", "ab" * 63, "ab" * 65, "zz" * 64, " " + "ab" * 64, "ab" * 64 + "\n", "ab" * 64 + "\x00", "٣" * 128],
)
def test_hex_is_128_digits_and_nothing_around_them(text: str) -> None:
    with pytest.raises(keys.BadSignature):
        keys.signature_from_hex(text)


def test_base64url_is_taken_padded_or_not() -> None:
    assert keys.signature_from_base64url("A" * 86) == bytes(64)
    assert keys.signature_from_base64url("A" * 86 + "==") == bytes(64)


@pytest.mark.parametrize(
    "text",
    ["A" * 85 + "B", "A" * 85 + "P", "A" * 85, "A" * 87, "A" * 86 + "=", "+" * 86, "/" * 86, " " + "A" * 86, "é" * 86],
)
def test_base64url_has_one_text_per_signature(text: str) -> None:
    with pytest.raises(keys.BadSignature):
        keys.signature_from_base64url(text)
