"""What PRISM's tests speak in: signed uploads, internal calls, projects that review lets pass."""

from __future__ import annotations

import base64
import io
import json
import zipfile
from collections.abc import Callable, Mapping
from typing import Any

from chalicelib.kernel import clock
from chalicelib.prism import domain
from tests.harness.client import Client, Reply
from tests.harness.wallets import Wallet, wallet

NOW = 1_780_000_000
TOKEN = "correct horse"
INTERNAL = {"Authorization": f"Bearer {TOKEN}"}
SLUG = {"X-Platform-Challenge-Slug": "prism"}
ALICE, BOB, CAROL = wallet("alice"), wallet("bob"), wallet("carol")
VALIDATORS = "/prism/internal/v1/validators/assignments"
HOLDS = "/prism/internal/v1/component-review/holds"

Freeze = Callable[[float], None]
Configure = Callable[..., None]

MODEL = """import torch

class Mix(torch.nn.Module):
    def __init__(self, v):
        super().__init__()
        self.table = torch.nn.Embedding(v, 12)
        self.head = torch.nn.Linear(12, v)

    def forward(self, ids):
        return self.head(self.table(ids))

def build_model(ctx):
    return Mix(ctx.vocab_size)

def get_recipe(ctx):
    return {"learning_rate": 0.0005, "batch_size": 2}
"""


def model(seed: int) -> str:
    """A model that is like no other: names and calls of its own."""
    methods = "\n".join(
        f"    def part_{seed}_{number}(self, value_{seed}_{number}):\n"
        f"        return torch.op_{seed}_{number}(value_{seed}_{number}, self.step_{seed}_{number}(1))\n"
        for number in range(30)
    )
    return (
        f"import torch\n\nclass Alone{seed}Shape{seed * 7}(torch.nn.Module):\n{methods}\n"
        f"def build_model(ctx):\n    return Alone{seed}Shape{seed * 7}()\n\n"
        'def get_recipe(ctx):\n    return {"learning_rate": 0.0005}\n'
    )


def recipe(seed: int) -> str:
    return "".join(
        f"def tune_{seed}_{number}(rate):\n    return call_{seed}_{number}(rate, other_{seed}_{number}(rate))\n\n"
        for number in range(20)
    )


def packed(files: Mapping[str, str | bytes]) -> bytes:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as archive:
        for path, text in files.items():
            archive.writestr(zipfile.ZipInfo(path, (2026, 1, 1, 0, 0, 0)), text, zipfile.ZIP_DEFLATED)
    return content.getvalue()


def project(files: Mapping[str, str | bytes]) -> dict[str, Any]:
    return {"code": base64.b64encode(packed(files)).decode(), "filename": "project.zip"}


def two_parts(architecture: str, training: str, *, kind: str = "full", family: str = "") -> dict[str, Any]:
    named = f"architecture_id: {family}\n" if family else ""
    manifest = f"kind: {kind}\n{named}architecture: {{entrypoint: model.py}}\ntraining: {{entrypoint: train.py}}\n"
    return project({"prism.yaml": manifest, "model.py": architecture, "train.py": training})


def headers(
    signer: Wallet, body: bytes, *, nonce: str = "nonce-1", timestamp: str = str(NOW), hotkey: str = ""
) -> dict[str, str]:
    hotkey = hotkey or signer.hotkey
    signature = signer.sign(domain.signed_message(hotkey, nonce, timestamp, body))
    return {
        "X-Hotkey": hotkey,
        "X-Signature": signature.hex(),
        "X-Nonce": nonce,
        "X-Timestamp": timestamp,
        "Content-Type": "application/json",
    }


class Prism:
    """The mounted service, as its callers see it; its clock moves a millisecond with every upload."""

    def __init__(self, client: Client, freeze: Freeze) -> None:
        self.client = client
        self._freeze = freeze
        self._nonces = 0

    def submit(self, body: Any = None, signer: Wallet = ALICE, **changes: str) -> Reply:
        raw = body if isinstance(body, bytes) else json.dumps(body or {"code": MODEL}).encode()
        self._nonces += 1
        self._freeze(clock.now() + 0.001)
        signed = headers(signer, raw, nonce=changes.pop("nonce", f"n-{self._nonces}"), **changes)
        return self.client.post("/prism/v1/submissions", raw, signed)

    def submitted(self, body: Any = None, signer: Wallet = ALICE) -> str:
        reply = self.submit(body, signer)
        assert reply.status == 200, reply.json
        return str(reply.json["id"])

    def status(self, submission_id: str) -> dict[str, Any]:
        found: dict[str, Any] = self.client.get(f"/prism/v1/submissions/{submission_id}").json
        return found

    def process(self) -> str | None:
        reply = self.client.post("/prism/internal/v1/worker/process-next", b"", INTERNAL)
        assert reply.status == 200, reply.json
        found: str | None = reply.json["submission_id"]
        return found

    def processed(self, body: Any = None, signer: Wallet = ALICE) -> dict[str, Any]:
        """Submitted, and processed to its end."""
        submission_id = self.submitted(body, signer)
        while self.process() not in {submission_id, None}:
            pass
        return self.status(submission_id)

    def get(self, path: str) -> Any:
        reply = self.client.get(f"/prism{path}", INTERNAL | SLUG)
        assert reply.status == 200, reply.json
        return reply.json

    def weights(self) -> dict[str, float]:
        found: dict[str, float] = self.get("/internal/v1/get_weights")["weights"]
        return found

    def next(self, validator: str = "v1") -> Any:
        reply = self.client.post(f"{VALIDATORS}/next", b"", INTERNAL | {"X-Validator-Hotkey": validator})
        assert reply.status == 200, reply.json
        return reply.json

    def assignment(self, assignment_id: str, verb: str, body: Any = b"", **more: str) -> Reply:
        return self.client.post(f"{VALIDATORS}/{assignment_id}/{verb}", body, INTERNAL | more)

    def result(self, assignment_id: str, **metrics: float) -> Reply:
        return self.assignment(assignment_id, "result", {"metrics": metrics})

    def resolve(self, hold_id: str, architecture: str, training: str = "none", **more: Any) -> Reply:
        body = {"architecture_action": architecture, "training_action": training, **more}
        return self.client.post(f"{HOLDS}/{hold_id}/resolve", body, INTERNAL)

    def holds(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self.get("/internal/v1/component-review/holds")
        return found
