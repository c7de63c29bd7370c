"""Leoma's guards, for the mutation run: signed requests, samples, ranks, locks, look-ups."""

from __future__ import annotations

from tests.harness.mutation import Part

leoma = Part("chalicelib/leoma", "leoma", "auth")

GUARDS = [
    leoma("domain", "window", "if abs(int(now) - int(timestamp)) > window:", "if False:"),
    leoma("domain", "digits alone", "if not _TIMESTAMP.fullmatch(timestamp):", "if not timestamp:"),
    leoma("domain", "blacklist", "    if blacklisted:\n", "    if False:\n"),
    leoma("domain", "registered", "if hotkey not in admins and not registered:", "if False:"),
    leoma("domain", "admin", "    if hotkey not in admins:\n", "    if False:\n"),
    leoma("domain", "the body is signed", "hashlib.sha256(body).hexdigest()", "hashlib.sha256(b'').hexdigest()"),
    leoma(
        "routes_auth",
        "no look-up of what is no address",
        "if keys.looks_like_ss58(hotkey) else (False, None)",
        "",
        "conformance_callers",
    ),
    leoma(
        "routes_auth",
        "a signature is bound",
        'raise Unauthenticated("Signature was already used for another request", code="signature_replayed")',
        "return",
        "attacks",
    ),
    leoma("routes_auth", "the query is bound", "?{sorted(request.query.items())}", "", "attacks"),
    leoma(
        "routes_auth",
        "twice the window",
        "expires_at=clock.now() + 2 * window",
        "expires_at=clock.now() + window / 2",
        "attacks",
    ),
    leoma("routes_auth", "admins are no validators", " and hotkey not in settings.admin_hotkeys", "", "attacks"),
    leoma("store", "seen once a minute", "if last_seen >= clock.now() - _SEEN_EVERY_SECONDS:", "if False:", "attacks"),
    leoma("domain", "batch size", "len(samples) > BATCH_LIMIT", "len(samples) > 10**9", "samples"),
    leoma("domain", "one task per signature", "if batch.signature and len(", "if False and len(", "samples"),
    leoma("domain", "published tasks", "sample.task is not None and sample.task > latest + ahead", "False", "attacks"),
    leoma("domain", "old tasks are closed", "sample.task <= latest - window", "False", "attacks"),
    leoma("domain", "no roll back", "vote.number > first_use", "False", "attacks"),
    leoma("domain", "miners per task", "if len(votes[sample.task_key]) > SHEET_LIMIT:", "if False:", "attacks"),
    leoma("domain", "ids stay", "known.id if known else first_id + place", "first_id + place", "samples"),
    leoma(
        "domain", "latency stays", "if sample.latency_ms is not None or not known else known.latency_ms", "", "samples"
    ),
    leoma("domain", "signed order", "if batches == {sheet.signed}:", "if False:", "results"),
    leoma("domain", "names of aspects can be written", "all(map(_is_text, value)) and ", "", "tasks"),
    leoma("domain", "models' names can be written", "if _is_text(value)", "if isinstance(value, str)", "miners"),
    leoma("domain", "scores are small whole numbers", " and abs(value) < _SCORE_LIMIT", "", "tasks"),
    leoma("store", "quota", "#day = :day AND #used <= :room", "#day = :day", "attacks"),
    leoma(
        "store",
        "sheets as they were read",
        '"#version = :known" if known else',
        '"attribute_exists(#pk)" if known else',
        "races",
    ),
    leoma(
        "store",
        "tasks only move forward",
        "attribute_not_exists(#task) OR #task < :task",
        "attribute_not_exists(#nothing)",
        "tasks",
    ),
    leoma("store", "batches are unique", "mark = clock.new_hex(4)", 'mark = "0"', "races"),
    leoma(
        "store_jobs",
        "one run at a time",
        "attribute_not_exists(#pk) OR #until < :now",
        "attribute_not_exists(#nothing) OR #until < :now",
        "races",
    ),
    leoma("store_jobs", "a crashed run's lock ends", " OR #until < :now", "", "scores"),
    leoma("store_jobs", "look-ups age", 'item and item["expires_at"] > clock.now()', "item", "miners"),
    leoma(
        "tasks_fold", "late batches are waited for", "and now - since < _WAIT_FOR_A_BATCH_SECONDS", "and False", "races"
    ),
    leoma("tasks_fold", "dead batches are given up", "and now - since < _WAIT_FOR_A_BATCH_SECONDS", "", "races"),
    leoma(
        "tasks_fold",
        "results that failed are due",
        "    due = _write_results(changed)\n",
        "    due = _write_results(changed)[:0]\n",
        "results",
    ),
    leoma("tasks_fold", "settled before closed", "        _settle(tasks[:-_KEPT_OPEN_TASKS])\n", "", "tasks"),
    leoma("ranking", "a tie fails", "in_favour / total > HALF", "in_favour / total >= HALF", "ranking"),
    leoma("ranking", "no stake fails", "return total > 0 and", "return", "ranking"),
    leoma("ranking", "a full window", "if newest >= size else range(0)", "", "ranking"),
    leoma(
        "ranking",
        "every earlier miner",
        "for earlier in by_commitment[:index]",
        "for earlier in by_commitment[:1]",
        "ranking",
    ),
    leoma("ranking", "a burn weighs nothing", "rank == 1 and winner != 0 and", "rank == 1 and", "ranking"),
    leoma("tasks", "an empty metagraph deletes nobody", "if copy and found:", "if copy:", "conformance_callers"),
    leoma("tasks", "names stay in their path", ' and ".." not in name', "", "miners"),
    leoma(
        "tasks",
        "no further than published",
        "return min(tasks_fold.newest_task(), ",
        "return max(tasks_fold.newest_task(), ",
        "attacks",
    ),
    leoma(
        "tasks",
        "one scorer",
        "        if alone:\n            _score()\n            _rank()",
        "        if True:\n            _score()\n            _rank()",
        "scores",
    ),
    leoma(
        "tasks",
        "no slower scores",
        "        if alone:\n            _score()\n\n",
        "        if True:\n            _score()\n\n",
        "races",
    ),
    leoma(
        "routes_samples",
        "answers have an end",
        "        if size > _LARGEST_ANSWER:\n",
        "        if False:\n",
        "attacks",
    ),
    leoma(
        "routes_samples",
        "replaced samples are not listed",
        'if vote and (vote.batch, vote.place) == (item["sk"], place):',
        "if vote:",
        "lists",
    ),
]
