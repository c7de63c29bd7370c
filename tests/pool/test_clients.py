"""The published clients' behaviour, call by call, and what a malicious miner would try instead."""

from __future__ import annotations

import json
from typing import Any

import pytest

from chalicelib.kernel.tables import Table
from chalicelib.pool import store
from tests.harness.client import Reply
from tests.harness.wallets import Wallet, wallet
from tests.pool.test_claims import ALICE, publish
from tests.pool.world import ASK, NOW, Configure, Pool, program, settle, told


class PoolApiClient:
    """What the real driver sends: fresh hex signatures without 0x, three more fields in every submission."""

    def __init__(self, pool: Pool, signer: Wallet) -> None:
        self.pool = pool
        self.signer = signer

    def send(self, path: str, body: dict[str, Any]) -> Reply:
        return self.pool.post(path, self.signer, body)

    def auth_fields(self) -> dict[str, str]:
        message = f"auth:{NOW}"
        signature = self.signer.sign(message.encode()).hex()
        return {"public_address": self.signer.hotkey, "signature": signature, "message": message}

    def register(self) -> bool:
        return self.send("/api/v1/miners/register", {}).status == 200

    def request_task(self, kind: str | None = None) -> dict[str, Any] | None:
        reply = self.send("/api/v1/tasks/request", {"task_type": kind} if kind else {})
        if reply.status == 404:
            return None
        if reply.status != 200:
            raise RuntimeError(f"HTTP {reply.status} ({reply.json['detail']})")
        found: dict[str, Any] = reply.json
        return found if found["batch_id"] and found["task_type"] and found["algorithms"] else None

    def request_lease(self) -> Reply:
        asked = {"eval_batch_size": 8, "seed_batch_size": 8, "gossip_limit": 0}
        return self.send("/api/v1/tasks/lease", asked)

    def submit(self, number: str, what: str, body: dict[str, Any]) -> Reply:
        return self.send(f"/api/v1/tasks/{number}/{what}", body | self.auth_fields())


def test_the_driver_s_day_in_task_mode(pool: Pool) -> None:
    miner, judge = PoolApiClient(pool, wallet("miner")), PoolApiClient(pool, wallet("judge"))
    assert miner.register()
    assert judge.register()
    task = miner.request_task("evolve")
    assert task is not None
    parents = [{"id": int(entry["id"])} for entry in task["algorithms"]]
    body = {"evolved_function": program(1), "parent_functions": parents}
    assert miner.submit(task["batch_id"], "submit_evolution", body).status == 200

    assert judge.request_task("evaluate") is not None
    with pytest.raises(RuntimeError, match=r"HTTP 400 \(Miner already has active task\)"):
        judge.request_task()
    assert miner.request_task("evaluate") is None


def test_two_signed_requests_in_one_second_are_both_good(pool: Pool) -> None:
    miner = PoolApiClient(pool, wallet("miner"))
    miner.register()

    assert miner.request_task("evaluate") is None
    assert miner.request_task("evolve") is not None


def test_the_driver_s_day_in_lease_mode(pool: Pool, configure: Configure) -> None:
    miner = PoolApiClient(pool, wallet("miner"))
    miner.register()
    lease = miner.request_lease().json

    assert [type(lease[name]) for name in ("lease_id", "window_number", "evolve_budget")] == [str, int, int]
    assert lease["gossip"]["algorithm_ids"] == []
    assert lease["timeout_at"].endswith("Z")
    evaluations = [{"algorithm_id": int(entry["id"]), "score": 0.5} for entry in lease["evaluate_algorithms"]]
    evolution = {"parent_algorithm_ids": [int(lease["seed_algorithms"][0]["id"])], "algorithm_dsl": program(1)}
    body = {"evaluations": evaluations, "evolutions": [evolution], "iterations": 9}
    done = miner.submit(lease["lease_id"], "submit_lease", body)
    assert (done.status, done.json["accepted_evaluations"], done.json["accepted_evolutions"]) == (200, 8, 1)
    lost_reply = miner.submit(lease["lease_id"], "submit_lease", body)
    assert (lost_reply.status, "Active lease assignment not found" in lost_reply.json["detail"]) == (404, True)
    configure(LEASE_ENFORCE_WINDOW="true")
    again = miner.request_lease()
    assert (again.status, "Lease already issued for this window" in again.json["detail"]) == (400, True)


def test_nothing_evaluated_and_nothing_evolved_is_accepted(pool: Pool) -> None:
    miner = PoolApiClient(pool, wallet("miner"))
    miner.register()
    lease = miner.request_lease().json
    only_evolved = {"evaluations": [], "evolutions": [{"parent_algorithm_ids": [], "algorithm_dsl": program(1)}]}

    assert miner.submit(lease["lease_id"], "submit_lease", {"evaluations": [], "evolutions": []}).status == 200
    lease = miner.request_lease().json
    assert miner.submit(lease["lease_id"], "submit_lease", only_evolved).status == 200
    activity = Table("pool").get("WINDOW#0", f"MINER#{miner.signer.hotkey}")
    assert activity is not None
    assert activity["evolutions_considered"] == 1
    assert "evaluations_considered" not in activity


def test_the_coldkey_sync_of_a_research_miner(pool: Pool) -> None:
    signer, coldkey = wallet("research"), wallet("cold").hotkey
    headers = pool.headers(signer, f"recipient_coldkey:update:{NOW}:{coldkey}")
    for path in ("/coldkey_address/update", "/api/v1/miners/coldkey_address/update"):
        reply = pool.client.post(f"/pool{path}", {"coldkey_address": coldkey}, headers)
        assert (reply.status, reply.json["status"]) == (200, "success")
    assert pool.post("/api/v1/miners/register", signer).json["created"] is True
    assert pool.post("/api/v1/miners/register", signer).json["recipient_coldkey"] == coldkey


def test_the_contract_verifier_is_content(pool: Pool, configure: Configure) -> None:
    configure(ONCHAIN_ENABLED="true", ONCHAIN_PUBLISHER=ALICE, MERKLE_CLAIM_ENABLED="true")
    publish()
    Table("pool").update("JOB", "close-windows", "SET #last_success_at = :now", now=NOW - 30)
    status, epochs = pool.get("/status").json, pool.get("/claims/epochs").json
    runtime = status["onchain_runtime"]

    assert (status["status"], runtime["enabled"], runtime["proof_api"]["enabled"]) == ("healthy", True, True)
    assert (runtime["contract_status"]["read_error"], runtime["contract_status"]["is_veto_active"]) == (None, False)
    assert [process["running"] for process in runtime["processes"] if process["name"] == "publisher"] == [True]
    assert runtime["accounts"]["publisher"] == ALICE
    assert epochs["epochs"] == [1144]


def test_the_claim_client_lists_the_newest_and_skips_what_is_not_there(pool: Pool) -> None:
    for epoch in (3, 1, 2):
        publish(epoch)
    found = sorted((int(entry) for entry in pool.get("/claims/epochs").json["epochs"]), reverse=True)[:20]

    assert found == [3, 2, 1]
    for epoch in found:
        package = pool.get(f"/claims/epoch/{epoch}/claim/{ALICE}").json
        assert package["amount"] == package["amount_units"] == 250000000
        assert pool.get(f"/claims/epoch/{epoch}/claim/{wallet('x').hotkey}").status == 404


def test_the_legacy_client_fails_cleanly(pool: Pool) -> None:
    legacy = {"public_address": ALICE}
    assert pool.post("/api/v1/miners/register", None, legacy).status == 401
    for path in (f"/api/v1/tasks/{ALICE}/request", f"/{ALICE}/b/submit_evaluation", "/api/v1/rewards/x"):
        assert pool.post(path, None, legacy).status == 404
    assert pool.get(f"/api/v1/tasks/{ALICE}/pending_evaluations").status == 404
    assert pool.get("/api/v1/monitor/summary").status == 404


# ---- the other kind of client


def test_a_captured_signature_submits_nothing_that_its_owner_submitted(pool: Pool) -> None:
    (miner,) = pool.register("miner")
    signed = pool.headers(miner)
    first = pool.lease(miner)["lease_id"]
    assert pool.client.post(f"/pool/api/v1/tasks/{first}/submit_lease", {}, signed).status == 200
    second = pool.lease(miner)["lease_id"]

    for number in (first, second):
        replay = pool.client.post(f"/pool/api/v1/tasks/{number}/submit_lease", {}, signed)
        assert told(replay) == (401, "Signature already used")


def test_a_refused_submission_leaves_its_signature_unspent(pool: Pool) -> None:
    (miner,) = pool.register("miner")
    lease, signed = pool.lease(miner)["lease_id"], pool.headers(miner)
    path = f"/pool/api/v1/tasks/{lease}/submit_lease"
    bad = {"evaluations": [{"algorithm_id": 999, "score": 0.5}]}

    assert pool.client.post(path, bad, signed).status == 400
    assert pool.client.post(path, {}, signed).status == 200


@pytest.mark.parametrize(("guard", "statuses"), [("off", [200, 400]), ("all_mutations", [200, 401])])
def test_the_guard_may_cover_more_or_nothing(pool: Pool, configure: Configure, guard: str, statuses: list[int]) -> None:
    configure(AUTH_REPLAY_GUARD=guard)
    (miner,) = pool.register("miner")
    signed = pool.headers(miner)
    path = "/pool/api/v1/tasks/lease"

    assert [pool.client.post(path, {}, signed).status for _ in range(2)] == statuses


def test_miners_of_one_coldkey_count_once_and_never_for_each_other(pool: Pool) -> None:
    author, twin, b, c, d = pool.register("author", "twin", "b", "c", "d")
    for signer in (b, c):
        assert pool.recipient(signer, wallet("shared").hotkey).status == 200
    for signer in (author, twin):
        assert pool.recipient(signer, wallet("family").hotkey).status == 200
    number = pool.candidate(author)

    assert pool.post("/api/v1/tasks/request", twin, {"task_type": "evaluate"}).status == 404
    pool.complete(number, [b, c, d], (0.90, 0.91, 0.92))
    assert pool.verify(b, number).status == 400
    (e,) = pool.register("e")
    assert pool.evaluate(e, number, 0.905).status == 200
    refused = pool.verify(twin, number)
    assert told(refused) == (403, "Cannot verify own result")
    assert pool.verify(b, number).status == 200


def test_whoever_is_paid_like_an_author_then_or_now_judges_none_of_its_programs(
    pool: Pool, configure: Configure
) -> None:
    configure(EVAL_BATCH_SIZE="1", ASSIGN_SHUFFLE="0", MAX_OPEN_CANDIDATES="9")
    author, stranger, joins, named, stays, late = pool.register("a", "stranger", "joins", "named", "stays", "late")
    for signer in (author, stays):
        assert pool.recipient(signer, wallet("home").hotkey, NOW - 1).status == 200
    own = [pool.candidate(author, number) for number in range(3)]
    for signer in (author, joins, late):
        assert pool.recipient(signer, wallet("family").hotkey).status == 200
    other = pool.candidate(stranger, 9)
    assert pool.recipient(stranger, named.hotkey).status == 200

    def given(miner: Wallet) -> tuple[int, list[int]]:
        pending = pool.get("/api/v1/tasks/pending_evaluations", miner).json["pending_count"]
        lease = pool.lease(miner, eval_batch_size=4)
        return pending, sorted({work["id"] for work in lease["evaluate_algorithms"]} & {*own, other})

    assert given(joins) == given(stays) == (1, [other])
    assert given(named) == (3, own)
    assert [work["id"] for work in pool.batch(late, "evaluate")["algorithms"]] == [other]
    configure(EXCLUDE_SAME_RECIPIENT="0")
    (free,) = pool.register("free")
    assert pool.recipient(free, wallet("family").hotkey).status == 200
    assert given(free) == (3, own)


def test_an_author_who_joins_the_verifier_s_coldkey_meanwhile_is_refused(
    pool: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The write repeats the premise: the author's coldkey is read by the transaction, not before it."""
    author, b, c, d = pool.register("author", "b", "c", "d")
    number = pool.candidate(author)
    pool.complete(number, [b, c, d])
    assert pool.recipient(author, b.hotkey).status == 200

    refused = pool.verify(b, number)
    assert told(refused) == (403, "Cannot verify own result")


def test_verifiers_are_those_of_the_list_where_there_is_one(pool: Pool, configure: Configure) -> None:
    author, b, c, d = pool.register("author", "b", "c", "d")
    number = pool.candidate(author)
    pool.complete(number, [b, c, d])
    configure(VERIFIER_HOTKEYS=wallet("verifier").hotkey)

    assert pool.verify(b, number).json["detail"] == "Not an authorized verifier"
    assert pool.verify(wallet("verifier"), number).status == 200


def test_a_stranger_verifies_nothing(pool: Pool) -> None:
    author, b, c, d = pool.register("author", "b", "c", "d")
    number = pool.candidate(author)
    pool.complete(number, [b, c, d])

    assert pool.verify(wallet("stranger"), number).json["detail"] == "Miner not registered"


def test_a_banned_miner_is_out_from_the_next_request_on(pool: Pool) -> None:
    (miner,) = pool.register("miner")
    settle()
    store.set_ban(miner.hotkey, banned=True)
    settle()

    refused = pool.get("/api/v1/miners/stats", miner)
    assert told(refused) == (403, "Miner is banned")
    assert pool.recipient(miner, miner.hotkey).status == 403
    assert pool.get("/api/v1/miners/leaderboard").json["count"] == 0
    store.set_ban(miner.hotkey, banned=False)
    settle()
    assert pool.get("/api/v1/miners/leaderboard").json["count"] == 1


def test_only_the_subnet_s_hotkeys_register_where_it_is_asked(pool: Pool, configure: Configure) -> None:
    configure(REGISTRATION_MODE="metagraph")

    refused = pool.post("/api/v1/miners/register", wallet("a"))
    assert told(refused) == (403, "Hotkey is not registered on the subnet")


def test_a_flood_of_programs_ends_a_miner_s_budget(pool: Pool, configure: Configure) -> None:
    configure(MAX_OPEN_CANDIDATES="2")
    miner, other = pool.register("miner", "other")
    for number in (1, 2):
        pool.candidate(miner, number)

    assert told(pool.post(ASK, miner, {"task_type": "evolve"})) == (404, "No tasks available")
    assert pool.batch(other, "evolve")["algorithms"]
    lease = pool.lease(miner)
    assert lease["evolve_budget"] == 0
    body = {"evolutions": [{"parent_algorithm_ids": [], "algorithm_dsl": program(9)}]}
    done = pool.submit_lease(miner, lease["lease_id"], **body).json
    assert (done["accepted_evolutions"], done["ignored_evolutions"]) == (0, 1)


def test_a_full_backlog_stops_evolution(pool: Pool, configure: Configure) -> None:
    configure(MAX_BACKLOG="1")
    a, b = pool.register("a", "b")
    for number in (1, 2):
        pool.candidate(a, number)

    assert pool.post("/api/v1/tasks/request", b, {"task_type": "evolve"}).status == 404
    assert pool.lease(b)["evolve_budget"] == 0


@pytest.mark.parametrize(
    "raw",
    [
        b"", b"null", b"[]", b'"x"', b"{", b"\xff\xfe", b'{"evaluations": {}}', b'{"evaluations": [[]]}',
        b"[" * 5000, b'{"iterations": 1e400}', b'{"iterations": 99999999999999999999999999999999999999999}',
        b'{"evolutions": [{"algorithm_dsl": "\\ud800"}]}', b'{"gossip": {"task_type": 1}}', b'{"a": NaN}',
        json.dumps({"evolutions": [{"algorithm_dsl": "s0 = s1\n" * 30000}]}).encode(),
        json.dumps({"evolutions": [{"algorithm_dsl": "x"}] * 17}).encode(),
        json.dumps({"gossip": {"task_type": "cifar10_binary", "algorithm_ids": [-1]}}).encode(),
        json.dumps({"evaluations": [{"algorithm_id": 10**30, "score": 0.5}]}).encode(),
    ],
)  # fmt: skip
def test_no_body_makes_a_fault(pool: Pool, raw: bytes) -> None:
    (miner,) = pool.register("miner")
    lease = pool.lease(miner)["lease_id"]
    paths = [f"/api/v1/tasks/{lease}/{what}" for what in ("submit_lease", "submit_evolution", "submit_evaluation")]
    paths += ["/api/v1/tasks/lease", "/api/v1/tasks/request", "/api/v1/results/verify/1", "/claims/epoch/1/claim"]

    assert {pool.post(path, miner, raw).status for path in paths} <= {200, 400, 404, 413, 422}
