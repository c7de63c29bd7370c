"""Miner validation: what a commitment must be, and the look-ups over HTTP with their limits and memory."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from chalicelib.kernel.chain import Commitment
from chalicelib.leoma import domain, tasks
from tests.harness.client import Client

from .world import NOW, REVISION, commitment, get, miner, model, neuron, subnet, sync

Freeze = Callable[[float], None]
Configure = Callable[..., None]
ONE = miner(1)


def judged(client: Client) -> dict[str, Any]:
    found: dict[str, Any] = get(client, f"/miners/{ONE}").json
    return found


def state(*commitments: Commitment, answers: dict[str, Any] | None) -> Any:
    held = subnet(0)
    return subnet(0, neurons=(*held.neurons, neuron(1, ONE, model=answers)), commitments=commitments)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"model_name": ""}, "missing_model_name"),
        ({"model_name": 7}, "missing_model_name"),
        ({"model_revision": " "}, "missing_model_revision"),
        ({"chute_id": None}, "missing_chute_id"),
        ({"model_name": f"\ud800/leoma-{ONE}"}, "missing_model_name"),
        ({"model_name": "", "chute_id": ""}, "missing_model_name"),
        ({"model_name": f"acme/other-{ONE}"}, "model_name_must_start_with_leoma"),
        ({"model_name": f"leoma/x-{ONE}"}, "model_name_must_start_with_leoma"),
        ({"model_name": "acme/leoma-somebody"}, "model_name_must_end_with_hotkey"),
        ({"model_name": f"acme/LEOMA-{ONE.upper()}"}, None),
        ({"model_name": f"leoma-{ONE}"}, None),
    ],
)
def test_a_commitment_names_a_model_of_its_miner(
    world: None, client: Client, changes: dict[str, Any], reason: str | None
) -> None:
    sync(state(commitment(ONE, 500, **changes), answers=model()), block=1001)
    found = judged(client)

    assert (found["is_valid"], found["invalid_reason"], found["block"]) == (reason is None, reason, 500)
    assert reason is None or found["model_name"] is None
    assert get(client, "/miners/list").json["miners"] == [found]


@pytest.mark.parametrize("data", ["not json", "[]", "null", "[" * 10_000, '"text"'])
def test_a_commitment_that_is_no_object(world: None, client: Client, data: str) -> None:
    sync(state(Commitment(hotkey=ONE, block=5, data=data), answers=model()), block=1001)

    assert judged(client)["invalid_reason"] == "missing_model_name"


def test_the_last_commitment_counts_and_a_third_is_one_too_many(world: None, client: Client) -> None:
    first, second = commitment(ONE, 10, model_name=""), commitment(ONE, 20)
    sync(state(first, second, answers=model()), block=1001)
    assert (judged(client)["is_valid"], judged(client)["block"]) == (True, 20)

    sync(state(first, second, commitment(ONE, 30), answers=model()), block=1002)
    assert (judged(client)["invalid_reason"], judged(client)["block"]) == ("max_commits_exceeded_2", 30)


@pytest.mark.parametrize(
    ("answers", "reason"),
    [
        ({}, "chute_fetch_failed"),
        (model(hot=False), "chute_not_running"),
        (model(chute_revision="other"), "revision_mismatch:chute=other"),
        ({"chute": model()["chute"]}, "hf_model_fetch_failed"),
        (model(sha="other"), "revision_mismatch:hf=other"),
        (model(), None),
    ],
)
def test_chute_and_model_are_the_committed_ones(
    world: None, client: Client, answers: dict[str, Any], reason: str | None
) -> None:
    sync(state(commitment(ONE), answers=answers), block=1001)

    assert judged(client)["invalid_reason"] == reason
    assert judged(client)["model_hash"] == (None if reason else hashlib.sha256(b"ab" * 32).hexdigest())


def test_the_model_hash_is_over_each_weight_file_once_and_sorted() -> None:
    def file(name: str, digest: str | None) -> dict[str, Any]:
        return {"rfilename": name, "lfs": {"sha256": digest} if digest else None}

    siblings = [
        file("b.bin", "bb"),
        file("a.safetensors", "aa"),
        file("c.pt", "aa"),
        file("x.txt", "cc"),
        file("d.pth", None),
    ]

    assert domain.model_hash({"siblings": siblings}) == hashlib.sha256(b"aabb").hexdigest()
    assert domain.model_hash({"siblings": [None, 7, {}]}) is None
    assert domain.model_hash({}) is None


# --- over HTTP


class Registries(ThreadingHTTPServer):
    """Chute registry and model hub in one, on loopback."""

    answers: dict[str, Any]
    seen: list[tuple[str, str | None]]


class _Answers(BaseHTTPRequestHandler):
    server: Registries

    def do_GET(self) -> None:
        self.server.seen.append((self.path, self.headers["Authorization"]))
        answer = self.server.answers.get(self.path)
        self.send_response(200 if answer is not None else 404)
        self.end_headers()
        self.wfile.write(json.dumps(answer).encode())

    def log_message(self, *_: object) -> None:
        """Quiet."""


@pytest.fixture
def registries(world: None, configure: Configure) -> Iterator[Registries]:
    server = Registries(("127.0.0.1", 0), _Answers)
    server.seen = []
    hub = f"/api/models/acme/leoma-{ONE}/revision/{REVISION}?blobs=true"
    server.answers = {"/chutes/c1": model()["chute"], hub: model()["hf"] | {"ignored": "x" * 1000}}
    threading.Thread(target=server.serve_forever, daemon=True).start()
    base = f"http://127.0.0.1:{server.server_port}"
    configure(LEOMA_CHUTES_API_URL=base, LEOMA_HF_ENDPOINT=base + "/", LEOMA_HF_TOKEN="hub", LEOMA_CHUTES_API_KEY="reg")
    yield server
    server.shutdown()
    server.server_close()


def test_a_miner_without_an_answer_on_chain_is_looked_up(registries: Registries, client: Client) -> None:
    sync(state(commitment(ONE), answers=None), block=1001)

    assert (judged(client)["is_valid"], judged(client)["chute_slug"]) == (True, "acme-i2v")
    assert [token for _, token in registries.seen] == ["Bearer reg", "Bearer hub"]


def test_look_ups_are_remembered_for_their_time(registries: Registries, client: Client, freeze: Freeze) -> None:
    looked = []
    for number, moment in enumerate((0, 299, 301, 3601)):
        freeze(NOW + moment)
        sync(state(commitment(ONE), answers=None), block=1001 + number)
        looked.append(len(registries.seen))

    assert looked == [2, 2, 3, 5], "the chute again after 300 s, the model only after 3600 s"


def test_a_failure_is_remembered_too(registries: Registries, client: Client) -> None:
    registries.answers = {}
    for number in range(3):
        sync(state(commitment(ONE), answers=None), block=1001 + number)

    assert judged(client)["invalid_reason"] == "chute_fetch_failed"
    assert len(registries.seen) == 1


@pytest.mark.parametrize("changes", [{"chute_id": "../../admin"}, {"chute_id": "a b"}, {"chute_id": "c1?x=1"}])
def test_a_name_that_leads_elsewhere_is_not_looked_up(
    registries: Registries, client: Client, changes: dict[str, Any]
) -> None:
    sync(state(commitment(ONE, **changes), answers=None), block=1001)

    assert (judged(client)["invalid_reason"], registries.seen) == ("chute_fetch_failed", [])


@pytest.mark.parametrize(
    "changes",
    [{"model_name": f"../acme/leoma-{ONE}"}, {"model_name": f"a/../leoma-{ONE}"}, {"model_revision": "../main"}],
)
def test_a_model_that_leads_elsewhere_is_not_looked_up(
    registries: Registries, client: Client, changes: dict[str, Any]
) -> None:
    registries.answers["/chutes/c1"] = {"hot": True}
    sync(state(commitment(ONE, **changes), answers=None), block=1001)

    assert judged(client)["invalid_reason"] == "hf_model_fetch_failed"
    assert [path for path, _ in registries.seen] == ["/chutes/c1"]


def test_hotkeys_may_swap_their_uids(world: None, client: Client) -> None:
    held = subnet(0)
    mining = (neuron(1, miner(2), model=model()), neuron(2, miner(1), model=model()))
    sync(subnet(2, neurons=(*held.neurons, *mining)), block=1001)

    assert [(one["uid"], one["hotkey"]) for one in get(client, "/miners/list").json["miners"]] == [
        (1, miner(2)),
        (2, miner(1)),
    ]


def test_the_jobs_of_a_sweep_and_of_a_chain_sync_run_in_an_order_that_builds_on_itself() -> None:
    names = {command: [job.name for job in tasks.jobs.jobs if command in job.on] for command in ("chain", "sweep")}

    assert names == {
        "chain": ["validators", "miners"],
        "sweep": ["validators", "miners", "folding", "scores", "ranks"],
    }
