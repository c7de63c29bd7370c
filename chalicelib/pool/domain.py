"""Pool's decisions: functions of the values they are handed."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from decimal import Decimal

from chalicelib.kernel.errors import Conflict, Forbidden, Invalid, Malformed, NotFound, Unauthenticated
from chalicelib.kernel.values import frozen

from .contracts import Evaluation, LeaseRequest, PoolSettings
from .contracts_records import (
    Algorithm,
    Assignment,
    Board,
    Candidate,
    Judgement,
    Miner,
    Seed,
    Sota,
)

INPUT_DIMS = {"cifar10_binary": 16, "mnist_binary": 16, "scalar_linear": 4}
DEFAULT_TASK = "cifar10_binary"
_TIMESTAMP = re.compile(r"[0-9]{1,12}")
_MOST_WINDOWS_BACK = 200
ACTIVE = "Miner already has active task"
ISSUED = "Lease already issued for this window. Wait for next window."
NOT_ACTIVE = {
    "lease": "Active lease assignment not found",
    "evolve": "Active evolution assignment not found",
    "evaluate": "Active evaluation assignment not found",
}


@frozen
class Window:
    """The span of blocks that leases, results and payouts are counted in."""

    number: int
    start_block: int
    seconds_left: int


def window_at(block: int, settings: PoolSettings) -> Window:
    size = settings.blocks_per_window
    number, inside = divmod(block, size)
    return Window(number, number * size, (size - inside) * settings.block_seconds)


def check_timestamp(text: str, *, now: float, window: int) -> int:
    if not _TIMESTAMP.fullmatch(text):
        raise Unauthenticated("Invalid timestamp", code="bad_timestamp")
    if abs(int(now) - int(text)) > window:
        raise Unauthenticated("Timestamp outside allowed window", code="stale_timestamp")
    return int(text)


def check_registered(miner: Miner) -> None:
    if miner.registered_at is None:
        raise Forbidden("Miner not registered", code="miner_not_registered")


def is_busy(miner: Miner, now: float) -> bool:
    return miner.active is not None and float(miner.active["until"]) > now


def check_idle(miner: Miner, now: float) -> None:
    if is_busy(miner, now):
        raise Malformed(ACTIVE, code="active_task")


def check_lease_window(miner: Miner, window: int, settings: PoolSettings) -> None:
    if settings.one_lease_per_window and miner.last_lease_window == window:
        raise Malformed(ISSUED, code="lease_issued")


def lease_task(request: LeaseRequest, settings: PoolSettings) -> str:
    task = DEFAULT_TASK if request.task_type is None else request.task_type
    if task not in settings.enabled_task_types:
        raise Invalid(f"Unknown task_type {task[:64]}", code="unknown_task_type")
    return task


def lease_window(request: LeaseRequest, current: int, settings: PoolSettings) -> int:
    if request.sim_window_number is None:
        return current
    if settings.in_production:
        raise Malformed("sim_window_number is disabled in production", code="simulation_disabled")
    return request.sim_window_number


def no_tasks() -> NotFound:
    return NotFound("No tasks available", code="no_tasks")


def not_active(kind: str) -> NotFound:
    return NotFound(NOT_ACTIVE[kind], code="assignment_not_active")


# ---- who gets what


def may_judge(candidate: Candidate, miner: Miner, now: float, settings: PoolSettings) -> bool:
    """Never the author, nobody paid like the author, nobody twice; and there is a place."""
    if candidate.author == miner.hotkey or any(vote.hotkey == miner.hotkey for vote in candidate.votes):
        return False
    if settings.exclude_same_recipient and miner.paid_to == candidate.author_recipient:
        return False
    if len(candidate.votes) >= 2 * settings.max_evals and miner.paid_to in {vote.recipient for vote in candidate.votes}:
        return False
    own = candidate.holders.get(miner.hotkey)
    if own and float(own["until"]) > now:
        return False
    return candidate.slots_open > 0 or expired_holder(candidate, now) is not None


def kin_of(miner: Miner, paid_to: Mapping[str, str], settings: PoolSettings) -> frozenset[str]:
    """Authors who by now are paid like the miner, however it was when they handed their programs in."""
    if not settings.exclude_same_recipient:
        return frozenset()
    return frozenset(author for author, recipient in paid_to.items() if recipient == miner.paid_to)


def instead_of(candidate: Candidate, hotkey: str, now: float) -> str | None:
    """Whose expired place a miner takes over: its own, where it has one, or somebody's where no other is free."""
    if hotkey in candidate.holders:
        return hotkey
    return None if candidate.slots_open > 0 else expired_holder(candidate, now)


def expired_holder(candidate: Candidate, now: float) -> str | None:
    """A hotkey whose place is free again although no sweep has come by yet."""
    return next((hotkey for hotkey, hold in sorted(candidate.holders.items()) if float(hold["until"]) <= now), None)


def offered(
    board: Board, miner: Miner, count: int, *, kin: frozenset[str], now: float, settings: PoolSettings, secret: bytes
) -> list[Candidate]:
    """Fewest evaluations first, then the oldest; equals in an order that only this request's secret knows."""

    def order(candidate: Candidate) -> tuple[int, bytes, float, int]:
        shuffled = _shuffled(secret, candidate.id) if settings.assign_shuffle else b""
        return len(candidate.votes), shuffled, candidate.created_at, candidate.id

    strangers = [candidate for candidate in board.candidates if candidate.author not in kin]
    fitting = [candidate for candidate in strangers if may_judge(candidate, miner, now, settings)]
    return sorted(fitting, key=order)[:count]


def filling_seeds(board: Board, miner: Miner, taken: int, count: int, *, secret: bytes) -> list[Seed]:
    """Seeds to evaluate while the whole pool has fewer candidates than a batch; each miner judges a seed once."""
    if len(board.candidates) >= count:
        return []
    fresh = [seed for seed in board.seeds if seed.id not in miner.seeds_done]
    fresh.sort(key=lambda seed: (seed.judged, len(seed.votes), _shuffled(secret, seed.id)))
    return fresh[: count - taken]


def yet_to_judge(board: Board, miner: Miner) -> frozenset[int]:
    """Seeds whose score a miner must not learn: it may be asked for them, and would be credited for repeating it."""
    return frozenset(seed.id for seed in board.seeds if seed.id not in miner.seeds_done)


def parents_to_offer(board: Board, count: int, *, secret: bytes) -> list[Seed]:
    """Half the best known, half any, so that evolution neither forgets nor narrows."""
    pool = {seed.id: seed for seed in (*board.seeds, *board.elites)}
    best = sorted(pool.values(), key=lambda seed: (-(seed.score if seed.score is not None else -1.0), seed.id))
    chosen = best[: (count + 1) // 2]
    rest = sorted(best[len(chosen) :], key=lambda seed: _shuffled(secret, seed.id))
    return chosen + rest[: count - len(chosen)]


def evolve_budget(board: Board, miner: Miner, settings: PoolSettings) -> int:
    own = sum(candidate.author == miner.hotkey for candidate in board.candidates)
    return int(own < settings.max_open_candidates and len(board.candidates) <= settings.max_backlog)


def gossip_for(
    entries: Iterable[Mapping[str, object]], miner: str, window: int, limit: int, judged: Iterable[int] = ()
) -> list[int]:
    """Most recent first, of this window and the last; not what only the asker gossiped, nor what he wrote."""
    found: dict[int, None] = {}
    for entry in entries:
        if entry["window"] not in {window, window - 1} or entry["by"] == miner:
            continue
        authors = entry["authors"]
        assert isinstance(authors, Mapping)
        found |= {int(number): None for number, author in authors.items() if author != miner}
    return [number for number in found if number not in set(judged)][:limit]


def _shuffled(secret: bytes, number: int) -> bytes:
    return hashlib.sha256(secret + number.to_bytes(8, "big")).digest()


# ---- submissions


def check_evaluations(evaluations: Sequence[Evaluation], allowed: Iterable[int]) -> None:
    """Whole submissions are refused for one foreign or repeated id."""
    known, seen = set(allowed), set()
    for entry in evaluations:
        if entry.algorithm_id not in known:
            raise Malformed(f"algorithm_id {entry.algorithm_id} is not part of this assignment", code="foreign_id")
        if entry.algorithm_id in seen:
            raise Malformed(f"Duplicate evaluation for algorithm_id {entry.algorithm_id}", code="duplicate_id")
        seen.add(entry.algorithm_id)


def check_iterations(iterations: int, settings: PoolSettings) -> None:
    need = settings.lease_min_iterations
    if iterations < need:
        raise Malformed(f"Insufficient iterations: got {iterations}, need {need}", code="insufficient_iterations")


def baseline_of(
    parents: Iterable[int], assignment: Assignment, sota: Sota | None, window: int, settings: PoolSettings
) -> float:
    """What a new program has to improve on, fixed when it is handed in."""
    if settings.baseline_mode == "sota":
        if sota is None:
            return settings.sota_floor
        return sota.score if sota.window < window else sota.before
    known = assignment.scores
    wanted = {str(parent) for parent in parents}
    scores = [score for number, score in known.items() if settings.baseline_mode != "genealogy" or number in wanted]
    return max(scores, default=settings.sota_floor)


# ---- verification


def check_verifier(caller: Miner, algorithm: Algorithm, state: Judgement | None, settings: PoolSettings) -> None:
    if state is None or state.status not in {"completed", "verified"}:
        raise Malformed("Result is not completed", code="result_not_completed")
    check_not_own(caller, algorithm.author, algorithm.author_recipient)
    if settings.verifier_hotkeys:
        if caller.hotkey not in settings.verifier_hotkeys:
            raise Forbidden("Not an authorized verifier", code="not_a_verifier")
        return
    check_registered(caller)


def check_not_own(caller: Miner, author: str, author_recipient: str) -> None:
    if author in {caller.hotkey, caller.paid_to} or author_recipient == caller.paid_to:
        raise own_result()


def own_result() -> Forbidden:
    return Forbidden("Cannot verify own result", code="own_result")


def better_sota(current: Sota | None, found: Sota, settings: PoolSettings) -> Sota | None:
    """The new state of the art, None where the old one stands; it never falls."""
    floor = settings.sota_floor
    if found.score <= (current.score if current else floor - 1):
        return None
    before = floor if current is None else current.score if current.window < found.window else current.before
    entry = {"score": found.score, "result_id": found.result_id, "at": found.at}
    history = (*(current.history if current else ()), entry)[-50:]
    return replace(found, before=before, history=history)


# ---- recipients and payouts


def check_recipient_order(miner: Miner, timestamp: int, recipient: str) -> None:
    """A captured older update never undoes a newer one."""
    same = timestamp == miner.recipient_ts and recipient == miner.recipient
    if miner.recipient and timestamp <= miner.recipient_ts and not same:
        raise Conflict("Stale recipient update", code="stale_update")


def first_window_to_close(noted: int, last: int) -> int:
    """Where the last look at windows ended; from the last one on where windows were made longer or much shorter."""
    return noted if last - _MOST_WINDOWS_BACK <= noted <= last + 1 else last


def payouts(reputations: Mapping[str, int], settings: PoolSettings) -> dict[str, int]:
    """Shares of the budget by reputation, capped; what the cap frees goes to the others, the rest by remainder."""
    budget = int(Decimal(settings.epoch_budget_units) * (1 - Decimal(repr(settings.pool_fee))))
    cap = int(Decimal(settings.epoch_budget_units) * Decimal(repr(settings.max_share)))
    paid: dict[str, int] = {}
    open_to = {hotkey: weight for hotkey, weight in reputations.items() if weight > 0}
    while open_to:
        left, total = budget - sum(paid.values()), sum(open_to.values())
        capped = [hotkey for hotkey, weight in open_to.items() if left * weight > cap * total]
        if not capped:
            paid |= _by_remainder(open_to, left, cap)
            break
        for hotkey in capped:
            paid[hotkey] = cap
            del open_to[hotkey]
    return {hotkey: paid[hotkey] for hotkey in sorted(paid) if paid[hotkey] > 0}


def _by_remainder(weights: Mapping[str, int], units: int, cap: int) -> dict[str, int]:
    total = sum(weights.values())
    shares = {hotkey: min(units * weight // total, cap) for hotkey, weight in weights.items()}
    left = units - sum(shares.values())
    for hotkey in sorted(weights, key=lambda hotkey: (-(units * weights[hotkey] % total), hotkey)):
        if left and shares[hotkey] < cap:
            shares[hotkey] += 1
            left -= 1
    return shares


def may_be_paid(activity: Mapping[str, int], settings: PoolSettings) -> bool:
    done = activity.get("evaluations_considered", 0) + activity.get("evolutions_considered", 0)
    return activity.get("agreements", 0) >= 1 and done >= settings.min_reward_activity
