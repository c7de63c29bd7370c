"""Reads the commands of a page: what a person would type, in fenced or indented blocks and in single back-ticks."""

from __future__ import annotations

import contextlib
import re
import shlex
from pathlib import Path

_BLOCK = re.compile(r"^```sh\n(.*?)^```|^((?: {4,}\S[^\n]*\n?)+)", re.MULTILINE | re.DOTALL)
_FENCE = re.compile(r"^```.*?^```", re.MULTILINE | re.DOTALL)
_INLINE = re.compile(r"`([^`\n]+)`")
# A value that stands for the reader's own.
_BLANK = re.compile(r"…|\$\(.*?\)")


def commands(page: Path, program: str) -> list[list[str]]:
    """Every call of a program on the page, as words; comments and what follows a pipe are left out."""
    text = page.read_text("utf-8")
    lines = [line.strip() for block in _BLOCK.finditer(text) for line in (block[1] or block[2]).splitlines()]
    lines += _INLINE.findall(_FENCE.sub("", _BLOCK.sub("", text)))
    found = []
    for line in lines:
        call = re.search(rf"(?:^|[ (]){program} .*", line)
        if call and not line.startswith(("#", "{", '"')):
            text = _BLANK.sub("X", call[0].strip(" (").partition(" #")[0].partition(" | ")[0].rstrip(")"))
            with contextlib.suppress(ValueError):  # a quotation that goes on: such blocks are run whole
                found.append(shlex.split(text)[1:])
    return found
