"""The app against FastAPI behind Mangum: what a cold start imports, and what a warm request costs in CPU."""

from __future__ import annotations

import json
import os
import sys
import time
from functools import cache, partial
from http import HTTPStatus
from typing import Any
from unittest import mock

import app as app_module
from bench import peers
from bench.interface import ROOT, Figures, alternating, benchmark, cpu_milliseconds, printed_number
from chalicelib.kernel import aws, settings
from chalicelib.kernel.http import App
from chalicelib.leoma import domain
from local.gateway import Request, new_request_id, proxy_event
from tests.harness.wallets import Wallet, wallet

_IMPORT = "import time; t = time.perf_counter(); import {}; print((time.perf_counter() - t) * 1000)"
_ROUNDS = 11
_HOTKEY = "5FHneW46xGXgs5mUiveU4sbTyGBzmstUspZC92UhjJM694ty"


@benchmark("kernel.cold_import", unit="ms", at_most=1.0)
def cold_import() -> Figures:
    """A fresh process imports all five systems, mounted; the peer a hello world."""
    theirs = peers.python()

    def ours() -> float:
        return printed_number(sys.executable, _IMPORT.format("app"), cwd=ROOT, environment={"ENV_FILE": os.devnull})

    def peer() -> float:
        return printed_number(theirs, _IMPORT.format("hello"), cwd=peers.FOLDER)

    ours(), peer()  # both write their bytecode
    mine, other = alternating([ours, peer], rounds=_ROUNDS)
    return Figures(mine, other)


_ITEM = {
    "pk": {"S": "BL"}, "sk": {"S": _HOTKEY}, "reason": {"S": "spam"}, "added_by": {"S": _HOTKEY},
    "created_at": {"N": "1700000000.5"},
}  # fmt: skip


class Stubbed:
    """A table service that answers at once with what the routes expect to find."""

    def get_item(self, **_request: Any) -> dict[str, Any]:
        return {"Item": _ITEM}

    def batch_get_item(self, **_request: Any) -> dict[str, Any]:
        return {"Responses": {}}

    def put_item(self, **_request: Any) -> dict[str, Any]:
        return {}

    def update_item(self, **_request: Any) -> dict[str, Any]:
        return {"Attributes": _ITEM}


def stubbed_client(*_service: object, stubbed: Stubbed = Stubbed()) -> Stubbed:  # noqa: B008 - the one stub there is
    return stubbed


def _events(admin: Wallet) -> dict[str, dict[str, Any]]:
    body = f'{{"hotkey": "{_HOTKEY}", "reason": "spam"}}'.encode()
    timestamp = str(int(time.time()))
    signed = [
        ("X-Validator-Hotkey", admin.hotkey),
        ("X-Signature", admin.sign(domain.signed_message(body, timestamp)).hex()),
        ("X-Timestamp", timestamp),
        ("Content-Type", "application/json"),
    ]
    read = Request("GET", f"/blacklist/{_HOTKEY}", [("Accept", "application/json")])
    write = Request("POST", "/blacklist", signed, body)
    return {
        "read": proxy_event(read, read.target, "", "/blacklist/{hotkey}", {"hotkey": _HOTKEY}, new_request_id()),
        "signed_write": proxy_event(write, write.target, "", "/blacklist", {}, new_request_id()),
    }


@cache
def _warm() -> dict[str, Figures]:
    """Both requests on both sides; a stored entry read by anybody, and a signed write of an admin."""
    admin = wallet("admin")
    events = _events(admin)
    with mock.patch.dict(os.environ, {"MOUNTS": "leoma=/", "ADMIN_HOTKEYS": admin.hotkey, "ENV_FILE": os.devnull}):
        settings.forget_all()
        app = app_module.build()
        with mock.patch.object(aws, "client", stubbed_client):
            ours = {name: cpu_milliseconds(partial(_answered, app, event)) for name, event in events.items()}
    settings.forget_all()
    task = {"admins": [admin.hotkey], "events": [events["signed_write"], events["read"]]}
    write, read = peers.answer("measure.py", "leoma", json.dumps(task))
    return {"read": Figures(ours["read"], read), "signed_write": Figures(ours["signed_write"], write)}


def _answered(app: App, event: dict[str, Any]) -> None:
    reply = app(event, None)
    if reply["statusCode"] != HTTPStatus.OK:
        raise RuntimeError(f"we answered {reply}")


@benchmark("kernel.warm_read", unit="ms", at_most=0.5)
def warm_read() -> Figures:
    """CPU of one read with AWS stubbed, against FastAPI with its database stubbed."""
    return _warm()["read"]


@benchmark("kernel.warm_signed_write", unit="ms", at_most=0.5)
def warm_signed_write() -> Figures:
    """The same for a signed write; both sides pay for the same sr25519 check."""
    return _warm()["signed_write"]
