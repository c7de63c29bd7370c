"""`subnetctl prism`, as miners and operators call it; what needs a server is in `test_laptop`."""

from __future__ import annotations

import functools
import json
from pathlib import Path
from typing import Any

import pytest

from tests.harness import command
from tests.harness.command import Run
from tests.prism.world import Prism, model, packed, recipe, two_parts

WALLET = ("--wallet-path", "local/wallets", "--wallet-name", "dev", "--hotkey", "alice")


@pytest.fixture
def run(cloud: None, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Run:
    return functools.partial(command.here(monkeypatch, capfd), "prism")


def code(words: str) -> Any:
    return json.loads(words.splitlines()[-1])["code"]


@pytest.mark.parametrize(
    ("name", "content", "refusal"),
    [
        ("model.py", b"import os\n", "would_be_rejected"),
        ("model.py", b"\xff\xfe", "not_utf8"),
        ("model.py", b"x" * 200_001, "too_large"),
        ("project.zip", b"no zip", "would_be_rejected"),
        ("project.zip", packed({"a.so": b"x"}), "would_be_rejected"),
    ],
)
def test_what_review_would_refuse_is_not_even_uploaded(
    run: Run, tmp_path: Path, name: str, content: bytes, refusal: str
) -> None:
    (tmp_path / name).write_bytes(content)
    nobody = ("--url", "http://127.0.0.1:1")
    status, found, words = run("submit", str(tmp_path / name), *WALLET, *nobody)
    assert (status, found, code(words)) == (1, None, refusal)


def held(prism: Prism, seed: int) -> str:
    """A submission that waits for an operator."""
    submission_id = prism.submitted(two_parts(model(seed), recipe(seed), family="nobody"))
    lease = prism.next("holder")
    assert lease["submission_id"] == submission_id
    assert prism.result(lease["id"], q_arch=0.9, q_recipe=0.9).status == 200
    assert prism.status(submission_id)["status"] == "held"
    return submission_id


def test_an_operator_lists_and_resolves_holds(prism: Prism, run: Run) -> None:
    prism.processed(two_parts(model(100), recipe(100)))
    first, second = held(prism, 101), held(prism, 102)
    waiting = {hold["submission_id"]: hold["id"] for hold in run("holds")[1]}
    assert set(waiting) == {first, second}

    def resolve(submission_id: str, *words: str) -> tuple[int, Any, str]:
        return run("resolve", waiting[submission_id], "--architecture", *words)

    assert code(resolve(first, "hold")[2]) == "unknown_action"
    assert code(resolve(first, "reject", "--reason", "x" * 2001)[2]) == "reason_too_long"
    status, found, words = run("holds", "--status", "all")
    assert (status, found, code(words)) == (1, None, "unknown_status")
    assert code(resolve(first, "existing", "--architecture-id", "nobody")[2]) == "architecture_not_found"
    status, outcome, _ = resolve(first, "new", "--training", "new")
    assert (status, outcome["accepted_architecture"], outcome["accepted_training"]) == (0, True, True)
    assert resolve(second, "reject", "--reason", "bad")[:2] == (0, {"rejected": True, "held": False})
    assert (prism.status(first)["status"], prism.status(second)["error"]) == ("completed", "bad")
    assert run("holds")[1] == []
    assert [hold["status"] for hold in run("holds", "--status", "")[1]] == ["rejected", "resolved"]
    assert resolve(first, "new")[0] == 1


def test_an_operator_takes_a_lost_submission_back(prism: Prism, run: Run) -> None:
    submission_id = prism.submitted()
    assert code(run("requeue", submission_id)[2]) == "not_exhausted"
    for validator in "abc":
        prism.assignment(prism.next(validator)["id"], "reject", {})
    assert prism.status(submission_id)["status"] == "failed"
    assert run("requeue", submission_id)[:2] == (0, {"id": submission_id, "status": "pending"})
    assert prism.next("d")["submission_id"] == submission_id
