"""The full model for validators: rows 36 to 46 of the conformance table, and 86."""

from __future__ import annotations

import base64
from collections.abc import Callable
from typing import Any

import pytest

from chalicelib.experts import slices, store
from chalicelib.kernel import keys, tokens
from chalicelib.kernel.chain import Neuron
from tests.experts import models
from tests.experts.conftest import MINER, NOW, START, VALIDATOR, World
from tests.harness.budget import counted
from tests.harness.client import Reply

HOST = "api.example.com"


def registered(hotkey: str | None, *, expires_at: float | None = None) -> str:
    value = f"token-{hotkey}"
    store.register_token(tokens.digest(value), hotkey, expires_at)
    return f"Bearer {value}"


def code(reply: Reply) -> tuple[int, str]:
    return reply.status, reply.json["code"]


def signed(
    timestamp: int = int(NOW), *, signer: Any = VALIDATOR, host: str = HOST, path: str = "/model/full"
) -> dict[str, str]:
    message = f"GET\n{path}\n{timestamp}\n{host}".encode()
    signature = base64.urlsafe_b64encode(signer.sign(message)).decode()
    return {"X_Hotkey": signer.hotkey, "X_Timestamp": str(timestamp), "X_Signature": signature, "Host": HOST}


def test_the_full_model_is_for_validators_who_prove_it(served: World) -> None:
    assert served.client.get("/experts/model/full").status == 401
    assert code(served.get("/model/full")) == (403, "hotkey_required")
    assert code(served.get("/model/full", X_Hotkey=VALIDATOR.hotkey)) == (403, "hotkey_required")
    assert served.get("/model/full", **signed()).status == 307


def test_a_signature_for_the_full_model_counts_once(served: World) -> None:
    headers = signed()

    assert served.get("/model/full", **headers).status == 307
    assert code(served.get("/model/full", **headers)) == (403, "hotkey_signature_invalid")
    assert served.get("/model/full", **signed(int(NOW) - 1)).status == 307


@pytest.mark.parametrize(
    "headers",
    [
        signed(int(NOW) - 61),
        signed(int(NOW) + 61),
        signed(host="elsewhere.example.com"),
        signed(path="/experts/model/full"),
        signed() | {"X_Hotkey": MINER.hotkey},
        signed() | {"X_Signature": "x" * 86},
        signed() | {"X_Timestamp": "now"},
    ],
)
def test_a_wrong_signature_is_refused(served: World, headers: dict[str, str]) -> None:
    assert code(served.get("/model/full", **headers)) == (403, "hotkey_signature_invalid")


@pytest.mark.parametrize("host", [HOST, f"{HOST}:8443"])
def test_the_host_counts_with_and_without_its_port(served: World, host: str) -> None:
    headers = signed(host=host) | {"Host": f"{HOST}:8443"}

    assert served.get("/model/full", **headers).status == 307


def test_a_bound_token_is_an_identity(served: World) -> None:
    assert served.get("/model/full", Authorization=registered(VALIDATOR.hotkey)).status == 307
    miner = served.get("/model/full", Authorization=registered(MINER.hotkey))
    assert code(miner) == (403, "not_a_validator")


def test_an_unsigned_hotkey_counts_only_where_the_operator_says_so(served: World) -> None:
    served.configure(EXPERTS_FULL_ALLOW_UNSIGNED_HOTKEY="true")

    assert served.get("/model/full", X_Hotkey=VALIDATOR.hotkey).status == 307
    assert code(served.get("/model/full", X_Hotkey=MINER.hotkey)) == (403, "not_a_validator")


def test_a_validator_has_a_permit_or_stands_on_the_whitelist(served: World) -> None:
    token = registered(VALIDATOR.hotkey)
    served.configure(EXPERTS_VALIDATOR_WHITELIST=MINER.hotkey)

    assert code(served.get("/model/full", Authorization=token)) == (403, "not_a_validator")
    assert served.get("/model/full", Authorization=registered(MINER.hotkey)).status == 307
    stranger = keys.address(bytes(range(32)))
    served.configure(EXPERTS_VALIDATOR_WHITELIST=stranger)
    assert code(served.get("/model/full", Authorization=registered(stranger))) == (403, "not_a_validator")


def test_old_weights_bar_a_validator_where_the_operator_says_so(served: World) -> None:
    token = registered(VALIDATOR.hotkey)
    served.configure(EXPERTS_VALIDATOR_MAX_WEIGHT_AGE="100")
    assert code(served.get("/model/full", Authorization=token)) == (403, "not_a_validator")

    served.neurons[0] = Neuron(uid=0, hotkey=VALIDATOR.hotkey, validator_permit=True, last_update=START)
    served.at(START + 21)
    assert served.get("/model/full", Authorization=token).status == 307


def test_a_stale_metagraph_accuses_nobody(served: World, freeze: Callable[[float], None]) -> None:
    freeze(NOW + 3601)

    assert code(served.get("/model/full", Authorization=registered(VALIDATOR.hotkey))) == (503, "metagraph_stale")


def test_a_validator_is_told_that_there_is_no_model(world: World) -> None:
    assert code(world.get("/model/full", Authorization=registered(VALIDATOR.hotkey))) == (503, "model_not_loaded")


def test_the_full_model_is_one_file_with_every_tensor(served: World, tiny: models.Model) -> None:
    token = registered(VALIDATOR.hotkey)
    reply = served.get("/model/full", Authorization=token)
    raw = store.models().get((store.current() or {})["full"]["key"]) or b""

    assert models.parts_of(raw) == tiny.parts
    crc = base64.b64encode(slices.crc64nvme(raw).to_bytes(8, "big")).decode()
    assert (reply.header("X-Full-CRC64NVME"), reply.header("X-Model-Version")) == (crc, "step_1")


def test_the_blocks_of_the_full_model_are_listed_with_hashes(served: World, tiny: models.Model) -> None:
    reply = served.get("/model/full", Authorization=registered(VALIDATOR.hotkey), Accept="application/json")

    manifest = store.current() or {}
    assert {block["name"] for block in reply.json["blocks"]} == {"shared", "group_0", "group_1", "rest"}
    names: list[str] = []
    for block in reply.json["blocks"]:
        raw = store.models().get(manifest["blocks"][block["name"]]["key"]) or b""
        assert (block["bytes"], block["content_hash"]) == (len(raw), models.digest(raw))
        names += models.parts_of(raw)
    assert sorted(names) == sorted(tiny.parts)


def test_what_the_full_model_costs(served: World) -> None:
    token = registered(VALIDATOR.hotkey)
    served.get("/model/full", Authorization=token)
    for accept in ("*/*", "application/json"):
        with counted() as spent:
            served.get("/model/full", Authorization=token, Accept=accept)
        assert spent.calls == {"dynamodb:GetItem": 1, "dynamodb:BatchGetItem": 1}
        assert spent.write_units == 0
    with counted() as spent:
        served.get("/model/full", **signed())
    assert spent.calls == {"dynamodb:PutItem": 1, "dynamodb:BatchGetItem": 1}


def test_a_deleted_full_model_is_no_redirect_to_nothing(served: World) -> None:
    store.models().delete((store.current() or {})["full"]["key"])

    assert code(served.get("/model/full", Authorization=registered(VALIDATOR.hotkey))) == (503, "model_not_loaded")


def test_head_of_the_full_model_is_signed_for_head(served: World) -> None:
    token = registered(VALIDATOR.hotkey)
    reply = served.call("HEAD", "/model/full", Authorization=token)

    assert reply.status == 307
    assert reply.header("Location") != served.get("/model/full", Authorization=token).header("Location")


def test_wrong_methods_are_405_with_allow(served: World) -> None:
    for method, path, allow in (
        ("PUT", "/submit", "POST"),
        ("POST", "/health", "GET"),
        ("POST", "/model/full", "GET, HEAD"),
    ):
        reply = served.call(method, path)
        assert (code(reply), reply.header("Allow")) == ((405, "method_not_allowed"), allow)
