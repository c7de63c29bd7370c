"""Leoma's decisions: who may call, which samples are taken, which miners are valid, what a view shows."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from chalicelib.kernel.errors import Conflict, Forbidden, Invalid, Malformed, Unauthenticated
from chalicelib.kernel.text import is_unicode
from chalicelib.kernel.values import frozen

from .contracts import Miner, MinerList, NewBatch, NewSample
from .contracts_sheets import REMEMBERED_COMMITS, Commit, Entry, Sheet, Texts, Vote, Votes, are_near

BATCH_LIMIT = 100
SHEET_LIMIT = 1024
COMMITMENT_LIMIT = 2
_TIMESTAMP = re.compile(r"[0-9]{1,12}")
_ASPECT_LIMIT = 64
_SCORE_LIMIT = 10**6
_MODEL_FILES = (".safetensors", ".bin", ".pt", ".pth", ".ckpt")


def signed_message(body: bytes, timestamp: str) -> bytes:
    """The hex digest of the exact body, a colon, and the timestamp as it was sent."""
    return f"{hashlib.sha256(body).hexdigest()}:{timestamp}".encode()


def check_timestamp(timestamp: str, *, now: float, window: int) -> None:
    """Both directions, the edge included."""
    if not _TIMESTAMP.fullmatch(timestamp):
        raise Unauthenticated("Invalid timestamp format", code="invalid_timestamp")
    if abs(int(now) - int(timestamp)) > window:
        raise Unauthenticated(f"Timestamp expired (max {window}s)", code="timestamp_expired")


def check_caller(*, blacklisted: bool) -> None:
    if blacklisted:
        raise Unauthenticated("Hotkey is blacklisted", code="hotkey_blacklisted")


def check_registered(hotkey: str, admins: Container[str], *, registered: bool) -> None:
    """Admins pass; everybody else is a validator of the last sync."""
    if hotkey not in admins and not registered:
        raise Unauthenticated(
            "Validator not registered. Stake must reach the minimum at the last metagraph sync",
            code="validator_not_registered",
        )


def check_admin(hotkey: str, admins: Container[str]) -> None:
    if hotkey not in admins:
        raise Forbidden("Admin access required", code="admin_required")


def miner_list(miners: Iterable[Miner]) -> MinerList:
    """Every stored miner by uid."""
    ordered = sorted(miners, key=lambda miner: miner.uid)
    return MinerList(miners=ordered, total=len(ordered), valid_count=sum(miner.is_valid for miner in ordered))


def valid_miners(miners: Iterable[Miner]) -> MinerList:
    """The valid ones by uid; `total` still counts all."""
    everyone = miner_list(miners)
    valid = [miner for miner in everyone.miners if miner.is_valid]
    return MinerList(miners=valid, total=everyone.total, valid_count=len(valid))


# --- samples


def check_batch_size(body: Any) -> None:
    """Before anything is validated, so that a huge list costs nothing."""
    samples = body.get("samples") if isinstance(body, dict) else None
    if isinstance(samples, list) and len(samples) > BATCH_LIMIT:
        raise Malformed(f"Batch size exceeds limit of {BATCH_LIMIT} samples", code="batch_too_large")


def check_one_task(batch: NewBatch) -> None:
    """A batch's signature is about one task; one without samples is about nothing, and a client that has nothing to
    say may say so: a refusal would make it judge the task again and again.
    """
    if batch.signature and len({sample.task_key for sample in batch.samples}) > 1:
        raise Malformed(
            "When signature is provided, all samples must have the same task_id", code="signature_spans_tasks"
        )


def check_published(batch: NewBatch, latest: int, ahead: int, loc: Sequence[Any]) -> None:
    """Nobody judges a task that was not published: one such sample would empty every miner's window."""
    wrong = [
        {
            "type": "value_error",
            "loc": [part if part is not Ellipsis else number for part in loc] + ["task_id"],
            "msg": f"Value error, the latest task is {latest}",
            "input": sample.task,
        }
        for number, sample in enumerate(batch.samples)
        if sample.task is not None and sample.task > latest + ahead
    ]
    if wrong:
        raise Invalid(wrong, code="task_not_published")


def check_editable(batch: NewBatch, sheets: Mapping[str, Sheet], latest: int, window: int) -> None:
    """A stored verdict stays open while its task is among the newest; a first one is always welcome."""
    for sample in batch.samples:
        known = sample.miner_hotkey in sheets[sample.task_key].votes
        if known and sample.task is not None and sample.task <= latest - window:
            raise Conflict("Task is too old to edit", code="task_too_old")


def check_not_superseded(batch: NewBatch, sheets: Mapping[str, Sheet], mark: str) -> None:
    """A client may repeat its request; nobody may repeat it to undo what the validator said since."""
    for sample in batch.samples:
        sheet = sheets[sample.task_key]
        first_use = max((commit.number for commit in sheet.commits if mark and commit.mark == mark), default=None)
        vote = sheet.votes.get(sample.miner_hotkey)
        if first_use is not None and vote and vote.number > first_use:
            raise Unauthenticated(
                "Signature was already used, and newer samples were sent since", code="signature_replayed"
            )


@frozen
class Stored:
    """What a batch becomes: its entries in order, each with its vote, and the sheets as they are after it."""

    entries: list[Entry]
    votes: list[Vote]
    texts: list[Texts]
    sheets: dict[str, Sheet]


def kept_places(batch: NewBatch, sheets: Mapping[str, Sheet]) -> set[tuple[str, int]]:
    """Where stored samples stand whose artifacts survive because the new sample brings none."""
    places = set()
    for sample in batch.samples:
        vote = sheets[sample.task_key].votes.get(sample.miner_hotkey)
        if vote and None in _texts(sample):
            places.add((vote.batch, vote.place))
    return places


def store_batch(
    batch: NewBatch,
    sheets: Mapping[str, Sheet],
    kept: Mapping[tuple[str, int], Texts],
    *,
    first_id: int,
    now: float,
) -> Stored:
    """Each sample in order on top of what is known: ids stay, times move, absent artifacts and latencies are kept."""
    votes = {key: dict(sheet.votes) for key, sheet in sheets.items()}
    newest: dict[tuple[str, str], Texts] = {}
    stored = Stored([], [], [], {})
    for place, sample in enumerate(batch.samples):
        known = votes[sample.task_key].get(sample.miner_hotkey)
        before = newest.get((sample.task_key, sample.miner_hotkey))
        if before is None and known:
            before = kept.get((known.batch, known.place))
        texts = _first_known(_texts(sample), before)
        newest[sample.task_key, sample.miner_hotkey] = texts
        latency = sample.latency_ms if sample.latency_ms is not None or not known else known.latency_ms
        vote = Vote(known.id if known else first_id + place, sample.passed, latency, now, "", place)
        votes[sample.task_key][sample.miner_hotkey] = vote
        if len(votes[sample.task_key]) > SHEET_LIMIT:
            raise Invalid(f"A validator judges at most {SHEET_LIMIT} miners per task", code="too_many_miners")
        stored.entries.append(_entry(sample, latency, texts))
        stored.votes.append(vote)
        stored.texts.append(texts)
    stored.sheets.update({key: replace(sheet, votes=votes[key]) for key, sheet in sheets.items()})
    return stored


def placed(stored: Stored, refs: Sequence[tuple[str, int]], commit: Commit) -> Stored:
    """The same with every vote pointing to where its entry was written, and the batch remembered as a commit."""
    votes = [vote._replace(batch=batch, place=place) for vote, (batch, place) in zip(stored.votes, refs, strict=True)]
    newest: dict[str, Votes] = {}
    for entry, vote in zip(stored.entries, votes, strict=True):
        newest.setdefault(entry.task_key, {})[entry.miner] = vote
    sheets = {
        key: replace(
            sheet,
            votes={**sheet.votes, **newest.get(key, {})},
            commits=(*sheet.commits[-REMEMBERED_COMMITS + 1 :], commit),
        )
        for key, sheet in stored.sheets.items()
    }
    return Stored(stored.entries, votes, stored.texts, sheets)


def _texts(sample: NewSample) -> Texts:
    return (sample.original_artifacts, sample.generated_artifacts, sample.presentation_order)


def _first_known(new: Texts, old: Texts | None) -> Texts:
    if old is None:
        return new
    first, second, third = (old[n] if text is None else text for n, text in enumerate(new))
    return (first, second, third)


def _entry(sample: NewSample, latency: int | None, texts: Texts) -> Entry:
    aspects, overall = judged_aspects(texts[1])
    return Entry(
        task_key=sample.task_key,
        miner=sample.miner_hotkey,
        sample_id=sample.sample_id or str(sample.task),
        prompt=sample.prompt,
        s3_bucket=sample.s3_bucket,
        s3_prefix=sample.s3_prefix,
        passed=sample.passed,
        confidence=sample.confidence,
        reasoning=sample.reasoning,
        latency_ms=latency,
        aspects=aspects,
        overall=overall,
        texts=texts if are_near(texts) else None,
    )


def judged_aspects(artifacts: str | None) -> tuple[dict[str, int] | None, int | None]:
    """Aspect scores and overall score out of the generated artifacts; whatever cannot be read is null."""
    try:
        found = json.loads(artifacts or "null")
    except (ValueError, RecursionError):
        return None, None
    if not isinstance(found, dict):
        return None, None
    aspects, overall = found.get("aspect_scores"), found.get("overall_score")
    return aspects if _are_aspects(aspects) else None, overall if _is_score(overall) else None


def _are_aspects(value: Any) -> bool:
    if not isinstance(value, dict) or len(value) > _ASPECT_LIMIT:
        return False
    return all(map(_is_text, value)) and all(map(_is_score, value.values()))


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and is_unicode(value)


def _is_score(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and abs(value) < _SCORE_LIMIT


# --- evaluation results


def evaluation_entry(hotkey: str, entry: Entry | NewSample, texts: Texts) -> dict[str, Any]:
    """One line of an evaluation result object, as validators sign it."""
    return {
        "hotkey": hotkey,
        "passed": entry.passed,
        "status": "passed" if entry.passed else "failed",
        "confidence": entry.confidence,
        "reasoning": entry.reasoning,
        "latency_ms": entry.latency_ms,
        "original_artifacts": texts[0],
        "generated_artifacts": texts[1],
        "presentation_order": texts[2],
    }


def evaluation_digest(samples: Iterable[NewSample]) -> bytes:
    """What an evaluation signature signs: the samples in the order in which they were sent."""
    entries = [evaluation_entry(sample.miner_hotkey, sample, _texts(sample)) for sample in samples]
    return hashlib.sha256(json.dumps(entries, sort_keys=True).encode()).digest()


def result_order(sheet: Sheet) -> list[str]:
    """The signed batch's order when it covers every sample, else by hotkey."""
    batches = {vote.batch.rsplit(".", 2)[0] for vote in sheet.votes.values()}
    if batches == {sheet.signed}:
        return sorted(sheet.votes, key=lambda miner: (sheet.votes[miner].batch, sheet.votes[miner].place))
    return sorted(sheet.votes)


def result_body(signature: str, entries: Sequence[dict[str, Any]]) -> bytes:
    return json.dumps({"signature": signature, "data": list(entries)}, indent=2).encode()


# --- miners


@frozen
class Committed:
    """What a miner revealed on chain about its model."""

    model_name: str
    model_revision: str
    chute_id: str
    block: int


def read_commitments(hotkey: str, commitments: Sequence[tuple[int, str]]) -> tuple[Committed, str | None]:
    """The last commitment, and why it disqualifies its miner, if it does."""
    block, data = commitments[-1]
    try:
        found = json.loads(data)
    except (ValueError, RecursionError):
        found = None
    fields = found if isinstance(found, dict) else {}
    name, revision, chute = (_word(fields.get(field)) for field in ("model_name", "model_revision", "chute_id"))
    return Committed(name, revision, chute, block), _flaw(hotkey, len(commitments), name, revision, chute)


def _flaw(hotkey: str, commitments: int, name: str, revision: str, chute: str) -> str | None:
    repository = name.rsplit("/", 1)[-1].lower()
    flaws = {
        f"max_commits_exceeded_{COMMITMENT_LIMIT}": commitments > COMMITMENT_LIMIT,
        "missing_model_name": not name,
        "missing_model_revision": not revision,
        "missing_chute_id": not chute,
        "model_name_must_start_with_leoma": not repository.startswith("leoma"),
        "model_name_must_end_with_hotkey": not repository.endswith(hotkey.lower()),
    }
    return next((reason for reason, applies in flaws.items() if applies), None)


def _word(value: Any) -> str:
    return value.strip() if _is_text(value) else ""


def chute_flaw(committed: Committed, chute: Mapping[str, Any] | None) -> str | None:
    """Why a running chute is not the committed one; None of a look-up means that it failed."""
    if chute is None:
        return "chute_fetch_failed"
    if chute.get("hot") is not True:
        return "chute_not_running"
    revision = chute.get("revision")
    return None if not revision or revision == committed.model_revision else f"revision_mismatch:chute={revision}"


def model_flaw(committed: Committed, model: Mapping[str, Any] | None) -> str | None:
    if model is None:
        return "hf_model_fetch_failed"
    sha = model.get("sha")
    return None if sha == committed.model_revision else f"revision_mismatch:hf={sha}"


def model_hash(model: Mapping[str, Any]) -> str | None:
    """Over the weight files' own hashes, sorted and each once; None where there are none."""
    found = set()
    for sibling in model.get("siblings") or ():
        name = sibling.get("rfilename") if isinstance(sibling, dict) else None
        lfs = sibling.get("lfs") if isinstance(sibling, dict) else None
        digest = lfs.get("sha256") if isinstance(lfs, dict) else None
        if isinstance(name, str) and name.endswith(_MODEL_FILES) and isinstance(digest, str):
            found.add(digest)
    return hashlib.sha256("".join(sorted(found)).encode()).hexdigest() if found else None


def essence(found: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """What of a look-up is worth remembering: registries answer far more than is ever asked."""
    if found is None:
        return None
    kept = {name: found[name] for name in ("chute_id", "slug", "hot", "revision", "sha") if name in found}
    siblings = found.get("siblings")
    if not isinstance(siblings, list):
        return kept
    weights = [
        {"rfilename": entry["rfilename"], "lfs": {"sha256": entry["lfs"].get("sha256")}}
        for entry in siblings
        if isinstance(entry, dict) and isinstance(entry.get("rfilename"), str) and isinstance(entry.get("lfs"), dict)
    ]
    return kept | {"siblings": weights}
