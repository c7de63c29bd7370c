"""The APIs for programs: a class per system on the standard library and a signer. `subnetctl` is built on it.

    me = wallets.load("default", "default", Path("~/.bittensor/wallets"))
    clients.Leoma("https://api.example.org/leoma", me).ranks()

A refusal raises `api.Refused` with the status, the stable code and the server's words.
"""

from __future__ import annotations

import hashlib
import json
from typing import Any
from urllib.parse import quote, urlencode, urlsplit

from . import api, signing
from .signing import Signer

_FIELDS_OF_A_RESULT = ("confidence", "reasoning", "latency_ms", "original_artifacts", "generated_artifacts")


class Client:
    """What all have: the base URL of the mount, perhaps a hotkey that signs."""

    def __init__(self, base: str, signer: Signer | None = None) -> None:
        self.base = base.rstrip("/")
        self._signer = signer

    @property
    def signer(self) -> Signer:
        if self._signer is None:
            raise ValueError("this request is signed: the client needs a hotkey")
        return self._signer

    def get(self, path: str, headers: dict[str, str] | None = None, **query: Any) -> Any:
        """A path below the mount; parameters that are None are left out."""
        asked = urlencode({name: value for name, value in query.items() if value is not None})
        return api.call("GET", self.base + path + (f"?{asked}" if asked else ""), headers=headers).expected()

    def post(self, path: str, body: Any, headers: dict[str, str] | None = None) -> Any:
        return api.call("POST", self.base + path, body=body, headers=headers).expected()

    def health(self) -> Any:
        return self.get("/health")


class Prism(Client):
    """Projects of miners."""

    def submit(self, body: dict[str, Any]) -> Any:
        """`code` (Python text, or a base64 zip), `filename` and perhaps `metadata`."""
        return self.post("/v1/submissions", body, signing.prism(self.signer, api.encoded(body)))

    def submission(self, submission_id: str) -> Any:
        return self.get(f"/v1/submissions/{quote(submission_id, safe='')}")

    def leaderboard(self) -> Any:
        return self.get("/v1/leaderboard")


class Pool(Client):
    """Work of pool miners."""

    def act(self, path: str, body: Any = None) -> Any:
        """Any signed writing route."""
        return self.post(path, body or {}, signing.pool(self.signer))

    def look(self, path: str, **query: Any) -> Any:
        """Any signed reading route."""
        return self.get(path, signing.pool(self.signer), **query)

    def register(self) -> Any:
        return self.act("/api/v1/miners/register")

    def lease(self, task_type: str) -> Any:
        return self.act("/api/v1/tasks/lease", {"task_type": task_type})

    def submit_lease(self, lease_id: str, body: dict[str, Any]) -> Any:
        return self.act(f"/api/v1/tasks/{quote(lease_id, safe='')}/submit_lease", body)

    def set_recipient(self, coldkey: str) -> Any:
        headers = signing.pool_recipient(self.signer, coldkey)
        return self.post("/api/v1/miners/recipient-coldkey", {"recipient_coldkey": coldkey}, headers)

    def stats(self) -> Any:
        return self.look("/api/v1/miners/stats")

    def leaderboard(self) -> Any:
        return self.get("/api/v1/miners/leaderboard")


class Claims(Client):
    """Merkle claims; the base URL is that of the claim routes, alone or inside the pool."""

    def epoch(self, number: int | None = None) -> Any:
        return self.get("/epoch" if number is None else f"/epoch/{number}")

    def proof(self, epoch: int, hotkey: str) -> Any:
        return self.get(f"/epoch/{epoch}/proof/{quote(hotkey, safe='')}")

    def claim(self, epoch: int, package: dict[str, Any]) -> Any:
        """Hand in what `proof` answered; anybody may, the leaf's recipient is paid."""
        names = ("index", "hotkey", "recipient_coldkey", "amount_units", "proof")
        return self.post(f"/epoch/{epoch}/claim", {name: package[name] for name in names})


class Experts(Client):
    """Weights by group; every route but health takes a bearer token."""

    def __init__(self, base: str, token: str, signer: Signer | None = None) -> None:
        super().__init__(base, signer)
        self.headers = {"Authorization": f"Bearer {token}", "Accept": "application/json"}

    def slice(self, group: int, hotkey: str, content: str = "experts", *, etag: str = "") -> Any:
        """Where a group's slice lies, how long it is and what its hash must be; with `etag` that version's or none."""
        headers = {**self.headers, "X-Expert-Group": str(group), "X-Hotkey": hotkey}
        headers |= {"If-Match": etag} if etag else {}
        return self.get("/model/partial", headers, content=content)

    def full(self) -> Any:
        """Where the whole model lies, for validators."""
        signed = signing.experts_full(self.signer, urlsplit(self.base).netloc)
        return self.get("/model/full", self.headers | signed)

    def submit(self, group: int, checkpoint_url: str, block: int) -> Any:
        return self.post("/submit", signing.experts_submission(self.signer, group, checkpoint_url, block), self.headers)

    def submission(self, submission_id: str) -> Any:
        return self.get(f"/submission/{quote(submission_id, safe='')}", self.headers)


class Bitrecs(Client):
    """Artifacts of miners; `created_at` is the gist's creation time as GitHub tells it."""

    def check(self, created_at: str, github_account: str, gist_id: str) -> Any:
        return self.post("/check", signing.bitrecs_payload(self.signer, created_at, github_account, gist_id))

    def submit(
        self, created_at: str, github_account: str, gist_id: str, *, version: str = "", openrouter_key: str = ""
    ) -> Any:
        body = signing.bitrecs_payload(self.signer, created_at, github_account, gist_id)
        headers = signing.bitrecs_transport(self.signer, body, version=version)
        return self.post("/submit", body, headers | ({"X-ORTK": openrouter_key} if openrouter_key else {}))

    def queue(self, stage: str) -> Any:
        return self.get("/retrieval/queue", stage=stage)

    def agent(self, hotkey: str) -> Any:
        return self.get("/retrieval/agent-by-hotkey", miner_hotkey=hotkey)


class Leoma(Client):
    """Verdicts of validators, ranks of miners."""

    def submit(self, samples: list[dict[str, Any]]) -> Any:
        """Up to a hundred verdicts; those of one task carry an evaluation signature."""
        body: dict[str, Any] = {"samples": samples}
        if len({str(sample.get("task_id", sample.get("sample_id"))) for sample in samples}) == 1:
            body["signature"] = "0x" + self.signer.sign(evaluation_digest(samples)).hex()
        return self.post("/samples/batch", body, signing.leoma(self.signer, api.encoded(body)))

    def blacklist(self, hotkey: str, reason: str | None = None) -> Any:
        body = {"hotkey": hotkey, "reason": reason}
        return self.post("/blacklist", body, signing.leoma(self.signer, api.encoded(body)))

    def ranks(self) -> Any:
        return self.get("/scores/rank")

    def weights(self) -> Any:
        return self.get("/weights")

    def task(self, task_id: int, miner: str) -> Any:
        return self.get(f"/tasks/{task_id}/miner/{quote(miner, safe='')}")


def evaluation_digest(samples: list[dict[str, Any]]) -> bytes:
    """What the signature of Leoma's result object covers: the entries in the order in which they are sent."""
    entries = [
        {
            "hotkey": sample.get("miner_hotkey"),
            "passed": sample.get("passed"),
            "status": "passed" if sample.get("passed") else "failed",
            "presentation_order": sample.get("presentation_order"),
            **{name: sample.get(name) for name in _FIELDS_OF_A_RESULT},
        }
        for sample in samples
    ]
    return hashlib.sha256(json.dumps(entries, sort_keys=True).encode()).digest()
