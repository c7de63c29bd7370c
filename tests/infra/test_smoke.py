"""The smoke test notices what is wrong."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest

from infra import smoke
from infra.smoke import Api, Reply, findings

HEADERS = {"x-request-id": "1", "access-control-allow-origin": "*"}


class Deployment(Api):
    """Answers as a good deployment does, but for what a test changes."""

    def __init__(self, **changed: Reply) -> None:
        super().__init__("https://example.org")
        self.changed = changed

    def ask(self, method: str, path: str, **_: Any) -> Reply:
        good = {
            "/": reply(200, {"mounts": [{"name": "pool", "path": "/pool"}]}),
            "/time": reply(200, {"unix": int(time.time())}) if method == "GET" else refusal(405, "method_not_allowed"),
            "/no/such/path": refusal(404, "route_not_found"),
        }
        return self.changed.get(path.rpartition("/")[2] or "index", good.get(path, reply(200, {})))


def reply(status: int, body: Any, headers: dict[str, str] = HEADERS) -> Reply:
    return Reply(status, headers, json.dumps(body).encode())


def refusal(status: int, code: str) -> Reply:
    return reply(status, {"detail": "no", "code": code})


def wrong(api: Api) -> list[str]:
    return [f"{finding.what}: {finding.wrong}" for finding in findings(api) if finding.wrong]


def test_a_good_deployment_passes() -> None:
    assert wrong(Deployment()) == []


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"docs": reply(500, {})}, "answers 500"),
        ({"docs": reply(200, {}, {})}, "lacks x-request-id"),
        ({"time": reply(200, {"unix": 0})}, "s off ours"),
        ({"path": reply(403, {"message": "Missing Authentication Token"})}, "answers 403"),
        ({"path": refusal(404, "other")}, "has the code 'other'"),
        ({"index": reply(503, {})}, "answers 503"),
    ],
)
def test_a_bad_one_does_not(changed: dict[str, Reply], said: str) -> None:
    assert any(said in found for found in wrong(Deployment(**changed)))


def test_a_failed_check_ends_with_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(smoke, "Api", lambda _url: Deployment(docs=reply(500, {})))
    with pytest.raises(smoke.SmokeFailed, match="1 checks failed"):
        smoke.check("https://example.org")
