"""Leoma's background work: who validates, which miners are valid, what samples add up to, who ranks where."""

from __future__ import annotations

import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any
from urllib.parse import quote

from chalicelib.kernel import chain, clock, telemetry, web
from chalicelib.kernel.blobs import Bucket
from chalicelib.kernel.errors import Contended
from chalicelib.kernel.jobs import Jobs
from chalicelib.kernel.tables import ConditionFailed, transact, until_decided

from . import contracts_sheets, domain, domain_views, ranking, store, store_jobs, tasks_fold
from .contracts import LeomaSettings, Miner, task_key
from .store import table

jobs = Jobs("leoma", __name__, table, LeomaSettings.current)
tick = jobs.tick

_RAO = 10**9
_LOOKUPS_AT_ONCE = 16
_LOOKUP_SECONDS = 10
_SCORER_LOCK_SECONDS = 600
_WAIT_FOR_SCORER_SECONDS = 240
_SAFE_NAME = re.compile(r"[\w.-]{1,96}(/[\w.-]{1,96})?", re.ASCII)

Lookup = dict[str, Any] | None


# --- validators and miners


@jobs.every("validator_sync_interval", on=("chain", "sweep"))
def validators() -> None:
    """Copy stakes at or above the minimum; an empty metagraph, or one without any such stake, changes nothing."""
    copy = chain.snapshot("leoma")
    least = LeomaSettings.current().min_validator_stake
    neurons = copy.subnet.neurons if copy else ()
    staked = {neuron.hotkey: (neuron.uid, neuron.stake_rao / _RAO) for neuron in neurons}
    found = {hotkey: entry for hotkey, entry in staked.items() if entry[1] >= least}
    if copy and found:
        gone = set(store_jobs.validators()) - set(found)
        store_jobs.save_validators(found, gone, block=copy.block)


@jobs.every("miner_validation_interval", on=("chain", "sweep"))
def miners() -> None:
    """Judge every miner that committed a model; without any commitment nothing changes."""
    copy = chain.snapshot("leoma")
    if not copy or not copy.subnet.commitments:
        return
    banned = {entry.hotkey for entry in store.blacklist()}
    committed = [neuron for neuron in copy.subnet.neurons if neuron.hotkey in copy.subnet.commitments_of]
    if not committed:
        return
    now = clock.now()
    with ThreadPoolExecutor(_LOOKUPS_AT_ONCE) as pool:
        found = list(pool.map(lambda neuron: _judge(neuron, copy.subnet, banned, now), committed))
    found.sort(key=lambda miner: miner.uid)
    kept = store.saving_snapshot("miners", [m.model_dump() for m in found], at=now, block=copy.block)
    transact([kept, store_jobs.synced(now)])
    weigh()


def _judge(neuron: chain.Neuron, subnet: chain.Subnet, banned: set[str], now: float) -> Miner:
    """Rows are replaced whole: what an early failure leaves unknown is null."""
    known: dict[str, Any] = {"uid": neuron.uid, "hotkey": neuron.hotkey, "last_validated_at": clock.stamp(now)}
    if neuron.hotkey in banned:
        return Miner(**known, invalid_reason="blacklisted")
    entries = [(entry.block, entry.data) for entry in subnet.commitments_of[neuron.hotkey]]
    committed, flaw = domain.read_commitments(neuron.hotkey, entries)
    known["block"] = committed.block
    if flaw:
        return Miner(**known, invalid_reason=flaw)
    known |= {
        "model_name": committed.model_name,
        "model_revision": committed.model_revision,
        "chute_id": committed.chute_id,
    }
    chute = chute_of(neuron, committed)
    slug = chute.get("slug") if chute else None
    known["chute_slug"] = slug if isinstance(slug, str) else None
    flaw = domain.chute_flaw(committed, chute)
    if flaw:
        return Miner(**known, invalid_reason=flaw)
    model = model_of(neuron, committed)
    flaw = domain.model_flaw(committed, model)
    if flaw or model is None:
        return Miner(**known, invalid_reason=flaw)
    return Miner(**known, model_hash=domain.model_hash(model), is_valid=True)


def chute_of(neuron: chain.Neuron, committed: domain.Committed) -> Lookup:
    """The chute registry's word: the chain copy's where it has one, else the registry itself."""
    if neuron.model is not None:
        return _object(neuron.model.get("chute"))
    settings = LeomaSettings.current()
    if not _is_safe(committed.chute_id):
        return None
    url = f"{settings.chutes_api_url.rstrip('/')}/chutes/{quote(committed.chute_id)}"
    return _looked_up("chute", url, settings.chutes_api_key, settings.chute_cache_ttl)


def model_of(neuron: chain.Neuron, committed: domain.Committed) -> Lookup:
    """The model hub's word, in the same way."""
    if neuron.model is not None:
        return _object(neuron.model.get("hf"))
    settings = LeomaSettings.current()
    if not (_is_safe(committed.model_name) and _is_safe(committed.model_revision)):
        return None
    path = f"{quote(committed.model_name)}/revision/{quote(committed.model_revision)}?blobs=true"
    url = f"{settings.hf_endpoint.rstrip('/')}/api/models/{path}"
    return _looked_up("model", url, settings.hf_token, settings.model_hash_cache_ttl)


def _looked_up(kind: str, url: str, token: str, seconds: float) -> Lookup:
    """An answer, a failure included, is remembered for a while."""
    remembered = store_jobs.remembered(kind, url)
    if remembered:
        return _object(remembered[0])
    found = web.get_json(url, bearer=token, seconds=_LOOKUP_SECONDS)
    answer = domain.essence(_object(found))
    store_jobs.remember(kind, url, answer, seconds)
    return answer


def _is_safe(name: str) -> bool:
    """Miners choose these names; none may climb out of the path it is put into."""
    return _SAFE_NAME.fullmatch(name) is not None and ".." not in name


def _object(value: Any) -> Lookup:
    return value if isinstance(value, dict) else None


# --- samples, scores, ranks


@jobs.every("fold_interval", on=("sweep", "stream"), awake=False)
def folding() -> None:
    """Let new samples appear in lists and task views."""
    tasks_fold.fold()


@contextmanager
def _scoring(wait: float = 0) -> Iterator[bool]:
    """One at a time computes scores and ranks, so that no slower run puts older ones back."""
    deadline = clock.monotonic() + wait
    while True:
        with store_jobs.lock("scorer", _SCORER_LOCK_SECONDS) as alone:
            if alone or clock.monotonic() >= deadline:
                yield alone
                return
        clock.sleep(clock.jitter(1.0))


@jobs.every("score_calculation_interval")
def scores() -> None:
    """Scores per validator over all time, and per miner over the newest tasks."""
    tasks_fold.catch_up()
    with _scoring() as alone:
        if alone:
            _score()


@jobs.every("scorer_interval")
def ranks() -> None:
    """Scores, then the ranks that follow; a run in progress elsewhere is as good."""
    tasks_fold.catch_up()
    with _scoring() as alone:
        if alone:
            _score()
            _rank()


@jobs.task("rank", timeout=300, memory=1024)
def rank(event: dict[str, Any]) -> dict[str, Any]:  # noqa: ARG001 - a task takes an event
    """Everything a rank run computes, now; waits for a run in progress and then runs on what it did not see."""
    tasks_fold.catch_up()
    with _scoring(_WAIT_FOR_SCORER_SECONDS) as alone:
        if not alone:
            return {"ranked": None, "waited": True}
        _score()
        return {"ranked": _rank(), "waited": False}


def _newest() -> int:
    """The highest judged task; no sample can be ahead of what was published, whatever its sender wished."""
    return min(tasks_fold.newest_task(), (store.latest_task() or 0) + LeomaSettings.current().task_id_ahead_max)


def _score() -> None:
    """Without any valid miner the last scores stay; what is stored is counted all the same."""
    valid = {miner.hotkey for miner in store.miners() if miner.is_valid}
    kept = store_jobs.totals()
    stored = tasks_fold.samples_stored(kept.values())
    if not valid:
        last = store.snapshot("stats")
        counted = domain_views.stats_of(last.content if last else {}, stored).model_dump()
        store_jobs.save_snapshots({"stats": counted}, at=clock.now(), block=_block())
        return
    settings = LeomaSettings.current()
    stakes, newest = store.stakes(), _newest()
    tallies = [
        ranking.Tally(validator, miner, total, passed)
        for validator, item in kept.items()
        for miner, (total, passed) in contracts_sheets.totals_of(item).miners.items()
    ]
    window = ranking.display_window(newest, settings.scorer_task_window)
    votes = [
        {miner: votes for miner, votes in task.items() if miner in valid}
        for task in tasks_fold.votes_on([task_key(number) for number in window])
    ]
    matrix = domain_views.matrix(
        ranking.counted(tallies, stakes, valid),
        ranking.records(votes, stakes),
        any_task=newest > 0,
        at=clock.now(),
    )
    answers = {
        "scores": domain_views.all_scores(matrix).model_dump(),
        "summaries": [summary.model_dump() for summary in domain_views.summaries(matrix)],
        "agreement": [one.model_dump() for one in domain_views.agreement(ranking.agreement(votes, stakes), stakes)],
        "stats": domain_views.stats(matrix, stored).model_dump(),
    }
    store_jobs.save_snapshots({"matrix": matrix, **answers}, at=clock.now(), block=_block())


def _rank() -> int:
    """Replace the whole list; while the window is not full there is none, and the weights burn."""
    settings = LeomaSettings.current()
    size, threshold = settings.scorer_task_window, settings.scorer_completeness_threshold
    window = ranking.ranking_window(_newest(), size)
    found = ranking.records(tasks_fold.votes_on([task_key(number) for number in window]), store.stakes())
    entrants = [
        ranking.Entrant(miner.hotkey, *found[miner.hotkey], block=miner.block)
        for miner in store.miners()
        if miner.is_valid and miner.hotkey in found and ranking.is_eligible(found[miner.hotkey][1], size, threshold)
    ]
    places = ranking.dominance(entrants, settings.dominance_threshold)
    ranked, at, block = domain_views.ranked(places, size, threshold), clock.now(), _block()
    until_decided(lambda: _save_ranks(ranked, at=at, block=block))
    return len(places)


def weigh() -> None:
    """The last ranks with the miners of now: who is invalid since burns at once, whatever a scorer is doing."""

    def decide() -> None:
        kept = store.snapshot("ranking")
        if kept:
            _save_ranks(kept.content, at=kept.at, block=kept.block, instead_of=kept.at)

    until_decided(decide)


def _save_ranks(kept: list[dict[str, Any]], *, at: float, block: int | None, instead_of: float | None = None) -> None:
    """The list and what is served of it in one step, while the miners that it was made of stand: no reader sees two
    runs mixed, and nobody puts back the weight of a miner that became invalid meanwhile.
    """
    held = store.snapshot("miners")
    known = store.miners_of(held)
    served = {
        "rank": domain_views.ranks(kept, known).model_dump(),
        "weights": domain_views.weights(kept, known).model_dump(),
    }
    writes = [store.saving_snapshot(name, one, at=at, block=block) for name, one in served.items()]
    writes.append(store.saving_snapshot("ranking", kept, at=at, block=block, instead_of=instead_of))
    try:
        transact([*writes, store.keeping_snapshot("miners", held)])
    except ConditionFailed:
        raise Contended from None


def _block() -> int | None:
    head = chain.head()
    return head.block if head else None


# --- tasks


@jobs.task("publish", timeout=60)
def publish(event: dict[str, Any]) -> dict[str, Any]:
    """Make a task the latest, once its clips are there where they are required; never backwards."""
    task, prefix = int(event["task_id"]), str(event.get("prefix") or event["task_id"]).strip("/")
    missing = _missing_clips(prefix)
    if missing and event.get("require_clips"):
        return {"published": False, "missing": missing, "latest": store.latest_task()}
    published = store.publish_task(task, prefix, event.get("description"))
    telemetry.log("task published", system="leoma", task=task, published=published, missing=missing)
    return {"published": published, "missing": missing, "latest": store.latest_task()}


def _missing_clips(prefix: str) -> list[str]:
    name = LeomaSettings.current().samples_bucket
    if not name:
        return ["a samples bucket"]
    bucket = Bucket(name)
    files = ("metadata.json", "first_frame.png", "original_clip.mp4")
    missing = [f"{prefix}/{file}" for file in files if bucket.head(f"{prefix}/{file}") is None]
    if not bucket.holds_below(f"{prefix}/generated_videos/"):
        missing.append(f"{prefix}/generated_videos/*.mp4")
    return missing
