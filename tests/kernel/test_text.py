"""Texts of strangers: what can be stored and answered, and what a person's terminal may be shown."""

from __future__ import annotations

import json

import pytest

from chalicelib.kernel import text


@pytest.mark.parametrize("written", ['""', '"a"', '"\\ud83d\\ude00"', '"\\u0000\\uffff"'])
def test_what_utf_8_can_write_is_unicode(written: str) -> None:
    assert text.is_unicode(json.loads(written))


@pytest.mark.parametrize("written", ['"\\ud800"', '"a\\udfff"', '"\\ude00\\ud83d"'])
def test_half_a_character_is_not(written: str) -> None:
    assert not text.is_unicode(json.loads(written))


def test_what_does_not_print_is_marked_and_the_rest_kept_up_to_the_limit() -> None:
    assert text.printable("é \x1b[2J\n\u202e\ud800z and more", 11) == "é \ufffd[2J\ufffd\ufffd\ufffdz "
