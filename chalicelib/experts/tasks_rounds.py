"""The life of a submission after it was accepted, and of the round that it belongs to."""

from __future__ import annotations

import json
from typing import Any

from chalicelib.kernel import chain, clock, codec, flows
from chalicelib.kernel.text import printable
from chalicelib.kernel.wire import Item

from . import domain, store, store_merges, tasks_evaluation, tasks_merging, tasks_publishing, tasks_slots
from .checkpoints import Unacceptable
from .contracts import ExpertsSettings

SUBMISSIONS = "experts-submission"
MERGES = "experts-merge"
_MOST_ATTEMPTS = 5
_SETTLING_SECONDS = 5.0
_WAIT_SECONDS = 120.0
_NAP_SECONDS = 0.5
_SHOWN = 100
_LONGEST_REASON = 500


def clockwork() -> domain.Cycle:
    settings = ExpertsSettings.current()
    return domain.cycle(settings.phases, settings.public_phase_map)


def begin(submission_id: str) -> Item:
    """What the flow does first: fetch or wait for its turn, or go on with what was fetched, or nothing any more."""
    item = store.submission(submission_id)
    if item["state"] in domain.FINAL:
        return {"submission_id": submission_id, "go": "stop"}
    _check_not_superseded(item)
    version = _base(item)
    if item.get("raw_etag"):
        return {"submission_id": submission_id, "go": "validate"}
    if not tasks_slots.take(item["pubkey"], submission_id):
        return {"submission_id": submission_id, "go": "wait"}
    settings = ExpertsSettings.current()
    size = version["blocks"][f"group_{item['group']}"]["bytes"]
    store.move(submission_id, domain.FETCHING)
    return {
        "submission_id": submission_id,
        "go": "fetch",
        "url": item["url"],
        "key": tasks_evaluation.raw_key(submission_id),
        "cap": domain.checkpoint_cap(size, settings.max_checkpoint_bytes, settings.checkpoint_slack),
    }


def _check_not_superseded(item: Item) -> None:
    """A miner's newest submission of the cycle is the one that counts, as long as the older one is not evaluated."""
    latest = store.latest_of_cycle(item["pubkey"], item["cycle"])
    if latest not in {None, item["submission_id"]}:
        raise Unacceptable("superseded", "a newer submission of this hotkey took its place")


def _base(item: Item) -> Item:
    """The version that the miner trained on, as it was when the submission came."""
    version = store.version(item["version_id"])
    if version is None:
        raise Unacceptable("version_retired", "the version that this checkpoint builds upon is gone")
    return version


def validate(submission_id: str, fetched: Item | None) -> None:
    """Note what was fetched, let the next one fetch, then look into it."""
    tasks_slots.give_back(submission_id)
    item = store.submission(submission_id)
    if fetched:
        raw = {"raw_etag": fetched["etag"], "raw_bytes": fetched["bytes"], "content_hash": fetched["sha256"]}
        store.move(submission_id, domain.VALIDATING, **raw)
        item |= raw
    else:
        store.move(submission_id, domain.VALIDATING)
    tasks_evaluation.validate(item, _base(item))


def evaluate(submission_id: str) -> None:
    """Distance, losses, score; a second run of the same submission comes to the same numbers."""
    started = clock.now()
    item = store.submission(submission_id)
    _check_not_superseded(item)
    version = _base(item)
    store.move(submission_id, domain.EVALUATING)
    candidate, baseline, sketch = tasks_evaluation.compare(item, version)
    candidate, baseline = tasks_evaluation.losses(item, version, _seed(item["cycle"]), (candidate, baseline))
    score = tasks_evaluation.judged(candidate, baseline)
    told = {"score": score, "val_loss": candidate.val_loss, "baseline": baseline.val_loss, "sketch": sketch}
    if store.move(submission_id, domain.SCORED, **told):
        store.note_evaluation(clock.now() - started)


def _seed(cycle: int) -> str:
    """Fixed by whoever is evaluated first: nobody knows it while training, all of the round share it."""
    snapshot = chain.snapshot(store.SYSTEM)
    commitments: dict[str, str] = {}
    for neuron in snapshot.subnet.neurons if snapshot else ():
        found = snapshot.subnet.commitments_of.get(neuron.hotkey, ()) if snapshot else ()
        if neuron.validator_permit and found:
            commitments[neuron.hotkey] = found[-1].data
    return store.round_seed(cycle, domain.round_seed(commitments, clock.new_hex()))


def refuse(submission_id: str, error: str, cause: str) -> None:
    """The end of a flow that did not get through: the miner's fault is told by code, ours as a failure."""
    tasks_slots.give_back(submission_id)
    kind, _, reason = _message(cause).partition(": ")
    if error == "Unacceptable":
        store.move(submission_id, domain.REJECTED, code=kind, reason=reason)
    elif error == "NoEvaluator":
        store.move(submission_id, domain.FAILED, code=tasks_evaluation.NO_EVALUATOR, reason=_message(cause))
    elif error == "HostUnavailable":
        store.move(submission_id, domain.FAILED, code="host_unavailable", reason=_message(cause))
    else:
        store.move(submission_id, domain.FAILED, code="operational", reason="our side broke; this is not your fault")


def _message(cause: str) -> str:
    """What a task said; names of a stranger's tensors are in it, and people read it in terminals."""
    try:
        found = json.loads(cause)
    except (ValueError, RecursionError):
        found = None
    text = str(found.get("errorMessage", cause)) if isinstance(found, dict) else cause
    return printable(text, _LONGEST_REASON)


def close_rounds() -> None:
    """Rank every cycle that is over and whose submissions are final; then owe the merge of its winners."""
    head = chain.head()
    items = store.open_submissions()
    store.set_waiting(sum(item["state"] not in domain.FINAL for item in items))
    if head is None:
        return
    cycles: dict[int, list[Item]] = {}
    for item in items:
        cycles.setdefault(item["cycle"], []).append(item)
    for cycle, members in sorted(cycles.items()):
        if _is_over(cycle, head.block):
            _start_held(members)
            if _are_settled(cycle, members):
                _close(cycle, head.block, members)
    _start_merges()


def _is_over(cycle: int, block: int) -> bool:
    """Whether a block past the cycle's submit phase has been seen."""
    found = clockwork()
    return block > found.end_of(domain.SUBMIT, cycle * found.length)


def _start_held(members: list[Item]) -> None:
    if ExpertsSettings.current().eval_start == "validate":
        for item in members:
            if item["state"] == domain.ACCEPTED:
                flows.start_or_leave(SUBMISSIONS, item["submission_id"], {"submission_id": item["submission_id"]})


def _are_settled(cycle: int, members: list[Item]) -> bool:
    """All final, or silent for longer than an evaluation may take: then they fail, so that the round can end. The
    phase's own time does not count: who waited for a slot or for the phase's end has not begun.
    """
    unsettled = [item for item in members if item["state"] not in domain.FINAL]
    if not unsettled:
        return True
    over_since = store_merges.over_since(cycle)
    longest = ExpertsSettings.current().eval_timeout_s
    silent = [item for item in unsettled if clock.now() - max(item["updated_at"], over_since) > longest]
    for item in silent:
        reason = "the evaluation took too long"
        store.move(item["submission_id"], domain.FAILED, code="evaluation_timeout", reason=reason)
    return len(silent) == len(unsettled)


def _close(cycle: int, block: int, members: list[Item]) -> None:
    """Rank per group, owe the merge, close: in this order, so that a killed closing is repeated as it was. What it had
    closed by then counts as before.
    """
    settings = ExpertsSettings.current()
    rewards = [float(text) for text in settings.rank_scores]
    still_open = [store.submission(item["submission_id"]) for item in members]
    everybody = {item["submission_id"]: item for item in (*store_merges.closed_of(cycle), *still_open)}
    groups: dict[int, list[domain.Entry]] = {}
    for item in domain.newest_per_miner(item for item in everybody.values() if item["state"] == domain.SCORED):
        groups.setdefault(item["group"], []).append(_entry(item))
    chosen = {str(group): domain.winners(entries, settings.top_k_merge) for group, entries in groups.items()}
    winners = {group: [entry.submission_id for entry in best] for group, best in chosen.items() if best}
    if winners:
        store_merges.owe_merge(cycle, block, winners)
    ranks: dict[str, float] = {}
    near: dict[str, str] = {}
    for entries in groups.values():
        ranks |= domain.ranked(entries, rewards)
        near |= domain.near_copies(entries)
    for item in still_open:
        values: dict[str, Any] = {}
        if item["state"] != domain.FAILED:  # what broke on our side is no zero in a miner's history
            values["rank_score"] = ranks.get(item["submission_id"], 0.0)
        if item["submission_id"] in near:
            values["near_copy_of"] = near[item["submission_id"]]
        store.close_submission(item["submission_id"], **values)


def _entry(item: Item) -> domain.Entry:
    return domain.Entry(
        item["submission_id"], item["uid"], item["score"], item["content_hash"], tuple(item.get("sketch", ()))
    )


def _start_merges() -> None:
    for owed in store_merges.owed_merges():
        cycle = int(owed["sk"])
        flows.start_or_leave(MERGES, _attempt_name(f"cycle-{cycle}", owed["attempt"]), {"cycle": cycle})


def _attempt_name(name: str, attempt: int) -> str:
    return f"{name}-{attempt}" if attempt else name


def merge(cycle: int) -> str:
    """The merge that a closed round owes; a second run finds nothing to do."""
    owed = store_merges.owed_merge(cycle)
    if owed is None or owed["state"] != store_merges.OWED:
        return "nothing"
    outcome = tasks_merging.merge(owed)
    store_merges.merge_done(cycle, outcome)
    return outcome


def restart_lost_work() -> None:
    """Start again what is not final and not running; give up on what keeps failing."""
    running = flows.running(SUBMISSIONS)
    for item in store.open_submissions():
        submission_id, attempt = item["submission_id"], item["attempt"]
        fresh = clock.now() - item["updated_at"] < _SETTLING_SECONDS
        held = ExpertsSettings.current().eval_start == "validate" and item["state"] == domain.ACCEPTED
        if item["state"] in domain.FINAL or fresh or held or _attempt_name(submission_id, attempt) in running:
            continue
        if flows.start(SUBMISSIONS, _attempt_name(submission_id, attempt), {"submission_id": submission_id}):
            continue
        if attempt >= _MOST_ATTEMPTS:
            store.move(submission_id, domain.FAILED, code="operational", reason="our side broke; not your fault")
        elif store.next_attempt(submission_id, attempt):
            flows.start(SUBMISSIONS, _attempt_name(submission_id, attempt + 1), {"submission_id": submission_id})
    _restart_lost_merges()


def _restart_lost_merges() -> None:
    running = flows.running(MERGES)
    for owed in store_merges.owed_merges():
        cycle, attempt = int(owed["sk"]), owed["attempt"]
        name = _attempt_name(f"cycle-{cycle}", attempt)
        if name in running or flows.start(MERGES, name, {"cycle": cycle}):
            continue
        if attempt >= _MOST_ATTEMPTS:
            store_merges.merge_done(cycle, "failed")
        elif store_merges.next_merge_attempt(cycle, attempt):
            flows.start(MERGES, _attempt_name(f"cycle-{cycle}", attempt + 1), {"cycle": cycle})


def await_flows() -> None:
    """For a command that promises to return when its work is done: wait while something runs."""
    deadline = clock.monotonic() + _WAIT_SECONDS
    while clock.monotonic() < deadline and (flows.running(SUBMISSIONS) or flows.running(MERGES)):
        clock.sleep(_NAP_SECONDS)


def write_overview() -> None:
    """The dashboard's summary, renewed only when something changed."""
    served = store.current()
    submissions = [*store.open_submissions(), *store.closed_submissions(_SHOWN)]
    submissions.sort(key=lambda item: item["created_at"], reverse=True)
    found = {
        "current": served["version_id"] if served else None,
        "versions": [_shown_version(version) for version in reversed(store.versions())],
        "submissions": [_shown_submission(item) for item in submissions[:_SHOWN]],
        "phases": [
            {"name": name, "detail": detail, "blocks": length}
            for name, detail, length in zip(clockwork().names, clockwork().details, clockwork().lengths, strict=True)
        ],
        "block_seconds": ExpertsSettings.current().block_seconds,
    }
    raw = codec.encode(found)
    known = store.overview()
    if known is None or known["raw"] != raw:
        store.save_overview(raw)


def _shown_version(version: Item) -> Item:
    return {
        "version_id": version["sk"],
        "model_version": version["model_version"],
        "block_number": version["block_number"],
        "published_at": clock.stamp_seconds(version["published_at"]),
        "full_bytes": version["full"]["bytes"],
        "groups": [
            {
                "group": group,
                "bytes": version["wires"][f"group_{group}"]["bytes"],
                "tensors": version["wires"][f"group_{group}"]["tensors"],
                "content_hash": version["wires"][f"group_{group}"]["content_hash"],
            }
            for group in version["groups"]
        ],
    }


def _shown_submission(item: Item) -> Item:
    shown = ("submission_id", "hotkey", "group", "block_number", "cycle", "state", "code", "reason", "score")
    more = ("rank_score", "merged_into", "near_copy_of")
    found = {name: item.get(name) for name in (*shown, *more)}
    return found | {"updated_at": clock.stamp_seconds(item["updated_at"])}


def retire() -> None:
    tasks_publishing.retire_old_versions()
