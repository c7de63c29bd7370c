"""Leoma through the local server at 50,000 samples, against a server written as the original was.

Both sides hold the same samples of 20 validators about 256 miners, and answer the same requests over one connection
each, in turns.
"""

from __future__ import annotations

import atexit
import hashlib
import http.client
import json
import os
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from bench import peers
from bench.interface import Figures, alternating, benchmark
from chalicelib.kernel import flows
from chalicelib.leoma import domain
from subnetctl import cloud
from tests.harness.laptop import Laptop, eventually
from tests.harness.wallets import Wallet, wallet

VALIDATORS = [wallet(f"bench-validator-{n}") for n in range(20)]
MINERS = [wallet(f"bench-miner-{n}").hotkey for n in range(256)]
TASKS = 25
JUDGED = 100
_ROUNDS = 7
_REVISION = "0f" * 20
_OK = 200


class Side:
    """One server: what it took to fill it, and one connection for all that follows."""

    def __init__(self, address: str, prefix: str = "") -> None:
        split = urlsplit(address)
        self._connection = http.client.HTTPConnection(split.hostname or "", split.port)
        self._prefix = prefix

    def post(self, validator: Wallet, body: bytes) -> None:
        timestamp = str(int(time.time()))
        headers = {
            "Content-Type": "application/json",
            "X-Validator-Hotkey": validator.hotkey,
            "X-Signature": validator.sign(domain.signed_message(body, timestamp)).hex(),
            "X-Timestamp": timestamp,
        }
        self._ask("POST", "/samples/batch", body, headers)

    def get(self, path: str) -> None:
        self._ask("GET", path, None, {})

    def _ask(self, method: str, path: str, body: bytes | None, headers: dict[str, str]) -> None:
        self._connection.request(method, self._prefix + path, body, headers)
        reply = self._connection.getresponse()
        content = reply.read()
        if reply.status != _OK:
            raise RuntimeError(f"{path}: {reply.status}: {content[:200]!r}")

    def seconds(self, path: str, times: int) -> float:
        """For so many requests, one after another."""
        started = time.perf_counter()
        for _ in range(times):
            self.get(path)
        return time.perf_counter() - started


@dataclass
class Both:
    """The two servers with the same samples in them, and how long each took to take these in."""

    ours: Side
    peer: Side
    laptop: Laptop
    filling: Figures


@cache
def both() -> Both:
    with ExitStack() as stops:
        found = _started(stops)
        atexit.register(stops.pop_all().close)
        return found


def _started(stops: ExitStack) -> Both:
    folder = Path(stops.enter_context(tempfile.TemporaryDirectory(prefix="bench-leoma-")))
    (folder / "chain.json").write_text(json.dumps(_chain()))
    (folder / "world.json").write_text(json.dumps(_world()))
    variables = {
        "CHAIN_SOURCE": f"file:{folder / 'chain.json'}",
        "LEOMA_SCORER_TASK_WINDOW": str(TASKS),
        "LEOMA_SCORER_COMPLETENESS_THRESHOLD": "0.1",  # every miner is judged in some tasks and gets a rank
    }
    laptop = Laptop(folder / "state", **variables)
    stops.callback(laptop.close)
    laptop.start()
    port = stops.enter_context(peers.server("leoma_server.py", str(folder / "world.json")))
    ours, peer = Side(laptop.url, "/leoma"), Side(f"http://127.0.0.1:{port}")
    eventually(lambda: bool(laptop.get("/leoma/health")["metagraph_synced"]))
    os.environ.update(laptop.environment)
    cloud.connect()
    flows.invoke("leoma-publish", {"task_id": TASKS})
    filling = _fill(ours, peer)
    flows.invoke("leoma-rank", {})
    return Both(ours, peer, laptop, filling)


def _fill(ours: Side, peer: Side) -> Figures:
    """Batches of 100 new samples, a task to one side and then to the other; samples per second."""
    spent = {ours: 0.0, peer: 0.0}
    for task in range(1, TASKS + 1):
        body = json.dumps({"samples": [_sample(task, hotkey) for hotkey in _judged(task)]}).encode()
        for side in spent:
            started = time.perf_counter()
            for validator in VALIDATORS:
                side.post(validator, body)
            spent[side] += time.perf_counter() - started
    samples = TASKS * len(VALIDATORS) * JUDGED
    return Figures(samples / spent[ours], samples / spent[peer])


def _model(n: int, hotkey: str) -> dict[str, Any]:
    return {"model_name": f"acme/leoma-{hotkey}", "model_revision": _REVISION, "chute_id": f"c{n}"}


def _world() -> dict[str, Any]:
    """What the peer's own jobs would know."""
    rest = {"model_hash": None, "chute_slug": "bench", "invalid_reason": None}
    miners = [
        {"uid": 20 + n, "miner_hotkey": hotkey, "block": 100 + n, **_model(n, hotkey), **rest}
        for n, hotkey in enumerate(MINERS)
    ]
    validators = [{"hotkey": who.hotkey, "stake": 1000.0 + 500 * n} for n, who in enumerate(VALIDATORS)]
    return {"latest_task": TASKS, "window": TASKS, "miners": miners, "validators": validators}


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
        {"hotkey": hotkey, "block": 100 + n, "data": json.dumps(_model(n, hotkey))} for n, hotkey in enumerate(MINERS)
    ]
    leoma = {"netuid": 99, "neurons": neurons, "commitments": commitments}
    return {"block": 1000, "frozen": True, "subnets": {"leoma": leoma}}


def _judged(task: int) -> list[str]:
    """The miners of one task: a batch holds no more, so they take turns."""
    return [MINERS[(task * JUDGED + n) % len(MINERS)] for n in range(JUDGED)]


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


def _read(name: str, path: str, times: int, at_least: float) -> Callable[[], Figures]:
    """Requests per second; `times` of them a round, on either side."""

    def run() -> Figures:
        sides = (both().ours, both().peer)
        for side in sides:
            side.get(path)
        ours, peer = alternating(
            [lambda: sides[0].seconds(path, times), lambda: sides[1].seconds(path, times)], rounds=_ROUNDS
        )
        return Figures(times / ours, times / peer)

    return benchmark(f"leoma.{name}", unit="req/s", at_least=at_least)(run)


@benchmark("leoma.batch", unit="samples/s", at_least=2.0)
def batch() -> Figures:
    """Batches of 100 new samples, one after another."""
    return both().filling


_read("rank", "/scores/rank", 5, 50)
_read("weights", "/weights", 5, 50)
_read("scores", "/scores", 1, 50)
_read("stats", "/scores/stats", 20, 1)
_read("miners", "/miners/list", 100, 1)
_read("samples", "/samples/list", 30, 1)
_read("latest", "/tasks/latest", 300, 1)
_read("health", "/health", 300, 1)
_read("detail", f"/tasks/1/miner/{_judged(1)[0]}", 150, 1)


@benchmark("leoma.stop", unit="s", at_most=1.0)
def stop() -> Figures:
    """The server of the figures above ends within its 15 seconds."""
    started = time.perf_counter()
    both().laptop.close()
    return Figures(time.perf_counter() - started, 15)
