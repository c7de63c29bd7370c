"""Review of one claimed submission: unpack, screen, compare, check, name its components. Runs where it can do no harm
to the API: in a function of its own, with limits on memory and time. Part of `tasks`.
"""

from __future__ import annotations

import base64
import json
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from chalicelib.kernel import clock
from chalicelib.kernel.tables import until_decided
from chalicelib.kernel.values import frozen

from . import archive, components, inspection, project, similarity, store, store_commit, store_review
from .archive import Rejected
from .contracts import FAILED, GONE, MAX_ERROR, PASSED, REJECTED, RUNNING, TRAINING_FOR_ARCH, PrismSettings, Submission
from .project import Project
from .similarity import Print
from .store_records import packed

_COPY = "static similarity review"
_COMPARED_EXACTLY = 3
_READ_EARLIER_SECONDS = 3.0
_TOO_DEEP = "the project is nested too deeply or too large to be read"
_UNREADABLE = (Rejected, RecursionError, MemoryError)


@frozen
class _Earlier:
    """An earlier submission that the index named."""

    member: str
    id: str
    hotkey: str

    @classmethod
    def read(cls, member: str) -> _Earlier:
        _, submission_id, hotkey = member.split("#", 2)
        return cls(member, submission_id, hotkey)


def review(submission_id: str, holder: str) -> str:
    """Passed, rejected, or gone: it is no longer what the caller claimed. A repeat finds the first one's effects."""
    submission = store.get_reviewed(submission_id)
    if submission.status != RUNNING or submission.holder != holder:
        return GONE
    if submission.review:
        return PASSED
    try:
        found = _inspect(submission)
    except _UNREADABLE as error:
        store_review.forget_unread(submission.place)
        return _reject(submission, str(error) if isinstance(error, Rejected) else _TOO_DEEP)
    store_review.save_review(submission.id, found)
    return PASSED


def read_project(submission: Submission, settings: PrismSettings) -> Project:
    limits = archive.Limits(settings.plagiarism_storage_max_files, settings.plagiarism_storage_max_bytes)
    files = archive.sources(submission.filename, store.code(submission.code_key), limits)
    return project.read(files)


def shipped(found: Project) -> str:
    """The project as the evaluator gets it: small enough for the state of an execution."""
    content = {"files": found.files, "entrypoint": found.entrypoint}
    raw = json.dumps(content, ensure_ascii=False).encode("utf-8", "replace")
    return base64.b64encode(zlib.compress(raw, 9)).decode("ascii")


def _inspect(submission: Submission) -> dict[str, Any]:
    settings = PrismSettings.current()
    found, taken = _taken(submission, settings)
    _read_earlier(submission, settings)
    near = _compare(submission, found, taken, settings)
    inspection.check(found)
    named = components.of(found)
    return {
        "kind": found.kind,
        "architecture_id": found.architecture_id,
        "family_hash": named.family_hash,
        "training_hash": named.training_hash,
        "hash_version": components.HASH_VERSION,
        "architecture": packed(named.architecture),
        "training": packed(named.training),
        "near": near,
        "sketch": similarity.sketch(taken.entry),
    }


def _taken(submission: Submission, settings: PrismSettings) -> tuple[Project, Print]:
    found = read_project(submission, settings)
    inspection.screen(found)
    return found, similarity.take(found)


def _read_earlier(submission: Submission, settings: PrismSettings) -> None:
    """Who was first is known once all earlier ones can be found: those passed over, those being reviewed now."""
    deadline = clock.monotonic() + _READ_EARLIER_SECONDS
    for row in store_review.unread_before(submission.place):
        if clock.monotonic() < deadline and store_review.may_read(row["sk"], submission.id):
            earlier = store.get(str(row["submission_id"]))
            try:
                _enter(earlier, _taken(earlier, settings)[1])
            except _UNREADABLE:
                store_review.forget_unread(row["sk"])


def _enter(submission: Submission, taken: Print) -> None:
    """Be found by later ones."""
    store_review.keep_print(submission.id, similarity.pack(taken))
    store_review.enter(similarity.keys_to_write(taken), store.member(submission))
    store_review.forget_unread(submission.place)


def _compare(submission: Submission, found: Project, taken: Print, settings: PrismSettings) -> float:
    """Refuse a copy of an earlier one; else be found by later ones. Answers how near the entrypoint is to another's."""
    training_only = found.kind == TRAINING_FOR_ARCH
    keys = similarity.keys_to_read(taken, submission.code_hash, training_only=training_only)
    buckets = _earlier_members(submission, store_review.members(keys))
    prints: dict[str, Print | None] = {}
    if settings.plagiarism_enabled:
        _check_content(submission, buckets.get(similarity.code_key(submission.code_hash), []))
        _check_likeness(submission, taken, buckets, prints, settings, training_only=training_only)
    near = _nearest_entry(
        submission, taken, {key: buckets.get(key, []) for key in similarity.entry_keys(taken)}, prints
    )
    _enter(submission, taken)
    return near


def _earlier_members(submission: Submission, buckets: Mapping[str, Sequence[str]]) -> dict[str, list[str]]:
    """Only what was submitted before: a later copy never counts against the original."""
    me = store.member(submission)
    return {key: [member for member in members if member < me] for key, members in buckets.items()}


def _check_content(submission: Submission, members: Sequence[str]) -> None:
    if any(_Earlier.read(member).hotkey != submission.hotkey for member in members):
        raise Rejected(f"{_COPY}: duplicate submission")


def _check_likeness(
    submission: Submission,
    taken: Print,
    buckets: Mapping[str, Sequence[str]],
    prints: dict[str, Print | None],
    settings: PrismSettings,
    *,
    training_only: bool,
) -> None:
    mine = taken.compared(training_only=training_only)
    threshold = max(settings.plagiarism_static_reject_threshold, settings.plagiarism_min_similarity)
    for member in similarity.rank(buckets)[: max(_COMPARED_EXACTLY, settings.plagiarism_top_k)]:
        earlier = _Earlier.read(member)
        other = _print_of(earlier.id, prints)
        if other is None:
            continue
        theirs = other.compared(training_only=training_only)
        if earlier.hotkey == submission.hotkey and not _repeats_itself(earlier, similarity.same(mine, theirs)):
            continue
        if similarity.score(mine, theirs) >= threshold:
            raise Rejected(_COPY)


def _repeats_itself(earlier: _Earlier, same: bool) -> bool:
    """An author may improve on an own project, and submit again what failed; the very same again is a copy."""
    return same and store.get(earlier.id).status not in {FAILED, REJECTED}


def _nearest_entry(
    submission: Submission, taken: Print, buckets: Mapping[str, Sequence[str]], prints: dict[str, Print | None]
) -> float:
    """How like the entrypoint is to that of an earlier submission of somebody else that was not rejected."""
    nearest = 0.0
    foreign = [_Earlier.read(member) for member in similarity.rank(buckets)]
    for earlier in [entry for entry in foreign if entry.hotkey != submission.hotkey][:_COMPARED_EXACTLY]:
        other = _print_of(earlier.id, prints)
        likeness = similarity.jaccard(taken.entry, other.entry) if other else 0.0
        if likeness > nearest and store.get(earlier.id).status != REJECTED:
            nearest = likeness
    return nearest


def _print_of(submission_id: str, known: dict[str, Print | None]) -> Print | None:
    if submission_id not in known:
        raw = store_review.stored_print(submission_id)
        known[submission_id] = similarity.unpack(raw) if raw else None
    return known[submission_id]


def _reject(submission: Submission, reason: str) -> str:
    def decide() -> str:
        current = store.get(submission.id)
        if current.status != RUNNING or current.holder != submission.holder:
            return GONE
        store_commit.commit(current, _rejection(current, reason))
        return REJECTED

    return until_decided(decide)


def _rejection(current: Submission, reason: str) -> store_commit.Ending:
    """A lease that was never handed out ends with its submission."""
    if current.holder.startswith(current.id):
        return store_commit.Ending(REJECTED, reason[:MAX_ERROR], execution=current.holder)
    lease = store.assignment(current.holder)
    ended = replace(lease, status=REJECTED, error=reason[:MAX_ERROR])
    return store_commit.Ending(REJECTED, reason[:MAX_ERROR], assignment=ended)
