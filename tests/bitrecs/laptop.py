"""A laptop that really runs, with a chain file and a GitHub of the tests' own, and the clients that miners use."""

from __future__ import annotations

import http.client
import json
import os
import secrets
import subprocess
import sys
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import yaml

from chalicelib.bitrecs import domain
from tests.bitrecs.github import GitHub
from tests.bitrecs.world import PASSWORD, artifact, unlike
from tests.harness.laptop import ROOT, Laptop, eventually
from tests.harness.wallets import Wallet

BLOCK = 5_000
HEARTBEAT_SECONDS = 3
WALLETS = ("--wallet-path", "local/wallets", "--wallet-name", "dev")


@dataclass
class Gist:
    """What a miner put on GitHub."""

    id: str
    created_at: str
    commitment: str


@dataclass
class Town:
    """A server, the chain that it copies, and the GitHub that it asks."""

    laptop: Laptop
    github: GitHub
    chain_file: Path
    neurons: list[dict[str, Any]] = field(default_factory=list)
    commitments: list[dict[str, Any]] = field(default_factory=list)

    @classmethod
    def start(cls, folder: Path, github: GitHub) -> Town:
        chain_file = folder / "chain.json"
        laptop = Laptop(
            folder / "state",
            MOUNTS="bitrecs=/bitrecs",
            CHAIN_SOURCE=f"file:{chain_file}",
            GITHUB_API_URL=github.url,
            BITRECS_SCREENER_PASSWORD=PASSWORD,
            BITRECS_MIN_CONNECTED_VALIDATORS="0",
            BITRECS_RATE_LIMIT_READ_PER_MIN="100000",
            BITRECS_VALIDATOR_HEARTBEAT_TIMEOUT_SECONDS=str(HEARTBEAT_SECONDS),
            BITRECS_VALIDATOR_SWEEP_SECONDS="86400",
        )
        town = cls(laptop, github, chain_file)
        town.save_chain()
        laptop.start()
        return town

    def save_chain(self) -> None:
        subnet = {"netuid": 122, "neurons": self.neurons, "commitments": self.commitments}
        chain = {"block": BLOCK, "frozen": True, "subnets": {"bitrecs": subnet}}
        self.chain_file.write_text(json.dumps(chain))

    def publish(self, hotkey: str, name: str) -> Gist:
        """A gist for a hotkey that is registered from now on; nothing is on chain yet."""
        now = datetime.fromtimestamp(int(time.time()), UTC)
        content = yaml.safe_dump(artifact(hotkey, user_prompt_template=f"{{{{sku}}}} {unlike(60, name)}"))
        gist_id = secrets.token_hex(16)
        commit = self.github.add(gist_id, content, created_at=now.strftime("%Y-%m-%dT%H:%M:%SZ"))
        if hotkey not in {neuron["hotkey"] for neuron in self.neurons}:
            self.neurons.append({"uid": len(self.neurons) + 1, "hotkey": hotkey})
        self.sync()
        return Gist(gist_id, now.isoformat(), f"{commit}:{domain.sha256_of(content)}")

    def commit(self, hotkey: str, gist: Gist) -> None:
        """What the client writes on chain between its check and its submission."""
        self.commitments.append({"hotkey": hotkey, "block": BLOCK, "data": gist.commitment})
        self.sync()

    def sync(self) -> None:
        self.save_chain()
        sync = {"FunctionName": "subnet-functions-local-chain-tick", "Payload": b'{"run": "chain"}'}
        assert "FunctionError" not in self.laptop.client("lambda").invoke(**sync)

    def subnetctl(self, *words: str) -> subprocess.CompletedProcess[str]:
        variables = self.laptop.variables | {"PATH": os.environ["PATH"], "ENV_FILE": os.devnull}
        return subprocess.run(
            [sys.executable, "-m", "subnetctl.main", *words, "--json"],
            cwd=ROOT,
            env=variables | self.laptop.environment,
            capture_output=True,
            text=True,
            check=False,
        )

    def answer(self, *words: str) -> Any:
        """What a command of ours prints when it succeeds."""
        done = self.subnetctl("bitrecs", *words)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    def refusal(self, *words: str) -> str:
        """The code with which a command of ours refuses."""
        done = self.subnetctl("bitrecs", *words)
        assert done.returncode == 1
        assert done.stdout == ""
        return str(json.loads(done.stderr.splitlines()[-1])["code"])

    def send(self, method: str, path: str, body: Any = None, headers: dict[str, str] | None = None) -> tuple[int, Any]:
        """As an HTTP library does that follows no redirects and never retries."""
        connection = http.client.HTTPConnection(urlsplit(self.laptop.url).netloc, timeout=120)
        usual = {"Accept": "*/*", "Accept-Encoding": "gzip, deflate", "User-Agent": "python-httpx/0.28.1"}
        raw = None if body is None else json.dumps(body, separators=(",", ":")).encode()
        content = {"Content-Type": "application/json"} if raw is not None else {}
        connection.request(method, f"/bitrecs{path}", raw, usual | content | (headers or {}))
        reply = connection.getresponse()
        answered = json.loads(reply.read())
        connection.close()
        return reply.status, answered

    def queued(self, stage: str = "screener_1") -> list[str]:
        return [agent["agent_id"] for agent in self.send("GET", f"/retrieval/queue?stage={stage}")[1]]


@dataclass
class PublicClient:
    """The command line that miners have: a body signed once, sent twice, the second time with a transport signature."""

    town: Town
    wallet: Wallet
    version: str = "2.0.2"

    def upload(self, account: str, gist: Gist) -> dict[str, Any]:
        """Check, commit, submit; whatever is not the status that it waits for is told in the server's words."""
        body = self.body(account, gist)
        status, checked = self.town.send("POST", "/check", body)
        if status != 200:
            return {"aborted": checked.get("detail") or checked.get("error")}
        self.town.commit(self.wallet.hotkey, gist)
        status, answered = self.town.send("POST", "/submit", body, self.headers(body))
        if status != 201:
            return {"failed": answered.get("error") or answered.get("detail")}
        return {
            "artifact": answered["artifact_id"],
            "request": answered["request_id"],
            "message": answered["message"],
            "check": answered["similarity_check"],
            "similar": [(one["agent_id"], one["distance"]) for one in answered["similar_results"]],
        }

    def body(self, account: str, gist: Gist) -> dict[str, str]:
        body = {
            "created_at": gist.created_at,
            "github_account": account,
            "gist_id": gist.id,
            "hotkey": self.wallet.hotkey,
        }
        return body | {"signature": self.wallet.sign(":".join(body.values()).encode()).hex()}

    def headers(self, body: dict[str, str]) -> dict[str, str]:
        nonce, t_nonce, stamp = secrets.token_hex(16), secrets.token_hex(16), str(int(time.time()))
        signed = [*list(body.values())[:4], nonce, t_nonce, self.version, stamp]
        return {
            "Accept": "application/json",
            "Referer": f"{self.town.laptop.url}/bitrecs/",
            "X-Signature": self.wallet.sign(":".join(signed).encode()).hex(),
            "X-Timestamp": stamp,
            "X-Nonce": nonce,
            "X-T-Nonce": t_nonce,
        }


__all__ = ["WALLETS", "Gist", "PublicClient", "Town", "eventually"]
