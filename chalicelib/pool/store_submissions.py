"""What a submission has to know, in one round trip (row 14 of `store_work`)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import field

from chalicelib.kernel import chain
from chalicelib.kernel.tables import get_many
from chalicelib.kernel.values import frozen
from chalicelib.kernel.wire import Item

from .contracts_records import Algorithm, Assignment, Candidate, Miner, Seed, Sota
from .store import table
from .store_items import algorithm_of, assignment_of, candidate_of, judgement_of, seed_of, sota_of
from .store_work import assignment_key, fingerprint_key


@frozen
class Touched:
    """Everything that a submission may change, as it stands."""

    assignment: Assignment | None
    head: chain.Head | None
    sota: Sota | None
    works: dict[int, Candidate | Seed]
    programs: dict[int, Algorithm] = field(default_factory=dict)
    twin: Item | None = None


def read(holder: Miner, evaluated: Sequence[int], programs: Sequence[int], fingerprint: str | None) -> Touched:
    """14: the assignment, its candidates and the seeds that were judged, the named programs, an equal program."""
    active = holder.active or {}
    task = active["task_type"]
    candidates = [int(number) for number in active["candidates"]]
    seeds = [number for number in evaluated if number not in set(candidates)]
    works = [*((f"C#{number:012d}") for number in candidates), *((f"S#{number:012d}") for number in seeds)]
    twin = fingerprint_key(task, active["input_dim"], fingerprint or "-")
    assigned, head, sota, equal, *found = get_many(
        [
            assignment_key(active["id"]),
            chain.HEAD_KEY,
            (table, "SOTA", task),
            twin,
            *((table, f"WORK#{task}", sk) for sk in works),
            *((table, f"ALG#{number}", "HEAD") for number in programs),
        ]
    )
    open_works = {item["id"]: _work_of(item, task) for item in found[: len(works)] if item}
    late = [number for number in evaluated if number not in open_works]
    heads = found[len(works) :]
    return Touched(
        assignment=assignment_of(assigned) if assigned else None,
        head=chain.head_of(head),
        sota=sota_of(sota) if sota else None,
        works=open_works | _judged(late, task),
        programs={item["id"]: algorithm_of(item) for item in heads if item},
        twin=equal,
    )


def _work_of(item: Item, task: str) -> Candidate | Seed:
    return candidate_of(item, task) if item["sk"].startswith("C#") else seed_of(item, task)


def _judged(ids: Sequence[int], task: str) -> dict[int, Candidate | Seed]:
    """Candidates that were decided meanwhile; rare, hence a round trip of its own."""
    if not ids:
        return {}
    states = get_many([(table, f"ALG#{number}", "STATE") for number in ids])
    found: dict[int, Candidate | Seed] = {}
    for number, item in zip(ids, states, strict=True):
        if item:
            found[number] = Seed(number, task, 0, judgement_of(item).score, judged=True)
    return found
