"""Commands given something that cannot be: refused with a reason, and nothing is written."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from chalicelib.experts import store
from chalicelib.kernel import chain, flows
from subnetctl import experts
from tests.experts import models
from tests.experts.conftest import MINER, World
from tests.harness import command
from tests.harness.command import Run


@pytest.fixture
def run(world: World, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Run:
    return command.here(monkeypatch, capfd)


@pytest.mark.parametrize(
    ("words", "code"),
    [(("--hotkey", "nonsense"), "bad_hotkey"), (("--hotkey", MINER.hotkey[:-1]), "bad_hotkey"),
     (("--days", "0"), "bad_field"), (("--days", "nan"), "bad_field"), (("--days", "1e300"), "bad_field")],
)  # fmt: skip
def test_a_token_for_nobody_or_for_no_time_is_not_made(
    run: Run, monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...], code: str
) -> None:
    made: list[tuple[object, ...]] = []
    monkeypatch.setattr(store, "register_token", lambda *token: made.append(token))

    status, _, said = run("experts", "token", "create", *words)

    assert status == 1
    assert f'"{code}"' in said
    assert made == []


@pytest.mark.parametrize(
    ("words", "code"),
    [(("--address", "5F\r\nX: y"), "bad_hotkey"),
     (("--address", MINER.hotkey, "--url", "http://127.0.0.1:1", "--bearer", "t\u20ac"), "bad_token")],
)  # fmt: skip
def test_what_fits_no_header_is_refused(run: Run, words: tuple[str, ...], code: str) -> None:
    status, _, said = run("experts", "download", "--group", "0", "--out", "/nowhere/out", *words)

    assert status == 1
    assert f'"{code}"' in said


def publish(run: Run, model: Path, assignment: Path, block: int = 1, *more: str) -> tuple[int, str]:
    words = ("--model", str(model), "--assignment", str(assignment), "--version", "v", "--block", str(block))
    status, _, said = run("experts", "publish", *words, *more)
    return status, said


def test_a_group_that_is_named_twice_is_no_assignment(run: Run, tmp_path: Path, tiny: models.Model) -> None:
    (tmp_path / "m.safetensors").write_bytes(tiny.raw)
    (tmp_path / "a.json").write_text('{"0": {"0": [[0, 1]]}, "0": {"0": [[0, 2]]}}')

    status, said = publish(run, tmp_path / "m.safetensors", tmp_path / "a.json")
    assert (status, store.current()) == (1, None)
    assert "twice" in said


def test_a_broken_shard_is_named(run: Run, tmp_path: Path, tiny: models.Model) -> None:
    (tmp_path / "one.safetensors").write_bytes(tiny.raw)
    (tmp_path / "two.safetensors").write_bytes(tiny.raw[:-1])
    (tmp_path / "a.json").write_text(json.dumps(models.ASSIGNMENT))

    status, said = publish(run, tmp_path, tmp_path / "a.json")
    assert (status, store.current()) == (1, None)
    assert "two.safetensors: the tensors end at" in said


@pytest.mark.parametrize(
    ("environment", "block", "served"),
    [("production", 1245, True), ("production", 1246, False), ("development", 1246, True)],
)
def test_a_block_that_the_chain_has_not_is_refused_where_the_chain_is_a_real_one(
    run: Run, world: World, tmp_path: Path, tiny: models.Model, *, environment: str, block: int, served: bool
) -> None:
    world.configure(ENVIRONMENT=environment)
    (tmp_path / "m.safetensors").write_bytes(tiny.raw)
    (tmp_path / "a.json").write_text(json.dumps(models.ASSIGNMENT))

    status, said = publish(run, tmp_path / "m.safetensors", tmp_path / "a.json", block)

    assert (status, store.current() is not None) == (0 if served else 1, served)
    assert ("above the chain's newest one, 1220" in said) == (block == 1246)


def test_who_is_no_terminal_gets_no_bar(run: Run, world: World, tmp_path: Path, tiny: models.Model) -> None:
    (tmp_path / "m.safetensors").write_bytes(tiny.raw)
    (tmp_path / "a.json").write_text(json.dumps(models.ASSIGNMENT))

    assert publish(run, tmp_path / "m.safetensors", tmp_path / "a.json") == (0, "")


def test_what_the_state_machine_would_refuse_is_told_before_it_starts(
    run: Run, served: World, tmp_path: Path, tiny: models.Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(flows, "start", lambda *_: pytest.fail("started"))
    (tmp_path / "m.safetensors").write_bytes(tiny.raw)
    (tmp_path / "a.json").write_text(json.dumps(models.ASSIGNMENT))

    status, said = publish(run, tmp_path / "m.safetensors", tmp_path / "a.json", 1000, "--in-cloud")
    assert (status, "block_not_higher" in said) == (1, True)


def test_a_chain_that_was_never_read_forbids_no_block(monkeypatch: pytest.MonkeyPatch, world: World) -> None:
    world.configure(ENVIRONMENT="production")
    monkeypatch.setattr(chain, "head", lambda: None)

    experts._check_block(10**9)
