"""The conformance table of /check: the same rules, nothing written, no promise about the chain."""

from __future__ import annotations

from typing import Any

import pytest

from chalicelib.bitrecs import store, store_index
from tests.bitrecs.world import USER, Configure, World, told, unlike
from tests.harness.wallets import wallet

GOOD = {"status": "success", "message": "Agent check successful"}


def test_a_good_artifact_passes_with_two_keys_and_no_headers(world: World) -> None:  # C01, C03
    reply = world.miner("a").check()

    assert (reply.status, reply.json) == (200, GOOD)


def test_checking_five_times_writes_nothing_that_counts(world: World) -> None:  # C02
    miner = world.miner("a")

    assert [miner.check().status for _ in range(5)] == [200] * 5
    assert store.agents_of(miner.hotkey, limit=1) == []
    assert store_index.waiting() == []
    assert store.table.get(f"LOCK#HOTKEY#{miner.hotkey}", "-") is None
    assert miner.submit().status == 201


@pytest.mark.parametrize("signature", ["00" * 64, "zz" * 64, "ab", ""])  # C04, C09
def test_a_bad_signature_has_its_own_words(world: World, signature: str) -> None:
    assert told(world.miner("a").check(signature=signature)) == (400, "Invalid signature for submission")


def test_a_commitment_is_not_asked_for(world: World) -> None:  # C05
    miner = world.miner("a")
    world.commitments.clear()
    world.sync()

    assert miner.check().status == 200


def test_a_used_hotkey_is_told_so_even_with_its_own_gist(world: World) -> None:  # C06
    miner = world.miner("a")
    assert miner.submit().status == 201

    text = "Hotkey has already been used for an agent submission. Please register a new hotkey"
    assert told(miner.check()) == (400, text)


def test_closed_doors_are_closed_for_checks_too(world: World, configure: Configure) -> None:  # C07
    configure(BITRECS_MIN_CONNECTED_VALIDATORS="4")
    too_few = "Not enough validators available for evaluation (connected: 3)"
    assert told(world.miner("a").check()) == (503, too_few)

    store.switch_submissions(enabled=False)
    disabled = "Submissions are currently disabled. Please try again later."
    assert told(world.miner("b").check()) == (503, disabled)


def test_an_identical_copy_fails_its_check(world: World) -> None:  # C08
    first = world.miner("a", system_prompt_template="Be of help to {{persona}}.", user_prompt_template=f"{USER} x")
    agent_id = first.submit().json["artifact_id"]
    copy = world.miner("b", system_prompt_template="BE  of help to {{ persona }}.", user_prompt_template=f"{USER}  X")

    reply = copy.check()

    assert reply.status == 409
    assert reply.json["similar_agents"] == [
        {"agent_id": agent_id[:8], "similarity_score": "1.0000", "distance": "0.0000"}
    ]


@pytest.mark.parametrize("changes", [{"gist_id": "garbage"}, {"signature": "00" * 64}, {"hotkey": "5x"}])  # C10
def test_github_is_not_asked_for_what_nobody_signed(world: World, changes: dict[str, Any]) -> None:
    assert world.miner("a").check(**changes).status == 400
    assert world.github.fetches == []


def test_a_check_and_a_submission_cost_one_look_at_github(world: World) -> None:  # C11
    miner = world.miner("a")

    assert [miner.check().status, miner.submit().status] == [200, 201]
    assert len(world.github.fetches) == 1


def test_an_old_look_is_renewed_by_asking_whether_it_changed(world: World, configure: Configure) -> None:
    configure(BITRECS_GIST_CACHE_SECONDS="0")
    miner = world.miner("a")
    assert [miner.check().status, miner.submit().status] == [200, 201]

    assert "if-none-match" in world.github.requests[-1][1]


def test_a_gist_that_was_missing_is_not_asked_for_again_at_once(world: World) -> None:
    miner = world.miner("a")
    gists, world.github.gists = world.github.gists, {}
    miner.check()
    world.github.gists = gists

    assert told(miner.check()) == (400, "Gist not found")
    assert len(world.github.fetches) == 1


def test_one_hotkey_cannot_spend_all_our_looks_at_github(world: World, configure: Configure) -> None:
    configure(BITRECS_GIST_FETCHES_PER_MIN="2")
    miner = world.miner("a")
    replies = [miner.check(gist_id=f"{number:032x}") for number in range(100, 103)]

    assert [reply.status for reply in replies] == [400, 400, 429]
    assert len(world.github.fetches) == 2


def test_only_the_owner_of_a_key_learns_whether_it_is_banned(world: World) -> None:
    miner = world.miner("a")
    store.ban(miner.hotkey, "spam", "tests")

    assert miner.check(signer=wallet("stranger")).status == 400
    assert miner.check().status == 403


def test_an_unrelated_prompt_resembles_nothing(world: World) -> None:  # S63
    assert world.miner("a").submit().status == 201
    other = world.miner("b", system_prompt_template=unlike(300, "other"))

    reply = other.submit()

    assert (reply.status, reply.json["similar_results"]) == (201, [])
