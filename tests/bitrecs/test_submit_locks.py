"""Locks, bans, registration and the commitment on chain."""

from __future__ import annotations

import pytest

from chalicelib.bitrecs import store, tasks_sets
from tests.bitrecs.github import failing
from tests.bitrecs.world import (
    BLOCK,
    USER,
    Configure,
    World,
    send,
    told,
    unlike,
)


def test_a_hotkey_is_good_for_one_agent_of_a_cycle(world: World) -> None:  # S50
    first = world.miner("a")
    assert first.submit().status == 201
    second = world.miner("b", signer=first.wallet, user_prompt_template=f"{USER} {unlike(50, 'b')}")

    text = "Hotkey has already been used for an agent submission. Please register a new hotkey"
    assert told(second.submit()) == (400, text)
    assert world.github.fetches == [f"/gists/{first.gist_id}"]


def test_a_gist_is_good_for_one_agent_of_a_cycle(world: World) -> None:  # S51
    first, second = world.miner("a"), world.miner("b")
    assert first.submit().status == 201

    text = "Gist has already been used for an agent submission. Please create a new gist"
    assert told(second.submit(gist_id=first.gist_id)) == (400, text)


@pytest.mark.parametrize("status", [409, 400])
def test_the_same_submission_again_was_already_processed(world: World, configure: Configure, status: int) -> None:
    configure(BITRECS_DUPLICATE_STATUS=str(status))  # S52
    miner = world.miner("a")
    assert miner.submit().status == 201

    assert told(miner.submit()) == (status, "This upload request was already processed")


def test_the_same_request_again_was_already_processed(world: World) -> None:  # S53
    miner = world.miner("a")
    body = miner.body()
    headers = miner.headers(body)
    assert send(miner, body, headers).status == 201

    assert told(send(miner, body, headers)) == (409, "This upload request was already processed")


def test_a_request_that_was_refused_cannot_be_sent_again_either(world: World) -> None:
    miner = world.miner("a")
    body = miner.body()
    headers = miner.headers(body)
    world.github.behaviour = failing(500)
    assert send(miner, body, headers).status == 503
    world.github.behaviour = None

    assert told(send(miner, body, headers)) == (409, "This upload request was already processed")
    assert miner.submit().status == 201


def test_a_stranger_cannot_use_up_a_miner_s_nonces(world: World) -> None:
    miner = world.miner("a")
    body = miner.body()
    headers = miner.headers(body)
    send(miner, body, headers | {"X-Signature": "00" * 64})
    send(miner, body | {"signature": "00" * 64}, headers)

    assert send(miner, body, headers).status == 201


@pytest.mark.parametrize(("scope", "status"), [("cycle", 201), ("forever", 400)])  # S54
def test_a_new_set_frees_hotkeys_where_locks_count_per_cycle(
    world: World, configure: Configure, scope: str, status: int
) -> None:
    configure(BITRECS_LOCK_SCOPE=scope)
    first = world.miner("a")
    assert first.submit().status == 201
    world.sync(BLOCK + 10)
    tasks_sets.next_set()

    world.commitments.clear()
    again = world.miner("again", signer=first.wallet, user_prompt_template=f"{USER} {unlike(70, 'new')}")
    world.commitments[:] = [
        {"hotkey": first.hotkey, "block": BLOCK - 10, "data": "of the cycle before"},
        {"hotkey": first.hotkey, "block": BLOCK + 12, "data": world.commitments[-1]["data"]},
    ]
    world.sync(BLOCK + 20)

    assert again.submit().status == status


def test_a_hotkey_rests_between_sets_where_the_operator_says_so(world: World, configure: Configure) -> None:
    configure(BITRECS_HOTKEY_COOLDOWN_SECONDS="86400")
    first = world.miner("a")
    assert first.submit().status == 201
    tasks_sets.next_set()

    reply = world.miner("again", signer=first.wallet).submit()

    assert told(reply) == (429, "You must wait 86400 seconds before uploading a new agent version")
    assert reply.headers["Retry-After"] == "86400"


def test_a_banned_hotkey_is_told_so(world: World) -> None:  # S55
    miner = world.miner("a")
    store.ban(miner.hotkey, "spam", "tests")

    text = "Your miner hotkey has been banned. If this is in error, please contact us on Discord"
    assert told(miner.submit()) == (403, text)


def test_a_hotkey_is_registered_on_the_subnet(world: World) -> None:  # S56
    miner = world.miner("a")
    world.neurons.clear()
    world.sync()

    assert told(miner.submit()) == (400, "Hotkey not registered on subnet")


@pytest.mark.parametrize("data", [None, "a:b:c", "f" * 40 + ":" + "0" * 64, "", ":"])  # S57
def test_the_commitment_is_the_commit_and_the_hash_of_the_file(world: World, data: str | None) -> None:
    miner = world.miner("a")
    world.commitments.clear()
    world.sync()
    if data is not None:
        world.reveal(miner, data=data)

    assert told(miner.submit()) == (400, "Commitment to chain is not valid for this submission")


def test_hex_in_a_commitment_may_be_in_capitals_and_lie_in_the_current_block(world: World) -> None:
    miner = world.miner("a")
    data = world.commitments.pop()["data"].upper()
    world.reveal(miner, data=data, block=BLOCK)

    assert miner.submit().status == 201


def test_a_commitment_from_the_future_does_not_count(world: World) -> None:
    miner = world.miner("a")
    data = world.commitments.pop()["data"]
    world.reveal(miner, data=data, block=BLOCK + 1)

    assert told(miner.submit()) == (400, "Commitment to chain is not valid for this submission")


@pytest.mark.parametrize(("netuid", "status"), [(122, 400), (296, 201)])  # S58
def test_one_commitment_only_but_on_the_test_network(world: World, netuid: int, status: int) -> None:
    world.netuid = netuid
    miner = world.miner("a")
    world.reveal(miner, data="an earlier one", block=BLOCK - 20)

    assert miner.submit().status == status


def test_slot_0_is_nobody_s(world: World) -> None:  # S59
    miner = world.miner("a")
    world.neurons[0]["uid"] = 0
    world.sync()

    assert told(miner.submit()) == (400, "Could not retrieve valid miner UID for this hotkey")
