"""What strangers' texts may hold: JSON can spell half a character, and any text can hold what a terminal obeys."""

from __future__ import annotations


def is_unicode(text: str) -> bool:
    """Half a character can be stored by nothing and carried by no answer."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def printable(text: str, longest: int) -> str:
    """For a reason or a name that people read: bounded, with a mark for what does not print."""
    return "".join(letter if letter.isprintable() else "\ufffd" for letter in text[:longest])
