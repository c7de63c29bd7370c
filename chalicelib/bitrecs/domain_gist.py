"""The rules of a gist, in their order, each with its own words."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime

from chalicelib.kernel.errors import Malformed
from chalicelib.kernel.text import is_unicode

from .contracts import BitrecsSettings, Gist, Submission

_FUTURE_SECONDS = 300


def too_large() -> Malformed:
    return Malformed("Artifact file is too large", code="gist_invalid")


def check_gist(gist: Gist | None, body: Submission, settings: BitrecsSettings, *, now: float) -> str:
    """The rules of a gist, in their order; answers the content of its file."""
    for problem in _gist_problems(gist, body, settings, now):
        raise Malformed(problem, code="gist_invalid")
    assert gist is not None
    (file, *_) = gist.files.values()
    return file.content or ""


def _gist_problems(gist: Gist | None, body: Submission, settings: BitrecsSettings, now: float) -> Iterator[str]:
    if gist is None:
        yield "Gist not found"
        return
    yield from _file_problems(gist, body, settings)
    if settings.gist_require_single_commit and len(gist.history) != 1:
        yield (
            "Gist must not have multiple commits - please create a new Gist for each submission and do not update "
            "the Gist after submission"
        )
    created = datetime.fromisoformat(gist.created_at).timestamp()
    if settings.gist_max_age_seconds and now - created > settings.gist_max_age_seconds:
        yield "Gist must be created within the last 24 hours"
    if created - now > _FUTURE_SECONDS:
        yield "created_at timestamp does not match Gist creation time"


def _file_problems(gist: Gist, body: Submission, settings: BitrecsSettings) -> Iterator[str]:
    if gist.owner is None or gist.owner.login.lower() != body.github_account.lower():
        yield "Gist owner does not match github_account"
    if not gist.files or (settings.gist_require_single_file and len(gist.files) != 1):
        yield "Gist must contain exactly one file"
    file = next(iter(gist.files.values()))
    if gist.truncated or file.truncated or file.size > settings.max_artifact_bytes or file.content is None:
        yield "Artifact file is too large"
    if not is_unicode(file.content or ""):
        yield "Artifact file is not valid UTF-8"
    elif len((file.content or "").encode()) > settings.max_artifact_bytes:
        yield "Artifact file is too large"


def is_storable(gist: Gist | None) -> bool:
    """A look with half a character in it has no form in a table; it is refused anyway."""
    return gist is None or all(is_unicode(file.content or "") for file in gist.files.values())


def check_created_at(gist: Gist, body: Submission) -> None:
    """GitHub's time in Python's ISO form, compared letter by letter."""
    if datetime.fromisoformat(gist.created_at).isoformat() != body.created_at:
        raise Malformed("created_at timestamp does not match Gist creation time", code="created_at_mismatch")
