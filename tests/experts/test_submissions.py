"""A submission's way to a score: rows 73 and 77 to 80."""

from __future__ import annotations

import json
import os
import random
import subprocess
from pathlib import Path
from typing import Any

import pytest

from chalicelib.experts import store, tasks_evaluation, tasks_fetching, tasks_rounds
from chalicelib.experts.checkpoints import Unacceptable
from chalicelib.experts.tasks_composing import Source
from chalicelib.experts.tasks_fetching import HostUnavailable
from chalicelib.kernel import chain, flows
from tests.experts import models
from tests.experts.conftest import MINER, SECOND, START, World
from tests.experts.flows import walk
from tests.experts.submissions import Files, Killed, closed, evaluated, hand_in, status
from tests.harness.budget import counted

PYTHON = Path(tasks_evaluation.interpreter("torch"))


def test_a_better_checkpoint_scores_and_an_equal_or_worse_one_does_not(
    served: World, tiny: models.Model, files: Files
) -> None:
    files |= {"better.safetensors": models.scaled(tiny, "0", 0.5), "same.safetensors": models.scaled(tiny, "0", 1.0),
              "worse.safetensors": models.scaled(tiny, "0", 1.5)}  # fmt: skip
    found = [
        evaluated(served, f"{name}.safetensors", block=START + 20 - number)
        for number, name in enumerate(("worse", "same", "better"))
    ]

    assert [entry["state"] for entry in found] == ["scored"] * 3
    assert (found[2]["score"] or 0) > 0
    assert [found[0]["score"], found[1]["score"]] == [0.0, 0.0]


def test_equal_checkpoints_score_equal_to_the_last_bit(served: World, tiny: models.Model, files: Files) -> None:
    files["a.safetensors"] = files["b.safetensors"] = models.scaled(tiny, "0", 0.5)

    assert evaluated(served, "a.safetensors")["score"] == evaluated(served, "b.safetensors", SECOND)["score"]


def broken(tiny: models.Model, change: str) -> bytes:
    parts = models.parts_of(models.scaled(tiny, "0", 0.9))
    name = min(parts)
    dtype, shape, raw = parts[name]
    if change == "router":
        parts["model.layers.0.mlp.gate.weight"] = tiny.parts["model.layers.0.mlp.gate.weight"]
    elif change == "other group":
        other = min(tiny.names("1"))
        parts[other] = tiny.parts[other]
    elif change == "missing":
        del parts[name]
    elif change == "shape":
        parts[name] = (dtype, tuple(reversed(shape)), raw)
    elif change == "dtype":
        parts[name] = ("I32", shape, raw)
    elif change == "nan":
        parts[name] = (dtype, shape, b"\x00\x00\xc0\x7f" + raw[4:])
    elif change == "inf":
        parts[name] = (dtype, shape, raw[:-4] + b"\x00\x00\x80\xff")
    elif change == "far":
        parts[name] = (dtype, shape, models.pack([x * 3 for x in models.unpack(raw, dtype)], dtype))
    elif change == "empty":
        parts = {}
    return models.file_of(parts)


@pytest.mark.parametrize(
    ("change", "code"),
    [("router", "unexpected_tensor"), ("other group", "unexpected_tensor"), ("missing", "missing_tensor"),
     ("shape", "wrong_shape"), ("dtype", "wrong_dtype"), ("nan", "nonfinite"), ("inf", "nonfinite"),
     ("far", "too_far"), ("empty", "empty_checkpoint")],
)  # fmt: skip
def test_a_checkpoint_that_breaks_a_rule_is_rejected_with_the_reason(
    served: World, tiny: models.Model, files: Files, change: str, code: str
) -> None:
    files["x.safetensors"] = broken(tiny, change)

    found = evaluated(served, "x.safetensors")

    assert (found["state"], found["code"], found["score"]) == ("rejected", code, None)
    assert found["reason"]


def test_garbage_is_rejected(served: World, files: Files) -> None:
    for number, (raw, reason) in enumerate(((b"", "shorter"), (b"\x00" * 50, "begins"), (os.urandom(5000), ""))):
        files["x.safetensors"] = raw
        found = evaluated(served, "x.safetensors", block=START + 18 + number)
        assert found["code"] == "bad_checkpoint"
        assert reason in found["reason"]


def test_no_bytes_are_read_without_asking(world: World) -> None:
    with counted() as spent:
        assert Source("experts-quarantine", "x/raw", '"etag"', 0).read(0, 0) == b""
    assert spent.calls == {}


@pytest.mark.parametrize("dtype", ["BF16", "F16", "F32"])
def test_a_checkpoint_may_come_in_another_float(served: World, tiny: models.Model, files: Files, dtype: str) -> None:
    parts = {
        name: (dtype, shape, models.pack([x * 0.5 for x in models.unpack(raw, own)], dtype))
        for name, (own, shape, raw) in models.parts_of(models.scaled(tiny, "0", 1)).items()
    }
    files["x.safetensors"] = models.file_of(parts)

    assert evaluated(served, "x.safetensors")["state"] == "scored"


def test_a_forbidden_address_is_told_to_the_miner(served: World, monkeypatch: pytest.MonkeyPatch) -> None:
    network = tasks_fetching.Network(lambda _host, _port: ["169.254.169.254"], lambda *_: pytest.fail("connected"))
    monkeypatch.setattr(tasks_fetching, "Network", lambda: network)

    found = evaluated(served, "x.safetensors")

    assert (found["state"], found["code"]) == ("rejected", "ssrf_blocked")


@pytest.mark.parametrize(
    ("error", "state", "code"),
    [(HostUnavailable("later"), "failed", "host_unavailable"), (RuntimeError("ours"), "failed", "operational")],
)
def test_what_is_not_the_miner_s_fault_is_a_failure(
    served: World, monkeypatch: pytest.MonkeyPatch, error: Exception, state: str, code: str
) -> None:
    def fetch(*_: Any) -> dict[str, Any]:
        raise error

    monkeypatch.setattr(tasks_fetching, "fetch", fetch)
    found = evaluated(served, "x.safetensors")

    assert (found["state"], found["code"]) == (state, code)
    assert "ours" not in found["reason"]


def test_a_newer_submission_takes_the_older_one_s_place(served: World, tiny: models.Model, files: Files) -> None:
    files["x.safetensors"] = models.scaled(tiny, "0", 0.5)
    older, newer = (hand_in(served, "x.safetensors", block=START + block) for block in (19, 20))
    for submission_id in (older, newer):
        walk("experts-submission", {"submission_id": submission_id})

    found = [served.get(f"/submission/{submission_id}").json for submission_id in (older, newer)]
    assert [(entry["state"], entry["code"]) for entry in found] == [("rejected", "superseded"), ("scored", None)]


def test_a_checkpoint_of_a_retired_version_is_told_so(served: World, files: Files) -> None:
    submission_id = hand_in(served, "x.safetensors")
    store.table.delete("VERSIONS", (store.current() or {})["version_id"])
    walk("experts-submission", {"submission_id": submission_id})

    found = served.get(f"/submission/{submission_id}").json
    assert (found["state"], found["code"]) == ("rejected", "version_retired")


def test_a_flow_that_runs_again_changes_nothing(served: World, tiny: models.Model, files: Files) -> None:
    files["x.safetensors"] = models.scaled(tiny, "0", 0.5)
    first = evaluated(served, "x.safetensors")
    files.clear()

    assert walk("experts-submission", {"submission_id": first["submission_id"]}) == ["Begin", "Where", "Done"]
    assert status(served, first) == first


@pytest.mark.parametrize("stop", ["experts-validate", "experts-evaluate"])
def test_a_flow_that_was_killed_goes_on_without_fetching_again(
    served: World, tiny: models.Model, files: Files, monkeypatch: pytest.MonkeyPatch, stop: str
) -> None:
    files["x.safetensors"] = models.scaled(tiny, "0", 0.5)
    submission_id = hand_in(served, "x.safetensors")

    def killed(*_: Any) -> None:
        raise Killed

    name = "validate" if stop == "experts-validate" else "compare"
    original = getattr(tasks_evaluation, name)
    monkeypatch.setattr(tasks_evaluation, name, killed)
    with pytest.raises(Killed):
        walk("experts-submission", {"submission_id": submission_id})
    monkeypatch.setattr(tasks_evaluation, name, original)
    files.clear()
    passed = walk("experts-submission", {"submission_id": submission_id})

    assert "Fetch" not in passed
    assert store.submission(submission_id)["state"] == "scored"


def test_a_model_that_nobody_here_can_measure_fails_openly(served: World, tiny: models.Model, files: Files) -> None:
    served.configure(EXPERTS_EVALUATOR="proxy")
    files["x.safetensors"] = models.scaled(tiny, "0", 0.5)

    found = evaluated(served, "x.safetensors")

    assert (found["state"], found["code"]) == ("failed", "no_evaluator")


def test_without_a_container_gpu_fails_openly(
    served: World, tiny: models.Model, files: Files, monkeypatch: pytest.MonkeyPatch
) -> None:
    served.configure(EXPERTS_EVALUATOR="gpu")
    files["x.safetensors"] = models.scaled(tiny, "0", 0.5)

    def missing(task: str, _payload: Any) -> Any:
        raise flows.TaskFailed(task, flows.NO_SUCH_TASK, "")

    monkeypatch.setattr(flows, "invoke", missing)
    assert evaluated(served, "x.safetensors")["code"] == "no_evaluator"

    told = {"val_loss": 1.0, "finite_batches": 9, "batches": 10}
    answer = {"candidate": told, "baseline": told | {"val_loss": 2.0}}
    monkeypatch.setattr(flows, "invoke", lambda _task, _payload: answer)
    assert evaluated(served, "x.safetensors", SECOND)["score"] == 1.0


@pytest.mark.parametrize(
    ("told", "code"),
    [({"val_loss": -1.0}, "negative_loss"), ({"finite_batches": 8}, "nonfinite_loss")],
)
def test_losses_that_cannot_be_are_rejected(told: dict[str, Any], code: str, cloud: None) -> None:
    losses = tasks_evaluation.Losses(**{"val_loss": 1.0, "finite_batches": 10, "batches": 10} | told)

    with pytest.raises(Unacceptable, match=code):
        tasks_evaluation.judged(losses, tasks_evaluation.Losses(2.0, 10, 10))


def torch_file(tmp_path: Path, program: str) -> bytes:
    """What the evaluator's torch saves."""
    target = tmp_path / "made.pt"
    done = subprocess.run([PYTHON, "-c", program, str(target)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return target.read_bytes()


def test_a_file_that_torch_saved_is_read_evaluated_and_merged(
    served: World, tiny: models.Model, files: Files, tmp_path: Path
) -> None:
    described = {name: [tiny.parts[name][1], models.unpack(tiny.parts[name][2], "F32")] for name in tiny.names("0")}
    (tmp_path / "parts.json").write_text(json.dumps(described))
    files["x.pt"] = torch_file(tmp_path, (
        "import sys, json, torch, collections\n"
        f"parts = json.load(open({str(tmp_path / 'parts.json')!r}))\n"
        "state = collections.OrderedDict((n, torch.tensor(v).reshape(s) * 0.5) for n, (s, v) in parts.items())\n"
        "state._metadata = collections.OrderedDict(a={'version': 1})\n"
        "torch.save({'model_state_dict': state, 'step': 5, 'loss': 0.25}, sys.argv[1])\n"
    ))  # fmt: skip

    found = evaluated(served, "x.pt")

    assert (found["state"], found["code"]) == ("scored", None)
    assert closed(served) == ["step_2"]


def proxy_model() -> models.Model:
    source = random.Random(3)
    found: dict[str, tuple[int, ...]] = {"model.embed_tokens.weight": (256, 64), "model.norm.weight": (64,)}
    for layer in range(2):
        at = f"model.layers.{layer}"
        found |= {f"{at}.{norm}_layernorm.weight": (64,) for norm in ("input", "post_attention")}
        found |= {f"{at}.self_attn.{letter}_proj.weight": (64, 64) for letter in "qkvo"}
        found[f"{at}.mlp.gate.weight"] = (4, 64)
        for expert in range(4):
            found |= {f"{at}.mlp.experts.{expert}.{half}_proj.weight": (128, 64) for half in ("gate", "up")}
            found[f"{at}.mlp.experts.{expert}.down_proj.weight"] = (64, 128)
    parts = {}
    for name, shape in sorted(found.items()):
        count = shape[0] * (shape[1] if len(shape) > 1 else 1)
        values = [source.gauss(0, 0.08) for _ in range(count)] if len(shape) > 1 else [1.0] * count
        parts[name] = ("F32", shape, models.pack(values, "F32"))
    return models.Model(models.file_of(parts), parts)


def test_the_proxy_measures_its_own_geometry(world: World, files: Files) -> None:
    world.configure(EXPERTS_EVALUATOR="proxy", EXPERTS_EVAL_MAX_BATCHES="2")
    source = proxy_model()
    world.publish(source)
    files |= {"a.safetensors": models.scaled(source, "0", 0.0), "b.safetensors": models.scaled(source, "0", 1.0)}

    silenced, same = (evaluated(world, f"{name}.safetensors", signer) for name, signer in (("a", MINER), ("b", SECOND)))

    assert [silenced["state"], same["state"], same["score"]] == ["scored", "scored", 0.0]
    stored = store.submission(silenced["submission_id"])
    assert 1.0 < stored["baseline"] < 20.0
    assert stored["val_loss"] != stored["baseline"]


def test_every_submission_of_a_round_is_measured_on_the_same_batches(world: World) -> None:
    first = tasks_rounds._seed(7)

    assert tasks_rounds._seed(7) == first
    assert tasks_rounds._seed(8) != first
    assert chain.head() is not None


def test_a_reason_holds_nothing_that_a_terminal_would_obey(served: World) -> None:
    found = hand_in(served, "one.safetensors")
    cause = {"errorMessage": "unexpected_tensor: first \ud800\x1b[2J\u202e" + "x" * 1000, "errorType": "Unacceptable"}
    tasks_rounds.refuse(found, "Unacceptable", json.dumps(cause))

    told = served.get(f"/submission/{found}").json
    assert told["code"] == "unexpected_tensor"
    assert told["reason"].startswith("first \ufffd\ufffd[2J\ufffdxxx")
    assert len(told["reason"]) < 500
