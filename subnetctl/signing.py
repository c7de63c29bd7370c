"""How each API wants its requests signed: one function per system, from the request to the headers."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import time
from collections.abc import Callable
from typing import Protocol


class Signer(Protocol):
    """A hotkey; the wallets of this package are, and so may be anybody's."""

    @property
    def address(self) -> str: ...

    def sign(self, message: bytes) -> bytes: ...


def leoma(signer: Signer, body: bytes = b"", *, now: int | None = None) -> dict[str, str]:
    """Validators and admins: the digest of the body and the timestamp."""
    timestamp = _timestamp(now)
    message = f"{hashlib.sha256(body).hexdigest()}:{timestamp}"
    return {
        "X-Validator-Hotkey": signer.address,
        "X-Signature": "0x" + _hex(signer, message),
        "X-Timestamp": timestamp,
    }


def pool(signer: Signer, *, now: int | None = None) -> dict[str, str]:
    """Miners' wallet headers: the timestamp alone."""
    timestamp = _timestamp(now)
    return _pool_headers(signer, timestamp, f"auth:{timestamp}")


def pool_recipient(signer: Signer, recipient: str, *, now: int | None = None) -> dict[str, str]:
    """A recipient update names the coldkey it sets."""
    timestamp = _timestamp(now)
    return _pool_headers(signer, timestamp, f"recipient_coldkey:update:{timestamp}:{recipient.strip()}")


def prism(signer: Signer, body: bytes, *, now: int | None = None, nonce: str = "") -> dict[str, str]:
    """Submissions: hotkey, nonce, timestamp and the digest of the body."""
    timestamp, nonce = _timestamp(now), nonce or os.urandom(16).hex()
    message = f"prism:{signer.address}:{nonce}:{timestamp}:{hashlib.sha256(body).hexdigest()}"
    return {
        "X-Hotkey": signer.address,
        "X-Signature": _hex(signer, message),
        "X-Nonce": nonce,
        "X-Timestamp": timestamp,
    }


def bitrecs_payload(signer: Signer, created_at: str, github_account: str, gist_id: str) -> dict[str, str]:
    """The five fields of `/check` and `/submit`, signed."""
    message = f"{created_at}:{github_account}:{gist_id}:{signer.address}"
    return {
        "created_at": created_at,
        "github_account": github_account,
        "gist_id": gist_id,
        "hotkey": signer.address,
        "signature": _hex(signer, message),
    }


def bitrecs_transport(
    signer: Signer, payload: dict[str, str], *, version: str = "", now: int | None = None
) -> dict[str, str]:
    """The headers of `/submit`: the payload's fields, two nonces, the client's version if any, the timestamp."""
    timestamp, nonce, second_nonce = _timestamp(now), os.urandom(16).hex(), os.urandom(16).hex()
    fields = [payload[name] for name in ("created_at", "github_account", "gist_id", "hotkey")]
    parts = [*fields, nonce, second_nonce, *([version] if version else []), timestamp]
    return {
        "X-Signature": _hex(signer, ":".join(parts)),
        "X-Timestamp": timestamp,
        "X-Nonce": nonce,
        "X-T-Nonce": second_nonce,
    }


def experts_full(signer: Signer, host: str, *, now: int | None = None) -> dict[str, str]:
    """`GET /model/full`: the path below the mount, the timestamp and the API's host."""
    timestamp = _timestamp(now)
    message = f"GET\n/model/full\n{timestamp}\n{host}"
    return {"X-Hotkey": signer.address, "X-Timestamp": timestamp, "X-Signature": _base64url(signer, message)}


def experts_submission(signer: Signer, expert_group: int, checkpoint_url: str, block_number: int) -> dict[str, object]:
    """The whole body of `POST /submit`: four fields and the signature over their canonical JSON."""
    fields: dict[str, object] = {
        "block_number": block_number,
        "checkpoint_url": checkpoint_url,
        "expert_group": expert_group,
        "hotkey": signer.address,
    }
    message = json.dumps(fields, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return fields | {"signature": _base64url(signer, message)}


HEADERS: dict[str, Callable[[Signer, bytes], dict[str, str]]] = {
    "leoma": leoma,
    "pool": lambda signer, _body: pool(signer),
    "prism": prism,
}


def _pool_headers(signer: Signer, timestamp: str, message: str) -> dict[str, str]:
    return {"X-Key": signer.address, "X-Timestamp": timestamp, "X-Signature": _hex(signer, message)}


def _timestamp(now: int | None) -> str:
    return str(int(time.time()) if now is None else now)


def _hex(signer: Signer, message: str) -> str:
    return signer.sign(message.encode()).hex()


def _base64url(signer: Signer, message: str) -> str:
    return base64.urlsafe_b64encode(signer.sign(message.encode())).decode()
