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
    listed = api.ask("GET", "/mounts.json")
    yield _is("GET /mounts.json", listed, 200)
    yield _clock(api)
    mounts = listed.json["mounts"] if listed.status == HTTPStatus.OK else []
    for mount in mounts:
        prefix = mount["path"].rstrip("/")
        yield _is(f"GET {prefix}/openapi.json", api.ask("GET", f"{prefix}/openapi.json"), 200)
        yield _is(f"GET {prefix}/docs", api.ask("GET", f"{prefix}/docs"), 200)
        yield from _OF_SYSTEM[mount["name"]](api, prefix)
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


def _leoma(api: Api, prefix: str) -> Iterator[Finding]:
    """A stranger's good signature is told apart from a bad one: the verifier, the clock and the table all work."""
    yield from _public(api, prefix, "/health", "/blacklist")
    body = json.dumps({"hotkey": _stranger().address}).encode()
    ask = functools.partial(api.ask, "POST", f"{prefix}/blacklist", headers=signing.leoma(_stranger(), body) | _JSON)
    yield _refusal("leoma: a stranger's signed request", ask(body=body), 401, "validator_not_registered")
    yield _refusal("leoma: a signature for other bytes", ask(body=body + b" "), 401, "signature_invalid")


def _prism(api: Api, prefix: str) -> Iterator[Finding]:
    """A signed submission of nothing leaves a used nonce behind, and no submission."""
    yield from _public(api, prefix, "/health", "/v1/leaderboard")
    ask = functools.partial(api.ask, "POST", f"{prefix}/v1/submissions")
    empty = ask(body=b"{}", headers=signing.prism(_stranger(), b"{}") | _JSON)
    if empty.code == "submissions_disabled":
        yield _refusal("prism: a closed door", empty, 404, "submissions_disabled")
        return
    yield _refusal("prism: a signed submission of nothing", empty, 422, "invalid_request")
    other = ask(body=b"{ }", headers=signing.prism(_stranger(), b"{}") | _JSON)
    yield _refusal("prism: a signature for other bytes", other, 401, "invalid_signature")


def _pool(api: Api, prefix: str) -> Iterator[Finding]:
    yield from _public(api, prefix, "/health", "/api/v1/miners/leaderboard")
    ask = functools.partial(api.ask, "GET", f"{prefix}/api/v1/miners/stats")
    signed = signing.pool(_stranger())
    yield _refusal("pool: a stranger's signed request", ask(headers=signed), 404, "miner_not_found")
    later = signed | {"X-Timestamp": str(int(signed["X-Timestamp"]) + 1)}
    yield _refusal("pool: a signature for another second", ask(headers=later), 401, "signature_invalid")


def _experts(api: Api, prefix: str) -> Iterator[Finding]:
    yield from _public(api, prefix, "/health")
    made_up = {"Authorization": f"Bearer {_stranger().address}"}
    reply = api.ask("GET", f"{prefix}/overview", headers=made_up)
    yield _refusal("experts: a made-up token", reply, 401, "unauthorized")


def _bitrecs(api: Api, prefix: str) -> Iterator[Finding]:
    """A stranger checks a gist that is none: refused for what it is, unless the door is closed to all."""
    yield from _public(api, prefix, "/health")
    made_up = {"X-API-Key": _stranger().address}
    reply = api.ask("GET", f"{prefix}/agent/temp-key", headers=made_up)
    yield _refusal("bitrecs: a made-up key", reply, 401, "api_key_invalid")
    stamp = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    payload = signing.bitrecs_payload(_stranger(), stamp, "nobody", "0" * 32)
    ask = functools.partial(api.ask, "POST", f"{prefix}/check", headers=_JSON)
    other = ask(body=json.dumps(payload | {"gist_id": "1" * 32}).encode())
    if other.code in _CLOSED:
        yield _refusal("bitrecs: a closed door", other, other.status, other.code)
        return
    yield _refusal("bitrecs: a signature for another gist", other, 400, "submission_signature_invalid")
    signed = ask(body=json.dumps(payload).encode())
    expected = (503, _NO_CHAIN_YET) if signed.code == _NO_CHAIN_YET else (400, "hotkey_not_registered")
    yield _refusal("bitrecs: a stranger's signed check", signed, *expected)


def _claims(api: Api, prefix: str) -> Iterator[Finding]:
    yield from _public(api, prefix, "/health", "/epochs")


def _public(api: Api, prefix: str, *paths: str) -> Iterator[Finding]:
    for path in paths:
        yield _is(f"GET {prefix}{path}", api.ask("GET", f"{prefix}{path}"), 200)


_JSON = {"Content-Type": "application/json"}
_NO_CHAIN_YET = "chain_unavailable"
_CLOSED = {"uploads_disallowed", "submissions_disabled", "too_few_validators", "too_many_agents", "rate_limited"}
_OF_SYSTEM: dict[str, Callable[[Api, str], Iterator[Finding]]] = {
    "prism": _prism,
    "pool": _pool,
    "experts": _experts,
    "bitrecs": _bitrecs,
    "leoma": _leoma,
    "claims": _claims,
}


if __name__ == "__main__":
    try:
        check(sys.argv[1])
    except SmokeFailed as failure:
        sys.exit(str(failure))
