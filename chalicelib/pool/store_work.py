"""Pool's access patterns of work: boards, assignments, programs, judgements, credits, results.

| #  | question or effect            | key                                     | consistency | cost                  |
| -- | ----------------------------- | --------------------------------------- | ----------- | --------------------- |
| 10 | a problem's board             | WORK#{task}: C# E# S#                   | strong      | 1 query (backlog)     |
| 11 | recent gossip                 | GOSSIP#{task}                           | strong      | 1 query, 25 rows      |
| 12 | texts, head, who is paid now  | ALG#{id}/TEXT, chain head, MINER        | strong      | 1 batch get           |
| 13 | hand out an assignment        | MINER, ASSIGN#, C# of each candidate    | transaction | 1 (3 + 1 each)        |
| 14 | what a submission touches     | ASSIGN#, C#/S#, HASH#, ALG#, SOTA       | strong      | 1 batch get           |
| 15 | next program id               | COUNTER/ALGORITHM                       | -           | 1 write               |
| 16 | complete an assignment        | MINER, ASSIGN#, C#/S#, ALG#, WINDOW     | transaction | 1 (6 + 1..2 each)     |
| 17 | expire an assignment          | MINER, ASSIGN#, C#                      | transaction | 1 batch get, 1        |
| 18 | assignments by timeout        | index due                               | index       | 1 query per page      |
| 19 | unpaid credits; pay one       | CREDITS; CREDIT#, MINER, WINDOW         | transaction | 1 query; 1 get, 1 (4) |
| 20 | a program and its judgement   | ALG#{id}/HEAD TEXT STATE, SOTA/*, HASH# | strong      | 1 batch get           |
| 21 | verify a result               | ALG#/STATE, RESULTS#, SOTA, CREDITS     | transaction | 1 (8)                 |
| 22 | verified results              | RESULTS#{task or ALL}                   | strong      | 1 query               |
| 23 | a state of the art            | SOTA/{task}                             | strong      | 1 get                 |
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict
from typing import Any

from chalicelib.kernel import chain
from chalicelib.kernel.errors import Contended
from chalicelib.kernel.tables import ConditionFailed, Key, Table, Write, get_many, transact
from chalicelib.kernel.wire import Item

from .contracts_records import (
    Algorithm,
    Assignment,
    Board,
    Candidate,
    Credit,
    Discovery,
    Miner,
    Outcome,
    Seed,
)
from .store import commit, counting, counting_pool, miner, miner_key, miner_of, rank_key, seen, table
from .store_items import (
    assignment_item,
    assignment_of,
    candidate_item,
    candidate_of,
    elite_of,
    judgement_item,
    seed_item,
    seed_of,
)

BOARD_ELITES = 64
_GOSSIP_ROWS = 25


def board(task_type: str) -> Board:
    """10: everything open of one problem; what it holds is bounded by the backlog, not by history."""
    found: dict[str, list[Item]] = {"C": [], "E": [], "S": []}
    for item in table.query_all(f"WORK#{task_type}", consistent=True):
        found[item["sk"][0]].append(item)
    return Board(
        tuple(candidate_of(item, task_type) for item in found["C"]),
        tuple(elite_of(item, task_type) for item in found["E"]),
        tuple(seed_of(item, task_type) for item in found["S"]),
    )


def recent_gossip(task_type: str) -> list[Item]:
    """11: the newest entries first."""
    return table.query(f"GOSSIP#{task_type}", limit=_GOSSIP_ROWS, descending=True, consistent=True).items


def texts_head_and_payees(
    ids: Sequence[int], authors: Iterable[str]
) -> tuple[dict[int, str], chain.Head | None, dict[str, str]]:
    """12: the programs of an assignment, the block that dates it, to whom its candidates' authors are paid by now."""
    names = sorted(set(authors))
    texts = [(table, f"ALG#{number}", "TEXT") for number in ids]
    head, *found = get_many([chain.HEAD_KEY, *texts, *map(miner_key, names)])
    known = {number: item["dsl"] for number, item in zip(ids, found[: len(ids)], strict=True) if item}
    return known, chain.head_of(head), _paid(names, found[len(ids) :])


def payees(hotkeys: Iterable[str]) -> dict[str, str]:
    """12: to whom hotkeys are paid by now."""
    names = sorted(set(hotkeys))
    return _paid(names, get_many(list(map(miner_key, names))))


def _paid(names: Sequence[str], items: Sequence[Item | None]) -> dict[str, str]:
    return {name: miner_of(name, item).paid_to for name, item in zip(names, items, strict=True)}


def issue(
    known: Miner, assignment: Assignment, offers: Sequence[tuple[Candidate, str | None]], guard: Write | None
) -> None:
    """13: the miner's one place, the assignment, and a place at each candidate (a free one, or an expired holder's)."""
    now = assignment.issued_at
    change, values = seen(known, now)
    active = {name: getattr(assignment, name) for name in ("id", "kind", "task_type", "input_dim", "budget")}
    active |= {"until": assignment.timeout_at, "candidates": list(assignment.candidate_ids)}
    active |= {"seeds": list(assignment.seed_ids)}
    change, values = change + ", #active = :active", values | {"active": active}
    premise = "attribute_exists(#registered_at) AND #seen_minute = :was_seen"
    premise += " AND (attribute_not_exists(#active) OR #active.#until <= :now)"
    if assignment.kind == "lease":
        change, values = change + ", #last_lease_window = :window", values | {"window": assignment.window}
        same = "attribute_not_exists(#last_lease_window)"
        if known.last_lease_window is not None:
            same, values = "#last_lease_window = :leased", values | {"leased": known.last_lease_window}
        premise += f" AND {same}"
    writes = [
        table.updating(*miner_key(known.hotkey)[1:], change, when=premise, **values),
        table.putting_new(assignment_item(assignment)),
        *(_taking(candidate, assignment, instead_of) for candidate, instead_of in offers),
        *counting(known, now),
    ]
    commit(writes, guard)


def _taking(candidate: Candidate, assignment: Assignment, instead_of: str | None) -> Write:
    key = work_key(candidate)
    hold = {"assignment": assignment.id, "until": assignment.timeout_at}
    mine = f"#holders.#{assignment.hotkey}"
    if instead_of is None:
        change = f"SET {mine} = :hold, #slots_open = #slots_open - :one"
        premise = f"#slots_open >= :one AND attribute_not_exists({mine})"
        return table.updating(*key, change, when=premise, hold=hold, one=1)
    change = f"SET {mine} = :hold"
    if instead_of != assignment.hotkey:
        change += f" REMOVE #holders.#{instead_of}"
    old = candidate.holders[instead_of]["assignment"]
    return table.updating(*key, change, when=f"#holders.#{instead_of}.#assignment = :old", hold=hold, old=old)


def assignment_key(number: str) -> tuple[Table, str, str]:
    return table, f"ASSIGN#{number}", "META"


def next_id() -> int:
    """15: ids are never used twice; gaps are fine."""
    return int(table.update("COUNTER", "ALGORITHM", "ADD #next :one", one=1)["next"])


def complete(
    known: Miner,
    assignment: Assignment,
    outcomes: Sequence[Outcome],
    now: float,
    *,
    status: str = "COMPLETED",
    unused: Sequence[int] = (),
    discovery: Discovery | None = None,
    slots: int = 0,
    gossip: Item | None = None,
    malformed: int = 0,
    guard: Write | None = None,
) -> None:
    """16: the assignment ends, its evaluations and its program are stored, the miner is free: all of it or nothing."""
    found_new = discovery is not None and discovery.known_id is None
    judged = sum(outcome.judgement is not None and isinstance(outcome.work, Candidate) for outcome in outcomes)
    considered = {"evaluations_considered": len(outcomes), "evolutions_considered": int(found_new)}
    writes = [
        _finishing(assignment, status, now),
        _freeing(known, assignment, outcomes, now, evolutions=int(discovery is not None), malformed=malformed),
        *(write for outcome in outcomes for write in _storing(outcome, assignment)),
        *(giving_back(assignment, number) for number in unused),
        *(_discovering(discovery, slots) if discovery else ()),
        *_considering(assignment, considered),
        *([table.putting(gossip)] if gossip else ()),
        *owing([credit for outcome in outcomes for credit in outcome.credits], assignment.id, now),
        *counting(known, now, algorithms=int(found_new), evaluating=int(found_new) - judged),
    ]
    commit(writes, guard)


def _finishing(assignment: Assignment, status: str, now: float) -> Write:
    change = "SET #status = :status, #ended_at = :now REMOVE #due_pk, #due_sk"
    premise = "#status = :active AND #timeout_at > :now"
    return table.updating(
        f"ASSIGN#{assignment.id}", "META", change, when=premise, status=status, active="ACTIVE", now=now
    )


def _freeing(
    known: Miner, assignment: Assignment, outcomes: Sequence[Outcome], now: float, *, evolutions: int, malformed: int
) -> Write:
    change, values = seen(known, now)
    amounts = {
        "evaluations_submitted": len(outcomes),
        "evolutions_submitted": evolutions,
        "malformed_submissions": malformed,
    }
    added: dict[str, Any] = {name: amount for name, amount in amounts.items() if amount}
    seeds = {str(outcome.work.id) for outcome in outcomes if isinstance(outcome.work, Seed)}
    if seeds:
        values["seeds_done"] = seeds
    adding = [f"#{name} :{name}" for name in (*added, *(["seeds_done"] if seeds else []))]
    change += " REMOVE #active" + (f" ADD {', '.join(adding)}" if adding else "")
    premise = "#active.#id = :id AND #seen_minute = :was_seen"
    values |= added | {"id": assignment.id}
    return table.updating(f"MINER#{known.hotkey}", "META", change, when=premise, **values)


def _storing(outcome: Outcome, assignment: Assignment) -> Iterator[Write]:
    """A vote stands in its candidate until the last one turns all of them into a judgement."""
    work = outcome.work
    holding: dict[str, Any] = {"holds": assignment.id, "count": len(work.votes)}
    owned = f"#holders.#{assignment.hotkey}.#assignment = :holds AND #votes_n = :count"
    if isinstance(work, Seed):
        yield from _storing_on_seed(work, outcome)
    elif outcome.judgement is None:
        change = "SET #votes = list_append(#votes, :vote), #votes_n = #votes_n + :one, #capacity = :capacity"
        change += f", #slots_open = #slots_open + :opened REMOVE #holders.#{assignment.hotkey}"
        more = outcome.capacity - work.capacity
        yield table.updating(
            *work_key(work), change, when=owned, vote=[asdict(outcome.vote)], one=1, capacity=outcome.capacity,
            opened=more, **holding,
        )  # fmt: skip
    else:
        yield table.deleting(*work_key(work), when=owned, **holding)
        yield table.putting_new(judgement_item(work.id, outcome.judgement))


def _storing_on_seed(seed: Seed, outcome: Outcome) -> Iterator[Write]:
    """Whoever judges a seed after its consensus changes nothing about it."""
    if seed.judged or not outcome.capacity:
        return
    change = "SET #votes = list_append(#votes, :vote), #votes_n = #votes_n + :one, #judged = :judged"
    values: dict[str, Any] = {"vote": [asdict(outcome.vote)], "one": 1, "judged": outcome.judgement is not None}
    if outcome.judgement:
        change, values = change + ", #score = :score", values | {"score": outcome.judgement.score}
        yield table.putting_new(judgement_item(seed.id, outcome.judgement))
    premise = "#votes_n = :count AND #judged = :no"
    yield table.updating(*work_key(seed), change, when=premise, count=len(seed.votes), no=False, **values)


def giving_back(assignment: Assignment, number: int) -> Write:
    """A place that was not used is free again; one that somebody else took over by now is his."""
    change = f"SET #slots_open = #slots_open + :one REMOVE #holders.#{assignment.hotkey}"
    key = (f"WORK#{assignment.task_type}", f"C#{number:012d}")
    premise = f"#holders.#{assignment.hotkey}.#assignment = :id"
    return table.updating(*key, change, when=premise, one=1, id=assignment.id)


def _considering(assignment: Assignment, amounts: dict[str, int]) -> list[Write]:
    done: dict[str, Any] = {name: amount for name, amount in amounts.items() if amount}
    if not done:
        return []
    change = "ADD " + ", ".join(f"#{name} :{name}" for name in done)
    return [table.updating(f"WINDOW#{assignment.window}", f"MINER#{assignment.hotkey}", change, **done)]


def _discovering(discovery: Discovery, slots: int) -> list[Write]:
    algorithm = discovery.algorithm
    key = fingerprint_key(algorithm.task_type, algorithm.input_dim, algorithm.fingerprint)[1:]
    if discovery.known_id is not None:
        own = ", #repeats_own :one" if discovery.known_author == algorithm.author else ""
        return [table.updating(*key, f"ADD #repeats_all :one{own}", one=1)]
    return [*adding(algorithm, discovery.text), table.putting_new(candidate_item(algorithm, slots))]


def adding(algorithm: Algorithm, text: str) -> list[Write]:
    """A program under its id, and its fingerprint so that it comes in once."""
    pk, sk = fingerprint_key(algorithm.task_type, algorithm.input_dim, algorithm.fingerprint)[1:]
    known = {"pk": pk, "sk": sk, "id": algorithm.id, "author": algorithm.author}
    head = {"pk": f"ALG#{algorithm.id}", "sk": "HEAD"} | asdict(algorithm)
    body = {"pk": f"ALG#{algorithm.id}", "sk": "TEXT", "dsl": text}
    return [table.putting_new(item) for item in (known, head, body)]


def add_seed(algorithm: Algorithm, text: str) -> bool:
    """A program of the operator's; False when it is known."""
    try:
        transact(
            [*adding(algorithm, text), table.putting_new(seed_item(algorithm)), *counting_pool(text, {"algorithms": 1})]
        )
    except ConditionFailed:
        return False
    return True


# ---- expiry


def assignment(number: str) -> Assignment | None:
    item = table.get(*assignment_key(number)[1:])
    return assignment_of(item) if item else None


def expire(number: str, now: float) -> bool:
    """17: an unfinished assignment past its time gives its places back; nobody loses reputation for it."""
    found = assignment(number)
    if found is None or found.status != "ACTIVE" or found.timeout_at > now:
        return False
    keys = [(table, f"WORK#{found.task_type}", f"C#{work:012d}") for work in found.candidate_ids]
    works = [candidate_of(item, found.task_type) for item in get_many(keys) if item] if keys else []
    held = [work.id for work in works if work.holders.get(found.hotkey, {}).get("assignment") == found.id]
    holder = miner(found.hotkey)
    is_last = holder.active is not None and holder.active["id"] == found.id
    change = "ADD #expired :one" + (" REMOVE #active" if is_last else "")
    premise = "#active.#id = :id" if is_last else "attribute_not_exists(#active) OR #active.#id <> :id"
    writes = [
        table.updating(
            f"ASSIGN#{found.id}", "META", "SET #status = :expired, #ended_at = :now REMOVE #due_pk, #due_sk",
            when="#status = :active AND #timeout_at <= :now", expired="EXPIRED", active="ACTIVE", now=now,
        ),
        table.updating(*miner_key(found.hotkey)[1:], change, when=premise, one=1, id=found.id),
        *(giving_back(found, work) for work in held),
    ]  # fmt: skip
    commit(writes, None)
    return True


def due(until: float | None = None) -> Iterator[Item]:
    """18: unfinished assignments, those that end first first; of all, or of those that are past their time."""
    bound: dict[str, Any] = {"where": "#due_sk <= :until", "values": {"until": f"{until:017.6f}~"}} if until else {}
    return table.query_all("DUE", index="due", **bound)


def note_timer(number: str, attempt: int) -> None:
    """Remember which timer of an assignment runs."""
    table.update(*assignment_key(number)[1:], "SET #timer = :attempt", attempt=attempt)


# ---- credits


def owing(owed_now: Sequence[Credit], name: str, now: float) -> list[Write]:
    """Reputation is owed by the transaction that earns it and paid shortly after, one transaction per miner."""
    if not owed_now:
        return []
    key = {"pk": "CREDITS", "sk": f"{now:017.6f}#{name}"}
    return [table.putting(key | {"credits": [asdict(credit) for credit in owed_now]})]


def owed(limit: int) -> list[tuple[Key, list[Credit]]]:
    """19: what is not paid yet, the oldest first."""
    found = table.query("CREDITS", limit=limit, consistent=True).items
    return [((item["pk"], item["sk"]), [Credit(**entry) for entry in item["credits"]]) for item in found]


def is_paid(credit: Credit) -> bool:
    return table.get(f"CREDIT#{credit.algorithm_id}", f"{credit.role}#{credit.hotkey}") is not None


def pay(credit: Credit, before: Miner, after: Miner, now: float) -> None:
    """Once per program, miner and role, whatever runs twice."""
    receipt = {"pk": f"CREDIT#{credit.algorithm_id}", "sk": f"{credit.role}#{credit.hotkey}", "at": now}
    names = ("agreements", "disagreements", "evolutions_verified")
    changed: dict[str, Any] = {name: after.counters.get(name, 0) for name in names}
    change = "SET #reputation = :reputation, #rank_sk = :rank_sk" + "".join(f", #{name} = :{name}" for name in names)
    premise = "#reputation = :old_reputation AND #agreements = :old_agreements"
    rank = rank_key(after.hotkey, after.reputation, changed["agreements"], after.registered_at or 0.0)
    update = table.updating(
        *miner_key(after.hotkey)[1:], change, when=premise, reputation=after.reputation, rank_sk=rank,
        old_reputation=before.reputation, old_agreements=before.counters.get("agreements", 0), **changed,
    )  # fmt: skip
    writes = [table.putting_new(receipt), update]
    writes += counting_pool(after.hotkey, {"reputation": after.reputation - before.reputation})
    if credit.judged:
        verdict = "agreements" if credit.agrees else "disagreements"
        key = (f"WINDOW#{credit.window}", f"MINER#{credit.hotkey}")
        writes.append(table.updating(*key, f"ADD #{verdict} :one", one=1))
    try:
        transact(writes)
    except ConditionFailed as failure:
        if 0 not in failure.failed:
            raise Contended from None


def settled(key: Key) -> None:
    table.delete(*key)


# ---- keys and items


def work_key(work: Candidate | Seed) -> tuple[str, str]:
    kind = "C" if isinstance(work, Candidate) else "S"
    return f"WORK#{work.task_type}", f"{kind}#{work.id:012d}"


def fingerprint_key(task_type: str, input_dim: int, fingerprint: str) -> tuple[Table, str, str]:
    return table, f"HASH#{task_type}#{input_dim}#{fingerprint}", "META"
