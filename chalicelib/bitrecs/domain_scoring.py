"""Scores to weights: who dominates whom, who wins which group of tasks, and what the winner gets on chain."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from chalicelib.kernel.values import frozen

from .contracts import BitrecsSettings, ScoreRow

MAX_TASKS = 12
WIN_MARGIN = 0.02
BLOCKS_PER_DAY = 7200
_SHOWN = 10
_LEAST_SHARE, _MOST_SHARE = 0.01, 0.99

Scores = Mapping[int, Mapping[str, float]]


@frozen
class Board:
    """Best score per miner and task, and what else the rules look at."""

    tasks: tuple[str, ...]
    scores: dict[int, dict[str, float]]
    samples: dict[str, int]
    blocks: dict[int, int]
    hotkeys: dict[int, str]


def board(rows: Iterable[ScoreRow]) -> Board:
    """One line per uid; a uid that changed hands keeps its newest hotkey."""
    scores: dict[int, dict[str, float]] = {}
    samples: dict[str, int] = {}
    blocks: dict[int, int] = {}
    hotkeys: dict[int, str] = {}
    for row in sorted(rows, key=lambda row: row.created_at):
        if hotkeys.setdefault(row.uid, row.hotkey) != row.hotkey:
            scores.pop(row.uid, None)
            blocks.pop(row.uid, None)
            hotkeys[row.uid] = row.hotkey
        own = scores.setdefault(row.uid, {})
        own[row.task_name] = max(own.get(row.task_name, 0.0), row.score)
        blocks[row.uid] = min(blocks.get(row.uid, row.first_block), row.first_block)
        samples[row.task_name] = max(samples.get(row.task_name, 0), row.sample_size)
    tasks = tuple(sorted(samples)[:MAX_TASKS])
    return Board(tasks, dict(sorted(scores.items())), samples, blocks, hotkeys)


def shown(rows: Sequence[ScoreRow], most: int) -> list[ScoreRow]:
    """Every row; of too many, the best one of each miner and task, for nothing else counts."""
    if len(rows) <= most:
        return list(rows)
    best: dict[tuple[str, str], ScoreRow] = {}
    for row in rows:
        kept = best.setdefault((row.hotkey, row.task_name), row)
        if row.score > kept.score:
            best[row.hotkey, row.task_name] = row
    return list(best.values())


def tolerances(found: Board, settings: BitrecsSettings) -> dict[str, float]:
    """Per task: twice the standard error of its scores, within bounds."""
    answer = {}
    for task in found.tasks:
        values = [own[task] for own in found.scores.values() if task in own]
        if len(values) <= 1:
            answer[task] = settings.max_epsilon
            continue
        mean = math.fsum(values) / len(values)
        spread = math.sqrt(math.fsum((value - mean) ** 2 for value in values) / len(values))
        error = 2 * spread / math.sqrt(len(values))
        answer[task] = min(max(error, settings.min_epsilon), settings.max_epsilon)
    return answer


def dominates(first: Mapping[str, float], second: Mapping[str, float], epsilon: Mapping[str, float]) -> bool:
    """Nowhere worse beyond the tolerance, somewhere better beyond it."""
    pairs = [(first.get(task, 0.0), second.get(task, 0.0), slack) for task, slack in epsilon.items()]
    return all(a >= b - slack for a, b, slack in pairs) and any(a > b + slack for a, b, slack in pairs)


def dominance(found: Board, epsilon: Mapping[str, float]) -> list[list[bool]]:
    uids = list(found.scores)
    return [
        [one != other and dominates(found.scores[one], found.scores[other], epsilon) for other in uids] for one in uids
    ]


def frontier(found: Board, matrix: Sequence[Sequence[bool]]) -> list[int]:
    """The miners whom nobody dominates."""
    return [uid for column, uid in enumerate(found.scores) if not any(row[column] for row in matrix)]


def subset_winner(found: Board, subset: Sequence[str]) -> int | None:
    """Best geometric mean; within the margin of the runner-up, whoever was on chain earlier, then the lower uid."""
    ranked = []
    for uid, own in found.scores.items():
        values = [own.get(task, 0.0) for task in subset]
        if all(value > 0 for value in values):
            mean = math.exp(math.fsum(math.log(value) for value in values) / len(values))
            ranked.append((-mean, found.blocks[uid], uid))
    if not ranked:
        return None
    ranked.sort()
    leader = ranked[0]
    if len(ranked) > 1 and not leader[0] < ranked[1][0] - WIN_MARGIN:
        return min(ranked[:2], key=lambda entry: entry[1:])[2]
    return leader[2]


def subset_winners(found: Board) -> dict[tuple[str, ...], int | None]:
    return {
        subset: subset_winner(found, subset)
        for size in range(1, len(found.tasks) + 1)
        for subset in itertools.combinations(found.tasks, size)
    }


def points(winners: Mapping[tuple[str, ...], int | None], scheme: str) -> dict[int, float]:
    """What the won groups are worth."""
    total: dict[int, float] = {}
    for subset, uid in winners.items():
        if uid is not None:
            worth = 2.0 ** (len(subset) - 1) if scheme == "exponential" else float(len(subset))
            total[uid] = total.get(uid, 0.0) + worth
    return total


def softmax(values: Mapping[int, float]) -> dict[int, float]:
    if not values:
        return {}
    highest = max(values.values())
    powers = {uid: math.exp(value - highest) for uid, value in values.items()}
    total = math.fsum(powers.values())
    return {uid: power / total for uid, power in powers.items()}


def decay(age_blocks: int, settings: BitrecsSettings) -> float:
    """Full weight for some days, then less each day, never below the floor."""
    days = max(0, age_blocks) / BLOCKS_PER_DAY
    lost = max(0.0, days - settings.grace_period_days) * settings.decay_factor
    return max(settings.decay_floor, 1.0 - lost)


def threshold(score: float, samples: int, settings: BitrecsSettings) -> float:
    """What a challenger would have to reach."""
    share = min(max(score, _LEAST_SHARE), _MOST_SHARE)
    gap = settings.z_score * math.sqrt(share * (1 - share) / max(1, samples))
    return min(share + min(max(gap, settings.min_threshold_gap), settings.max_threshold_gap), 1.0)


def chain_weights(winner: int | None, share: float) -> dict[int, float]:
    """The winner takes its share, the rest burns on slot 0."""
    if winner is None or winner == 0:
        return {0: 1.0}
    return {winner: share, 0: 1.0 - share}


def pareto_view(found: Board, settings: BitrecsSettings) -> dict[str, Any]:
    """`/scoring/pareto`."""
    epsilon = tolerances(found, settings)
    matrix = dominance(found, epsilon)
    uids, leading = list(found.scores), set(frontier(found, matrix))
    stats = [
        {
            "uid": uid,
            "on_frontier": uid in leading,
            "dominated_count": sum(matrix[row]),
            "score_avg": math.fsum(own.values()) / len(own) if own else 0.0,
        }
        for row, (uid, own) in enumerate(found.scores.items())
    ]
    return {
        "frontier_uids": sorted(leading),
        "dominance_matrix": matrix[:_SHOWN],
        "score_matrix": [[own.get(task, 0.0) for task in found.tasks] for own in found.scores.values()][:_SHOWN],
        "uid_mapping": uids,
        "miner_scores": found.scores,
        "samples": found.samples,
        "epsilon": epsilon,
        "dominance_explanation": {uid: "On frontier" if uid in leading else "Dominated by others" for uid in uids},
        "stats": sorted(stats, key=lambda entry: not entry["on_frontier"]),
    }


def winner_view(found: Board, settings: BitrecsSettings, *, block: int) -> dict[str, Any]:
    """`/scoring/wta`."""
    leading = set(frontier(found, dominance(found, tolerances(found, settings))))
    winners = subset_winners(found)
    scored = points(winners, settings.subset_weighting)
    weights = softmax({uid: scored.get(uid, 0.0) for uid in found.scores if uid in leading})
    winner = min(weights, key=lambda uid: (-weights[uid], found.blocks[uid], uid), default=None)
    share = settings.miner_emission_portion
    if winner is not None:
        share *= decay(block - found.blocks[winner], settings)
    won = {uid: sum(1 for other in winners.values() if other == uid) for uid in found.scores}
    order = sorted({weights.get(uid, 0.0) for uid, count in won.items() if count}, reverse=True)
    stats = [
        {
            "winner_uid": uid,
            "subsets_won": count,
            "weight": weights.get(uid, 0.0),
            "rank": order.index(weights.get(uid, 0.0)) + 1,
        }
        for uid, count in won.items()
        if count
    ]
    return {
        "weights": weights,
        "subset_scores": scored,
        "miner_thresholds": {
            uid: {task: threshold(score, found.samples[task], settings) for task, score in own.items()}
            for uid, own in found.scores.items()
        },
        "miner_blocks": found.blocks,
        "subset_winners": {str(subset): uid for subset, uid in list(winners.items())[:_SHOWN]},
        "stats": sorted(stats, key=lambda entry: (-entry["weight"], entry["winner_uid"])),
        "winner_uid": winner,
        "winner_hotkey": None if winner is None else found.hotkeys[winner],
        "chain_weights": chain_weights(winner, share),
    }
