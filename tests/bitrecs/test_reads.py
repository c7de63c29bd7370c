"""What pollers see, and how a path that is not one is told."""

from __future__ import annotations

from chalicelib.bitrecs import tasks
from tests.bitrecs.world import BLOCK, KEY, NOW, Freeze, World, screened, told


def test_get_submit_and_a_trailing_slash_are_json_and_no_redirect(world: World) -> None:  # V09
    wrong, slash = world.client.get("/bitrecs/submit"), world.client.post("/bitrecs/submit/", {})

    assert (wrong.status, slash.status) == (405, 404)
    assert wrong.json["detail"]
    assert slash.json["detail"]


def test_what_is_no_address_is_told_as_such_however_long(world: World) -> None:
    for hotkey in ("x", "5" * 5000, ""):
        reply = world.client.get(f"/bitrecs/retrieval/agent-by-hotkey?miner_hotkey={hotkey}")

        assert told(reply) == (400, f"Miner hotkey {hotkey[:100]} is not a valid format")


def test_blocks_and_weights_follow_the_scores(world: World) -> None:
    (miner,) = screened(world, "a")
    for validator in world.validators:
        validator.evaluate(0.7)

    tasks.snapshots()

    assert world.client.get("/bitrecs/retrieval/miner-blocks").json == {miner.hotkey: BLOCK - 10}
    winner = world.client.get("/bitrecs/scoring/wta").json
    assert (winner["winner_uid"], winner["chain_weights"]) == (1, {"1": 0.74, "0": 0.26})
    (top,) = world.client.get("/bitrecs/retrieval/top-agents").json
    assert (top["miner_hotkey"], top["validator_count"]) == (miner.hotkey, 3)
    assert len(world.client.get("/bitrecs/scoring/latest").json["scores"]) == 21


def test_the_stages_tell_their_averages(world: World, freeze: Freeze) -> None:
    assert world.miner("a").submit().status == 201
    freeze(NOW + 40)
    assert world.screener("screener-1-1").evaluate(0.5)
    freeze(NOW + 50)
    assert world.screener("screener-2-1").evaluate(0.7)
    tasks.snapshots()

    told = world.client.get("/bitrecs/scoring/screener-info").json

    assert (told["screener_1_average_score"], told["screener_1_average_wait_time"]) == (0.5, 40)
    assert (round(told["screener_2_average_score"], 9), told["screener_2_average_wait_time"]) == (0.7, 10)
    assert (told["validator_average_score"], told["validator_average_wait_time"]) == (None, None)


def test_every_answer_carries_the_specified_headers_even_the_gateway_s_own(world: World) -> None:
    wanted = {
        "X-Content-Type-Options": "nosniff",
        "X-Frame-Options": "DENY",
        "X-XSS-Protection": "1; mode=block",
        "Strict-Transport-Security": "max-age=31536000; includeSubDomains; preload",
        "Referrer-Policy": "strict-origin-when-cross-origin",
        "Permissions-Policy": "camera=(), microphone=(), geolocation=()",
        "X-Permitted-Cross-Domain-Policies": "none",
    }
    for method, path in (("GET", "/health"), ("POST", "/submit"), ("GET", "/submit"), ("GET", "/no/such/path")):
        reply = world.client.call(method, f"/bitrecs{path}")
        assert wanted.items() <= reply.headers.items(), (method, path)


def test_prompts_are_withheld_from_strangers_until_the_agent_is_terminal(world: World) -> None:
    agent_id = world.miner("a").submit().json["artifact_id"]
    hidden = ("system_prompt_template", "user_prompt_template", "fewshot_examples")

    def shown(headers: dict[str, str]) -> list[bool]:
        agent = world.client.get(f"/bitrecs/retrieval/agent-by-id?agent_id={agent_id}", headers).json
        return [agent[name] is not None for name in hidden]

    assert (shown({}), shown({"X-API-Key": "guess"}), shown({"X-API-Key": KEY})) == (
        [False] * 3,
        [False] * 3,
        [True] * 3,
    )
    assert world.screener("screener-1-1").evaluate(0.1)
    assert shown({}) == [True] * 3
