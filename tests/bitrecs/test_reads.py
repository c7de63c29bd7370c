"""What pollers see, and how a path that is not one is told."""

from __future__ import annotations

from chalicelib.bitrecs import tasks
from tests.bitrecs.world import BLOCK, World, screened


def test_get_submit_and_a_trailing_slash_are_json_and_no_redirect(world: World) -> None:  # V09
    wrong, slash = world.client.get("/bitrecs/submit"), world.client.post("/bitrecs/submit/", {})

    assert (wrong.status, slash.status) == (405, 404)
    assert wrong.json["detail"]
    assert slash.json["detail"]


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
