"""The smoke test passes what is right, whatever is mounted, and notices what is wrong."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

import app
from chalicelib.kernel import keys
from infra import smoke
from infra.smoke import Api, Reply, findings
from tests.harness.client import Client

pytestmark = pytest.mark.usefixtures("cloud")
HEADERS = {"x-request-id": "1", "access-control-allow-origin": "*"}
Configure = Callable[..., None]


class Deployment(Api):
    """Answers as a good deployment does, for it is one, but for what a test changes."""

    def __init__(self, **changed: Reply) -> None:
        super().__init__("https://example.org")
        self.client = Client(app.build())
        self.changed = changed

    def ask(self, method: str, path: str, *, body: bytes | None = None, headers: dict[str, str] | None = None) -> Reply:
        if path.rpartition("/")[2] in self.changed:
            return self.changed[path.rpartition("/")[2]]
        found = self.client.call(method, path, body or b"", headers)
        return Reply(found.status, {name.lower(): value for name, value in found.headers.items()}, found.body)


def reply(status: int, body: Any, headers: dict[str, str] = HEADERS) -> Reply:
    return Reply(status, headers, json.dumps(body).encode())


def refusal(status: int, code: str) -> Reply:
    return reply(status, {"detail": "no", "code": code})


def wrong(api: Api) -> list[str]:
    return [f"{finding.what}: {finding.wrong}" for finding in findings(api) if finding.wrong]


def test_a_good_deployment_passes() -> None:
    assert wrong(Deployment()) == []


@pytest.mark.parametrize("prefix", ["/", "/deep/down"])
@pytest.mark.parametrize("name", app.ROUTERS)
def test_each_system_alone_passes_and_is_asked_for_more_than_its_pages(
    configure: Configure, name: str, prefix: str
) -> None:
    configure(MOUNTS=f"{name}={prefix}", BITRECS_MIN_CONNECTED_VALIDATORS="0")
    found = list(findings(Deployment()))
    assert [finding for finding in found if finding.wrong] == []
    assert len([finding for finding in found if finding.what.startswith((f"{name}:", "GET"))]) >= 5


@pytest.mark.parametrize("name", ["prism", "pool", "bitrecs", "leoma"])
def test_a_verifier_that_takes_any_signature_is_noticed(
    configure: Configure, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    configure(MOUNTS=f"{name}=/{name}", BITRECS_MIN_CONNECTED_VALIDATORS="0")
    monkeypatch.setattr(keys, "verify", lambda *_, **__: True)
    assert any("a signature for" in found for found in wrong(Deployment()))


@pytest.mark.parametrize("name", ["prism", "pool", "bitrecs", "leoma"])
def test_a_verifier_that_takes_none_is_noticed(
    configure: Configure, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    configure(MOUNTS=f"{name}=/{name}", BITRECS_MIN_CONNECTED_VALIDATORS="0")
    monkeypatch.setattr(keys, "verify", lambda *_, **__: False)
    assert any("signed" in found for found in wrong(Deployment()))


def test_closed_doors_are_no_fault(configure: Configure) -> None:
    configure(
        PRISM_PUBLIC_SUBMISSIONS_ENABLED="false", BITRECS_SUBMISSIONS_ENABLED="false", BITRECS_PUBLIC_READS="false"
    )
    assert wrong(Deployment()) == []


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"docs": reply(500, {})}, "answers 500"),
        ({"docs": reply(200, {}, {})}, "lacks x-request-id"),
        ({"time": reply(200, {"unix": 0})}, "s off ours"),
        ({"stats": reply(200, {})}, "answers 200 instead of 404"),
        ({"path": reply(403, {"message": "Missing Authentication Token"})}, "answers 403"),
        ({"path": refusal(404, "other")}, "has the code 'other'"),
        ({"mounts.json": reply(503, {})}, "answers 503"),
    ],
)
def test_a_bad_one_does_not(changed: dict[str, Reply], said: str) -> None:
    assert any(said in found for found in wrong(Deployment(**changed)))


def test_a_failed_check_ends_with_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(smoke, "Api", lambda _url: Deployment(path=refusal(404, "other")))
    with pytest.raises(smoke.SmokeFailed, match="1 checks failed"):
        smoke.check("https://example.org")
