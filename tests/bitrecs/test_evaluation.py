"""The conformance table of validators: sessions, claims, runs, verdicts, and work that comes back."""

from __future__ import annotations

from typing import Any

import pytest

from chalicelib.bitrecs import store, store_work, tasks
from tests.bitrecs.world import (
    KEY,
    NOW,
    PASSWORD,
    Configure,
    Evaluator,
    Freeze,
    Miner,
    World,
    screened,
    status_of,
    told,
)
from tests.harness.wallets import wallet


def test_without_a_key_nobody_registers_or_reads_what_is_closed(world: World, configure: Configure) -> None:  # V01
    body = {"name": "screener-1-1", "password": PASSWORD, "commit_hash": "c"}
    refused = {"error": "Invalid or missing API Key", "detail": "Invalid or missing API Key", "code": "api_key_invalid"}

    reply = world.client.post("/bitrecs/validator/register-as-screener", body)
    assert (reply.status, reply.json) == (401, refused)
    configure(BITRECS_PUBLIC_READS="false")
    reply = world.client.get("/bitrecs/retrieval/top-agents")
    assert (reply.status, reply.json) == (401, refused)
    assert world.client.get("/bitrecs/retrieval/top-agents", {"X-API-Key": KEY}).status == 200
    assert world.client.get("/bitrecs/health").status == 200


def test_a_revoked_key_opens_nothing(world: World) -> None:
    (key,) = store.api_keys()
    store.revoke_api_key(key["id"])

    body = {"name": "screener-1-1", "password": PASSWORD, "commit_hash": "c"}
    reply = world.client.post("/bitrecs/validator/register-as-screener", body, {"X-API-Key": KEY})
    assert reply.status == 401


@pytest.mark.parametrize(
    ("token", "status", "text"),
    [
        ("abc", 422, "Invalid session ID format (expected a UUID)."),
        ("00000000-0000-4000-8000-000000000000", 401, "Session ID not found or expired."),
    ],
)  # V02
def test_a_session_is_a_known_uuid(world: World, token: str, status: int, text: str) -> None:
    assert told(Evaluator(world.client, token).post("heartbeat", {"system_metrics": {}})) == (status, text)


REGISTRATIONS: list[tuple[dict[str, Any], int, str]] = [
    ({"hotkey": wallet("x").hotkey}, 403, "The provided hotkey is not in the list of whitelisted validator hotkeys."),
    (
        {"signed_timestamp": "00" * 64}, 401,
        "The provided signed timestamp does not match the provided timestamp.",
    ),
    ({"timestamp": NOW - 301}, 400, "The provided timestamp is not within 5 minutes of the current time."),
    ({"timestamp": NOW + 301}, 400, "The provided timestamp is not within 5 minutes of the current time."),
    ({"timestamp": NOW - 300}, 409, "There is already a validator connected with the given hotkey."),
    ({}, 409, "There is already a validator connected with the given hotkey."),
]  # fmt: skip


@pytest.mark.parametrize(("changes", "status", "text"), REGISTRATIONS)
def test_each_fault_of_a_validator_s_registration(
    world: World, freeze: Freeze, changes: dict[str, Any], status: int, text: str
) -> None:
    freeze(NOW + 0.9)  # both clocks tell whole seconds
    signer = wallet("validator 0")
    body = {"timestamp": NOW, "hotkey": signer.hotkey, "commit_hash": "c"} | changes
    body = {"signed_timestamp": signer.sign(str(body["timestamp"]).encode()).hex()} | body

    reply = world.client.post("/bitrecs/validator/register-as-validator", body, {"X-API-Key": KEY})

    assert told(reply) == (status, text)


@pytest.mark.parametrize(
    ("name", "password", "status", "text"),
    [
        ("screener-1-x", PASSWORD, 400, "The provided name is not in the format screener-CLASS-NUM."),
        ("screener-1-1-more", PASSWORD, 400, "The provided name is not in the format screener-CLASS-NUM."),
        ("screener-3-1", PASSWORD, 400, "The screener class must be either 1 or 2."),
        ("screener-1-1", "guess", 403, "The provided password is incorrect."),
    ],
)
def test_each_fault_of_a_screener_s_registration(
    world: World, name: str, password: str, status: int, text: str
) -> None:
    body = {"name": name, "password": password, "commit_hash": "c"}

    reply = world.client.post("/bitrecs/validator/register-as-screener", body, {"X-API-Key": KEY})

    assert told(reply) == (status, text)


def test_passwords_cannot_be_guessed_in_bulk(world: World) -> None:
    body = {"name": "screener-1-1", "password": "guess", "commit_hash": "c"}
    statuses = [
        world.client.post("/bitrecs/validator/register-as-screener", body, {"X-API-Key": KEY}).status for _ in range(6)
    ]

    assert statuses == [403] * 5 + [429]


def test_a_session_s_place_is_free_when_its_heartbeat_is_old(world: World, freeze: Freeze) -> None:
    freeze(NOW + 121)
    again = world.validator(wallet("validator 0"))

    assert again.session_id != world.validators[0].session_id
    assert world.validators[0].post("heartbeat", {"system_metrics": {}}).status == 401
    assert again.post("heartbeat", {"system_metrics": {"cpu": 0.5}}).status == 200
    listed = world.client.get("/bitrecs/validator/connected-validators-info").json
    assert [(one["name"], one["system_metrics"]) for one in listed] == [("validator 0", {"cpu": 0.5})]


def test_an_empty_queue_answers_null(world: World) -> None:  # V03
    assert world.validators[0].post("request-evaluation").body == b"null"


def test_three_of_four_validators_get_the_agent_and_nobody_twice(world: World) -> None:  # V04
    screened(world, "a")
    store.add_validator(wallet("fourth").hotkey, "fourth")
    fourth = world.validator(wallet("fourth"))

    work = [validator.claim() for validator in [*world.validators, fourth]]

    assert [bool(found) for found in work] == [True, True, True, False]
    assert len({run["evaluation_run_id"] for found in work if found for run in found["evaluation_runs"]}) == 21
    assert told(world.validators[0].post("request-evaluation"))[0] == 409


@pytest.mark.parametrize(("score", "status"), [(0.3, "screening_2"), (0.29, "failed_screening_1")])  # V05
def test_the_first_screener_s_threshold(world: World, score: float, status: str) -> None:
    miner = world.miner("a")
    miner.submit()

    work = world.screener("screener-1-1").evaluate(score)

    assert work
    assert [run["problem_name"] for run in work["evaluation_runs"]] == ["bitrecs_basic_daily"]
    assert status_of(world, miner) == status


@pytest.mark.parametrize(("score", "status"), [(0.71, "failed_screening_2"), (0.72, "evaluating")])  # V06
def test_the_second_screener_prunes_by_the_best_score(world: World, score: float, status: str) -> None:
    screened(world, "best")
    for validator in world.validators:
        validator.evaluate(0.8)

    miner = world.miner("next")
    miner.submit()
    Evaluator(world.client, session_of(world, "screener-1-1")).evaluate(0.9)
    Evaluator(world.client, session_of(world, "screener-2-1")).evaluate(score)

    assert status_of(world, miner) == status


def session_of(world: World, name: str) -> str:
    return store_work.live_sessions(store_work.live())[store_work.slot_of(name)][0]


def test_three_successful_evaluations_finish_an_agent(world: World) -> None:  # V07
    (miner,) = screened(world, "a")
    for validator, score in zip(world.validators, (0.6, 0.7, 0.8), strict=True):
        assert status_of(world, miner) == "evaluating"
        validator.evaluate(score)

    agent = world.client.get(f"/bitrecs/retrieval/agent-by-hotkey?miner_hotkey={miner.hotkey}").json
    assert (agent["status"], agent["final_score"]) == ("finished", 0.7)
    assert agent["system_prompt_template"]
    assert world.client.get("/bitrecs/retrieval/queue?stage=validator").json == []


def test_an_evaluation_is_not_finished_before_its_runs(world: World) -> None:  # V08
    miner = world.miner("a")
    miner.submit()
    screener = world.screener("screener-1-1")
    screener.claim()

    assert screener.post("finish-evaluation").status == 409
    assert screener.post("heartbeat", {"system_metrics": {}}).status == 401
    assert world.screener("screener-1-1").claim()


def test_runs_move_one_state_at_a_time_and_a_repetition_changes_nothing(world: World) -> None:
    world.miner("a").submit()
    screener = world.screener("screener-1-1")
    work = screener.claim()
    assert work
    run_id = work["evaluation_runs"][0]["evaluation_run_id"]

    assert screener.update(run_id, "initializing_agent").status == 200
    assert screener.update(run_id, "initializing_agent").status == 200
    assert screener.update(run_id, "initializing_eval", patch="p", agent_logs="l").status == 400


@pytest.mark.parametrize(
    ("status", "more", "expected"),
    [
        ("running_agent", {}, 400),
        ("error", {}, 422),
        ("error", {"error_code": 1000, "error_message": "m"}, 200),
        ("nonsense", {}, 422),
    ],
)
def test_a_run_needs_what_belongs_to_its_state(world: World, status: str, more: dict[str, Any], expected: int) -> None:
    world.miner("a").submit()
    screener = world.screener("screener-1-1")
    work = screener.claim()
    assert work

    assert screener.update(work["evaluation_runs"][0]["evaluation_run_id"], status, **more).status == expected


def test_nobody_moves_another_session_s_run(world: World) -> None:
    world.miner("a").submit()
    world.miner("b").submit()
    first, second = world.screener("screener-1-1"), world.screener("screener-1-2")
    work = first.claim()
    second.claim()
    assert work

    reply = second.update(work["evaluation_runs"][0]["evaluation_run_id"], "initializing_agent")

    assert reply.status == 403
    assert first.update("00000000-0000-4000-8000-000000000000", "running_agent").status == 404


def test_logs_are_kept_up_to_their_limit_and_shown_when_prompts_are(world: World, configure: Configure) -> None:
    configure(BITRECS_MAX_EVALUATION_RUN_LOG_SIZE_BYTES="5")
    world.miner("a").submit()
    work = world.screener("screener-1-1").evaluate(0.9)
    assert work
    run_id = work["evaluation_runs"][0]["evaluation_run_id"]
    path = f"/bitrecs/evaluation-run/get-logs-by-id?type=agent&evaluation_run_id={run_id}"

    assert world.client.get(path).status == 403
    assert world.client.get(path, {"X-API-Key": KEY}).json == "agent"


@pytest.mark.parametrize("by", ["watch", "sweep", "disconnect"])
def test_the_work_of_a_dead_session_goes_back_to_the_queue(
    world: World, freeze: Freeze, started: list[tuple[str, str, Any]], by: str
) -> None:
    miner = world.miner("a")
    miner.submit()
    lost = world.screener("screener-1-1")
    work = lost.claim()
    assert work
    run_id = work["evaluation_runs"][0]["evaluation_run_id"]
    lost.update(run_id, "initializing_agent")
    ((machine, _, event),) = started
    assert (machine, tasks.watch(event, None)["done"]) == ("bitrecs-watch", False)

    if by == "disconnect":
        lost.post("disconnect", {"reason": "tired"})
    freeze(NOW + 121)
    if by == "watch":
        assert tasks.watch(event, None)["done"] is True
    elif by == "sweep":
        tasks.lost_sessions()

    run = world.client.get(f"/bitrecs/evaluation-run/get-by-id?evaluation_run_id={run_id}").json
    assert (run["status"], run["error_code"]) == ("error", 3010)
    assert lost.update(run_id, "running_agent").status == 401
    assert world.screener("screener-1-2").claim()
    assert tasks.watch(event, None)["done"] is True


def test_a_validator_s_own_failure_counts_for_nobody(world: World) -> None:
    (miner,) = screened(world, "a")
    validator = world.validators[0]
    work = validator.claim()
    assert work
    for run in work["evaluation_runs"]:
        validator.update(run["evaluation_run_id"], "error", error_code=2000, error_message="disk full")
    assert validator.post("finish-evaluation").status == 200

    for other in world.validators:
        other.evaluate(0.5)

    assert status_of(world, miner) == "finished"
    history = world.client.get(
        f"/bitrecs/retrieval/evaluations-for-agent?agent_id={agent_id_of(world, miner)}", {"X-API-Key": KEY}
    ).json
    assert sorted(one["status"] for one in history) == ["failure"] + ["success"] * 5


def agent_id_of(world: World, miner: Miner) -> str:
    return store.agents_of(miner.hotkey, limit=1)[0]


def test_an_agent_s_error_scores_nothing_and_is_no_failure(world: World) -> None:
    miner = world.miner("a")
    miner.submit()
    screener = world.screener("screener-1-1")
    work = screener.claim()
    assert work
    run_id = work["evaluation_runs"][0]["evaluation_run_id"]
    screener.update(run_id, "error", error_code=1000, error_message="the agent raised")

    assert screener.post("finish-evaluation").status == 200
    assert status_of(world, miner) == "failed_screening_1"


def test_the_second_screener_s_patience_ends(world: World) -> None:
    miner = world.miner("a")
    miner.submit()
    world.screener("screener-1-1").evaluate(0.9)
    for _ in range(3):
        second = world.screener("screener-2-1")
        assert second.claim()
        second.post("disconnect", {"reason": "again"})

    assert status_of(world, miner) == "failed_screening_2"


def test_a_banned_miner_s_agent_is_in_no_queue(world: World) -> None:
    banned, next_one = world.miner("a"), world.miner("b")
    banned.submit()
    next_one.submit()
    store.ban(banned.hotkey, "spam", "tests")

    listed = world.client.get("/bitrecs/retrieval/queue?stage=screener_1").json
    work = world.screener("screener-1-1").claim()

    assert [agent["miner_hotkey"] for agent in listed] == [next_one.hotkey]
    assert work
    run_id = work["evaluation_runs"][0]["evaluation_run_id"]
    agent = world.client.get(f"/bitrecs/agent/get-by-evaluation-run-id?evaluation_run_id={run_id}").json
    assert agent["miner_hotkey"] == next_one.hotkey


def test_validators_take_the_best_screened_agent_first(world: World) -> None:
    screened(world, "good")
    (better,) = screened_again(world, "better", 0.95)

    work = world.validators[0].claim()

    assert work
    run_id = work["evaluation_runs"][0]["evaluation_run_id"]
    agent = world.client.get(f"/bitrecs/agent/get-by-evaluation-run-id?evaluation_run_id={run_id}").json
    assert agent["miner_hotkey"] == better.hotkey


def screened_again(world: World, name: str, second: float) -> list[Miner]:
    miner = world.miner(name)
    miner.submit()
    Evaluator(world.client, session_of(world, "screener-1-1")).evaluate(0.9)
    Evaluator(world.client, session_of(world, "screener-2-1")).evaluate(second)
    return [miner]


def test_only_the_session_that_evaluates_an_agent_reads_its_key(world: World) -> None:
    miner = world.miner("a", provider="OPEN_ROUTER")
    world.github.keys.add("sk-or-v1-good")
    body = miner.body()
    agent_id = world.client.post("/bitrecs/submit", body, miner.headers(body) | {"X-ORTK": "sk-or-v1-good"}).json[
        "artifact_id"
    ]
    screener = world.screener("screener-1-1")
    path = f"/bitrecs/agent/temp-key?agent_id={agent_id}"
    as_screener = {"X-API-Key": KEY, "Authorization": f"Bearer {screener.session_id}"}

    assert world.client.get(path).status == 401
    assert world.client.get(path, as_screener).status == 403
    screener.claim()
    assert world.client.get(path, as_screener).json["temp_key"] == "sk-or-v1-good"
    assert world.client.get(path, {"X-API-Key": KEY}).status == 403
