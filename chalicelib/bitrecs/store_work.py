"""Bitrecs' access patterns of the evaluation: sessions, queues, claims, runs, scores, snapshots.

| #  | question                        | key                            | consistency | cost                    |
|----|---------------------------------|--------------------------------|-------------|-------------------------|
| 1  | who calls: session and API key  | SESSION#{id}, KEYS             | strong      | 1 batch get             |
| 2  | open or keep a session          | SESSION#{id}, SESSIONS/LIVE    | transaction | 1 transact              |
| 3  | the head of a queue             | QUEUE#{stage}                  | strong      | 1 query of 50           |
| 4  | claim: place, runs, session     | up to 12 items                 | transaction | 1 transact              |
| 5  | a run; its next state; its logs | RUN#{id}                       | strong      | 1 get, 1 write, objects |
| 6  | an evaluation with its runs     | AGENT#{id}/EVAL#{id}, RUN#{id} | strong      | 1 get, 1 batch get      |
| 7  | settle an evaluation            | up to 25 items                 | transaction | 1 transact              |
| 8  | evaluations of an agent         | AGENT#{id}, RUN#{id}           | strong      | 1 query, 1 batch get    |
| 9  | scores of a set (jobs only)     | SCORE#{set}, FINAL#{set}       | strong      | queries                 |
| 10 | what pollers read               | object snapshots/{name}.json   | -           | 1 object                |
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from chalicelib.kernel import clock, codec, tokens
from chalicelib.kernel.tables import ConditionFailed, Write, get_many, transact
from chalicelib.kernel.values import fields, frozen
from chalicelib.kernel.wire import Item, WireItem

from .contracts import ScoreRow
from .contracts_work import Entry
from .store import bucket, table

_PAGE = 50
_UNMOVED = "#rev = :rev"
_LOG_TYPES = {"agent": "agent", "eval": "eval"}


@frozen
class Settlement:
    """7: how an evaluation ended and what follows for its agent."""

    evaluation: Item
    status: str
    score: float | None
    before: Entry | None
    entry: Entry | None
    agent_before: str
    agent_after: str
    final_score: float | None
    top: float | None
    scores: Sequence[ScoreRow]
    lost_runs: Mapping[str, tuple[str, int, str]]
    session_id: str
    ends_session: bool


def caller(session_id: str, key: str | None) -> tuple[Item | None, bool]:
    """1: the session, and whether the API key is one."""
    digest = tokens.digest(key or "")
    session, found = get_many([(table, f"SESSION#{session_id}", "-"), (table, "KEYS", digest)])
    return session, bool(key) and found is not None and "revoked_at" not in found


def session(session_id: str) -> Item | None:
    """1"""
    return table.get(f"SESSION#{session_id}", "-")


def slot_of(name: str) -> str:
    """The attribute of SESSIONS/LIVE that stands for a validator or screener."""
    return "s_" + name.replace("-", "_")


def live_sessions(live: Mapping[str, Any]) -> dict[str, tuple[str, float]]:
    """Session id and last heartbeat by slot."""
    return {slot: (held["session"], held["at"]) for slot, held in live.items() if slot.startswith("s_")}


def open_session(item: Item, *, dead_before: float) -> bool:
    """2: False while another session of this name is alive."""
    slot, now = slot_of(item["name"]), item["connected_at"]
    free = f"attribute_not_exists(#{slot}) OR #{slot}.#at <= :dead"
    held = {"session": item["session_id"], "at": now}
    writes = [
        table.putting_new({"pk": f"SESSION#{item['session_id']}", "sk": "-", **item}),
        table.updating("SESSIONS", "LIVE", f"SET #{slot} = :held", when=free, held=held, dead=dead_before),
    ]
    try:
        transact(writes)
    except ConditionFailed:
        return False
    return True


def live() -> Item:
    """2"""
    return table.get("SESSIONS", "LIVE") or {}


def keep_alive(found: Mapping[str, Any], metrics: str) -> bool:
    """2: False when the session was closed meanwhile."""
    slot, session_id, now = slot_of(found["name"]), found["session_id"], clock.now()
    writes = [
        table.updating(
            f"SESSION#{session_id}", "-", "SET #heartbeat_at = :now, #metrics = :metrics",
            when="attribute_exists(#pk)", now=now, metrics=metrics,
        ),
        table.updating(
            "SESSIONS", "LIVE", f"SET #{slot}.#at = :now", when=f"#{slot}.#session = :id", now=now, id=session_id
        ),
    ]  # fmt: skip
    try:
        transact(writes)
    except ConditionFailed:
        return False
    return True


def end_idle_session(found: Mapping[str, Any]) -> bool:
    """Remove a session that runs nothing; False when it began something meanwhile."""
    try:
        table.delete(f"SESSION#{found['session_id']}", "-", when="attribute_not_exists(#evaluation_id)")
    except ConditionFailed:
        return False
    leave_slot(found)
    return True


def leave_slot(found: Mapping[str, Any]) -> None:
    """A slot that another session took meanwhile stays."""
    slot = slot_of(found["name"])
    try:
        table.update(
            "SESSIONS", "LIVE", f"REMOVE #{slot}", when=f"#{slot}.#session = :id", id=found["session_id"]
        )  # fmt: skip
    except ConditionFailed:
        return


def clear_slot(slot: str, session_id: str) -> None:
    """The same for a session that is gone."""
    try:
        table.update("SESSIONS", "LIVE", f"REMOVE #{slot}", when=f"#{slot}.#session = :id", id=session_id)
    except ConditionFailed:
        return


def sessions(session_ids: Sequence[str]) -> list[Item]:
    return [found for found in get_many([(table, f"SESSION#{one}", "-") for one in session_ids]) if found]


def entry_item(entry: Entry) -> Item:
    """An entry as it stands in its queue; a set may not be empty in a table."""
    item = {"pk": f"QUEUE#{entry.stage}", "sk": entry.place, **asdict(entry), "by": set(entry.by)}
    if not entry.by:
        del item["by"]
    return item


def entry_of(item: Mapping[str, Any]) -> Entry:
    held = {field.name: item[field.name] for field in fields(Entry) if field.name in item}
    return Entry(**{**held, "by": tuple(sorted(item.get("by", ()))), "scores": tuple(item["scores"])})


def queue(stage: str, start: WireItem | None = None, *, limit: int = _PAGE) -> tuple[list[Entry], WireItem | None]:
    """3: best first, then oldest."""
    page = table.query(f"QUEUE#{stage}", consistent=True, limit=limit, start=start)
    return [entry_of(item) for item in page.items], page.next_key


def entry(stage: str, place: str) -> Entry | None:
    item = table.get(f"QUEUE#{stage}", place)
    return entry_of(item) if item else None


def claim(entry: Entry, found: Mapping[str, Any], evaluation: Item, runs: Sequence[Item]) -> None:
    """4: the place is free, the caller is not on it yet and idle, the miner is not banned: or nothing happens."""
    writes = [
        table.updating(
            f"QUEUE#{entry.stage}", entry.place, "SET #free = #free - :one, #rev = #rev + :one ADD #by :me",
            when="#free > :none AND NOT contains(#by, :name)", one=1, none=0, me={found["name"]}, name=found["name"],
        ),
        table.updating(
            f"SESSION#{found['session_id']}", "-", "SET #evaluation_id = :evaluation, #agent_id = :agent",
            when="attribute_exists(#pk) AND attribute_not_exists(#evaluation_id)",
            evaluation=evaluation["evaluation_id"], agent=entry.agent_id,
        ),
        table.checking("BAN", entry.hotkey, when="attribute_not_exists(#pk)"),
        table.putting_new(
            {"pk": f"AGENT#{entry.agent_id}", "sk": f"EVAL#{evaluation['evaluation_id']}", **evaluation}
        ),
        *(table.putting_new({"pk": f"RUN#{run['evaluation_run_id']}", "sk": "-", **run}) for run in runs),
    ]  # fmt: skip
    transact(writes)


CLAIM_OF_SESSION = 1
CLAIM_OF_BAN = 2


def run(run_id: str) -> Item | None:
    """5"""
    return table.get(f"RUN#{run_id}", "-")


def advance_run(run_id: str, before: str, changes: Item) -> bool:
    """5: False when the run is no longer in the state it was seen in."""
    change = "SET " + ", ".join(f"#{name} = :{name}" for name in changes)
    try:
        table.update(f"RUN#{run_id}", "-", change, when="#status = :before", before=before, **changes)
    except ConditionFailed:
        return False
    return True


def keep_log(run_id: str, kind: str, text: str, *, largest: int) -> None:
    """5: what is beyond the limit is cut off."""
    raw = text.encode("utf-8", "replace")[:largest]
    bucket().put(f"logs/{run_id}/{kind}.txt", raw, content_type="text/plain; charset=utf-8")


def log(run_id: str, kind: str) -> str | None:
    raw = bucket().get(f"logs/{run_id}/{_LOG_TYPES[kind]}.txt")
    return None if raw is None else raw.decode("utf-8", "replace")


def evaluation(agent_id: str, evaluation_id: str) -> Item | None:
    """6"""
    return table.get(f"AGENT#{agent_id}", f"EVAL#{evaluation_id}")


def runs_of(evaluations: Iterable[Mapping[str, Any]]) -> list[Item]:
    """6, 8"""
    ids = [run_id for found in evaluations for run_id in found["run_ids"]]
    return [found for found in get_many([(table, f"RUN#{run_id}", "-") for run_id in ids]) if found]


def evaluations_of(agent_id: str) -> list[Item]:
    """8: oldest first."""
    page = table.query(
        f"AGENT#{agent_id}", where="begins_with(#sk, :prefix)", values={"prefix": "EVAL#"}, consistent=True, limit=100
    )
    return sorted(page.items, key=lambda item: item["created_at"])


def top_score(set_id: int) -> float | None:
    item = table.get(f"TOP#{set_id}", "-")
    return item["score"] if item else None


def settle(settled: Settlement) -> None:
    """7: ConditionFailed when anything moved since it was read."""
    found = settled.evaluation
    agent_id, now = found["agent_id"], clock.now()
    writes = [
        table.updating(
            f"AGENT#{agent_id}", f"EVAL#{found['evaluation_id']}",
            "SET #status = :status, #score = :score, #finished_at = :now", when="#status = :running",
            status=settled.status, score=settled.score, now=now, running="running",
        ),
        _leaving_session(settled),
        *_lost_runs(settled.lost_runs, now),
        *_moving_entry(settled),
        table.updating("STATE", "scores", "ADD #rev :one", one=1),
    ]  # fmt: skip
    if settled.score is not None:
        change = "ADD #{group}_sum :score, #{group}_wait :waited, #{group}_count :one".replace(
            "{group}", found["evaluation_set_group"]
        )
        values = {"score": settled.score, "waited": found["waited"], "one": 1}
        writes.append(table.updating(f"STATS#{found['set_id']}", "-", change, **values))
    if settled.agent_after != settled.agent_before or settled.final_score is not None:
        writes.append(
            table.updating(
                f"AGENT#{agent_id}", "META", "SET #status = :after, #final_score = :final", when="#status = :before",
                after=settled.agent_after, before=settled.agent_before, final=settled.final_score,
            )
        )  # fmt: skip
    writes += _score_writes(settled, now)
    transact(writes)


def _leaving_session(settled: Settlement) -> Write:
    ours = "#evaluation_id = :evaluation"
    evaluation_id = settled.evaluation["evaluation_id"]
    key = (f"SESSION#{settled.session_id}", "-")
    if settled.ends_session:
        return table.deleting(*key, when=ours, evaluation=evaluation_id)
    return table.updating(*key, "REMOVE #evaluation_id, #agent_id", when=ours, evaluation=evaluation_id)


def _lost_runs(lost: Mapping[str, tuple[str, int, str]], now: float) -> list[Write]:
    """Each run with the state it was seen in and the platform's error for that state."""
    return [
        table.updating(
            f"RUN#{run_id}", "-",
            "SET #status = :error, #error_code = :code, #error_message = :message, #finished_or_errored_at = :now",
            when="#status = :seen", error="error", code=code, message=message, seen=seen, now=now,
        )
        for run_id, (seen, code, message) in lost.items()
    ]  # fmt: skip


def _moving_entry(settled: Settlement) -> list[Write]:
    before, after = settled.before, settled.entry
    if before is None:
        return []
    if after and (after.stage, after.place) == (before.stage, before.place):
        return [table.putting(entry_item(after), when=_UNMOVED, rev=before.rev)]
    gone = table.deleting(f"QUEUE#{before.stage}", before.place, when=_UNMOVED, rev=before.rev)
    return [gone, table.putting_new(entry_item(after))] if after else [gone]


def _score_writes(settled: Settlement, now: float) -> list[Write]:
    set_id, agent_id = settled.evaluation["set_id"], settled.evaluation["agent_id"]
    writes = [
        table.putting({"pk": f"SCORE#{set_id}", "sk": f"{row.hotkey}#{row.task_name}#{row.run_id}", **row.model_dump()})
        for row in settled.scores
    ]
    if settled.final_score is None:
        return writes
    final = {"agent_id": agent_id, "score": settled.final_score, "at": now, "validator_count": _validators(settled)}
    writes.append(table.putting({"pk": f"FINAL#{set_id}", "sk": agent_id, **final}))
    if settled.top is None or settled.final_score > settled.top:
        writes.append(
            table.putting(
                {"pk": f"TOP#{set_id}", "sk": "-", "agent_id": agent_id, "score": settled.final_score},
                when="attribute_not_exists(#score) OR #score < :score", score=settled.final_score,
            )
        )  # fmt: skip
    return writes


def _validators(settled: Settlement) -> int:
    earlier = len(settled.before.scores) if settled.before else 0
    return earlier + (settled.score is not None)


def scores(set_id: int) -> list[ScoreRow]:
    """9"""
    return [ScoreRow.model_validate(item) for item in table.query_all(f"SCORE#{set_id}", consistent=True)]


def finals(set_id: int) -> list[Item]:
    """9"""
    return list(table.query_all(f"FINAL#{set_id}", consistent=True))


def averages(set_id: int) -> tuple[dict[str, float], dict[str, float]]:
    """Of the successful evaluations by group: mean score, and mean seconds from a stage's queue to a claim."""
    item = table.get(f"STATS#{set_id}", "-") or {}
    counts = {name.removesuffix("_count"): count for name, count in item.items() if name.endswith("_count")}
    scores = {group: item[f"{group}_sum"] / count for group, count in counts.items()}
    return scores, {group: item[f"{group}_wait"] / count for group, count in counts.items()}


def snapshot_mark() -> str:
    """What the snapshots were last made of."""
    item = table.get("STATE", "snapshots")
    return str(item["mark"]) if item else ""


def set_snapshot_mark(mark: str) -> None:
    table.put({"pk": "STATE", "sk": "snapshots", "mark": mark, "at": clock.now()})


def scores_revision() -> int:
    """How often anything that a snapshot shows has changed."""
    item = table.get("STATE", "scores")
    return item["rev"] if item else 0


def note_change() -> None:
    table.update("STATE", "scores", "ADD #rev :one", one=1)


def keep_weights(item: Item) -> None:
    stamp = clock.stamp(clock.now())
    table.put({"pk": f"WEIGHTS#{item['evaluation_set_id']}", "sk": f"{stamp}#{clock.new_hex(4)}", **item})


def save_snapshot(name: str, value: Any) -> None:
    """10"""
    bucket().put(f"snapshots/{name}.json", codec.encode(value), content_type="application/json")


def snapshot(name: str) -> bytes | None:
    """10: the object as it is; nobody parses it on the way."""
    return bucket().get(f"snapshots/{name}.json")
