"""`subnetctl leoma` against a laptop that really runs, and what it signs."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from chalicelib.kernel import keys
from chalicelib.leoma import domain
from chalicelib.leoma.contracts import NewSample
from subnetctl import api, clients, leoma
from tests.harness.laptop import ROOT, Laptop, eventually

from .world import miner, sample

ALICE = "5GrwvaEF5zXb26Fz9rcQpDWS57CtERHpNehXCPcNoHGKutQY"
DAVE = "5DAAnrj7VHTznn2AWBemMuyBwZWs6FNFjdyVXUeYum3PTXFy"
WALLET = ("--wallet-path", "local/wallets", "--wallet-name", "dev", "--hotkey", "alice")


def test_what_is_signed_is_what_the_server_writes() -> None:
    batch = [sample(7, miner(n), reasoning="é", latency_ms=n, generated_artifacts="{}") for n in (2, 1)]
    parsed = [NewSample.model_validate(one) for one in batch]

    assert clients.evaluation_digest(batch) == domain.evaluation_digest(parsed)


@pytest.fixture(scope="module")
def laptop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Laptop]:
    running = Laptop(tmp_path_factory.mktemp("leoma") / "state", LEOMA_SCORER_TASK_WINDOW="1")
    yield running.start()
    running.close()


def subnetctl(laptop: Laptop, *words: str) -> subprocess.CompletedProcess[str]:
    environment = {"PATH": os.environ["PATH"], "ENV_FILE": os.devnull} | laptop.environment
    return subprocess.run(
        [sys.executable, "-m", "subnetctl.main", "leoma", *words, "--json"],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )


def answer(laptop: Laptop, *words: str) -> Any:
    done = subnetctl(laptop, *words)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_publish_submit_and_rank(laptop: Laptop, tmp_path: Path) -> None:
    eventually(lambda: bool(laptop.get("/leoma/health")["metagraph_synced"]))
    strict = subnetctl(laptop, "publish-task", "--task-id", "1", "--prefix", "1", "--require-clips")
    assert (strict.returncode, json.loads(strict.stderr.splitlines()[-1])["code"]) == (1, "clips_missing")

    published = answer(laptop, "publish-task", "--task-id", "1", "--prefix", "1")
    assert (published["published"], laptop.get("/leoma/tasks/latest")) == (True, {"task_id": 1})

    file = tmp_path / "samples.json"
    file.write_text(json.dumps([sample(1, DAVE, confidence=90, reasoning="sharp")]))
    (stored,) = answer(laptop, "submit", str(file), *WALLET)
    assert (stored["validator_hotkey"], stored["task_id"]) == (ALICE, 1)

    assert answer(laptop, "rank") == {"ranked": 1, "waited": False}
    assert laptop.get("/leoma/weights")["winner_uid"] == 3
    assert laptop.get("/leoma/scores/rank")["ranks"][0]["miner_hotkey"] == DAVE
    assert answer(laptop, "watch")["ranks"][0]["uid"] == 3

    key = f"1/evaluation_results/{ALICE}.json"
    written = json.loads(laptop.client("s3").get_object(Bucket="leoma-samples", Key=key)["Body"].read())
    digest = hashlib.sha256(json.dumps(written["data"], sort_keys=True).encode()).digest()
    assert keys.verify(keys.public_key(ALICE), digest, bytes.fromhex(written["signature"][2:]))


def test_a_watch_outlives_an_api_that_is_silent_for_a_while(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    entry = {"rank": 1, "uid": 3, "miner_hotkey": DAVE, "passed_count": 7, "pass_rate": 0.7, "block": None}
    answers = iter([{"ranks": [entry]}, api.Unreachable("no answer from x")])

    def ranks(_client: clients.Leoma) -> Any:
        found = next(answers)
        if isinstance(found, Exception):
            raise found
        return found

    monkeypatch.setattr(clients.Leoma, "ranks", ranks)
    monkeypatch.setattr("time.sleep", lambda _seconds: None)
    leoma.watch("http://x", every=1, times=2)

    shown = capsys.readouterr().out
    assert DAVE[:36] in shown
    assert "…" not in shown
    assert "not fresh: no answer from x" in shown
    assert shown.endswith("\n")


@pytest.mark.parametrize("content", ["{", "[]", "{}", "[1]"])
def test_a_file_without_samples_is_refused(laptop: Laptop, tmp_path: Path, content: str) -> None:
    file = tmp_path / "samples.json"
    file.write_text(content)

    assert subnetctl(laptop, "submit", str(file), *WALLET).returncode == 1
