"""Does a deployment answer as it should? Real requests, signed with a key made up on the spot, that change nothing.

`python -m infra.smoke URL` asks any deployment, the laptop's too.
"""

from __future__ import annotations

import functools
import json
import os
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import sr25519

from subnetctl import signing
from subnetctl.wallets import Hotkey

_SECONDS = 40
_CLOCK_SECONDS = 60


class SmokeFailed(RuntimeError):
    """Some answers were not what they must be."""


@dataclass(frozen=True)
class Reply:
    """One answer."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body) if self.body else None

    @property
    def code(self) -> str:
        found = self.json
        return str(found.get("code")) if isinstance(found, dict) else ""


@dataclass(frozen=True)
class Finding:
    """What was asked, and what is wrong with the answer; nothing if it is right."""

    what: str
    wrong: str = ""


class Api:
    """The deployment under test."""

    def __init__(self, url: str) -> None:
        self.url = url.rstrip("/")

    def ask(self, method: str, path: str, *, body: bytes | None = None, headers: dict[str, str] | None = None) -> Reply:
        wanted = Request(self.url + path, data=body, method=method, headers=headers or {})  # noqa: S310 - given URL
        try:
            with urlopen(wanted, timeout=_SECONDS) as answer:  # noqa: S310
                return Reply(answer.status, _lower(answer.headers), answer.read())
        except HTTPError as refused:
            return Reply(refused.code, _lower(refused.headers), refused.read())


def findings(api: Api) -> Iterator[Finding]:
    """Every check, in the order in which a reader would want to know."""
    landing = api.ask("GET", "/", headers={"Accept": "application/json"})
    yield _is("GET /", landing, 200)
    yield _clock(api)
    mounts = landing.json["mounts"] if landing.status == HTTPStatus.OK else []
    for mount in mounts:
        prefix = mount["path"].rstrip("/")
        yield _is(f"GET {prefix}/openapi.json", api.ask("GET", f"{prefix}/openapi.json"), 200)
        yield _is(f"GET {prefix}/docs", api.ask("GET", f"{prefix}/docs"), 200)
        for check in _OF_SYSTEM.get(mount["name"], []):
            yield from check(api, prefix)
    yield _refusal("an unknown path", api.ask("GET", "/no/such/path"), 404, "route_not_found")
    yield _refusal("an undeclared method", api.ask("DELETE", "/time"), 405, "method_not_allowed")


def check(url: str) -> None:
    """Print each check and raise when one failed."""
    failed = 0
    for finding in findings(Api(url)):
        failed += bool(finding.wrong)
        print(f"{'FAIL' if finding.wrong else 'ok  '} {finding.what}{': ' if finding.wrong else ''}{finding.wrong}")
    if failed:
        raise SmokeFailed(f"{failed} checks failed at {url}")


def _leoma(api: Api, prefix: str) -> Iterator[Finding]:
    """A stranger's good signature is told apart from a bad one: the verifier, the clock and the table all work."""
    yield _is(f"GET {prefix}/health", api.ask("GET", f"{prefix}/health"), 200)
    yield _is(f"GET {prefix}/blacklist", api.ask("GET", f"{prefix}/blacklist"), 200)
    body = json.dumps({"hotkey": _stranger().address}).encode()
    signed = signing.leoma(_stranger(), body) | {"Content-Type": "application/json"}
    reply = api.ask("POST", f"{prefix}/blacklist", body=body, headers=signed)
    yield _refusal("a stranger's signed request", reply, 401, "validator_not_registered")
    reply = api.ask("POST", f"{prefix}/blacklist", body=body + b" ", headers=signed)
    yield _refusal("a signature for other bytes", reply, 401, "signature_invalid")


_OF_SYSTEM: dict[str, list[Callable[[Api, str], Iterator[Finding]]]] = {"leoma": [_leoma]}


def _clock(api: Api) -> Finding:
    reply = api.ask("GET", "/time")
    if reply.status != HTTPStatus.OK:
        return _is("GET /time", reply, 200)
    skew = abs(reply.json["unix"] - time.time())
    return Finding("the server's clock", "" if skew < _CLOCK_SECONDS else f"is {skew:.0f} s off ours")


def _is(what: str, reply: Reply, status: int) -> Finding:
    if reply.status != status:
        return Finding(what, f"answers {reply.status} instead of {status}: {reply.body[:200]!r}")
    missing = [name for name in ("x-request-id", "access-control-allow-origin") if name not in reply.headers]
    return Finding(what, f"lacks {', '.join(missing)}" if missing else "")


def _refusal(what: str, reply: Reply, status: int, code: str) -> Finding:
    found = _is(what, reply, status)
    if found.wrong or reply.code == code:
        return found
    return Finding(what, f"has the code {reply.code!r} instead of {code!r}")


def _lower(headers: Any) -> dict[str, str]:
    return {name.lower(): value for name, value in headers.items()}


@functools.cache
def _stranger() -> Hotkey:
    """One key per run, registered nowhere."""
    public, secret = sr25519.pair_from_seed(os.urandom(32))
    return Hotkey(bytes(public), bytes(secret))


if __name__ == "__main__":
    try:
        check(sys.argv[1])
    except SmokeFailed as failure:
        sys.exit(str(failure))
