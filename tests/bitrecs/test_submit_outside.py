"""Payment, outages, keys of others, and what an accepted submission leaves behind."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from chalicelib.bitrecs import store, store_work
from chalicelib.kernel import chain
from tests.bitrecs.github import failing
from tests.bitrecs.world import (
    BLOCK,
    FILE,
    NOW,
    Configure,
    Freeze,
    World,
    artifact,
    change_gist,
    send,
    told,
)
from tests.harness.wallets import wallet


@pytest.mark.parametrize(
    ("balance", "status", "text"),
    [
        (None, 402, "Payment could not be verified"),
        (
            209_999_999,
            402,
            "Insufficient balance. You need 210000000 RAO to upload this agent. You have 209999999 RAO.",
        ),
        (210_000_000, 201, None),
    ],
)  # S60
def test_the_payment_gate_looks_at_the_coldkey_s_balance(
    world: World, configure: Configure, balance: int | None, status: int, text: str | None
) -> None:
    configure(BITRECS_PAYMENT_MODE="balance", BITRECS_TAO_PRICE_USD="400")
    miner = world.miner("a")
    world.neurons[0]["balance_rao"] = balance
    world.sync()

    assert told(miner.submit()) == (status, text)


def test_github_s_outage_is_not_the_miner_s_fault(world: World) -> None:  # S66
    miner = world.miner("a")
    world.github.behaviour = failing(500)

    reply = miner.submit()

    assert told(reply) == (503, "GitHub is currently unavailable. Please try again later.")
    assert reply.headers["Retry-After"]
    assert len(world.github.fetches) == 2
    assert store.agents_of(miner.hotkey, limit=1) == []
    world.github.behaviour = None
    assert miner.submit().status == 201


@pytest.mark.parametrize("status", [401, 403, 429, 502])
def test_what_github_refuses_us_is_no_verdict_on_the_gist(world: World, status: int) -> None:
    world.github.behaviour = failing(status)

    assert world.miner("a").submit().status == 503


def test_without_a_copy_of_the_chain_nobody_is_called_unregistered(world: World, freeze: Freeze) -> None:  # S67
    miner = world.miner("a")
    chain.table.delete("SNAP#bitrecs", "HEAD")

    reply = miner.submit()

    assert told(reply) == (503, "Bittensor chain is currently unavailable. Please try again later.")
    assert store.agents_of(miner.hotkey, limit=1) == []


def test_a_stale_copy_of_the_chain_decides_nothing(world: World, freeze: Freeze, configure: Configure) -> None:
    miner = world.miner("a")
    configure(BITRECS_CHAIN_STALE_SECONDS="60")

    freeze(NOW + 61)

    assert miner.submit().status == 503
    assert miner.check().status == 200


def test_a_miner_with_openrouter_brings_a_key_that_works(world: World) -> None:  # S68
    miner = world.miner("a", provider="open_router")
    body = miner.body()
    refused = (400, "Invalid or unauthorized OpenRouter key")

    assert told(send(miner, body, miner.headers(body))) == refused
    assert told(send(miner, body, miner.headers(body) | {"X-ORTK": "sk-or-v1-unknown"})) == refused
    world.github.keys.add("sk-or-v1-good")
    reply = send(miner, body, miner.headers(body) | {"X-ORTK": "sk-or-v1-good"})
    assert reply.status == 201
    assert store.temporary_key(reply.json["artifact_id"]) == "sk-or-v1-good"


def test_a_fault_of_ours_has_an_id_and_no_details(
    world: World, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:  # S69
    def broken(*_: Any, **__: Any) -> None:
        raise RuntimeError("secret detail")

    monkeypatch.setattr(store, "accept", broken)

    reply = world.miner("a").submit()

    assert reply.status == 500
    assert reply.json["detail"] == "Internal server error"
    assert re.fullmatch(r"[0-9a-f]{32}", reply.json["request_id"])
    assert b"secret" not in reply.body
    assert "secret detail" in capsys.readouterr().err


def test_an_accepted_agent_is_readable_and_queued_at_once(world: World) -> None:  # S70
    miner = world.miner("a")
    agent_id = miner.submit().json["artifact_id"]

    found = world.client.get(f"/bitrecs/retrieval/agent-by-hotkey?miner_hotkey={miner.hotkey}").json
    queued = world.client.get("/bitrecs/retrieval/queue?stage=screener_1").json

    assert (found["agent_id"], found["status"], found["reveal_block"]) == (agent_id, "screening_1", BLOCK - 10)
    assert [agent["agent_id"] for agent in queued] == [agent_id]
    assert store.bucket().get(f"artifacts/{agent_id}/artifact.yaml") == miner.content.encode()


def test_a_client_may_write_into_a_gist_after_the_look_and_changes_nothing(world: World) -> None:
    miner = world.miner("a")
    agent_id = miner.submit().json["artifact_id"]
    change_gist(world, miner, files={"a.yaml": FILE})

    assert store.bucket().get(f"artifacts/{agent_id}/artifact.yaml") == miner.content.encode()


def test_locks_are_looked_at_before_github_unless_the_order_is_strict(world: World, configure: Configure) -> None:
    first = world.miner("a")
    assert first.submit().status == 201
    second = world.miner("b")
    change_gist(world, second, owner={"login": "other"})
    store.ban(second.hotkey, "spam", "tests")

    assert second.submit().status == 403
    configure(BITRECS_STRICT_CHECK_ORDER="true")
    assert told(second.submit()) == (400, "Gist owner does not match github_account")


def test_only_signed_attempts_are_recorded_and_without_the_address(world: World) -> None:
    miner = world.miner("a")
    send(miner, miner.body(signature="00" * 64), {})
    world.github.gists.clear()
    miner.submit()

    recorded = list(store.table.query_all("ATTEMPT#2026-11-18"))

    assert [(item["http_status"], item["error"], item["hotkey"]) for item in recorded] == [
        (400, "Gist not found", miner.hotkey)
    ]
    assert "127.0.0.1" not in str(recorded)


def test_the_file_says_whose_it_is(world: World) -> None:  # S38
    miner = world.miner("a", miner_hotkey=wallet("somebody").hotkey)

    text = "Miner hotkey in submission does not match miner hotkey in artifact"
    assert told(miner.submit()) == (400, text)


def test_what_a_file_claims_about_itself_is_overwritten_or_ignored(world: World) -> None:
    text = json.dumps(
        artifact(wallet("a").hotkey, miner_uid=0, ip_address="1.2.3.4", created_at="1999", eval_scores={"x": 1})
    )
    reply = world.miner("a", text=text).submit()
    agent = world.client.get(f"/bitrecs/retrieval/agent-by-id?agent_id={reply.json['artifact_id']}").json

    assert reply.status == 201
    assert (agent["miner_uid"], agent["ip_address"]) == (1, reply.json["request_id"])
    assert agent["created_at"].startswith("2026-11-18")
    assert (agent["eval_scores"], agent["final_score"]) == ({"x": 1.0}, None)


def test_the_live_sessions_are_one_item(world: World) -> None:
    assert len(store_work.live_sessions(store_work.live())) == 3
