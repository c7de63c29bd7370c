"""The world of the conformance table: short phases, a token, a validator, miners, a tiny model on request."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest

from chalicelib.experts import domain, store, tasks_fetching, tasks_publishing
from chalicelib.kernel import chain
from chalicelib.kernel.chain import Commitment, Neuron, Subnet
from tests.experts import models
from tests.harness.client import Client, Reply
from tests.harness.cloud import remembered
from tests.harness.wallets import Wallet, ed25519_wallet, wallet

NOW = 1_800_000_000.0
TOKEN = "shared-token"
MINER = ed25519_wallet("miner")
SECOND = wallet("second-miner")
VALIDATOR = wallet("validator")
# distribute 0..4, train 5..14, commit 15..17, submit 18..25, commit 26..29
PHASES = "distribute:5,train:10,commit:3,submit:8,commit:4"
CYCLE = 30
SUBMIT_FIRST, SUBMIT_LAST = 18, 25
START = 40 * CYCLE
URL = "https://miner.example.com/checkpoints/one.safetensors"


@dataclass
class World:
    """What a test acts on."""

    client: Client
    configure: Callable[..., None]
    neurons: list[Neuron] = field(default_factory=list)
    commitments: list[Commitment] = field(default_factory=list)

    def at(self, block: int) -> None:
        """Observe a block, and the metagraph with it."""
        chain.save_head(block)
        chain.save_snapshot("experts", block, Subnet(netuid=102, neurons=self.neurons, commitments=self.commitments))

    def publish(self, source: models.Model, *, version: str = "step_1", block: int = 1000) -> dict[str, Any]:
        """The whole publication in this process."""
        key = f"uploads/{version}.safetensors"
        store.models().put(key, source.raw)
        uri = f"s3://{store.models().name}/{key}"
        made = tasks_publishing.plan(uri, models.ASSIGNMENT, model_version=version, block_number=block)
        for name in tasks_publishing.objects(made):
            tasks_publishing.build(made, name)
        return tasks_publishing.finish(made)

    def get(self, path: str, **headers: str) -> Reply:
        return self.call("GET", path, **headers)

    def call(self, method: str, path: str, **headers: str) -> Reply:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return self.client.call(method, f"/experts{path}", headers={"Authorization": f"Bearer {TOKEN}", **named})

    def partial(self, group: str = "0", *, method: str = "GET", query: str = "", **headers: str) -> Reply:
        return self.call(method, f"/model/partial{query}", **{
            "X_Expert_Group": group, "X_Hotkey": MINER.hotkey, "Accept": "*/*", **headers,
        })  # fmt: skip

    def submit(self, body: Any, **headers: str) -> Reply:
        sent = {"Authorization": f"Bearer {TOKEN}", "Content-Type": "application/json", **headers}
        return self.client.post("/experts/submit", body, sent)


def submission(
    signer: Wallet = MINER, *, block: int = START + 20, group: int = 0, url: str = URL, **changes: Any
) -> dict[str, Any]:
    """A signed body; `changes` are made after signing."""
    given = domain.Fields(signer.hotkey, group, url, block, "")
    signature = base64.urlsafe_b64encode(signer.sign(domain.signed_message(given, "json-v1"))).decode()
    body = {
        "hotkey": signer.hotkey, "expert_group": group, "checkpoint_url": url, "block_number": block,
        "signature": signature,
    }  # fmt: skip
    return body | changes


def encoded(body: dict[str, Any]) -> bytes:
    return json.dumps(body).encode()


@pytest.fixture
def world(client: Client, freeze: Callable[[float], None], configure: Callable[..., None], monkeypatch: Any) -> World:
    freeze(NOW)
    configure(EXPERTS_BZ_AUTH_TOKEN=TOKEN, EXPERTS_PHASES=PHASES, EXPERTS_EVALUATOR="stub")
    monkeypatch.setattr("chalicelib.kernel.flows.start_or_leave", lambda *_: True)
    store.LOOKS.clear()
    store.SEEN.clear()
    found = World(client, configure)
    for uid, (signer, permit) in enumerate(((VALIDATOR, True), (MINER, False), (SECOND, False))):
        found.neurons.append(Neuron(uid=uid, hotkey=signer.hotkey, validator_permit=permit, last_update=1000))
    found.at(START + 20)
    return found


@pytest.fixture
def tiny() -> models.Model:
    return models.model()


@pytest.fixture
def served(world: World, tiny: models.Model) -> World:
    """The tiny model published at block 1000 as `step_1`."""
    remembered("experts serve", lambda: world.publish(tiny))
    return world


@pytest.fixture
def files(monkeypatch: pytest.MonkeyPatch) -> dict[str, bytes]:
    """What the miners' servers hold, by the last part of the URL."""
    found: dict[str, bytes] = {}

    def fetch(url: str, key: str, cap: int, network: Any = None) -> dict[str, Any]:
        raw = found[url.rpartition("/")[2]]
        etag = store.quarantine().put(key, raw)
        return {"bytes": len(raw), "sha256": models.digest(raw)[7:], "etag": etag}

    monkeypatch.setattr(tasks_fetching, "fetch", fetch)
    return found
