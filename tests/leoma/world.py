"""A small subnet: validators with stake, miners with models, and the signed requests that they send."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from chalicelib.kernel import chain, clock
from chalicelib.kernel.chain import Commitment, Neuron, Subnet
from chalicelib.leoma import domain, store, tasks
from tests.harness.client import Client, Reply
from tests.harness.wallets import Wallet, wallet

NOW = 1_800_000_000.25
ADMIN, ALICE, BOB, CAROL = (wallet(name) for name in ("admin", "alice", "bob", "carol"))
STAKES = {ALICE: 100_000, BOB: 60_000, CAROL: 40_000}
REVISION = "0f" * 20


def miner(number: int) -> str:
    return wallet(f"miner-{number}").hotkey


def neuron(uid: int, hotkey: str, *, tao: float = 0, model: dict[str, Any] | None = None) -> Neuron:
    return Neuron(uid=uid, hotkey=hotkey, coldkey="", stake_rao=int(tao * 10**9), model=model)


def model(*, hot: bool = True, chute_revision: str = REVISION, sha: str = REVISION) -> dict[str, Any]:
    siblings = [{"rfilename": "model.safetensors", "lfs": {"sha256": "ab" * 32}}, {"rfilename": "README.md"}]
    return {
        "chute": {"chute_id": "c1", "slug": "acme-i2v", "hot": hot, "revision": chute_revision},
        "hf": {"sha": sha, "siblings": siblings},
    }


def commitment(hotkey: str, block: int = 100, **changes: Any) -> Commitment:
    fields = {"model_name": f"acme/leoma-{hotkey}", "model_revision": REVISION, "chute_id": "c1"} | changes
    return Commitment(hotkey=hotkey, block=block, data=json.dumps(fields))


def subnet(miners: int = 3, *, stakes: dict[Wallet, float] | None = None, **changes: Any) -> Subnet:
    held = STAKES if stakes is None else stakes
    validators = [neuron(200 + n, who.hotkey, tao=tao) for n, (who, tao) in enumerate(held.items())]
    mining = [neuron(n, miner(n), model=model()) for n in range(1, miners + 1)]
    found = {
        "neurons": (*validators, *mining),
        "commitments": tuple(commitment(miner(n), block=100 + n) for n in range(1, miners + 1)),
    }
    return Subnet(netuid=99, **found | changes)


def sync(state: Subnet, block: int = 1000) -> None:
    """The chain copy moves on, and what Leoma derives from it."""
    chain.save_head(block)
    assert chain.save_snapshot("leoma", block, state)
    tasks.validators()
    tasks.miners()


def signed(signer: Wallet, body: bytes = b"", *, at: float | None = None, hotkey: str = "") -> dict[str, str]:
    timestamp = str(int(clock.now() if at is None else at))
    return {
        "X-Validator-Hotkey": hotkey or signer.hotkey,
        "X-Signature": "0x" + signer.sign(domain.signed_message(body, timestamp)).hex(),
        "X-Timestamp": timestamp,
        "Content-Type": "application/json",
    }


def sample(task: int | None, hotkey: str, passed: Any = True, **changes: Any) -> dict[str, Any]:
    fields = {
        "task_id": task,
        "miner_hotkey": hotkey,
        "s3_bucket": "leoma-samples",
        "s3_prefix": str(task),
        "passed": passed,
        "prompt": "a cyclist turns left",
    }
    return {name: value for name, value in (fields | changes).items() if value is not ...}


def post(client: Client, signer: Wallet, path: str, body: Any) -> Reply:
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    return client.post(f"/leoma{path}", raw, signed(signer, raw))


def send(client: Client, signer: Wallet, samples: Sequence[dict[str, Any]], signature: str | None = None) -> Reply:
    body: dict[str, Any] = {"samples": list(samples)}
    return post(client, signer, "/samples/batch", body | ({"signature": signature} if signature is not None else {}))


def get(client: Client, path: str, signer: Wallet | None = None) -> Reply:
    return client.get(f"/leoma{path}", signed(signer) if signer else None)


def publish(task: int) -> None:
    store.publish_task(task, str(task), None)


def vote(client: Client, task: int, votes: dict[Wallet, bool], hotkey: str, **changes: Any) -> None:
    for signer, passed in votes.items():
        reply = send(client, signer, [sample(task, hotkey, passed, **changes)])
        assert reply.status == 200, reply.json
