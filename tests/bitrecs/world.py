"""A world in which submissions succeed: miners, gists, commitments, connected validators, tasks in the process."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import yaml

from chalicelib.bitrecs import domain, store, store_work, tasks
from chalicelib.kernel import chain, clock, flows
from tests.bitrecs.github import GitHub
from tests.harness.client import Client, Reply
from tests.harness.wallets import Wallet, wallet

NOW = 1_795_000_000
BLOCK = 5_000
CREATED_AT = "2026-11-18T07:46:40+00:00"
GITHUB_CREATED_AT = "2026-11-18T07:46:40Z"
KEY = "br_test-key"
PASSWORD = "screen"

SYSTEM = "You recommend products for {{persona}} from {{product_catalog}}; answer with {{num_recs}} of them."
USER = "The customer looks at {{sku}} and has {{cart_json}} in the cart. What else would fit, and why?"

FILE = {"size": 5, "truncated": False, "content": "a: b\n"}
TRANSPORT = (400, "Invalid transport signature")
TIMESTAMP = (400, "Invalid or expired timestamp")
Configure = Callable[..., None]
Freeze = Callable[[float], None]


def artifact(hotkey: str, **changes: Any) -> dict[str, Any]:
    """A good artifact; None removes a field."""
    fields: dict[str, Any] = {
        "name": "first agent",
        "version_num": 1,
        "status": "screening_1",
        "miner_hotkey": hotkey,
        "provider": "CHUTES",
        "model": "deepseek-ai/DeepSeek-V3",
        "system_prompt_template": f"{SYSTEM} Mind {hotkey[5:9]} {hotkey[10:14]}.".replace("0", "").replace("9", ""),
        "user_prompt_template": USER,
        "sampling_params": {"temperature": 0.2, "top_p": 0.9},
        **changes,
    }
    return {name: value for name, value in fields.items() if value is not None}


def unlike(words: int, seed: str) -> str:
    """A prompt that resembles no other: letters drawn by its seed."""
    letters = hashlib.shake_256(seed.encode()).digest(words * 6)
    chunks = (letters[at : at + 6] for at in range(0, len(letters), 6))
    return " ".join("".join(chr(97 + byte % 26) for byte in chunk) for chunk in chunks)


@dataclass
class Miner:
    """A hotkey with a gist of its own and its commitment on chain."""

    world: World
    wallet: Wallet
    gist_id: str
    content: str
    commit: str

    @property
    def hotkey(self) -> str:
        return self.wallet.hotkey

    def body(self, *, sign: bool = True, signer: Wallet | None = None, **changes: Any) -> dict[str, Any]:
        body = {
            "created_at": CREATED_AT,
            "github_account": "miner",
            "gist_id": self.gist_id,
            "hotkey": self.hotkey,
            **changes,
        }
        message = ":".join(str(body[name]) for name in ("created_at", "github_account", "gist_id", "hotkey"))
        if sign and "signature" not in changes:
            body["signature"] = (signer or self.wallet).sign(message.encode()).hex()
        return body

    def headers(self, body: dict[str, Any], *, version: str | None = "2.0.2", **changes: str) -> dict[str, str]:
        number = next(self.world.numbers)
        nonce = changes.get("X-Nonce", f"{number:032x}")
        t_nonce = changes.get("X-T-Nonce", f"{number + 2**64:032x}")
        stamp = changes.get("X-Timestamp", str(int(clock.now())))
        start = ":".join(str(body[name]) for name in ("created_at", "github_account", "gist_id", "hotkey"))
        message = ":".join([start, nonce, t_nonce, *([version] if version else []), stamp])
        signature = self.wallet.sign(message.encode()).hex()
        return {"X-Signature": signature, "X-Timestamp": stamp, "X-Nonce": nonce, "X-T-Nonce": t_nonce} | changes

    def submit(self, client: Client | None = None, **changes: Any) -> Reply:
        body = self.body(**changes)
        return (client or self.world.client).post("/bitrecs/submit", body, self.headers(body))

    def check(self, **changes: Any) -> Reply:
        return self.world.client.post("/bitrecs/check", self.body(**changes))


@dataclass
class World:
    client: Client
    github: GitHub
    neurons: list[dict[str, Any]] = field(default_factory=list)
    commitments: list[dict[str, Any]] = field(default_factory=list)
    netuid: int = 122
    validators: list[Evaluator] = field(default_factory=list)
    numbers: itertools.count[int] = field(default_factory=lambda: itertools.count(1))

    def miner(self, name: str, *, signer: Wallet | None = None, text: str | None = None, **changes: Any) -> Miner:
        """A registered miner whose gist and commitment are in order; `text` is the file as it is."""
        own = signer or wallet(name)
        fields = artifact(own.hotkey, **{"user_prompt_template": f"{USER} {unlike(60, name)}", **changes})
        content = text if text is not None else yaml.safe_dump(fields, allow_unicode=True)
        gist_id = f"{next(self.numbers):032x}"
        commit = self.github.add(gist_id, content, created_at=GITHUB_CREATED_AT)
        if own.hotkey not in {neuron["hotkey"] for neuron in self.neurons}:
            coldkey = wallet(f"cold {name}").hotkey
            self.neurons.append({"uid": len(self.neurons) + 1, "hotkey": own.hotkey, "coldkey": coldkey})
        miner = Miner(self, own, gist_id, content, commit)
        self.reveal(miner)
        return miner

    def reveal(self, miner: Miner, *, block: int = BLOCK - 10, data: str | None = None) -> None:
        text = data if data is not None else f"{miner.commit}:{domain.sha256_of(miner.content)}"
        self.commitments.append({"hotkey": miner.hotkey, "block": block, "data": text})
        self.sync()

    def sync(self, block: int = BLOCK) -> None:
        """Copy the chain as it stands."""
        subnet = {"netuid": self.netuid, "neurons": self.neurons, "commitments": self.commitments}
        chain.save_head(block)
        chain.save_snapshot("bitrecs", block, chain.Subnet.model_validate(subnet))

    def connect(self, validators: int = 3, screeners: int = 0) -> list[Evaluator]:
        """Sessions as after a registration."""
        found = []
        for number in range(validators):
            signer = wallet(f"validator {number}")
            store.add_validator(signer.hotkey, f"validator {number}")
            found.append(self.validator(signer))
        return found + [self.screener(f"screener-1-{number}") for number in range(screeners)]

    def validator(self, signer: Wallet) -> Evaluator:
        stamp = int(clock.now())
        body = {
            "timestamp": stamp,
            "signed_timestamp": signer.sign(str(stamp).encode()).hex(),
            "hotkey": signer.hotkey,
            "commit_hash": "c",
        }
        return self._registered("/bitrecs/validator/register-as-validator", body)

    def screener(self, name: str) -> Evaluator:
        body = {"name": name, "password": PASSWORD, "commit_hash": "c"}
        return self._registered("/bitrecs/validator/register-as-screener", body)

    def _registered(self, path: str, body: dict[str, Any]) -> Evaluator:
        reply = self.client.post(path, body, {"X-API-Key": KEY})
        assert reply.status == 200, reply.body
        return Evaluator(self.client, reply.json["session_id"])


@dataclass
class Evaluator:
    """A connected validator or screener."""

    client: Client
    session_id: str

    def post(self, path: str, body: Any = None) -> Reply:
        headers = {"X-API-Key": KEY, "Authorization": f"Bearer {self.session_id}"}
        return self.client.post(f"/bitrecs/validator/{path}", body if body is not None else {}, headers)

    def claim(self) -> dict[str, Any] | None:
        reply = self.post("request-evaluation")
        assert reply.status == 200, reply.body
        work: dict[str, Any] | None = reply.json
        return work

    def update(self, run_id: str, status: str, **more: Any) -> Reply:
        return self.post("update-evaluation-run", {"evaluation_run_id": run_id, "updated_status": status, **more})

    def run_through(self, run_id: str, score: float) -> None:
        """Every state of a run, to a score."""
        result = {"name": "ndcg", "category": "default", "status": "pass", "score": score}
        for status, more in (
            ("initializing_agent", {}),
            ("running_agent", {}),
            ("initializing_eval", {"patch": "p", "agent_logs": "agent says"}),
            ("running_eval", {}),
            ("finished", {"test_results": [result], "eval_logs": "eval says"}),
        ):
            reply = self.update(run_id, status, **more)
            assert reply.status == 200, reply.body

    def evaluate(self, score: float) -> dict[str, Any] | None:
        """Claim, run everything to the score, finish."""
        work = self.claim()
        if work:
            for run in work["evaluation_runs"]:
                self.run_through(run["evaluation_run_id"], score)
            assert self.post("finish-evaluation").status == 200
        return work


def run_tasks_here(started: list[tuple[str, str, Any]]) -> dict[str, Callable[..., Any]]:
    """Stand-ins for Lambda and Step Functions: tasks run at once, started flows are only noted."""
    handlers = {"bitrecs-similarity": tasks.similarity, "bitrecs-compact": tasks.compact, "bitrecs-tick": tasks.tick}

    def invoke(task: str, payload: Any, *, seconds: float | None = None) -> Any:
        return handlers[task](payload, None)

    def start(machine: str, name: str, payload: Any) -> bool:
        started.append((machine, name, payload))
        return True

    def wake(_task: str) -> None:
        """Everything is awake."""

    return {"invoke": invoke, "start": start, "start_or_leave": start, "wake": wake}


def told(reply: Reply) -> tuple[int, Any]:
    """What a refusal says."""
    return reply.status, reply.json.get("detail")


def send(miner: Miner, body: Any, headers: dict[str, str]) -> Reply:
    return miner.world.client.post("/bitrecs/submit", body, headers)


def change_gist(world: World, miner: Miner, **changes: Any) -> None:
    world.github.gists[miner.gist_id] |= changes


def status_of(world: World, miner: Miner) -> str:
    found = world.client.get(f"/bitrecs/retrieval/agent-by-hotkey?miner_hotkey={miner.hotkey}").json
    return str(found["status"])


def screened(world: World, *names: str, second: float = 0.72) -> list[Miner]:
    """Miners whose agents have passed both screeners."""
    first_screener, second_screener = world.screener("screener-1-1"), world.screener("screener-2-1")
    miners = [world.miner(name) for name in names]
    for miner in miners:
        assert miner.submit().status == 201
        first_screener.evaluate(0.9)
        second_screener.evaluate(second)
    return miners


__all__ = ["Evaluator", "Miner", "World", "artifact", "flows", "run_tasks_here", "store_work", "unlike"]
