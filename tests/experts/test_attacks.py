"""What a malicious miner would try, each attempt as it would be carried out, from the request to what becomes of it."""

from __future__ import annotations

import uuid
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from chalicelib.experts import store, tasks_evaluation, tasks_fetching, tasks_rounds
from tests.experts import models
from tests.experts.conftest import MINER, SECOND, START, VALIDATOR, World, submission
from tests.experts.submissions import Files, closed, evaluated, status
from tests.experts.test_hostile_files import PICKLES, TENSORS, checkpoint, pickled, zipped
from tests.experts.test_submissions import broken

FILES: dict[str, tuple[str, Callable[[models.Model], bytes], str]] = {
    "code in a pickle": ("x.pt", lambda _: checkpoint(PICKLES["os.system"]), "forbidden_global"),
    "two bytes as two tebibytes": ("x.pt", lambda _: checkpoint(pickled(TENSORS["stride zero"])), "bad_checkpoint"),
    "a deflated bomb": (
        "x.pt", lambda _: zipped({"x/data.pkl": b"\0" * 10**6}, method=zipfile.ZIP_DEFLATED), "bad_checkpoint",
    ),
    "one storage for many": ("x.pt", lambda _: checkpoint(pickled(TENSORS["one storage for two"])), "bad_checkpoint"),
    "another router": ("x.safetensors", lambda tiny: broken(tiny, "router"), "unexpected_tensor"),
    "another group's expert": ("x.safetensors", lambda tiny: broken(tiny, "other group"), "unexpected_tensor"),
    "no number, to skip batches": ("x.safetensors", lambda tiny: broken(tiny, "nan"), "nonfinite"),
    "huge weights": ("x.safetensors", lambda tiny: broken(tiny, "far"), "too_far"),
}  # fmt: skip


@pytest.mark.parametrize("attempt", FILES)
def test_a_file_that_attacks_is_rejected_and_does_nothing(
    served: World, tiny: models.Model, files: Files, attempt: str
) -> None:
    name, make, found = FILES[attempt]
    files[name] = make(tiny)

    assert evaluated(served, name)["code"] == found
    assert not Path("/tmp/marker").exists()
    assert closed(served) == []


def test_nobody_submits_for_another_or_takes_another_s_place(served: World) -> None:
    forged = submission(SECOND) | {"hotkey": MINER.hotkey}
    assert served.submit(forged).status == 400
    mine = submission()
    assert served.submit(mine).status == 202
    assert (served.submit(mine).status, served.submit(mine | {"hotkey": SECOND.hotkey}).status) == (409, 400)


def test_many_blocks_are_three(served: World) -> None:
    replies = [served.submit(submission(block=START + 10 + number)) for number in range(6)]

    assert [reply.status for reply in replies] == [202, 202, 202, 409, 409, 409]


def test_a_copy_of_a_rival_s_checkpoint_is_worth_nothing_to_either(
    served: World, tiny: models.Model, files: Files
) -> None:
    files["x.safetensors"] = models.scaled(tiny, "0", 0.5)
    found = [evaluated(served, "x.safetensors", signer) for signer in (MINER, SECOND)]

    assert closed(served) == []
    assert [status(served, entry)["rank_score"] for entry in found] == [0.0, 0.0]


def test_the_file_behind_a_url_is_read_once(served: World, tiny: models.Model, files: Files) -> None:
    files["x.safetensors"] = models.scaled(tiny, "0", 0.5)
    submission_id = evaluated(served, "x.safetensors")["submission_id"]
    files["x.safetensors"] = models.scaled(tiny, "0", 0.1)

    kept = store.quarantine().get(tasks_evaluation.raw_key(submission_id))
    assert kept == models.scaled(tiny, "0", 0.5)
    assert store.submission(submission_id)["content_hash"] == models.digest(kept)[7:]


@pytest.mark.parametrize("address", ["169.254.169.254", "169.254.170.2", "127.0.0.1", "10.0.0.8", "fd00:ec2::254"])
def test_a_name_of_an_inner_address_reaches_nothing(
    served: World, monkeypatch: pytest.MonkeyPatch, address: str
) -> None:
    network = tasks_fetching.Network(lambda _host, _port: [address], lambda *_: pytest.fail("connected"))
    monkeypatch.setattr(tasks_fetching, "Network", lambda: network)

    assert evaluated(served, "x.safetensors")["code"] == "ssrf_blocked"


def test_the_batches_are_unknown_before_they_are_needed(world: World) -> None:
    assert len({tasks_rounds._seed(cycle) for cycle in range(5)}) == 5


def test_a_miner_gets_no_full_model_and_no_hints(served: World) -> None:
    for headers in ({}, {"X_Hotkey": MINER.hotkey}, {"X_Hotkey": VALIDATOR.hotkey}):
        assert served.get("/model/full", **headers).status == 403
    submitted = served.submit(submission()).json["submission_id"]
    guess = submission(SECOND) | {"hotkey": MINER.hotkey}
    assert "submission_id" not in served.submit(guess).json
    assert uuid.UUID(submitted).version == 4
    assert served.get(f"/submission/{uuid.uuid4()}").status == 404


def test_a_url_names_whom_it_was_given_to_and_there_are_not_many(served: World) -> None:
    served.configure(EXPERTS_INLINE_MAX_BYTES="0", EXPERTS_MAX_GRANTS_PER_CYCLE="1")

    assert f"g0-{MINER.hotkey[:8]}" in (served.partial().header("Location") or "")
    assert served.partial().status == 429


@pytest.mark.parametrize("injected", ['5F"; filename=x', "5F\r\nX-Evil: 1", "../../5F", "0,0"])
def test_headers_carry_nothing_on(served: World, injected: str) -> None:
    for asked in ({"X_Hotkey": injected}, {"group": injected}):
        reply = served.partial(**asked)
        assert (reply.status, reply.header("X-Evil"), reply.header("Location")) == (400, None, None)
