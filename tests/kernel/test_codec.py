"""Bytes to JSON: what is taken is exact, bounded and fits into a table; everything else is one refusal."""

from __future__ import annotations

import json
import random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chalicelib.kernel import codec, wire
from tests.harness.scale import scaled

DEEP = codec.MAX_DEPTH
TEXT = st.text(st.characters(codec="utf-8"), max_size=9)
NUMBERS = st.integers(-(10**38) + 1, 10**38 - 1) | st.floats(-9e125, 9e125, allow_nan=False)
ANYTHING = st.recursive(
    st.none() | st.booleans() | NUMBERS | TEXT,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT, inner, max_size=4),
    max_leaves=12,
)


@pytest.mark.parametrize(
    ("raw", "value"),
    [
        (b"{}", {}),
        (b' [1, "a", null, true, 1.5] ', [1, "a", None, True, 1.5]),
        (b"9" * 38, 10**38 - 1),
        (b"-" + b"9" * 38, -(10**38) + 1),
        (b"9007199254740993", 2**53 + 1),
        (b"0." + b"1" * 60, 0.1111111111111111),
        (b"9.9e125", 9.9e125),
        (b"1e-400", 0.0),
        (b'"\\u0000\\ud83d\\ude00"', "\x00😀"),
        (b"[" * DEEP + b"]" * DEEP, None),
        (b'{"a":' * DEEP + b"1" + b"}" * DEEP, None),
        (b"[" + b"{}," * 200 + b"[]]", [{}] * 200 + [[]]),
    ],
)
def test_what_is_taken_is_exact(raw: bytes, value: Any) -> None:
    decoded = codec.decode(raw)
    if value is not None:
        assert (decoded, type(decoded)) == (value, type(value))


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b" ",
        b"nul",
        b"{} {}",
        b"{}\x00",
        b"[1,]",
        b"{'a': 1}",
        b"// no\n1",
        b"01",
        b"+1",
        b"NaN",
        b"[Infinity]",
        b"-Infinity",
        b"1e400",
        b"-1E+400",
        b"1e126",
        b"1" * 30 + b"e99",
        b"1" + b"0" * 38,
        b"-1" + b"0" * 38,
        b"9" * 5000,
        b'"\\ud800"',
        b'"\\udc00x"',
        b'"\xed\xa0\x80"',
        b'"\xff"',
        b'"\n"',
        b"\xef\xbb\xbf{}",
        "{}".encode("utf-16"),
        "{}".encode("utf-16-le"),
        "{}".encode("utf-32"),
        b"[" * (DEEP + 1) + b"]" * (DEEP + 1),
        b'{"a":' * (DEEP + 1) + b"1" + b"}" * (DEEP + 1),
        b"[" * 100_000,
        b'{"a":' * 100_000,
        b"\x1f\x8b\x08",
    ],
    ids=lambda raw: repr(raw[:24]),
)
def test_everything_else_is_one_refusal(raw: bytes) -> None:
    with pytest.raises(codec.BadJson):
        codec.decode(raw)


def test_of_duplicate_keys_the_last_wins_unless_the_route_refuses_them() -> None:
    raw = b'{"a": 1, "b": [{"c": 1, "c": 2}]}'
    assert codec.decode(raw) == {"a": 1, "b": [{"c": 2}]}
    with pytest.raises(codec.BadJson, match="twice"):
        codec.decode(raw, refuse_duplicates=True)
    assert codec.decode(b'[{"a": 1}, {"a": 2}]', refuse_duplicates=True) == [{"a": 1}, {"a": 2}]


def test_an_escaped_key_is_the_same_key() -> None:
    with pytest.raises(codec.BadJson):
        codec.decode(b'{"a": 1, "\\u0061": 2}', refuse_duplicates=True)


@given(ANYTHING)
@settings(max_examples=scaled(300), deadline=None)
def test_what_was_encoded_comes_back(value: Any) -> None:
    assert codec.decode(codec.encode(value)) == value
    assert codec.decode(codec.canonical(value)) == value


def test_thirty_digits_survive_and_nan_never_leaves() -> None:
    assert codec.encode({"n": 10**29 + 1}) == b'{"n":100000000000000000000000000001}'
    assert codec.encode([float("nan"), float("inf")]) == b"[null,null]"
    with pytest.raises(ValueError, match="not JSON compliant"):
        codec.canonical(float("nan"))


def test_the_canonical_form_is_sorted_dense_and_utf8() -> None:
    assert codec.canonical({"b": [1, {"ü": None}], "a": "x"}) == '{"a":"x","b":[1,{"ü":null}]}'.encode()


def test_no_mutated_body_breaks_the_parser_and_what_passes_fits_into_a_table() -> None:
    dice = random.Random(3)
    seed = json.dumps({"a": [1, -2.5e3, {"ü": "x\u0000", "deep": [[[{}]]]}], "n": 10**37, "t": True}).encode()
    for _ in range(scaled(100_000)):
        raw = bytearray(seed)
        for _ in range(dice.randint(1, 4)):
            raw[dice.randrange(len(raw))] = dice.choice(b'{}[]",:0123456789eE+-.\\u\x00\xff\xed ')
        try:
            value = codec.decode(bytes(raw), refuse_duplicates=bool(dice.getrandbits(1)))
        except codec.BadJson:
            continue
        wire.encode(value)
