"""Replays what a real client says, from a file: whole requests, byte for byte, and the parts of each answer it reads.

A file names a clock, and the headers that each client sends always. A turn has `by` (the client), `sends` (method and
path), its own `headers`, a `body` (or `base64`), the status it `gets`, what it `reads` (place in the answer: value, or
`a str` for any value of a type) and what it `keeps` for the `{placeholders}` of later turns. `meanwhile` names what
happens on the server before a turn. Signatures are recorded too, so nothing here can sign differently than clients do.
"""

from __future__ import annotations

import base64
import builtins
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import yaml

from tests.harness.client import Client, Reply

Freeze = Callable[[float], None]
Meanwhile = Mapping[str, Callable[[], object]]


def replay(
    client: Client, freeze: Freeze, file: Path, meanwhile: Meanwhile, parse: Callable[[Reply], Any] = lambda r: r.json
) -> int:
    """Every turn of the file, in order, a millisecond apart; how many there were."""
    conversation, kept = yaml.safe_load(file.read_text("utf-8")), dict[str, str]()
    for number, turn in enumerate(conversation["turns"], 1):
        freeze(conversation["clock"] + number / 1000)
        if "meanwhile" in turn:
            meanwhile[turn["meanwhile"]]()
        told = f"turn {number}, {turn['by']}: {turn['sends']}"
        reply = _send(client, conversation["clients"][turn["by"]], turn, kept)
        assert reply.status == turn["gets"], f"{told}: {reply.status} {reply.body[:300]!r}"
        for place, expected in turn.get("reads", {}).items():
            _compare(f"{told}: {place}", _at(reply, place, parse), expected)
        kept |= {name: str(_at(reply, place, parse)) for name, place in turn.get("keeps", {}).items()}
    return len(conversation["turns"])


def _send(client: Client, usual: dict[str, str], turn: dict[str, Any], kept: dict[str, str]) -> Reply:
    method, path = turn["sends"].split(" ")
    body = base64.b64decode(turn["base64"]) if "base64" in turn else turn.get("body", "").encode()
    headers = {name: _filled(value, kept) for name, value in (usual | turn.get("headers", {})).items()}
    return client.call(method, _filled(path, kept), body, headers)


def _filled(text: str, kept: dict[str, str]) -> str:
    for name, value in kept.items():
        text = text.replace(f"{{{name}}}", value)
    return text


def _at(reply: Reply, place: str, parse: Callable[[Reply], Any]) -> Any:
    """`ranks.0.uid` of the answer, `header ETag`, or `.` for all of it."""
    if place.startswith("header "):
        return reply.header(place.removeprefix("header "))
    found = parse(reply)
    for part in filter(None, place.split(".")):
        found = found[int(part) if part.isdigit() and isinstance(found, list) else part]
    return found


def _compare(told: str, found: Any, expected: Any) -> None:
    if isinstance(expected, str) and expected.startswith("a ") and hasattr(builtins, expected[2:]):
        assert type(found) is getattr(builtins, expected[2:]), f"{told}: {found!r} is no {expected[2:]}"
    else:
        assert found == expected, f"{told}: {found!r}, not {expected!r}"
