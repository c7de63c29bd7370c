"""A pool in the test's process: signed requests, seeds, flows that are recorded instead of run."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from chalicelib.kernel import chain, clock, keys
from chalicelib.pool import genome, store_work, tasks
from chalicelib.pool.contracts_records import Algorithm
from tests.harness.client import Client, Reply
from tests.harness.wallets import Wallet, wallet

NOW = 1_800_000_000
TASK = "cifar10_binary"
REGISTER = "/api/v1/miners/register"
RECIPIENT = "/api/v1/miners/recipient-coldkey"
LEASE = "/api/v1/tasks/lease"
ASK = "/api/v1/tasks/request"
NOT_ACTIVE = "Active lease assignment not found"

Json = dict[str, Any]
Configure = Callable[..., None]
Freeze = Callable[[float], None]


def told(reply: Reply) -> tuple[int, Any]:
    """Status and what the refusal says."""
    return reply.status, reply.json["detail"]


def program(number: int) -> str:
    """A program that no other number has."""
    return f"# setup\ns2 = 0.{number + 1:04d}\n# predict\ns3 = dot(v0, v1)\ns0 = s3 * s2\n# learn\nv1 = v0\n"


@dataclass
class Pool:
    """A client of the pool; every request gets a fresh signature."""

    client: Client
    prefix: str = "/pool"
    seeds: list[int] = field(default_factory=list)

    def headers(self, signer: Wallet, message: str | None = None, at: float | None = None) -> dict[str, str]:
        timestamp = str(int(clock.now() if at is None else at))
        signature = signer.sign((message if message is not None else f"auth:{timestamp}").encode())
        return {"X-Key": signer.hotkey, "X-Timestamp": timestamp, "X-Signature": signature.hex()}

    def get(self, path: str, signer: Wallet | None = None) -> Reply:
        return self.client.get(self.prefix + path, self.headers(signer) if signer else None)

    def post(self, path: str, signer: Wallet | None = None, body: Any = None, **headers: str) -> Reply:
        signed = self.headers(signer) if signer else {}
        raw = body if isinstance(body, bytes) else json.dumps({} if body is None else body).encode()
        return self.client.call("POST", self.prefix + path, raw, signed | headers)

    def register(self, *names: str) -> list[Wallet]:
        found = [wallet(name) for name in names]
        for each in found:
            assert self.post(REGISTER, each).status == 200
        return found

    def recipient(self, signer: Wallet, recipient: str, at: float | None = None) -> Reply:
        timestamp = int(clock.now() if at is None else at)
        headers = self.headers(signer, f"recipient_coldkey:update:{timestamp}:{recipient}", timestamp)
        body = json.dumps({"recipient_coldkey": recipient}).encode()
        return self.client.call("PUT", f"{self.prefix}{RECIPIENT}", body, headers)

    def lease(self, signer: Wallet, **body: Any) -> Json:
        reply = self.post(LEASE, signer, body)
        assert reply.status == 200, reply.json
        found: Json = reply.json
        return found

    def batch(self, signer: Wallet, kind: str) -> Json:
        reply = self.post(ASK, signer, {"task_type": kind})
        assert reply.status == 200, reply.json
        found: Json = reply.json
        return found

    def submit_lease(self, signer: Wallet, lease_id: str, **body: Any) -> Reply:
        return self.post(f"/api/v1/tasks/{lease_id}/submit_lease", signer, body)

    def evaluate(self, signer: Wallet, number: int, score: float) -> Reply:
        """Take a batch and give one program of it a score."""
        batch = self.batch(signer, "evaluate")
        assert number in [entry["id"] for entry in batch["algorithms"]]
        body = {"evaluations": [{"algorithm_id": number, "score": score}]}
        return self.post(f"/api/v1/tasks/{batch['batch_id']}/submit_evaluation", signer, body)

    def evolve(self, signer: Wallet, text: str, parents: list[Any] | None = None) -> Reply:
        batch = self.batch(signer, "evolve")
        body = {"evolved_function": text, "parent_functions": parents if parents is not None else []}
        return self.post(f"/api/v1/tasks/{batch['batch_id']}/submit_evolution", signer, body)

    def candidate(self, author: Wallet, number: int = 1) -> int:
        reply = self.evolve(author, program(number))
        assert reply.status == 200, reply.json
        return int(reply.json["algorithm_id"])

    def complete(self, number: int, judges: list[Wallet], scores: tuple[float, ...] = (0.90, 0.91, 0.92)) -> None:
        for judge, score in zip(judges, scores, strict=True):
            assert self.evaluate(judge, number, score).status == 200

    def verify(self, signer: Wallet, number: int | str) -> Reply:
        return self.post(f"/api/v1/results/verify/{number}", signer)

    def stats(self, signer: Wallet) -> Json:
        found: Json = self.get("/api/v1/miners/stats", signer).json
        return found


def add_seeds(count: int = 12, task_type: str = TASK) -> list[int]:
    """Programs of the operator."""
    found = []
    for number in range(count):
        text = program(5000 + number)
        algorithm = Algorithm(
            store_work.next_id(), task_type, 16, "", "", "seed", (), genome.parse(text, 16).fingerprint(task_type, 16),
            0, clock.now(), 0.5,
        )  # fmt: skip
        assert store_work.add_seed(algorithm, text)
        found.append(algorithm.id)
    return found


def settle() -> None:
    """What the round's flow does."""
    tasks.settle({}, None)


def at_block(block: int) -> None:
    chain.save_head(block)


def address(name: str) -> str:
    return wallet(name).hotkey


def public(name: str) -> bytes:
    return keys.public_key(address(name))
