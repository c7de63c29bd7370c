"""Pool's access patterns of results: programs with their judgements, verification, what is verified (rows 20 to 23)."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from chalicelib.kernel.errors import Contended
from chalicelib.kernel.tables import ConditionFailed, Write, get_many, transact
from chalicelib.kernel.wire import Item

from .contracts import TASK_TYPES
from .contracts_records import Algorithm, Credit, Judgement, Miner, Sota
from .store import already_used, counting_pool, miner_key, table
from .store_items import algorithm_of, judgement_of, score_key, sota_item, sota_of
from .store_work import BOARD_ELITES, fingerprint_key, owing

EVERYTHING = "ALL"


class OwnResult(Exception):
    """The author's coldkey is the caller's by now."""


def program(number: int) -> tuple[Algorithm | None, str, Judgement | None, dict[str, Sota]]:
    """20: what there is of a program, and every state of the art."""
    parts = [(table, f"ALG#{number}", part) for part in ("HEAD", "TEXT", "STATE")]
    head, text, state, *sotas = get_many([*parts, *((table, "SOTA", task) for task in TASK_TYPES)])
    found = {item["sk"]: sota_of(item) for item in sotas if item}
    if not head or not text:
        return None, "", None, found
    return algorithm_of(head), text["dsl"], judgement_of(state) if state else None, found


def repeats(algorithm: Algorithm) -> dict[str, int]:
    """How often the same program was handed in again, by its author and in all."""
    item = table.get(*fingerprint_key(algorithm.task_type, algorithm.input_dim, algorithm.fingerprint)[1:]) or {}
    return {"own": item.get("repeats_own", 0), "all": item.get("repeats_all", 0)}


def verify(
    algorithm: Algorithm,
    text: str,
    state: Judgement,
    caller: Miner,
    *,
    now: float,
    sota: tuple[Sota | None, Sota | None],
    credit: Credit,
    guard: Write | None,
) -> None:
    """21: the first verifier counts; the result is listed, the state of the art rises, the author is owed."""
    change = "SET #status = :verified, #verified_at = :now, #verified_by = :by"
    values: dict[str, Any] = {"verified": "verified", "completed": "completed", "by": caller.hotkey, "now": now}
    marking = table.updating(f"ALG#{algorithm.id}", "STATE", change, when="#status = :completed", **values)
    author = miner_key(algorithm.author)[1:]
    apart = "attribute_not_exists(#recipient) OR #recipient <> :mine"
    row = _result_row(algorithm, text, state, caller.hotkey, now)
    key = f"{score_key(row['score'])}#{algorithm.id:012d}"
    elite = {"id": algorithm.id, "input_dim": algorithm.input_dim, "score": row["score"]}
    writes = [
        marking,
        table.checking(*author, when=apart, mine=caller.paid_to),
        *(table.putting({"pk": f"RESULTS#{name}", "sk": key} | row) for name in (EVERYTHING, algorithm.task_type)),
        table.putting({"pk": f"WORK#{algorithm.task_type}", "sk": f"E#{key}"} | elite),
        *_raising(*sota, algorithm.task_type),
        *counting_pool(caller.hotkey, {"verified": 1}),
        *owing([credit], f"verified-{algorithm.id}", now),
        *([guard] if guard else []),
    ]
    try:
        transact(writes)
    except ConditionFailed as failure:
        if guard and len(writes) - 1 in failure.failed:
            raise already_used() from None
        if set(failure.failed) == {1}:
            raise OwnResult from None
        raise Contended from None


def _raising(current: Sota | None, better: Sota | None, task_type: str) -> list[Write]:
    """The new one instead of exactly the one that it was compared with; where none is better, that one still stands."""
    premise, values = "attribute_not_exists(#pk)", {}
    if current:
        premise, values = "#result_id = :old", {"old": current.result_id}
    if better:
        return [table.putting(sota_item(better), when=premise, **values)]
    return [table.checking("SOTA", task_type, when=premise, **values)]


def _result_row(algorithm: Algorithm, text: str, state: Judgement, verifier: str, now: float) -> Item:
    assert state.score is not None
    return {
        "id": algorithm.id,
        "task_type": algorithm.task_type,
        "input_dim": algorithm.input_dim,
        "dsl": text,
        "score": state.score,
        "author": algorithm.author,
        "parents": list(algorithm.parents),
        "evaluations": len(state.votes),
        "window": algorithm.window,
        "completed_at": state.completed_at,
        "verified_at": now,
        "verified_by": verifier,
    }


def results(task_type: str | None, limit: int, min_score: float | None) -> list[Item]:
    """22: the best first."""
    bound: dict[str, Any] = {}
    if min_score is not None:
        if min_score > 1:
            return []
        bound = {"where": "#sk <= :worst", "values": {"worst": f"{score_key(max(min_score, 0.0))}~"}}
    found: list[Item] = []
    for item in table.query_all(f"RESULTS#{task_type or EVERYTHING}", consistent=True, limit=limit, **bound):
        if min_score is None or item["score"] >= min_score:
            found.append(item)
        if len(found) == limit:
            break
    return found


def sota(task_type: str) -> Sota | None:
    """23: one problem's."""
    item = table.get("SOTA", task_type)
    return sota_of(item) if item else None


def trim_elites() -> None:
    """Boards keep the best results as parents, not all."""
    for task_type in TASK_TYPES:
        bounds: dict[str, Any] = {"where": "#sk BETWEEN :first AND :last", "values": {"first": "E#", "last": "E~"}}
        rows = list(table.query_all(f"WORK#{task_type}", fields=("pk", "sk"), **bounds))
        table.delete_many((row["pk"], row["sk"]) for row in rows[BOARD_ELITES:])


def known_ids(ids: Iterable[int]) -> dict[int, Algorithm]:
    """Those of the ids that name a program."""
    wanted = list(dict.fromkeys(ids))
    found = get_many([(table, f"ALG#{number}", "HEAD") for number in wanted]) if wanted else []
    return {number: algorithm_of(item) for number, item in zip(wanted, found, strict=True) if item}
