"""What miners, validators and dashboards read: agents and runs as they are now, lists and scores as snapshots."""

from __future__ import annotations

import re
from typing import Any

from chalicelib.kernel import chain, clock
from chalicelib.kernel.errors import Forbidden, Malformed, NotFound
from chalicelib.kernel.http import Answer, Request
from chalicelib.kernel.tokens import bearer
from chalicelib.kernel.wire import Item

from . import domain, domain_views, store, store_work, tasks_sets
from . import domain_stages as stages
from .contracts import Agent, AgentQuery, BitrecsSettings, HotkeyQuery, QueueQuery, ScoredAgent, SetQuery
from .contracts_work import EvaluationRun, EvaluationWithRuns, LogQuery, RunQuery
from .routes_gate import Reader, api, key_holder, reader, set_reader

_LISTED = 100
_LIST_SECONDS = 10
_HOTKEY = re.compile(r"5[1-9A-HJ-NP-Za-km-z]{47}")
_NO_AGENT = {404: "No such agent."}
_NO_RUN = {404: "No such run."}


@api.get("/retrieval/agent-by-id", auth=reader, refusals=_NO_AGENT)
def agent_by_id(query: AgentQuery, caller: Reader) -> Agent:
    """An agent as it is now."""
    return _agent(query.agent_id, caller)


@api.get("/retrieval/agent-by-hotkey", auth=reader, refusals={400: "Not an address.", **_NO_AGENT})
def agent_by_hotkey(query: HotkeyQuery, caller: Reader) -> Agent:
    """The newest agent of a miner."""
    newest = store.agents_of(_hotkey(query), limit=1)
    if not newest:
        raise NotFound(f"Agent with miner hotkey {query.miner_hotkey} not found", code="agent_not_found")
    return _agent(newest[0], caller)


@api.get("/retrieval/all-agents-by-hotkey", auth=reader, refusals={400: "Not an address."})
def all_agents_by_hotkey(query: HotkeyQuery) -> list[Agent]:
    """Every agent of a miner, newest first, without prompts."""
    return [domain_views.agent(meta) for meta in store.agents(store.agents_of(_hotkey(query), limit=_LISTED))]


@api.get("/retrieval/queue", auth=reader)
def queue(query: QueueQuery) -> list[Agent]:
    """The agents waiting in a stage, in the order in which they are taken: the first hundred."""
    entries, _ = store_work.queue(query.stage, limit=_LISTED)
    banned = store.banned([entry.hotkey for entry in entries])
    wanted = [entry.agent_id for entry in entries if entry.hotkey not in banned]
    return [domain_views.agent(meta) for meta in store.agents(wanted)]


@api.get("/retrieval/evaluations-for-agent", auth=reader)
def evaluations_for_agent(query: AgentQuery) -> list[EvaluationWithRuns]:
    """Every evaluation of an agent with its runs, oldest first."""
    evaluations = store_work.evaluations_of(query.agent_id)
    return domain_views.evaluations(evaluations, store_work.runs_of(evaluations))


@api.get("/retrieval/agent-code", auth=reader, refusals={403: "Not terminal yet.", **_NO_AGENT})
def agent_code(query: AgentQuery) -> Answer:
    """The artifact file as it was accepted, as one JSON string."""
    meta, _ = _known(query.agent_id)
    if not domain.prompts_are_public(meta["status"]):
        text = f"Agent {query.agent_id} is still being screened/evaluated"
        raise Forbidden(text, code="agent_in_evaluation")
    raw = store.bucket().get(f"artifacts/{query.agent_id}/artifact.yaml")
    return Answer((raw or b"").decode())


@api.get("/retrieval/top-agents", auth=reader, fresh_for=_LIST_SECONDS)
def top_agents() -> Answer:
    """The fifty best agents of the current set."""
    return _snapshot("top-agents", [])


@api.get("/retrieval/benchmark-agents", auth=reader)
def benchmark_agents() -> list[ScoredAgent]:
    """Agents of the operator that others are measured by; there are none."""
    return []


@api.get("/retrieval/network-statistics", auth=reader, fresh_for=_LIST_SECONDS)
def network_statistics() -> Answer:
    """Growth of the last day and the best score."""
    nothing = {"score_improvement_24_hrs": 0.0, "agents_created_24_hrs": 0, "top_score": None}
    return _snapshot("network-statistics", nothing)


@api.get("/retrieval/miner-blocks", auth=reader, fresh_for=_LIST_SECONDS)
def miner_blocks() -> Answer:
    """The block of the first commitment by hotkey, of everybody who is scored in the current set."""
    return _snapshot("miner-blocks", {})


@api.get("/agent/get-by-evaluation-run-id", auth=reader, refusals=_NO_RUN)
def agent_by_run(query: RunQuery, caller: Reader) -> Agent:
    """The agent that a run evaluates; validators load its prompts here."""
    run = store_work.run(query.evaluation_run_id)
    if not run:
        text = f"Agent with evaluation run ID {query.evaluation_run_id} does not exist."
        raise NotFound(text, code="run_not_found")
    return _agent(run["agent_id"], caller)


@api.get("/agent/get-gist-info", auth=reader, refusals=_NO_AGENT)
def gist_info(query: AgentQuery) -> dict[str, Any]:
    """Where an agent's artifact came from."""
    return domain_views.gist_info(_known(query.agent_id)[0])


@api.get("/agent/temp-key", auth=key_holder, refusals={403: "Another session evaluates it.", **_NO_AGENT})
def temporary_key(query: AgentQuery, request: Request) -> dict[str, str]:
    """The miner's temporary key, for the session that evaluates the agent and for nobody else."""
    session = store_work.session((bearer(request.header("authorization")) or "-").lower())
    if not session or session.get("agent_id") != query.agent_id:
        raise Forbidden("Only the session that evaluates this agent may read its key", code="not_your_agent")
    key = store.temporary_key(query.agent_id)
    if key is None:
        raise NotFound(f"Agent {query.agent_id} has no temporary key", code="no_temporary_key")
    return {"agent_id": query.agent_id, "temp_key": key}


@api.get("/evaluation-run/get-by-id", auth=reader, refusals=_NO_RUN)
def run_by_id(query: RunQuery) -> EvaluationRun:
    """A run as it is now."""
    return domain_views.run(_run(query.evaluation_run_id))


@api.get("/evaluation-run/get-logs-by-id", auth=reader, refusals={403: "Not terminal yet.", **_NO_RUN})
def run_logs(query: LogQuery, caller: Reader) -> Answer:
    """The log of a run as one JSON string; it may quote prompts, so it is public when they are."""
    run = _run(query.evaluation_run_id)
    if not caller.has_key and not domain.prompts_are_public(_known(run["agent_id"])[0]["status"]):
        text = f"Agent {run['agent_id']} is still being screened/evaluated"
        raise Forbidden(text, code="agent_in_evaluation")
    log = store_work.log(query.evaluation_run_id, query.type)
    if log is None:
        text = f"Evaluation run logs with ID {query.evaluation_run_id} and type {query.type} do not exist."
        raise NotFound(text, code="log_not_found")
    return Answer(log)


@api.get("/evaluation/get-by-evaluation-run-id", auth=reader, refusals=_NO_RUN)
def evaluation_by_run(query: RunQuery) -> EvaluationWithRuns:
    """The evaluation that a run belongs to, with all its runs."""
    run = _run(query.evaluation_run_id)
    evaluation = store_work.evaluation(run["agent_id"], run["evaluation_id"])
    found = [evaluation] if evaluation else []
    return domain_views.evaluations(found, store_work.runs_of(found))[0]


@api.get("/evaluation-sets/all-latest-set-problems", auth=reader)
def latest_problems() -> list[dict[str, Any]]:
    """The problems of the current set."""
    current = tasks_sets.first_set()
    created = clock.stamp(current["created_at"])
    return [{"set_id": current["set_id"], "created_at": created, **problem} for problem in current["problems"]]


@api.get("/scoring/latest-set-info", auth=set_reader)
def latest_set() -> dict[str, Any]:
    """The current set, which is the current cycle."""
    current = tasks_sets.first_set()
    return {"latest_set_id": current["set_id"], "latest_set_created_at": clock.stamp(current["created_at"])}


@api.get("/scoring/screener-info", auth=reader, fresh_for=_LIST_SECONDS)
def screener_info() -> Answer:
    """Thresholds, and how the stages did in the current set."""
    settings = BitrecsSettings.current()
    nothing = domain_views.screener_info(settings, {}, {})
    return _snapshot("screener-info", nothing)


@api.get("/scoring/constants", auth=reader)
def constants() -> dict[str, float]:
    """The constants of the weights."""
    return domain_views.constants(BitrecsSettings.current())


@api.get("/scoring/latest", auth=reader, fresh_for=_LIST_SECONDS)
def latest_scores() -> Answer:
    """Every score of the current set."""
    return _snapshot("scores", {"scores": []})


@api.get("/scoring/pareto", auth=reader, fresh_for=_LIST_SECONDS)
def pareto() -> Answer:
    """Who dominates whom."""
    return _snapshot("pareto", {"error": "No miners in current evaluation set"})


@api.get("/scoring/wta", auth=reader, fresh_for=_LIST_SECONDS)
def winner_takes_all() -> Answer:
    """Who wins which group of tasks, and the weights that follow."""
    return _snapshot("wta", {"error": "No miners in current evaluation set"})


@api.get("/statistics/problem-statistics", auth=reader, fresh_for=_LIST_SECONDS, refusals={400: "No such set."})
def problem_statistics(query: SetQuery) -> Answer:
    """How the problems of a set were solved; of the current one, or of an earlier one as it ended."""
    current = tasks_sets.first_set()
    if query.set_id > current["set_id"]:
        raise Malformed(
            f"set_id {query.set_id} is greater than the latest available set_id {current['set_id']}.",
            code="no_such_set",
        )
    found = store.set_by_number(query.set_id) or current
    nothing = {
        "problem_stats": [],
        "problem_set_id": query.set_id,
        "problem_set_created_at": clock.stamp(found["created_at"]),
    }
    return _snapshot(f"problems-{query.set_id}", nothing)


@api.get("/metagraph/info", auth=reader, refusals={503: "Nothing was copied from the chain yet."})
def metagraph() -> dict[str, Any]:
    """The copy of the subnet that everything here rests on."""
    snapshot = chain.snapshot("bitrecs")
    if not snapshot:
        raise domain.chain_unavailable()
    return domain_views.metagraph(snapshot.block, clock.stamp(snapshot.synced_at), snapshot.subnet)


def _hotkey(query: HotkeyQuery) -> str:
    if not _HOTKEY.fullmatch(query.miner_hotkey):
        raise domain.malformed_hotkey(query.miner_hotkey)
    return query.miner_hotkey


def _known(agent_id: str) -> tuple[Item, Item]:
    found = store.agent(agent_id)
    if not found:
        raise NotFound(f"Agent with ID {agent_id} not found", code="agent_not_found")
    return found


def _agent(agent_id: str, caller: Reader) -> Agent:
    meta, artifact = _known(agent_id)
    return domain_views.agent(meta, artifact, shown=caller.has_key or domain.prompts_are_public(meta["status"]))


def _run(run_id: str) -> Item:
    run = store_work.run(run_id)
    if not run:
        raise stages.unknown_run(run_id)
    return run


def _snapshot(name: str, nothing: Any) -> Answer:
    raw = store_work.snapshot(name)
    return Answer(nothing if raw is None else raw)
