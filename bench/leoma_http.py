"""Leoma through the local server at 50,000 samples, against the original server's figures for the same requests.

The original (FastAPI and PostgreSQL, one worker) was measured with 20 validators, one connection and the same mix; its
figures are quoted, ours are measured.
"""

from __future__ import annotations

import hashlib
import http.client
import json
import tempfile
import time
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from bench.interface import Figures, benchmark
from chalicelib.kernel import flows
from chalicelib.leoma import domain
from subnetctl import cloud
from tests.harness.laptop import Laptop, eventually
from tests.harness.wallets import Wallet, wallet

VALIDATORS = [wallet(f"bench-validator-{n}") for n in range(20)]
MINERS = [wallet(f"bench-miner-{n}").hotkey for n in range(100)]
TASKS = 25
_SECONDS = 3.0
_REVISION = "0f" * 20
_OK = 200


class Deployed:
    """A laptop with the subnet on it; every request goes over one connection."""

    def __init__(self) -> None:
        folder = Path(tempfile.mkdtemp(prefix="bench-leoma-"))
        (folder / "chain.json").write_text(json.dumps(_chain()))
        variables = {"CHAIN_SOURCE": f"file:{folder / 'chain.json'}", "LEOMA_SCORER_TASK_WINDOW": str(TASKS)}
        self.laptop = Laptop(folder / "state", **variables).start()
        split = urlsplit(self.laptop.url)
        self.connection = http.client.HTTPConnection(split.hostname or "", split.port)
        eventually(lambda: bool(self.laptop.get("/leoma/health")["metagraph_synced"]))
        self._invoke("leoma-publish", {"task_id": TASKS})
        started = time.perf_counter()
        for task in range(1, TASKS + 1):
            for validator in VALIDATORS:
                self.post(validator, task)
        self.samples_per_second = TASKS * len(VALIDATORS) * 100 / (time.perf_counter() - started)
        self._invoke("leoma-rank", {})

    def _invoke(self, task: str, event: dict[str, Any]) -> None:
        import os  # noqa: PLC0415 - only to point this process at the laptop's cloud

        os.environ.update(self.laptop.environment)
        cloud.connect()
        flows.invoke(task, event)

    def post(self, validator: Wallet, task: int) -> None:
        body = json.dumps({"samples": [_sample(task, hotkey) for hotkey in MINERS]}).encode()
        timestamp = str(int(time.time()))
        headers = {
            "X-Validator-Hotkey": validator.hotkey,
            "X-Signature": validator.sign(domain.signed_message(body, timestamp)).hex(),
            "X-Timestamp": timestamp,
        }
        self._ask("POST", "/leoma/samples/batch", body, headers)

    def get(self, path: str) -> None:
        self._ask("GET", f"/leoma{path}", None, {})

    def _ask(self, method: str, path: str, body: bytes | None, headers: dict[str, str]) -> None:
        self.connection.request(method, path, body, headers)
        reply = self.connection.getresponse()
        content = reply.read()
        if reply.status != _OK:
            raise RuntimeError(f"{path}: {reply.status}: {content[:200]!r}")


@cache
def deployed() -> Deployed:
    return Deployed()


def _chain() -> dict[str, Any]:
    neurons = [
        {"uid": n, "hotkey": who.hotkey, "coldkey": who.hotkey, "stake_rao": str((1000 + 500 * n) * 10**9)}
        for n, who in enumerate(VALIDATORS)
    ]
    model = {"chute": {"hot": True, "slug": "bench", "revision": _REVISION}, "hf": {"sha": _REVISION, "siblings": []}}
    neurons += [
        {"uid": 20 + n, "hotkey": hotkey, "coldkey": hotkey, "stake_rao": "0", "model": model}
        for n, hotkey in enumerate(MINERS)
    ]
    commitments = [
        {
            "hotkey": hotkey,
            "block": 100 + n,
            "data": json.dumps(
                {"model_name": f"acme/leoma-{hotkey}", "model_revision": _REVISION, "chute_id": f"c{n}"}
            ),
        }
        for n, hotkey in enumerate(MINERS)
    ]
    leoma = {"netuid": 99, "neurons": neurons, "commitments": commitments}
    return {"block": 1000, "frozen": True, "subnets": {"leoma": leoma}}


def _sample(task: int, hotkey: str) -> dict[str, Any]:
    dice = hashlib.sha256(f"{task}{hotkey}".encode()).digest()[0]
    return {
        "task_id": task,
        "miner_hotkey": hotkey,
        "s3_bucket": "leoma-samples",
        "s3_prefix": str(task),
        "passed": dice % 2 == 0,
        "prompt": "a cyclist turns left",
        "confidence": dice % 100,
        "reasoning": f"motion {dice} is smooth, identity holds",
        "latency_ms": 30_000 + dice,
    }


def _per_second(path: str) -> float:
    """Requests per second over one connection."""
    laptop = deployed()
    laptop.get(path)
    count, started = 0, time.perf_counter()
    while time.perf_counter() - started < _SECONDS:
        laptop.get(path)
        count += 1
    return count / (time.perf_counter() - started)


def _read(name: str, path: str, peer: float, at_least: float) -> Callable[[], Figures]:
    def run() -> Figures:
        return Figures(_per_second(path), peer, "the peer's figure is quoted")

    return benchmark(f"leoma.{name}", unit="req/s", at_least=at_least)(run)


@benchmark("leoma.batch", unit="samples/s", at_least=2.0)
def batch() -> Figures:
    """Batches of 100 new samples, one after another."""
    return Figures(deployed().samples_per_second, 760, "the peer's figure is quoted")


_read("rank", "/scores/rank", 3.4, 50)
_read("weights", "/weights", 6.1, 50)
_read("scores", "/scores", 0.8, 50)
_read("stats", "/scores/stats", 12.1, 1)
_read("miners", "/miners/list", 190, 1)
_read("samples", "/samples/list", 28, 1)
_read("latest", "/tasks/latest", 841, 1)
_read("health", "/health", 911, 1)
_read("detail", f"/tasks/{TASKS}/miner/{MINERS[0]}", 371, 1)


@benchmark("leoma.stop", unit="s", at_most=1.0)
def stop() -> Figures:
    """The server of the figures above ends within its 15 seconds."""
    started = time.perf_counter()
    deployed().laptop.close()
    return Figures(time.perf_counter() - started, 15)
