"""A round's way to a new version: rows 81 to 84, and a kill at every step."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from chalicelib.experts import store, store_merges, tasks_evaluation, tasks_merging, tasks_publishing, tasks_rounds
from chalicelib.kernel import flows
from tests.experts import models
from tests.experts.conftest import MINER, NOW, SECOND, START, VALIDATOR, World
from tests.experts.submissions import Files, Killed, closed, evaluated, hand_in, status


def test_copies_get_nothing(served: World, tiny: models.Model, files: Files) -> None:
    files["x.safetensors"] = models.scaled(tiny, "0", 0.5)
    found = [evaluated(served, "x.safetensors", signer) for signer in (MINER, SECOND)]

    assert closed(served) == []
    assert [status(served, entry)["rank_score"] for entry in found] == [0.0, 0.0]
    assert (store.current() or {})["model_version"] == "step_1"


def test_a_round_without_a_better_checkpoint_changes_nothing(served: World, tiny: models.Model, files: Files) -> None:
    files["x.safetensors"] = models.scaled(tiny, "0", 1.2)
    found = evaluated(served, "x.safetensors")
    before = store.current()

    assert closed(served) == []
    assert store.current() == before
    assert status(served, found)["rank_score"] == 0.0


def test_a_round_waits_for_its_submissions_and_for_the_block(served: World, tiny: models.Model, files: Files) -> None:
    files["x.safetensors"] = models.scaled(tiny, "0", 0.5)
    evaluated(served, "x.safetensors")
    tasks_rounds.close_rounds()
    assert store_merges.owed_merges() == []
    hand_in(served, "x.safetensors", SECOND)
    served.at(START + 26)
    tasks_rounds.close_rounds()

    assert store_merges.owed_merges() == []


def test_a_closing_that_was_killed_is_repeated_as_it_was(
    served: World, tiny: models.Model, files: Files, monkeypatch: pytest.MonkeyPatch
) -> None:
    factors = {MINER: 0.7, SECOND: 0.5, VALIDATOR: 0.6}
    files |= {f"{factor}.safetensors": models.scaled(tiny, "0", factor) for factor in factors.values()}
    found = [evaluated(served, f"{factor}.safetensors", signer) for signer, factor in factors.items()]
    close = store.close_submission

    def killed(submission_id: str, **values: Any) -> None:
        close(submission_id, **values)
        if values["rank_score"] == 2.25:
            raise Killed

    monkeypatch.setattr(store, "close_submission", killed)
    with pytest.raises(Killed):
        closed(served)
    monkeypatch.setattr(store, "close_submission", close)
    closed(served)

    assert [status(served, entry)["rank_score"] for entry in found] == [1.0, 2.25, 1.5]
    assert status(served, found[1])["merged_into"] == "step_2"


def test_a_submission_that_never_ends_does_not_hold_the_round(
    served: World, files: Files, freeze: Callable[[float], None]
) -> None:
    submission_id = hand_in(served, "x.safetensors")
    for seconds, state in ((1000, "accepted"), (1300, "accepted"), (1301, "failed")):
        freeze(NOW + seconds)
        served.at(START + 26)
        tasks_rounds.close_rounds()
        assert store.submission(submission_id)["state"] == state

    found = served.get(f"/submission/{submission_id}").json
    assert (found["state"], found["code"], found["rank_score"]) == ("failed", "evaluation_timeout", None)


def expected(base: list[float], candidate: list[float], *, dtype: str = "F32") -> list[float]:
    """Nesterov's first step in plain numbers."""
    return [b - 0.7 * ((b - c) + 0.9 * (b - c)) for b, c in zip(base, candidate, strict=True)]


def test_a_winner_becomes_the_next_version(served: World, tiny: models.Model, files: Files) -> None:
    files["x.safetensors"] = models.scaled(tiny, "0", 0.5)
    other = served.partial("1")
    found = evaluated(served, "x.safetensors")

    assert closed(served) == ["step_2"]
    reply = served.partial("0")
    parts = models.parts_of(models.payload(reply.body))
    assert models.digest(models.payload(reply.body)) == reply.header("X-Content-Hash")
    assert (reply.header("X-Model-Version"), reply.header("X-Block-Number")) == ("step_2", str(START + 26))
    for name, (_, shape, raw) in parts.items():
        base, moved = models.unpack(tiny.parts[name][2], "F32"), models.unpack(raw, "F32")
        assert shape == tiny.parts[name][1]
        assert moved == pytest.approx(expected(base, [x * 0.5 for x in base]), rel=1e-5, abs=1e-7)
    told = status(served, found)
    assert (told["merged_into"], told["rank_score"]) == ("step_2", 2.25)
    untouched = served.partial("1")
    assert untouched.header("X-Content-Hash") == other.header("X-Content-Hash")
    assert untouched.header("X-Model-Version") == "step_2"


def test_a_step_that_leads_to_no_number_drops_the_whole_merge(served: World, tiny: models.Model, files: Files) -> None:
    served.configure(EXPERTS_OUTER_LR="1e39")
    files["x.safetensors"] = models.scaled(tiny, "0", 0.5)
    found = evaluated(served, "x.safetensors")

    assert closed(served) == ["dropped"]
    assert status(served, found)["merged_into"] is None
    assert served.partial("0").header("X-Model-Version") == "step_1"


def test_the_full_model_of_a_merge_differs_in_the_group_alone(served: World, tiny: models.Model, files: Files) -> None:
    files["x.safetensors"] = models.scaled(tiny, "0", 0.5)
    evaluated(served, "x.safetensors")
    closed(served)

    manifest = store.current() or {}
    full = models.parts_of(store.models().get(manifest["full"]["key"]) or b"")
    group = models.parts_of(models.payload(served.partial("0").body))
    assert full == tiny.parts | group
    both = served.partial(query="?content=experts%2Bshared")
    assert models.digest(models.payload(both.body)) == both.header("X-Content-Hash")
    assert group.items() <= models.parts_of(models.payload(both.body)).items()


def test_momentum_carries_on_from_one_merge_to_the_next(served: World, tiny: models.Model, files: Files) -> None:
    files["x.safetensors"] = models.scaled(tiny, "0", 0.9)
    evaluated(served, "x.safetensors")
    closed(served)
    first = models.parts_of(models.payload(served.partial("0").body))
    served.at(START + 50)
    second_base = models.Model(b"", first)
    files["y.safetensors"] = models.file_of({
        name: (dtype, shape, models.pack([x * 0.9 for x in models.unpack(raw, dtype)], dtype))
        for name, (dtype, shape, raw) in second_base.parts.items()
    })  # fmt: skip
    found = evaluated(served, "y.safetensors", block=START + 50)
    served.at(START + 56)
    tasks_rounds.close_rounds()

    assert [tasks_rounds.merge(int(owed["sk"])) for owed in store_merges.owed_merges()] == ["step_3"]
    moved = models.parts_of(models.payload(served.partial("0").body))
    name = min(moved)
    base, start = models.unpack(first[name][2], "F32"), models.unpack(tiny.parts[name][2], "F32")
    candidate = models.unpack(models.parts_of(files["y.safetensors"])[name][2], "F32")
    velocity = [0.1 * x for x in start]
    gradient = [b - c for b, c in zip(base, candidate, strict=True)]
    after = [0.9 * v + g for v, g in zip(velocity, gradient, strict=True)]
    wanted = [b - 0.7 * (g + 0.9 * v) for b, g, v in zip(base, gradient, after, strict=True)]
    assert models.unpack(moved[name][2], "F32") == pytest.approx(wanted, rel=1e-5, abs=1e-7)
    assert status(served, found)["merged_into"] == "step_3"


STEPS = ("step", "put_wire", "put_full", "verify", "publish", "note_merge", "merge_done")
PLACES = {
    "step": (tasks_evaluation.Calculator, "ask"),
    "put_wire": (tasks_publishing, "put_wire"), "put_full": (tasks_merging, "put_full"),
    "verify": (tasks_publishing, "verify"), "publish": (store, "flip"), "note_merge": (store, "note_merge"),
    "merge_done": (store_merges, "merge_done"),
}  # fmt: skip


@pytest.mark.parametrize("place", STEPS)
@pytest.mark.parametrize("after", [False, True])
def test_a_merge_killed_anywhere_leaves_one_whole_version_and_can_be_repeated(  # noqa: PLR0917 - fixtures
    served: World, tiny: models.Model, files: Files, monkeypatch: pytest.MonkeyPatch, place: str, after: bool
) -> None:
    files["x.safetensors"] = models.scaled(tiny, "0", 0.5)
    found = evaluated(served, "x.safetensors")
    served.at(START + 26)
    tasks_rounds.close_rounds()
    owner, name = PLACES[place]
    original = getattr(owner, name)

    def killed(*args: Any, **kwargs: Any) -> Any:
        if after:
            original(*args, **kwargs)
        raise Killed

    monkeypatch.setattr(owner, name, killed)
    with pytest.raises(Killed):
        tasks_rounds.merge(START // 30)
    monkeypatch.setattr(owner, name, original)
    reply = served.partial("0")
    assert models.digest(models.payload(reply.body)) == reply.header("X-Content-Hash")
    assert reply.header("X-Model-Version") in {"step_1", "step_2"}

    tasks_rounds.merge(START // 30)

    assert served.partial("0").header("X-Model-Version") == "step_2"
    assert status(served, found)["merged_into"] == "step_2"
    assert tasks_rounds.merge(START // 30) == "nothing"
    assert len(store.versions()) == 2


def test_a_merge_that_comes_late_loses(served: World, tiny: models.Model, files: Files, monkeypatch: Any) -> None:
    files["x.safetensors"] = models.scaled(tiny, "0", 0.5)
    evaluated(served, "x.safetensors")
    served.at(START + 26)
    tasks_rounds.close_rounds()
    later = (store.current() or {}) | {"merged_cycle": f"{START // 30 + 1:012d}"}
    with monkeypatch.context() as patch:
        patch.setattr(store, "current", lambda: later)
        assert tasks_merging.merge(store_merges.owed_merges()[0]) == "overtaken"
    verify = tasks_publishing.verify

    def overtaken(manifest: Any) -> None:
        verify(manifest)
        if manifest["model_version"] == "step_2":
            monkeypatch.setattr(tasks_publishing, "verify", verify)
            served.publish(models.model(seed=5), version="step_9", block=START + 27)

    monkeypatch.setattr(tasks_publishing, "verify", overtaken)

    assert tasks_rounds.merge(START // 30) == "overtaken"
    assert (store.current() or {})["model_version"] == "step_9"


def test_lost_flows_start_again_under_the_next_name(
    served: World, files: Files, monkeypatch: pytest.MonkeyPatch, freeze: Callable[[float], None]
) -> None:
    submission_id = hand_in(served, "x.safetensors")
    started: list[str] = []
    known = {submission_id}
    monkeypatch.setattr(flows, "running", lambda _machine: set())

    def start(_machine: str, name: str, _payload: Any) -> bool:
        if name not in known:
            started.append(name)
        return name not in known

    monkeypatch.setattr(flows, "start", start)
    freeze(NOW + 10)

    tasks_rounds.restart_lost_work()
    assert started == [f"{submission_id}-1"]
    known.add(f"{submission_id}-1")
    for _ in range(6):
        tasks_rounds.restart_lost_work()
        known.update(started)
    assert store.submission(submission_id)["state"] == "failed"


def test_the_overview_tells_versions_and_submissions_to_token_holders(
    served: World, tiny: models.Model, files: Files
) -> None:
    files["x.safetensors"] = models.scaled(tiny, "0", 0.5)
    evaluated(served, "x.safetensors")
    closed(served)
    tasks_rounds.write_overview()

    assert served.get("/overview", Authorization="Bearer no").status == 401
    found = served.get("/overview").json
    assert [version["model_version"] for version in found["versions"]] == ["step_2", "step_1"]
    assert [(entry["state"], entry["merged_into"]) for entry in found["submissions"]] == [("scored", "step_2")]
    assert "url" not in found["submissions"][0]


def test_what_a_later_version_took_over_outlives_the_version_that_made_it(
    served: World, tiny: models.Model, files: Files, freeze: Callable[[float], None]
) -> None:
    served.configure(EXPERTS_KEEP_VERSIONS="1")
    files["x.safetensors"] = models.scaled(tiny, "0", 0.5)
    first = (store.current() or {})["version_id"]
    evaluated(served, "x.safetensors")
    freeze(NOW + 1)
    closed(served)
    freeze(NOW + 7300)
    tasks_publishing.retire_old_versions()

    left = [entry["Key"].rpartition("/")[2] for entry in store.models().list(f"models/{first}/")]
    assert left == ["group_1.safetensors", "rest.safetensors", "shared.safetensors"]
    tasks_publishing.verify(store.current() or {})


def test_what_was_held_for_the_end_of_the_phase_is_not_given_up_at_once(
    served: World, freeze: Callable[[float], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    served.configure(EXPERTS_EVAL_START="validate")
    submission_id = hand_in(served, "x.safetensors")
    started: set[str] = set()
    monkeypatch.setattr(flows, "start_or_leave", lambda _machine, name, _payload: started.add(name))
    freeze(NOW + 900)
    served.at(START + 26)
    tasks_rounds.close_rounds()

    assert (started, store.submission(submission_id)["state"]) == ({submission_id}, "accepted")
