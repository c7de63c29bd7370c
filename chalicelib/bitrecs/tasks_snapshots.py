"""Snapshots that pollers read: lists, scores, weights of the current set, written only when something changed."""

from __future__ import annotations

from collections.abc import Iterable

from chalicelib.kernel import chain, clock
from chalicelib.kernel.wire import Item

from . import domain_scoring, domain_views, store, store_work, tasks_sets
from .contracts import BitrecsSettings, ScoreRow

_BEST_AGENTS = 50
_MOST_ROWS = 5_000
_DAY = 86_400
_REFRESHED_ANYWAY_SECONDS = 600


def refresh(*, force: bool = False) -> bool:
    """Recompute everything when a revision moved; False when nothing had changed."""
    settings, now = BitrecsSettings.current(), clock.now()
    current = tasks_sets.first_set()
    _, _, agents, _ = store.doors()
    mark = f"{current['set_id']}:{store_work.scores_revision()}:{agents}:{int(now // _REFRESHED_ANYWAY_SECONDS)}"
    if mark == store_work.snapshot_mark() and not force:
        return False
    set_id = current["set_id"]
    rows, finals = store_work.scores(set_id), store_work.finals(set_id)
    metas = {meta["agent_id"]: meta for meta in store.agents([final["agent_id"] for final in finals])}
    banned = _banned(row.hotkey for row in rows) | _banned(meta["miner_hotkey"] for meta in metas.values())
    rows = [row for row in rows if row.hotkey not in banned]
    finals = [final for final in finals if metas[final["agent_id"]]["miner_hotkey"] not in banned]
    _save_scores(rows, settings, current)
    _save_agents(finals, metas, settings, now)
    store_work.save_snapshot("screener-info", domain_views.screener_info(settings, *store_work.averages(set_id)))
    store_work.set_snapshot_mark(mark)
    return True


def _banned(hotkeys: Iterable[str]) -> set[str]:
    return store.banned(sorted(set(hotkeys)))


def _save_scores(rows: list[ScoreRow], settings: BitrecsSettings, current: Item) -> None:
    board = domain_scoring.board(rows)
    head = chain.head()
    if rows:
        pareto = domain_scoring.pareto_view(board, settings)
        winner = domain_scoring.winner_view(board, settings, block=head.block if head else 0)
    else:
        pareto = winner = {"error": "No miners in current evaluation set"}
    store_work.save_snapshot("pareto", pareto)
    store_work.save_snapshot("wta", winner)
    store_work.save_snapshot("scores", {"scores": domain_scoring.shown(rows, _MOST_ROWS)})
    store_work.save_snapshot("miner-blocks", {board.hotkeys[uid]: block for uid, block in board.blocks.items()})
    number = current["set_id"]
    store_work.save_snapshot(f"problems-{number}", domain_views.problem_statistics(rows, number, current["created_at"]))


def _save_agents(finals: list[Item], metas: dict[str, Item], settings: BitrecsSettings, now: float) -> None:
    best = sorted(finals, key=lambda final: (-final["score"], metas[final["agent_id"]]["created"]))[:_BEST_AGENTS]
    listed = [domain_views.scored_agent(metas[final["agent_id"]], final) for final in best]
    store_work.save_snapshot("top-agents", listed)
    top = best[0]["score"] if best else None
    earlier = max((final["score"] for final in finals if final["at"] < now - _DAY), default=None)
    improvement = top - earlier if top is not None and earlier is not None else 0.0
    created = store.accepted_in_a_day(settings.artifact_interval_seconds, now)
    statistics = {"score_improvement_24_hrs": improvement, "agents_created_24_hrs": created, "top_score": top}
    store_work.save_snapshot("network-statistics", statistics)
