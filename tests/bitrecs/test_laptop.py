"""Bitrecs as it is met from outside: miners' command line, `subnetctl bitrecs`, and work that comes back by itself."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator

import pytest

from tests.bitrecs.github import failing, running
from tests.bitrecs.laptop import WALLETS, PublicClient, Town, eventually
from tests.bitrecs.world import PASSWORD
from tests.harness.wallets import wallet

BOB = "5FHneW46xGXgs5mUiveU4sbTyGBzmstUspZC92UhjJM694ty"
CHARLIE = "5FLSigC9HGRKVhB9FiEo4Y3koPsNmBmLJbpXg2mp1hXcS59Y"
AS_BOB = (*WALLETS, "--hotkey", "bob", "--github-account", "miner", "--gist-id")


@pytest.fixture(scope="module")
def town(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Town]:
    with running() as github:
        found = Town.start(tmp_path_factory.mktemp("bitrecs"), github)
        yield found
        found.laptop.close()


def test_the_command_line_that_miners_have_uploads(town: Town) -> None:
    miner = PublicClient(town, wallet("public client"))
    gist = town.publish(miner.wallet.hotkey, "public client")

    done = miner.upload("miner", gist)

    assert set(done) == {"artifact", "request", "message", "check", "similar"}, done
    assert re.fullmatch(r"[0-9a-f]{32}", done["request"])
    assert (done["message"], done["check"]) == ("Artifact submitted successfully", "enabled")
    assert done["artifact"] in town.queued()
    used = "Hotkey has already been used for an agent submission. Please register a new hotkey"
    assert miner.upload("miner", gist) == {"aborted": used}


def test_an_outdated_client_and_one_without_its_second_nonce_are_told_so(town: Town) -> None:
    old = PublicClient(town, wallet("old client"), version="1.0.0")
    gist = town.publish(old.wallet.hotkey, "old client")
    assert old.upload("miner", gist) == {"failed": "Invalid transport signature"}

    body = old.body("miner", gist)
    headers = {name: value for name, value in old.headers(body).items() if name != "X-T-Nonce"}
    status, answered = town.send("POST", "/submit", body, headers)

    assert (status, answered["detail"]) == (400, "Invalid transport signature")


def test_our_command_line_checks_submits_and_shows_the_queue(town: Town) -> None:
    gist = town.publish(BOB, "bob")
    assert town.answer("check", *AS_BOB, gist.id) == {"status": "success", "message": "Agent check successful"}
    town.commit(BOB, gist)

    accepted = town.answer("submit", *AS_BOB, gist.id)

    assert accepted["message"] == "Artifact submitted successfully"
    assert accepted["artifact_id"] in [agent["agent_id"] for agent in town.answer("queue")]
    assert town.refusal("submit", *AS_BOB, gist.id) == "already_processed"
    assert town.refusal("check", *AS_BOB, gist.id) == "hotkey_used"
    assert town.refusal("check", *WALLETS, "--hotkey", "nobody", *AS_BOB[6:], gist.id) == "no_wallet"
    assert town.refusal("check", *AS_BOB, "0" * 32) == "gist_invalid"
    town.github.behaviour = failing(403)
    assert town.refusal("check", *AS_BOB, gist.id) == "github_unavailable"
    town.github.behaviour = None
    assert town.subnetctl("bitrecs", "queue", "--stage", "nonesuch").returncode == 2


def test_a_key_is_shown_once_listed_by_its_id_and_revoked(town: Town) -> None:
    plain = town.subnetctl("bitrecs", "api-key", "create", "--label", "for a validator")
    made = json.loads(plain.stdout)
    key = {"X-API-Key": made["key"]}
    body = {"name": "screener-1-9", "password": "wrong", "commit_hash": "c"}
    assert town.send("POST", "/validator/register-as-screener", body, key)[0] == 403

    assert made["key"] not in json.dumps(town.answer("api-key", "list"))
    assert town.answer("api-key", "revoke", made["id"]) == {"revoked": made["id"]}

    assert town.send("POST", "/validator/register-as-screener", body, key)[0] == 401
    (listed,) = [item for item in town.answer("api-key", "list") if item["id"] == made["id"]]
    assert (listed["label"], listed["revoked_at"] is not None) == ("for a validator", True)
    assert town.refusal("api-key", "revoke", "nonesuch") == "key_not_found"


def test_validators_and_bans_are_lists(town: Town) -> None:
    assert town.answer("validator", "add", CHARLIE, "--name", "charlie")["hotkey"] == CHARLIE
    assert {"hotkey": CHARLIE, "name": "charlie"} in town.answer("validator", "list")
    assert town.answer("validator", "remove", CHARLIE) == {"removed": CHARLIE}
    assert town.refusal("validator", "remove", CHARLIE) == "validator_not_found"
    assert town.refusal("validator", "add", "5nonsense", "--name", "x") == "bad_hotkey"

    gist = town.publish(CHARLIE, "charlie")
    as_charlie = (*WALLETS, "--hotkey", "charlie", "--github-account", "miner", "--gist-id", gist.id)
    town.answer("ban", "add", CHARLIE, "--reason", "copies")
    assert town.refusal("check", *as_charlie) == "hotkey_banned"
    assert [(one["hotkey"], one["reason"]) for one in town.answer("ban", "list")] == [(CHARLIE, "copies")]
    town.answer("ban", "remove", CHARLIE)
    assert town.refusal("ban", "remove", CHARLIE) == "ban_not_found"
    assert town.answer("check", *as_charlie)["status"] == "success"


def test_the_switch_and_the_set_are_felt_by_the_next_request(town: Town) -> None:
    town.answer("submissions", "off")
    assert town.send("GET", "/health")[1]["submissions_enabled"] is False
    status, answered = town.send("POST", "/check", PublicClient(town, wallet("x")).body("x", town.publish(BOB, "y")))
    assert (status, answered["detail"]) == (503, "Submissions are currently disabled. Please try again later.")
    town.answer("submissions", "on")
    assert town.send("GET", "/health")[1]["submissions_enabled"] is True

    before = town.send("GET", "/scoring/latest-set-info")[1]["latest_set_id"]
    opened = town.answer("set", "create")
    assert (opened["set_id"], len(opened["problems"])) == (before + 1, 11)
    assert town.send("GET", "/scoring/latest-set-info")[1]["latest_set_id"] == before + 1


def test_a_dead_session_s_work_comes_back_by_its_own_timer(town: Town) -> None:
    """The sweep comes once a day here: only the state machine can have done it."""
    miner = PublicClient(town, wallet("left alone"))
    assert "artifact" in miner.upload("miner", town.publish(miner.wallet.hotkey, "left alone"))
    key = {"X-API-Key": json.loads(town.subnetctl("bitrecs", "api-key", "create").stdout)["key"]}
    body = {"name": "screener-1-1", "password": PASSWORD, "commit_hash": "c"}
    _, session = town.send("POST", "/validator/register-as-screener", body, key)
    bearer = key | {"Authorization": f"Bearer {session['session_id']}"}
    _, work = town.send("POST", "/validator/request-evaluation", {}, bearer)
    run = f"/evaluation-run/get-by-id?evaluation_run_id={work['evaluation_runs'][0]['evaluation_run_id']}"
    assert town.send("GET", run)[1]["status"] == "pending"

    eventually(lambda: town.send("GET", run)[1]["status"] == "error")

    assert town.send("GET", run)[1]["error_code"] == 3000
    assert town.send("POST", "/validator/heartbeat", {"system_metrics": {}}, bearer)[0] == 401
