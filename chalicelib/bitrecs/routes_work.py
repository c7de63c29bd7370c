"""Validators and screeners: sessions, claims, runs. A refusal of work ends the session, as its clients expect."""

from __future__ import annotations

import hmac
import re
from collections.abc import Mapping
from typing import Any

from chalicelib.kernel import clock, codec, flows, keys
from chalicelib.kernel.errors import (
    Conflict,
    Contended,
    Forbidden,
    Internal,
    Invalid,
    Malformed,
    Refusal,
    Unauthenticated,
    Unavailable,
)
from chalicelib.kernel.http import Answer, Request
from chalicelib.kernel.tables import ConditionFailed, get_many, until_decided
from chalicelib.kernel.wire import Item

from . import domain_stages as stages
from . import domain_views, store, store_work, tasks_sessions, tasks_sets
from .contracts import BitrecsSettings
from .contracts_work import (
    Disconnect,
    Empty,
    Entry,
    Heartbeat,
    Registered,
    RunUpdate,
    ScreenerRegistration,
    ValidatorRegistration,
    Work,
    WorkRun,
)
from .routes_gate import api, dropping, evaluator, key_holder, reader, screener

_REGISTRATION_WINDOW_SECONDS = 300
_SCREENER = re.compile(r"screener-([0-9]+)-[0-9]+")
_CLASSES = {"1": "screener_1", "2": "screener_2"}
_MOST_METRIC_BYTES = 4096
_PAGES_PER_CLAIM = 4
_TRIES_PER_CLAIM = 5
_WORK = {409: "The session is in another state; it ends with this answer."}


class _Taken(Exception):
    """Somebody else was faster at this place."""


class _Banned(Exception):
    """The miner of this place is banned; nobody takes it."""


@api.post(
    "/validator/register-as-validator",
    auth=key_holder,
    refusals={400: "Too old.", 403: "Not whitelisted.", 409: "Connected already."},
)
def register_validator(body: ValidatorRegistration) -> Registered:
    """Open a session: the hotkey signs the decimal Unix time."""
    known = store.validator(body.hotkey)
    if not known:
        text = "The provided hotkey is not in the list of whitelisted validator hotkeys."
        raise Forbidden(text, code="validator_not_whitelisted")
    if not _signed_time(body):
        text = "The provided signed timestamp does not match the provided timestamp."
        raise Unauthenticated(text, code="signature_invalid")
    if abs(int(clock.now()) - body.timestamp) > _REGISTRATION_WINDOW_SECONDS:
        text = "The provided timestamp is not within 5 minutes of the current time."
        raise Malformed(text, code="timestamp_expired")
    taken = "There is already a validator connected with the given hotkey."
    return _open(body.hotkey, known["name"], "validator", body.commit_hash, taken)


@api.post(
    "/validator/register-as-screener",
    auth=screener,
    refusals={400: "Not a screener's name.", 403: "Wrong password.", 409: "Connected already."},
)
def register_screener(body: ScreenerRegistration) -> Registered:
    """Open a session under a screener's name, with the operator's password."""
    name = _SCREENER.fullmatch(body.name)
    if not name:
        raise Malformed("The provided name is not in the format screener-CLASS-NUM.", code="bad_screener_name")
    if name[1] not in _CLASSES:
        raise Malformed("The screener class must be either 1 or 2.", code="bad_screener_class")
    password = BitrecsSettings.current().screener_password
    if not password or not hmac.compare_digest(password.encode(), body.password.encode("utf-8", "surrogateescape")):
        raise Forbidden("The provided password is incorrect.", code="wrong_password")
    taken = "There is already a screener connected with the given name."
    return _open(body.name, body.name, _CLASSES[name[1]], body.commit_hash, taken)


@api.post("/validator/request-evaluation", auth=evaluator, body=Empty, refusals=_WORK)
def request_evaluation(caller: Item) -> Answer:
    """The best agent that waits for this caller, with the runs to do; `null` when none waits."""
    try:
        work = until_decided(lambda: _claim(caller))
    except Unavailable:
        raise
    except Refusal as refusal:
        raise dropping(caller, refusal) from None
    return Answer(codec.encode(work))


@api.post("/validator/heartbeat", auth=evaluator)
def heartbeat(body: Heartbeat, caller: Item) -> Empty:
    """Stay connected."""
    metrics = codec.encode(body.system_metrics)
    if len(metrics) > _MOST_METRIC_BYTES:
        raise Invalid(f"system_metrics are larger than {_MOST_METRIC_BYTES} bytes.", code="metrics_too_large")
    if not until_decided(lambda: store_work.keep_alive(caller, metrics.decode())):
        raise stages.unknown_session()
    return Empty()


@api.post(
    "/validator/update-evaluation-run",
    auth=evaluator,
    body=RunUpdate,
    refusals=_WORK | {400: "Not the next state.", 403: "Another session's run.", 404: "No such run."},
)
def update_run(request: Request) -> Empty:
    """Move a run to its next state; the state it is in already is taken for a repetition."""
    session: Item = request.caller
    try:
        until_decided(lambda: _update(session, request.read_body(RunUpdate)))
    except (Unavailable, Internal):
        raise
    except Refusal as refusal:
        raise dropping(session, refusal) from None
    return Empty()


@api.post("/validator/finish-evaluation", auth=evaluator, body=Empty, refusals=_WORK)
def finish_evaluation(caller: Item) -> Empty:
    """Every run has ended: the evaluation counts."""
    try:
        tasks_sessions.finish(caller)
    except Unavailable:
        raise
    except Refusal as refusal:
        raise dropping(caller, refusal) from None
    return Empty()


@api.post("/validator/disconnect", auth=evaluator)
def disconnect(body: Disconnect, caller: Item, request: Request) -> Empty:
    """Leave; what was running goes back to the queue."""
    request.notes["reason"] = body.reason[:200]
    tasks_sessions.close(caller["session_id"])
    return Empty()


@api.get("/validator/connected-validators-info", auth=reader)
def connected_validators() -> list[dict[str, Any]]:
    """Who is connected, and on what they work."""
    settings = BitrecsSettings.current()
    live = store_work.live_sessions(store_work.live())
    sessions = store_work.sessions([session_id for session_id, _ in live.values()])
    alive = [session for session in sessions if tasks_sessions.is_alive(session, settings)]
    return [domain_views.connected(*one) for one in _with_work(alive)]


@api.post("/scoring/weight-set", auth=key_holder, refusals={422: "No JSON."})
def weight_set(request: Request) -> dict[str, str]:
    """What a validator set on chain; an answer of 200 says whether it was kept."""
    given = request.json
    needed = ("validator_hotkey", "wta_uid", "wta_hotkey", "wta_weight", "weights")
    if not isinstance(given, dict) or any(given.get(name) in (None, "") for name in needed):
        return {"status": "error", "message": "Missing required fields in weight set"}
    kept = codec.encode(given)
    if len(kept) > _MOST_METRIC_BYTES * 16:
        return {"status": "error", "message": "The weight set is too large"}
    set_id = tasks_sets.first_set()["set_id"]
    store_work.keep_weights({"evaluation_set_id": set_id, "weight_set": kept.decode(), "at": clock.now()})
    return {"status": "success"}


def _signed_time(body: ValidatorRegistration) -> bool:
    try:
        key, signature = keys.public_key(body.hotkey), keys.signature_from_hex(body.signed_timestamp)
    except (keys.BadAddress, keys.BadSignature):
        return False
    return keys.verify(key, str(body.timestamp).encode(), signature)


def _open(name: str, label: str, group: str, commit_hash: str, taken: str) -> Registered:
    settings, now = BitrecsSettings.current(), clock.now()
    dead_before = now - settings.validator_heartbeat_timeout_seconds
    session = {
        "session_id": clock.new_uuid(),
        "name": name,
        "label": label,
        "group": group,
        "commit_hash": commit_hash,
        "connected_at": now,
        "heartbeat_at": now,
        "metrics": "",
    }
    earlier = store_work.live_sessions(store_work.live()).get(store_work.slot_of(name))
    if earlier and earlier[1] < dead_before:
        tasks_sessions.close(earlier[0])
    if not until_decided(lambda: store_work.open_session(session, dead_before=dead_before)):
        raise Conflict(taken, code="already_connected")
    if not store.wait_for("WAKE", 1):
        flows.wake("bitrecs-similarity")
    return Registered(
        session_id=session["session_id"],
        running_agent_timeout_seconds=settings.validator_running_agent_timeout_seconds,
        running_eval_timeout_seconds=settings.validator_running_eval_timeout_seconds,
        max_evaluation_run_log_size_bytes=settings.max_evaluation_run_log_size_bytes,
    )


def _claim(session: Item) -> Work | None:
    """Try the candidates in order; whoever is faster takes the one in front of us, and we the next."""
    if "evaluation_id" in session:
        raise stages.already_running()
    current = tasks_sets.first_set()
    tries = 0
    start = None
    for _ in range(_PAGES_PER_CLAIM):
        entries, start = store_work.queue(session["group"], start)
        for entry in entries:
            if entry.free <= 0 or session["name"] in entry.by:
                continue
            try:
                return _take(session, entry, current)
            except _Banned:
                continue
            except _Taken:
                tries += 1
            if tries >= _TRIES_PER_CLAIM:
                raise Contended
        if not start:
            return None
    return None


def _take(session: Item, entry: Entry, current: Mapping[str, Any]) -> Work:
    evaluation_id, now = clock.new_uuid(), clock.now()
    names = [one["problem_name"] for one in current["problems"] if one["set_group"] == session["group"]]
    common = {"evaluation_id": evaluation_id, "agent_id": entry.agent_id, "created_at": now}
    runs = [
        {**common, "evaluation_run_id": clock.new_uuid(), "problem_name": name, "status": "pending",
         "session_id": session["session_id"]}
        for name in names
    ]  # fmt: skip
    evaluation = {
        **common,
        "validator_hotkey": session["name"],
        "session_id": session["session_id"],
        "set_id": current["set_id"],
        "evaluation_set_group": session["group"],
        "place": entry.place,
        "waited": max(0.0, now - entry.since),
        "status": "running",
        "run_ids": [run["evaluation_run_id"] for run in runs],
    }
    try:
        store_work.claim(entry, session, evaluation, runs)
    except ConditionFailed as lost:
        if store_work.CLAIM_OF_SESSION in lost.failed:
            raise _session_moved(session) from None
        raise (_Banned if store_work.CLAIM_OF_BAN in lost.failed else _Taken) from None
    watch = {"session_id": session["session_id"], "evaluation_id": evaluation_id, "agent_id": entry.agent_id}
    seconds = BitrecsSettings.current().validator_heartbeat_timeout_seconds + 1
    flows.start_or_leave("bitrecs-watch", f"{evaluation_id}-1", {**watch, "seconds": seconds})
    handed = [WorkRun(evaluation_run_id=run["evaluation_run_id"], problem_name=run["problem_name"]) for run in runs]
    return Work(evaluation_runs=handed)


def _session_moved(session: Item) -> Refusal:
    found = store_work.session(session["session_id"])
    return stages.already_running() if found else stages.unknown_session()


def _update(session: Item, update: RunUpdate) -> None:
    if "evaluation_id" not in session:
        raise stages.none_running()
    run = store_work.run(update.evaluation_run_id)
    if not run:
        raise stages.unknown_run(update.evaluation_run_id)
    if run["session_id"] != session["session_id"] or run["evaluation_id"] != session["evaluation_id"]:
        raise stages.not_your_run(update.evaluation_run_id)
    stages.check_companions(update)
    if run["status"] == update.updated_status:
        return
    stages.check_transition(run["status"], update.updated_status)
    changes = stages.kept_of(update)
    largest = BitrecsSettings.current().max_evaluation_run_log_size_bytes
    for kind, text in (("agent", update.agent_logs), ("eval", update.eval_logs)):
        if text is not None:
            store_work.keep_log(update.evaluation_run_id, kind, text, largest=largest)
    changes |= {"status": update.updated_status, stages.STARTED_AT[update.updated_status]: clock.now()}
    if not store_work.advance_run(update.evaluation_run_id, run["status"], changes):
        raise Contended


def _with_work(sessions: list[Item]) -> list[tuple[Item, Item | None, Item | None]]:
    wanted = [
        (store.table, f"AGENT#{one.get('agent_id', '-')}", kind)
        for one in sessions
        for kind in (f"EVAL#{one.get('evaluation_id', '-')}", "META")
    ]
    found = get_many(wanted)
    return [(one, found[2 * at], found[2 * at + 1]) for at, one in enumerate(sessions)]
