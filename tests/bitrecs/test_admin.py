"""The operator's routes: open to the account's own credentials, shut to everybody else."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from chalicelib.bitrecs import store
from tests.bitrecs.world import KEY, World, told
from tests.harness.client import Reply
from tests.harness.wallets import wallet

HOST = "127.0.0.1"
ALICE = wallet("alice").hotkey
Put = Callable[..., Reply]


def signed(path: str, body: bytes, *, access: str = "test", secret: str = "test", service: str = "execute-api") -> Any:
    request = AWSRequest("PUT", f"http://{HOST}{path}", data=body, headers={"Host": HOST})
    SigV4Auth(Credentials(access, secret), service, "us-east-1").add_auth(request)
    return dict(request.headers.items())


@pytest.fixture
def put(world: World) -> Put:
    def put_now(path: str, body: dict[str, Any], **signer: str) -> Reply:
        raw = json.dumps(body).encode()
        return world.client.call("PUT", f"/bitrecs{path}", raw, signed(f"/bitrecs{path}", raw, **signer))

    return put_now


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/admin/system-enabled", {"enabled": False}),
        ("/admin/bans", {"hotkey": ALICE, "reason": "spam"}),
        ("/admin/validators", {"hotkey": ALICE, "name": "alice"}),
        ("/admin/sets", {"set_id": 2}),
        ("/admin/api-keys", {"label": "mine"}),
    ],
)
def test_nobody_else_gets_in(world: World, put: Put, path: str, body: dict[str, Any]) -> None:
    raw = json.dumps(body).encode()
    good = signed(f"/bitrecs{path}", raw)
    strangers: list[Any] = [
        {},
        {"X-API-Key": KEY},
        {"Authorization": good["Authorization"]},
        good | {"X-Amz-Date": "20200101T000000Z"},
        good | {"Authorization": good["Authorization"][:-1] + "x"},
        good | {"Authorization": good["Authorization"].replace("host;", "")},
        signed(f"/bitrecs{path}", b"{}"),
        signed("/bitrecs/admin/other", raw),
        signed(f"/bitrecs{path}", raw, secret="guess"),
        signed(f"/bitrecs{path}", raw, access="other"),
        signed(f"/bitrecs{path}", raw, service="s3"),
    ]
    for headers in strangers:
        reply = world.client.call("PUT", f"/bitrecs{path}", raw, headers)
        assert told(reply) == (403, "Only the operator's AWS credentials open this"), headers

    assert put(path, body).status == 200


def test_the_switch_and_the_lists(world: World, put: Put) -> None:
    assert put("/admin/system-enabled", {"enabled": False}).json == {"submissions_enabled": False}
    assert world.miner("a").submit().status == 503
    assert put("/admin/system-enabled", {"enabled": "yes"}).status == 422
    put("/admin/system-enabled", {"enabled": True})

    for _ in range(2):
        assert put("/admin/bans", {"hotkey": ALICE, "reason": "spam"}).json["banned"] is True
    assert [(one["sk"], one["by"]) for one in store.bans()] == [(ALICE, "arn:aws:iam::000000000000:root")]
    assert put("/admin/bans", {"hotkey": ALICE, "banned": False}).status == 200
    assert store.bans() == []
    assert put("/admin/bans", {"hotkey": "5nonsense"}).status == 400

    assert put("/admin/validators", {"hotkey": ALICE, "name": "alice"}).json["listed"] is True
    assert store.validator(ALICE)
    put("/admin/validators", {"hotkey": ALICE, "listed": False})
    assert store.validator(ALICE) is None


def test_a_set_opens_once_however_often_it_is_asked_for(put: Put) -> None:
    assert [put("/admin/sets", {"set_id": 2}).json["set_id"] for _ in range(2)] == [2, 2]
    assert put("/admin/sets", {"set_id": 4}).status == 409
    assert put("/admin/sets", {"set_id": 1}).status == 409


def test_keys_are_made_and_revoked(put: Put) -> None:
    made = put("/admin/api-keys", {"label": "mine"}).json
    assert store.api_key_works(made["key"])

    assert put("/admin/api-keys", {"revoke": made["id"]}).json == {"revoked": made["id"]}
    assert not store.api_key_works(made["key"])
    assert put("/admin/api-keys", {"revoke": "nonesuch"}).status == 404
