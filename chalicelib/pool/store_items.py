"""Items of Pool's table as values, and back."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict
from typing import Any

from chalicelib.kernel.wire import Item

from .contracts_records import Algorithm, Assignment, Candidate, Judgement, Seed, Sota, Vote

_KEPT_SECONDS = 7 * 86400
_SCORE_STEPS = 10**15


def candidate_item(algorithm: Algorithm, slots: int) -> Item:
    return {
        "pk": f"WORK#{algorithm.task_type}",
        "sk": f"C#{algorithm.id:012d}",
        "id": algorithm.id,
        "input_dim": algorithm.input_dim,
        "author": algorithm.author,
        "author_recipient": algorithm.author_recipient,
        "created_at": algorithm.created_at,
        "capacity": slots,
        "slots_open": slots,
        "votes": [],
        "votes_n": 0,
        "holders": {},
    }


def candidate_of(item: Item, task_type: str) -> Candidate:
    return Candidate(
        id=item["id"],
        task_type=task_type,
        input_dim=item["input_dim"],
        author=item["author"],
        author_recipient=item["author_recipient"],
        created_at=item["created_at"],
        capacity=item["capacity"],
        slots_open=item["slots_open"],
        votes=votes_of(item["votes"]),
        holders=item["holders"],
    )


def seed_item(algorithm: Algorithm) -> Item:
    return {
        "pk": f"WORK#{algorithm.task_type}",
        "sk": f"S#{algorithm.id:012d}",
        "id": algorithm.id,
        "input_dim": algorithm.input_dim,
        "score": None,
        "votes": [],
        "votes_n": 0,
        "judged": False,
    }


def seed_of(item: Item, task_type: str) -> Seed:
    score = item["score"]
    return Seed(
        id=item["id"],
        task_type=task_type,
        input_dim=item["input_dim"],
        score=None if score is None else float(score),
        votes=votes_of(item["votes"]),
        judged=item["judged"],
    )


def elite_of(item: Item, task_type: str) -> Seed:
    return Seed(item["id"], task_type, item["input_dim"], float(item["score"]), judged=True, elite=True)


def votes_of(entries: Iterable[dict[str, Any]]) -> tuple[Vote, ...]:
    return tuple(
        Vote(entry["hotkey"], entry["recipient"], float(entry["score"]), float(entry["at"]), entry["window"])
        for entry in entries
    )


def assignment_item(found: Assignment) -> Item:
    """While it is active, the index of what is due holds it."""
    item = {"pk": f"ASSIGN#{found.id}", "sk": "META"} | asdict(found)
    return item | {
        "due_pk": "DUE",
        "due_sk": f"{found.timeout_at:017.6f}#{found.id}",
        "ttl": int(found.timeout_at) + _KEPT_SECONDS,
    }


def assignment_of(item: Item) -> Assignment:
    numbers: dict[str, Any] = {
        name: tuple(item[name]) for name in ("candidate_ids", "seed_ids", "parent_ids", "gossip_ids")
    }
    plain = ("id", "kind", "hotkey", "status", "task_type", "input_dim", "window", "budget")
    times: dict[str, Any] = {name: float(item[name]) for name in ("issued_at", "timeout_at")}
    scores = {number: float(score) for number, score in item["scores"].items()}
    return Assignment(**{name: item[name] for name in plain}, **numbers, **times, scores=scores)


def algorithm_of(item: Item) -> Algorithm:
    names = ("id", "task_type", "input_dim", "author", "author_recipient", "origin", "fingerprint", "window")
    return Algorithm(
        **{name: item[name] for name in names},
        parents=tuple(item["parents"]),
        created_at=float(item["created_at"]),
        baseline=float(item["baseline"]),
    )


def judgement_item(number: int, found: Judgement) -> Item:
    return {
        "pk": f"ALG#{number}",
        "sk": "STATE",
        "status": found.status,
        "score": found.score,
        "votes": [asdict(vote) | {"verdict": verdict} for vote, verdict in found.votes],
        "completed_at": found.completed_at,
        "verified_at": found.verified_at,
        "verified_by": found.verified_by,
    }


def judgement_of(item: Item) -> Judgement:
    verdicts = [entry["verdict"] for entry in item["votes"]]
    return Judgement(
        status=item["status"],
        score=None if item["score"] is None else float(item["score"]),
        votes=tuple(zip(votes_of(item["votes"]), verdicts, strict=True)),
        completed_at=float(item["completed_at"]),
        verified_at=None if item["verified_at"] is None else float(item["verified_at"]),
        verified_by=item["verified_by"],
    )


def sota_item(found: Sota) -> Item:
    item = {"pk": "SOTA", "sk": found.task_type} | asdict(found)
    return item | {"history": [dict(entry) for entry in found.history]}


def sota_of(item: Item) -> Sota:
    return Sota(
        task_type=item["sk"],
        score=float(item["score"]),
        result_id=item["result_id"],
        miner=item["miner"],
        at=float(item["at"]),
        window=item["window"],
        before=float(item["before"]),
        history=tuple(item["history"]),
    )


def score_key(score: float) -> str:
    """Sorts the best score first."""
    return f"{round((1.0 - score) * _SCORE_STEPS):016d}"
