"""Claims: published epochs, proofs as single reads, and, where simulation is on, claims and their ledger."""

from __future__ import annotations

import re
from typing import Any

from chalicelib.kernel import clock, keys
from chalicelib.kernel.errors import Conflict, Invalid, Malformed, NotFound
from chalicelib.kernel.http import Answer, Request, problem
from chalicelib.kernel.wire import Item

from . import merkle, store_claims
from .contracts import MAX_U64, Claim, LedgerQuery, PoolSettings, ProofPackage
from .contracts_records import Epoch
from .routes_auth import claims

_EPOCH = re.compile(r"[0-9]{1,20}")
_PROOF_SECONDS = 300


@claims.get("/health")
def claims_health() -> dict[str, Any]:
    """How many epochs can be claimed, and which is the default."""
    open_now = _open_epochs()
    return {
        "status": "healthy",
        "simulation_enabled": PoolSettings.current().claim_simulation_enabled,
        "epochs": len(open_now),
        "default_epoch": _default_of(open_now),
        "scheme": merkle.SCHEME,
    }


@claims.get("/epochs", fresh_for=0)
def epochs() -> dict[str, Any]:
    """Every claimable epoch, ascending."""
    open_now = _open_epochs()
    return {"epochs": open_now, "default_epoch": _default_of(open_now), "count": len(open_now)}


def _open_epochs() -> list[int]:
    now = clock.now()
    return [number for number, opens in store_claims.epochs().items() if opens <= now]


def _default_of(open_now: list[int]) -> int | None:
    wanted = PoolSettings.current().merkle_claim_default_epoch
    if wanted is not None and wanted in open_now:
        return wanted
    return open_now[-1] if open_now else None


def default_epoch() -> int:
    number = _default_of(_open_epochs())
    if number is None:
        raise NotFound("No claimable epoch", code="no_epoch")
    return number


def epoch_number(text: str) -> int:
    if not _EPOCH.fullmatch(text) or int(text) > MAX_U64:
        raise Invalid([problem("int_parsing", ["path", "epoch_id"], "Input should be an epoch number")])
    return int(text)


def _no_epoch() -> NotFound:
    return NotFound("Epoch not found", code="epoch_not_found")


@claims.get("/epoch", fresh_for=0, refusals={404: "Nothing can be claimed."})
def default_epoch_metadata() -> dict[str, Any]:
    """The default epoch."""
    return _metadata(default_epoch())


@claims.get("/epoch/{epoch_id}", fresh_for=0, refusals={404: "Unknown.", 422: "Not a number."})
def epoch_metadata(epoch_id: str) -> dict[str, Any]:
    """One epoch."""
    return _metadata(epoch_number(epoch_id))


def _metadata(number: int) -> dict[str, Any]:
    found = store_claims.epoch(number)
    if found is None:
        raise _no_epoch()
    return {
        "epoch": number,
        "status": "published" if found.claims_open_at <= clock.now() else "pending",
        "root": "0x" + found.root,
        "num_of_leaves": found.leaves,
        "total_units": found.total_units,
        "claimed_units": found.claimed_units,
        "scheme": merkle.SCHEME,
        "leaf_types": list(merkle.LEAF_TYPES),
        "amount_mode": merkle.AMOUNT_MODE,
        "window_number": number,
        "published_at": clock.stamp_seconds(found.published_at),
        "claims_open_at": clock.stamp_seconds(found.claims_open_at),
        "disputed": False,
        "uri": found.uri,
    }


def default_proof(hotkey: str) -> Answer:
    """A hotkey's claim in the default epoch, with its proof."""
    return _proof(default_epoch(), hotkey)


def proof(epoch_id: str, hotkey: str) -> Answer:
    """A hotkey's claim in an epoch, with its proof."""
    return _proof(epoch_number(epoch_id), hotkey)


_NO_CLAIM = {404: "No claim."}
for _alias in ("proof", "claim"):
    claims.get(f"/epoch/{_alias}/{{hotkey}}", refusals=_NO_CLAIM, fresh_for=_PROOF_SECONDS)(default_proof)
    claims.get(
        f"/epoch/{{epoch_id}}/{_alias}/{{hotkey}}",
        refusals={**_NO_CLAIM, 422: "Not a number."},
        fresh_for=_PROOF_SECONDS,
    )(proof)


def _proof(number: int, hotkey: str) -> Answer:
    """A malformed hotkey has no claim either: clients go on after a 404 and after nothing else."""
    found, leaf = store_claims.proof(number, hotkey) if _is_address(hotkey) else (store_claims.epoch(number), None)
    if found is None:
        raise _no_epoch()
    if leaf is None:
        raise NotFound("No claim for hotkey in this epoch", code="no_claim")
    return Answer(_package(found, hotkey, leaf))


def _package(found: Epoch, hotkey: str, leaf: Item) -> ProofPackage:
    packed = leaf["proof"]
    return ProofPackage(
        epoch=found.number,
        index=leaf["index"],
        hotkey=hotkey,
        recipient_coldkey=keys.address(leaf["recipient"]),
        amount_units=leaf["amount"],
        amount=leaf["amount"],
        leaf="0x" + leaf["leaf"].hex(),
        proof=["0x" + packed[first : first + merkle.HASH].hex() for first in range(0, len(packed), merkle.HASH)],
        root="0x" + found.root,
        scheme=merkle.SCHEME,
        amount_mode=merkle.AMOUNT_MODE,
    )


def _is_address(text: str) -> bool:
    try:
        keys.public_key(text)
    except keys.BadAddress:
        return False
    return True


# ---- simulation


def check_simulated() -> None:
    """Where claims are not simulated, these routes do not exist."""
    if not PoolSettings.current().claim_simulation_enabled:
        raise NotFound("Not Found", code="route_not_found")


@claims.post("/epoch/claim", body=Claim, refusals={400: "No valid proof.", 404: "Nothing to claim.", 409: "Paid."})
def claim_default(request: Request) -> dict[str, Any]:
    """Claim a leaf of the default epoch; anybody may, it pays the leaf's recipient."""
    check_simulated()
    body = request.read_body(Claim)
    return _claim(default_epoch(), body)


@claims.post("/epoch/{epoch_id}/claim", body=Claim, refusals={400: "No valid proof.", 404: "Unknown.", 409: "Paid."})
def claim(epoch_id: str, request: Request) -> dict[str, Any]:
    """Claim a leaf of an epoch; anybody may, it pays the leaf's recipient."""
    check_simulated()
    number = epoch_number(epoch_id)
    return _claim(number, request.read_body(Claim))


def _claim(number: int, body: Claim) -> dict[str, Any]:
    found, contract = store_claims.standing(number)
    if found is None:
        raise _no_epoch()
    now = clock.now()
    if found.claims_open_at > now or contract.paused:
        raise Conflict("Epoch is not open for claims", code="epoch_not_open")
    if contract.vetoes:
        raise store_claims.vetoed()
    if not proves(found, body):
        raise Malformed("Invalid Merkle proof", code="bad_proof")
    store_claims.claim(found, body, now)
    return {"status": "claimed", "simulated": True, "epoch": number} | _row(
        body.index, body.hotkey, body.recipient_coldkey, body.amount_units, now
    )


def proves(found: Epoch, body: Claim) -> bool:
    """The leaf is made of the body's own values: change one and it is another leaf."""
    leaf = merkle.Leaf(
        body.index, keys.public_key(body.hotkey), keys.public_key(body.recipient_coldkey), body.amount_units
    )
    path = [bytes.fromhex(item[-2 * merkle.HASH :]) for item in body.proof]
    return merkle.verifies(bytes.fromhex(found.root), found.number, leaf, path)


@claims.get("/ledger", fresh_for=0, refusals={404: "Nothing can be claimed."})
def default_ledger(request: Request) -> dict[str, Any]:
    """What was claimed of the default epoch."""
    check_simulated()
    query = request.read_query(LedgerQuery)
    return _ledger(default_epoch(), query)


@claims.get("/ledger/{epoch_id}", fresh_for=0, refusals={404: "Unknown."})
def ledger(epoch_id: str, request: Request) -> dict[str, Any]:
    """What was claimed of an epoch."""
    check_simulated()
    return _ledger(epoch_number(epoch_id), request.read_query(LedgerQuery))


def _ledger(number: int, query: LedgerQuery) -> dict[str, Any]:
    found = store_claims.epoch(number)
    if found is None:
        raise _no_epoch()
    rows = [
        _row(item["index"], item["hotkey"], item["recipient"], item["amount"], item["claimed_at"])
        for item in store_claims.ledger(number, query.after, query.limit)
    ]
    return {
        "epoch": number,
        "claims": rows,
        "count": len(rows),
        "claimed_units": found.claimed_units,
        "total_units": found.total_units,
    }


def _row(index: int, hotkey: str, recipient: str, amount: int, at: float) -> dict[str, Any]:
    return {
        "index": index,
        "hotkey": hotkey,
        "recipient_coldkey": recipient,
        "amount_units": amount,
        "claimed_at": clock.stamp_seconds(at),
    }
