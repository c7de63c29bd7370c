"""Claims, mounted and alone (rows 76 to 93 of the conformance table), and what a thief would try."""

from __future__ import annotations

import json
from typing import Any

import pytest

import app as app_module
from chalicelib.kernel.settings import SettingError
from chalicelib.pool import merkle, store, store_claims, tasks_epochs
from tests.harness.client import Client, Reply
from tests.harness.race import all_at_once
from tests.harness.wallets import wallet
from tests.pool.world import NOW, Configure, Freeze, Pool, told

BOB = "5FHneW46xGXgs5mUiveU4sbTyGBzmstUspZC92UhjJM694ty"
CHARLIE = "5FLSigC9HGRKVhB9FiEo4Y3koPsNmBmLJbpXg2mp1hXcS59Y"
ALICE = "5GrwvaEF5zXb26Fz9rcQpDWS57CtERHpNehXCPcNoHGKutQY"
DAVE = "5DAAnrj7VHTznn2AWBemMuyBwZWs6FNFjdyVXUeYum3PTXFy"
ROOT = "0xea83b359b7ad614f3f11dc2fdfec1f9fd1f8ae73cb9c3fb9496b84184e16b326"
ALICE_PROOF = [
    "0x30d1d2dee12fc7c00a3000a22394a4e325dec21a01527f06d094cbc4eff358ed",
    "0xf00d592fc76891b85e7264a5a9b45bf0b1ddb384760d34357d1572581b6c7a0f",
]


def publish(epoch: int = 1144) -> None:
    """The golden epoch."""
    claims = ((ALICE, DAVE, 250000000), (BOB, BOB, 1), (CHARLIE, DAVE, 123456789012))
    staged, _ = tasks_epochs.stage(epoch, merkle.in_order(tasks_epochs.record(*claim) for claim in claims))
    assert tasks_epochs.write_chunk(staged, 0) == 3
    assert tasks_epochs.publish(staged)


def package(pool: Pool, hotkey: str = ALICE) -> dict[str, Any]:
    found: dict[str, Any] = pool.get(f"/claims/epoch/1144/proof/{hotkey}").json
    names = ("index", "hotkey", "recipient_coldkey", "amount_units", "proof")
    return {name: found[name] for name in names}


def claim(pool: Pool, body: Any, epoch: str = "/1144") -> Reply:
    return pool.post(f"/claims/epoch{epoch}/claim", body=body)


def test_76_disabled_claims_are_not_mounted(cloud: None, configure: Configure) -> None:
    configure(MERKLE_CLAIM_ENABLED="false")
    routes = app_module.build().routes

    assert [path for path in routes if path.startswith("/pool/claims")] == []


def test_77_without_an_epoch_the_list_is_empty_and_the_default_is_not_there(pool: Pool) -> None:
    assert pool.get("/claims/epochs").json == {"epochs": [], "default_epoch": None, "count": 0}
    for path in ("/claims/epoch", f"/claims/epoch/proof/{ALICE}", "/claims/ledger"):
        assert told(pool.get(path)) == (404, "No claimable epoch")
    assert told(pool.post("/claims/epoch/claim", body={"index": 0}))[0] == 422


def test_78_79_the_golden_epoch_and_its_four_equal_proofs(pool: Pool) -> None:
    publish()
    metadata = pool.get("/claims/epoch/1144").json
    paths = [f"/claims/epoch{epoch}/{alias}/{ALICE}" for epoch in ("", "/1144") for alias in ("proof", "claim")]
    proofs = [pool.get(path) for path in paths]

    assert (metadata["root"], metadata["num_of_leaves"], metadata["total_units"]) == (ROOT, 3, 123706789013)
    assert pool.get("/claims/epoch").json == metadata
    assert len({reply.body for reply in proofs}) == 1
    assert (proofs[0].json["proof"], proofs[0].json["root"]) == (ALICE_PROOF, ROOT)
    assert (proofs[0].json["amount"], proofs[0].json["index"]) == (250000000, 2)
    assert proofs[0].header("cache-control") == "public, max-age=300"


def test_80_81_who_has_no_claim_gets_404_and_an_epoch_is_a_number(pool: Pool) -> None:
    publish()

    for hotkey in (DAVE, "nonsense", "5" * 48):
        assert told(pool.get(f"/claims/epoch/1144/proof/{hotkey}")) == (404, "No claim for hotkey in this epoch")
    assert pool.get("/claims/epoch/abc").status == pool.get(f"/claims/epoch/{2**64}").status == 422
    assert (
        told(pool.get("/claims/epoch/77"))
        == told(pool.get(f"/claims/epoch/77/proof/{ALICE}"))
        == (
            404,
            "Epoch not found",
        )
    )


def test_82_83_without_simulation_nothing_is_claimed_and_proofs_are_served(pool: Pool, configure: Configure) -> None:
    publish()
    body = package(pool)
    configure(CLAIM_SIMULATION_ENABLED="false")

    refused = [claim(pool, body), claim(pool, body, ""), pool.get("/claims/ledger"), pool.get("/claims/ledger/1144")]
    assert [told(reply) for reply in refused] == [(404, "Not Found")] * 4
    assert pool.get(f"/claims/epoch/1144/proof/{ALICE}").status == 200


def test_84_85_a_claim_is_paid_once(pool: Pool) -> None:
    publish()
    paid = claim(pool, package(pool))

    assert (paid.status, paid.json["status"], paid.json["simulated"]) == (200, "claimed", True)
    assert told(claim(pool, package(pool))) == (409, "Already claimed")
    ledger = pool.get("/claims/ledger").json
    assert (ledger["claimed_units"], ledger["claims"][0]["hotkey"]) == (250000000, ALICE)
    assert ledger == pool.get("/claims/ledger/1144").json
    assert pool.get("/claims/epoch").json["claimed_units"] == 250000000


@pytest.mark.parametrize("seed", range(3))
def test_86_of_a_hundred_claims_of_one_leaf_one_is_paid(pool: Pool, seed: int) -> None:
    publish()
    body = package(pool, BOB)
    statuses = [reply.status for reply in all_at_once([lambda: claim(pool, body)] * (100 if seed else 2))]

    assert sorted(set(statuses)) == [200, 409]
    assert statuses.count(200) == 1
    assert pool.get("/claims/epoch").json["claimed_units"] == 1


def test_87_no_other_claim_fits_a_proof(pool: Pool) -> None:
    publish()
    publish(1145)
    body = package(pool)
    inner = {"proof": ALICE_PROOF[1:]}
    changes: list[dict[str, Any]] = [
        {"amount_units": 250000001}, {"recipient_coldkey": ALICE}, {"index": 1}, {"hotkey": BOB}, inner,
        {"proof": [*ALICE_PROOF, ALICE_PROOF[0]]}, {"proof": []}, {"proof": [ROOT]},
    ]  # fmt: skip
    assert {told(claim(pool, body | change)) for change in changes} == {(400, "Invalid Merkle proof")}
    assert told(claim(pool, body, "/1145")) == (400, "Invalid Merkle proof")
    assert pool.get("/claims/ledger/1144").json["count"] == 0


@pytest.mark.parametrize("amount", ["1.0", '"1"', "true", "-1", "0", str(2**64), "null"])
def test_88_an_amount_is_a_whole_number_of_64_bits(pool: Pool, amount: str) -> None:
    publish()
    raw = f'{{"index": 2, "hotkey": "{ALICE}", "recipient_coldkey": "{DAVE}", "amount_units": {amount}, "proof": []}}'

    assert claim(pool, raw.encode()).status == 422


@pytest.mark.parametrize("proof", [["0x" + "ab" * 31], ["zz" * 32], ["0x" + "ab" * 32] * 65, "ab", [5]])
def test_89_a_proof_is_a_short_list_of_hashes(pool: Pool, proof: Any) -> None:
    publish()

    assert claim(pool, package(pool) | {"proof": proof}).status == 422


def test_90_hashes_may_come_without_0x(pool: Pool) -> None:
    publish()

    assert claim(pool, package(pool) | {"proof": [item[2:] for item in ALICE_PROOF]}).status == 200


def test_91_a_veto_locks_claims_and_nothing_else(pool: Pool) -> None:
    publish()
    body = package(pool)
    store.set_contract(1, paused=False, read_error=None, now=NOW)

    assert told(claim(pool, body)) == (409, "Claims are locked by an active veto")
    assert pool.get(f"/claims/epoch/1144/proof/{ALICE}").status == 200
    status = pool.get("/health").json["onchain_runtime"]["contract_status"]
    assert (status["is_veto_active"], status["claim_ready"]) == (True, False)
    store.set_contract(0, paused=False, read_error=None, now=NOW)
    assert pool.get("/health").json["onchain_runtime"]["contract_status"]["claim_ready"] is True
    assert claim(pool, body).status == 200


def test_an_epoch_that_is_not_open_yet_is_seen_and_not_claimed(pool: Pool, freeze: Freeze) -> None:
    publish()
    body = package(pool)
    store.table.update("EPOCH#1144", "META", "SET #claims_open_at = :later", later=NOW + 60)
    store.table.update("EPOCHS", "LIST", "SET #e1144 = :later", later=NOW + 60)

    assert pool.get("/claims/epochs").json["epochs"] == []
    assert pool.get("/claims/epoch/1144").json["status"] == "pending"
    assert told(claim(pool, body)) == (409, "Epoch is not open for claims")
    assert pool.get("/health").json["onchain_runtime"]["contract_status"]["claim_ready"] is False
    freeze(NOW + 60)
    assert claim(pool, body, "").status == 200


def test_a_paused_contract_takes_no_claim(pool: Pool) -> None:
    publish()
    store.set_contract(0, paused=True, read_error=None, now=NOW)

    assert told(claim(pool, package(pool))) == (409, "Epoch is not open for claims")


def test_a_veto_that_comes_between_decision_and_write_holds_too(pool: Pool, monkeypatch: pytest.MonkeyPatch) -> None:
    publish()
    body = package(pool)
    found, contract = store_claims.standing(1144)
    store.set_contract(1, paused=False, read_error=None, now=NOW)
    monkeypatch.setattr(store_claims, "standing", lambda _: (found, contract))

    assert told(claim(pool, body)) == (409, "Claims are locked by an active veto")


def test_no_more_is_claimed_than_the_epoch_holds(pool: Pool) -> None:
    publish()
    body = package(pool)
    store.table.update("EPOCH#1144", "META", "SET #claimed_units = :most", most=123706789013)

    assert told(claim(pool, body)) == (409, "Epoch budget exceeded")
    assert pool.get("/claims/ledger").json["count"] == 0


def test_92_a_published_leaf_pays_whom_it_named(pool: Pool) -> None:
    publish()
    (a,) = pool.register("a")
    pool.recipient(a, a.hotkey)

    assert pool.get(f"/claims/epoch/1144/proof/{CHARLIE}").json["recipient_coldkey"] == DAVE


def test_93_the_standalone_server_says_the_same_whatever_the_switch(pool: Pool, configure: Configure) -> None:
    publish()
    mounted = [pool.get(f"/claims{path}").body for path in ("/epochs", f"/epoch/1144/claim/{ALICE}", "/health")]
    configure(MOUNTS="claims=/", MERKLE_CLAIM_ENABLED="false")
    alone = Client(app_module.build())

    assert [alone.get(path).body for path in ("/epochs", f"/epoch/1144/claim/{ALICE}", "/health")] == mounted
    assert alone.get("/openapi.json").json["info"]["title"] == "Merkle claims"


def test_the_ledger_has_pages(pool: Pool) -> None:
    publish()
    for hotkey in (ALICE, BOB, CHARLIE):
        assert claim(pool, package(pool, hotkey)).status == 200

    assert [row["index"] for row in pool.get("/claims/ledger?limit=2").json["claims"]] == [0, 1]
    assert [row["index"] for row in pool.get("/claims/ledger?limit=2&after=1").json["claims"]] == [2]
    assert pool.get("/claims/ledger?limit=0").status == 422


def test_the_default_epoch_is_the_newest_or_the_one_that_is_set(pool: Pool, configure: Configure) -> None:
    publish(1144)
    publish(1145)

    assert pool.get("/claims/epochs").json == {"epochs": [1144, 1145], "default_epoch": 1145, "count": 2}
    configure(MERKLE_CLAIM_DEFAULT_EPOCH="1144")
    assert pool.get("/claims/epoch").json["epoch"] == 1144
    configure(MERKLE_CLAIM_DEFAULT_EPOCH="7")
    assert pool.get("/claims/epoch").json["epoch"] == 1145


def test_the_claim_routes_may_not_stand_at_the_pool_s_root(cloud: None, configure: Configure) -> None:
    configure(MERKLE_CLAIM_ENABLED="true", MERKLE_CLAIM_PATH_PREFIX="/")

    with pytest.raises(SettingError, match="MERKLE_CLAIM_PATH_PREFIX"):
        app_module.build()


def test_leaves_of_an_abandoned_publication_are_never_served(pool: Pool) -> None:
    stranger = wallet("abandoned").hotkey
    staged, _ = tasks_epochs.stage(1144, bytearray(tasks_epochs.record(stranger, stranger, 5)))
    tasks_epochs.write_chunk(staged, 0)
    publish()

    assert pool.get(f"/claims/epoch/1144/proof/{stranger}").status == 404


def test_a_publication_that_comes_too_late_changes_no_published_leaf(pool: Pool) -> None:
    publish()
    before = package(pool)
    other, _ = tasks_epochs.stage(1144, bytearray(tasks_epochs.record(ALICE, BOB, 7)))
    tasks_epochs.write_chunk(other, 0)

    assert tasks_epochs.publish(other) is False
    assert package(pool) == before
    manifest = json.loads(store_claims.bucket().get("epochs/1144/epoch.json") or b"")
    assert manifest["root"] == ROOT


def test_a_published_epoch_s_leaves_are_found_whatever_was_known_of_its_number(pool: Pool) -> None:
    """An instance may remember another world's epoch of this number."""
    store_claims._digests[1144] = "of another world"
    publish()

    assert package(pool)["proof"] == ALICE_PROOF
