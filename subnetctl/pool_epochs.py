"""Claim files, read as a stream: a million claims need memory for their records alone."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from itertools import islice, pairwise
from pathlib import Path
from typing import Any, TextIO

from chalicelib.kernel import keys
from chalicelib.pool import merkle, store_claims
from chalicelib.pool.contracts import MAX_U32, MAX_U64

from . import terminal

_READ = 1 << 16
_AT_ONCE = 100
_AMOUNT_DIGITS = len(str(MAX_U64))
_NAMES = ("hotkey", "recipient_coldkey", "amount_units")


def claims(file: Path) -> bytearray:
    """Every claim of a file as a packed record, in order; recipients that are not given are looked up."""
    # What spreadsheets save begins with a mark of the encoding, which is no part of the first name.
    with file.open(encoding="utf-8-sig", newline="") as stream:
        found = merkle.in_order(_records(_rows(stream, is_csv=file.suffix.lower() == ".csv")))
    if not found:
        terminal.refuse(f"{file} holds no claim", code="no_claims")
    if len(found) // merkle.RECORD > MAX_U32:
        terminal.refuse("an epoch holds at most 2^32 - 1 claims", code="too_many_claims")
    for claim, following in pairwise(merkle.unpack(found)):
        if claim.hotkey == following.hotkey:
            terminal.refuse(f"{keys.address(claim.hotkey)} has two claims", code="duplicate_hotkey")
    if sum(claim.amount for claim in merkle.unpack(found)) > MAX_U64:
        terminal.refuse("the claims add up to more than 2^64 - 1 units", code="bad_amount")
    return found


def _records(rows: Iterator[Any]) -> Iterator[bytes]:
    numbered = enumerate(rows)
    while batch := [_checked(row, number) for number, row in islice(numbered, _AT_ONCE)]:
        unknown = [hotkey for hotkey, recipient, _ in batch if not recipient]
        paid_to = {miner.hotkey: miner.paid_to for miner in store_claims.miners(unknown)} if unknown else {}
        for hotkey, recipient, amount in batch:
            recipient_key = keys.public_key(recipient or paid_to[hotkey])
            yield merkle.pack(merkle.Leaf(0, keys.public_key(hotkey), recipient_key, amount))


def _checked(row: Any, number: int) -> tuple[str, str, int]:
    """Hotkey, recipient or nothing, amount; what is none of them ends the command."""
    if not isinstance(row, dict):
        terminal.refuse(f"claim {number} is no object", code="bad_claim")
    hotkey, recipient, amount = (row.get(name) for name in _NAMES)
    for name, value in (("hotkey", hotkey), ("recipient_coldkey", recipient)):
        if name == "recipient_coldkey" and not value:
            continue
        try:
            keys.public_key(str(value))
        except keys.BadAddress as error:
            terminal.refuse(f"claim {number}: {name} {value!r}: {error}", code="bad_address")
    if isinstance(amount, str) and amount.isascii() and amount.isdigit() and len(amount) <= _AMOUNT_DIGITS:
        amount = int(amount)
    if isinstance(amount, bool) or not isinstance(amount, int) or not 1 <= amount <= MAX_U64:
        terminal.refuse(
            f"claim {number}: amount_units {amount!r} is no whole number from 1 to 2^64 - 1", code="bad_amount"
        )
    return str(hotkey), str(recipient or ""), amount


def _rows(stream: TextIO, *, is_csv: bool) -> Iterator[Any]:
    try:
        yield from csv.DictReader(stream) if is_csv else _json_rows(stream)
    except (ValueError, csv.Error) as error:
        terminal.refuse(f"not a claims file: {error}", code="bad_file")


def _json_rows(stream: TextIO) -> Iterator[Any]:
    """The elements of the list under `claims`, one at a time; a plain list is taken too."""
    decoder, text = json.JSONDecoder(), stream.read(_READ)
    marker = text.find('"claims"')
    start = text.find("[", max(marker, 0))
    if start < 0 or (marker < 0 and not text.lstrip().startswith("[")):
        raise ValueError('it is {"claims": [...]}')
    at = start + 1
    while True:
        while at < len(text) and text[at] in " \t\r\n,":
            at += 1
        if text[at : at + 1] == "]":
            return
        try:
            value, at = decoder.raw_decode(text, at)
        except json.JSONDecodeError:
            more = stream.read(_READ)
            if not more:
                raise
            text, at = text[at:] + more, 0
            continue
        yield value
