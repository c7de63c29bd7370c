"""Leoma's HTTP surface: parse, decide, store, answer."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from chalicelib.kernel import caching, clock, keys
from chalicelib.kernel.blobs import Bucket
from chalicelib.kernel.errors import Invalid, Malformed, NotFound, Unavailable
from chalicelib.kernel.http import Answer, Request, problem
from chalicelib.kernel.routing import Router
from chalicelib.kernel.version import VERSION

from . import domain, domain_views, routes_auth, routes_samples, store
from .contracts import (
    AggregatedScores,
    Agreement,
    BlacklistEntry,
    BlacklistRemoval,
    Health,
    LatestTask,
    LeomaSettings,
    Miner,
    MinerList,
    MinerScores,
    MinerTask,
    MinerTasksQuery,
    NewBatch,
    NewBlacklistEntry,
    NewSample,
    Ranks,
    RecentQuery,
    Sample,
    SampleListQuery,
    ScoreStats,
    TaskDetail,
    TaskMinerDetail,
    TaskSamplesQuery,
    ValidatorScores,
    ValidatorSummary,
    Weights,
)
from .routes_auth import admin, validator
from .routes_samples import fitting

T = TypeVar("T")

api = Router(
    "leoma",
    "Leoma",
    "Samples of validators, verdicts weighted by stake, ranks and weights of an image-to-video subnet.",
    cors_origins=lambda: LeomaSettings.current().cors_origins,
    max_body=lambda: LeomaSettings.current().max_body_size,
)
_CLIP_URL_SECONDS = 3600
_LONGEST_TASK = 10
_NOT_AN_ADDRESS = {400: "Not an SS58 address."}
_NO_ADDRESS_OR_MINER = {**_NOT_AN_ADDRESS, 404: "No such miner."}
_NOT_STORED = {409: "The task is too old to edit.", 429: "The day's quota is used up."}


def ss58(text: str) -> str:
    """A path or query address: format only, as the original server checks it."""
    if not keys.looks_like_ss58(text):
        raise Malformed("Invalid SS58 address format", code="bad_hotkey")
    return text


@api.get("/health")
def health() -> Health:
    """Whether the store answers, and when miners were last validated."""
    try:
        last_sync, database = store.last_sync(), True
    except (Unavailable, RuntimeError):
        last_sync, database = None, False
    return Health(
        status="healthy" if database else "degraded",
        version=VERSION,
        database=database,
        metagraph_synced=last_sync is not None,
        last_sync=clock.stamp(last_sync) if last_sync is not None else None,
    )


# --- miners


@api.get("/miners/list", fresh_for=caching.BLOCK)
def miners() -> MinerList:
    """Every stored miner, by uid."""
    return domain.miner_list(store.miners())


@api.get("/miners/all", auth=validator)
def all_miners() -> MinerList:
    """The same for validators."""
    return domain.miner_list(store.miners())


@api.get("/miners/valid", auth=validator)
def valid_miners() -> MinerList:
    """Only miners that passed validation, by uid; `total` counts all."""
    return domain.valid_miners(store.miners())


@api.get("/miners/uid/{uid}", fresh_for=caching.BLOCK, refusals={404: "No such miner.", 422: "Not a number."})
def miner_by_uid(uid: str) -> Miner:
    """One miner by its uid."""
    if not uid.removeprefix("-").isascii() or not uid.removeprefix("-").isdecimal():
        text = "Input should be a valid integer, unable to parse string as an integer"
        raise Invalid([problem("int_parsing", ["path", "uid"], text, uid[:64])], code="invalid_request")
    return _miner(lambda miner: str(miner.uid) == (uid.lstrip("0") or "0"))


@api.get("/miners/info/{miner_hotkey}", fresh_for=caching.BLOCK, refusals=_NO_ADDRESS_OR_MINER)
def miner_info(miner_hotkey: str) -> Miner:
    """One miner by its hotkey."""
    ss58(miner_hotkey)
    return _miner(lambda miner: miner.hotkey == miner_hotkey)


@api.get("/miners/{miner_hotkey}", fresh_for=caching.BLOCK, refusals=_NO_ADDRESS_OR_MINER)
def miner_by_hotkey(miner_hotkey: str) -> Miner:
    """One miner by its hotkey."""
    ss58(miner_hotkey)
    return _miner(lambda miner: miner.hotkey == miner_hotkey)


def _miner(is_it: Callable[[Miner], bool]) -> Miner:
    found = next((miner for miner in store.miners() if is_it(miner)), None)
    if not found:
        raise NotFound("Miner not found", code="miner_not_found")
    return found


@api.get("/miners/{miner_hotkey}/tasks", fresh_for=caching.BLOCK, refusals=_NOT_AN_ADDRESS)
def tasks_of_miner(miner_hotkey: str) -> list[MinerTask]:
    """Every task of a miner with its verdict as stakes are now, newest first; `X-Truncated` beyond fifty thousand."""
    return fitting(routes_samples.tasks_of_miner(ss58(miner_hotkey)))


# --- samples


@api.post("/samples", auth=validator, refusals=_NOT_STORED)
def add_sample(body: NewSample, caller: str, request: Request) -> Sample:
    """Store the signer's verdict; a repeat replaces it."""
    batch = NewBatch.model_construct(signature=None, samples=[body])
    return routes_samples.submit(caller, batch, routes_auth.signature_mark(request), loc=["body"])[0]


@api.post("/samples/batch", auth=validator, body=NewBatch, refusals={400: "Over 100, or two tasks.", **_NOT_STORED})
def add_samples(request: Request, caller: str) -> list[Sample]:
    """Store up to 100 verdicts, all or none, and answer them in order."""
    domain.check_batch_size(request.json)
    batch = request.read_body(NewBatch)
    domain.check_one_task(batch)
    return routes_samples.submit(caller, batch, routes_auth.signature_mark(request), loc=["body", "samples", ...])


@api.get("/samples/list", fresh_for=caching.BLOCK)
def recent_samples(query: RecentQuery) -> list[Sample]:
    """The newest samples of everybody; `X-Truncated` where long texts leave no room for all."""
    return fitting(routes_samples.newest(query.limit))


@api.get("/samples/task", fresh_for=0, refusals=_NOT_AN_ADDRESS)
def samples_of_task(query: TaskSamplesQuery) -> list[Sample]:
    """A validator's samples of one task, by miner; `X-Truncated` as in `/samples/list`."""
    ss58(query.validator_hotkey)
    if query.task_key is None:
        raise Invalid([problem("missing", ["query", "task_id"], "Field required")], code="invalid_request")
    return fitting(routes_samples.of_task(query.validator_hotkey, query.task_key))


@api.get("/samples/validator/{validator_hotkey}", auth=validator, refusals=_NOT_AN_ADDRESS)
def samples_of_validator(validator_hotkey: str, query: SampleListQuery) -> list[Sample]:
    """A validator's newest samples; `X-Truncated` where there may be older ones that the limit would allow."""
    found, whole = routes_samples.of_validator(ss58(validator_hotkey), query.limit)
    return fitting(found, whole=whole)


@api.get("/samples/miner/{miner_hotkey}", auth=validator, refusals=_NOT_AN_ADDRESS)
def samples_of_miner(miner_hotkey: str, query: SampleListQuery) -> list[Sample]:
    """The newest samples about a miner; `X-Truncated` as in `/samples/list`."""
    return fitting(routes_samples.of_miner(ss58(miner_hotkey), query.limit))


# --- scores


@api.get("/scores", fresh_for=caching.BLOCK)
def scores() -> AggregatedScores:
    """Every scored miner's record over the newest tasks."""
    return _kept("scores", lambda: AggregatedScores(scores={}, total_validators=0, updated_at=clock.stamp(clock.now())))


@api.get("/scores/validators", fresh_for=caching.BLOCK)
def validator_summaries() -> list[ValidatorSummary]:
    """What each validator's samples add up to."""
    return _kept("summaries", list)


@api.get("/scores/agreement", fresh_for=caching.BLOCK)
def agreement() -> list[Agreement]:
    """How often each validator's vote was the verdict, over the newest tasks."""
    return _kept("agreement", list)


@api.get("/scores/rank", fresh_for=caching.BLOCK)
def ranks() -> Ranks:
    """The rank list of the last scorer run."""
    return _kept("rank", lambda: Ranks(ranks=[]))


@api.get("/scores/stats", fresh_for=caching.BLOCK)
def stats() -> ScoreStats:
    """How much was sampled and scored."""
    return _kept("stats", lambda: domain_views.stats_of({}, 0))


@api.get("/scores/miner/{miner_hotkey}", fresh_for=caching.BLOCK, refusals=_NOT_AN_ADDRESS)
def miner_scores(miner_hotkey: str) -> MinerScores:
    """One miner's scores by validator."""
    kept = store.snapshot("matrix")
    return domain_views.miner_scores(ss58(miner_hotkey), kept.content if kept else None)


@api.get("/scores/validator/{validator_hotkey}", fresh_for=caching.BLOCK, refusals=_NOT_AN_ADDRESS)
def validator_scores(validator_hotkey: str) -> ValidatorScores:
    """One validator's scores by miner."""
    kept = store.snapshot("matrix")
    return domain_views.validator_scores(ss58(validator_hotkey), kept.content if kept else None)


@api.get("/weights", fresh_for=0)
def weights() -> Weights:
    """What validators set on chain: the last list, however old; `X-Snapshot-Age` says how old in seconds."""
    return _kept("weights", lambda: Weights(winner_uid=0, miners=[]))


def _kept(name: str, nothing: Callable[[], T]) -> T:
    """A snapshot's bytes, with its age and the block it was made at; `nothing` before the first."""
    kept = store.rendered(name)
    if kept is None:
        return nothing()
    headers = {"X-Snapshot-Age": str(max(0, int(clock.now() - kept.at)))}
    if kept.block is not None:
        headers["X-Snapshot-Block"] = str(kept.block)
    return Answer(kept.body, headers=headers)  # type: ignore[return-value] # the bytes of one


# --- tasks


@api.get("/tasks/latest", fresh_for=0, refusals={404: "No task was published yet."})
def latest_task() -> LatestTask:
    """The newest task that validators may judge."""
    task = store.latest_task()
    if task is None:
        raise NotFound("No task sampled yet", code="no_task")
    return LatestTask(task_id=task)


@api.get("/tasks", fresh_for=caching.BLOCK, refusals=_NOT_AN_ADDRESS)
def tasks(query: MinerTasksQuery) -> list[MinerTask]:
    """Every task of a miner with its verdict as stakes are now, newest first; `X-Truncated` beyond fifty thousand."""
    return fitting(routes_samples.tasks_of_miner(ss58(query.miner_hotkey)))


@api.get("/tasks/{task_id}", fresh_for=caching.BLOCK, refusals={404: "No such task."})
def task(task_id: str) -> TaskDetail:
    """Every miner's verdict on one task."""
    return routes_samples.task(_task_number(task_id), _clip_url)


@api.get(
    "/tasks/{task_id}/miner/{miner_hotkey}",
    fresh_for=caching.BLOCK,
    refusals={**_NOT_AN_ADDRESS, 404: "Nobody judged it."},
)
def task_of_miner(task_id: str, miner_hotkey: str) -> TaskMinerDetail:
    """One miner's clip of one task: where it stands, and every verdict on it."""
    return routes_samples.task_of_miner(_task_number(task_id), ss58(miner_hotkey), _clip_url)


def _task_number(text: str) -> int:
    if not (text.isascii() and text.isdecimal()) or len(text) > _LONGEST_TASK:
        raise NotFound("Not Found", code="route_not_found")
    return int(text)


def _clip_url(path: str) -> str | None:
    """Signed for the configured bucket only, whatever bucket a validator named; nothing where there is none."""
    bucket = LeomaSettings.current().samples_bucket
    return Bucket(bucket).presign_get(path, _CLIP_URL_SECONDS) if bucket else None


# --- blacklist


@api.get("/blacklist", fresh_for=0)
def blacklist() -> list[BlacklistEntry]:
    """Every blacklisted hotkey, oldest entry first."""
    return store.blacklist()


@api.get("/blacklist/miners", fresh_for=0)
def blacklisted_hotkeys() -> list[str]:
    """The blacklisted hotkeys alone."""
    return [entry.hotkey for entry in store.blacklist()]


@api.get("/blacklist/{hotkey}", fresh_for=0, refusals={**_NOT_AN_ADDRESS, 404: "Not blacklisted."})
def blacklist_entry(hotkey: str) -> BlacklistEntry:
    """One entry."""
    return store.blacklist_entry(ss58(hotkey))


@api.post("/blacklist", auth=admin)
def add_to_blacklist(body: NewBlacklistEntry, caller: str) -> BlacklistEntry:
    """Blacklist a hotkey; a repeat replaces the reason."""
    return store.add_to_blacklist(body.hotkey, body.reason, caller)


@api.delete("/blacklist/{hotkey}", auth=admin, refusals={**_NOT_AN_ADDRESS, 404: "Not blacklisted."})
def remove_from_blacklist(hotkey: str, caller: str) -> BlacklistRemoval:
    """Take a hotkey off the blacklist."""
    store.remove_from_blacklist(ss58(hotkey))
    message = f"Removed miner {hotkey[:8]}... from blacklist"
    return BlacklistRemoval(success=True, message=message, removed_by=caller)
