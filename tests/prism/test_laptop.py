"""On the laptop as its user starts it: real machines, timers, functions and sandbox, over HTTP and by command."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import pytest

from layers.evaluator import sandbox
from tests.harness.laptop import ROOT, Laptop, eventually
from tests.prism import hostile
from tests.prism.world import INTERNAL, TOKEN, model

VERIFIED = INTERNAL | {"X-Platform-Verified-Hotkey": "miner"}
BRIDGE = "/prism/internal/v1/bridge/submissions"
PROCESS_NEXT = "/prism/internal/v1/worker/process-next"
NEXT = "/prism/internal/v1/validators/assignments/next"
WALLET = ("--wallet-path", "local/wallets", "--wallet-name", "dev", "--hotkey", "alice")
MISSING = [
    *(["bubblewrap is not installed (Debian package: bubblewrap)"] if not shutil.which("bwrap") else []),
    *(["the evaluator's environment is missing (`make setup`)"] if not sandbox._LAPTOP_PYTHON.exists() else []),
]
evaluating = pytest.mark.skipif(bool(MISSING), reason="strangers' code cannot be run here: " + "; ".join(MISSING))
TINY = "".join(
    f"\ndef part_{n}(value):\n    return torch.tanh(value * {n})\n" for n in range(12)
)  # nothing that another project holds
MODEL = (
    "import torch\n\nclass Tiny(torch.nn.Module):\n    def __init__(self, size):\n        super().__init__()\n"
    "        self.table = torch.nn.Embedding(size, 8)\n        self.out = torch.nn.Linear(8, size)\n\n"
    "    def forward(self, ids):\n        return self.out(torch.tanh(self.table(ids)))\n"
    f"{TINY}\ndef build_model(ctx):\n    return Tiny(ctx.vocab_size)\n"
)


@pytest.fixture(scope="module")
def laptop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Laptop]:
    server = Laptop(
        tmp_path_factory.mktemp("prism") / "state", PRISM_SHARED_TOKEN=TOKEN, PRISM_PLATFORM_EVAL_TIMEOUT_SECONDS="40",
        PRISM_PLATFORM_EVAL_PIDS_LIMIT="48", PRISM_PLATFORM_EVAL_MEMORY="6g",
    )  # fmt: skip
    yield server.start()
    server.close()


@pytest.fixture(scope="module")
def endless(laptop: Laptop) -> str:
    """A project that takes all the time there is, while other tests go on beside it."""
    submission_id = uploaded(laptop, hostile.project(hostile.ENDLESS), hostile.ENDLESS)
    assert call(laptop, PROCESS_NEXT)["submission_id"] == submission_id
    return submission_id


def call(laptop: Laptop, path: str, body: bytes = b"", headers: dict[str, str] | None = None) -> Any:
    """A POST as the platform, a validator or an operator sends it; its answer."""
    sent = {"Content-Type": "application/octet-stream"} | INTERNAL | (headers or {})
    with urlopen(Request(laptop.url + path, body, sent, method="POST"), timeout=120) as reply:
        return json.loads(reply.read())


def uploaded(laptop: Laptop, code: str, hotkey: str = "miner") -> str:
    sent = VERIFIED | {"X-Platform-Verified-Hotkey": hotkey, "X-Submission-Filename": "model.py"}
    return str(call(laptop, BRIDGE, code.encode(), sent)["id"])


def status(laptop: Laptop, submission_id: str) -> dict[str, Any]:
    found: dict[str, Any] = laptop.get(f"/prism/v1/submissions/{submission_id}")
    return found


def ended(laptop: Laptop, submission_id: str) -> dict[str, Any]:
    eventually(lambda: status(laptop, submission_id)["status"] not in {"pending", "running"})
    return status(laptop, submission_id)


def next_of(laptop: Laptop, validator: str) -> Any:
    return call(laptop, NEXT, headers={"X-Validator-Hotkey": validator})


def control(laptop: Laptop, *words: str) -> subprocess.CompletedProcess[str]:
    environment = {"PATH": os.environ["PATH"], "ENV_FILE": os.devnull} | laptop.variables | laptop.environment
    command = [sys.executable, "-m", "subnetctl.main", "--json", "prism", *words]
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)


def told(laptop: Laptop, *words: str) -> Any:
    done = control(laptop, *words)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@evaluating
@pytest.mark.usefixtures("endless")
def test_a_project_goes_from_its_folder_to_completed(laptop: Laptop, tmp_path: Path) -> None:
    files = {
        "prism.yaml": "architecture: {entrypoint: model.py}\ntraining: {entrypoint: train.py}\n",
        "model.py": MODEL + "\nfrom train import get_rate\n\ndef get_recipe(ctx):\n    return get_rate(ctx)\n",
        "train.py": 'def get_rate(ctx):\n    return {"learning_rate": 0.0005, "batch_size": 2}\n',
    }
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    with ThreadPoolExecutor(1) as pool:
        following = pool.submit(control, laptop, "submit", str(tmp_path), *WALLET)
        eventually(lambda: bool(told(laptop, "process")["processed"]))
        done = following.result()
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert (found["status"], found["error"], found["q_recipe"]) == ("completed", None, 1.0)
    assert 0 < found["q_arch"] < 1
    assert told(laptop, "process") == {"processed": []}
    (entry,) = laptop.get("/prism/v1/leaderboard")["entries"]
    assert entry["submission_id"] == found["id"]


def test_fifty_validators_never_share_one_of_twenty(laptop: Laptop) -> None:
    submitted = {uploaded(laptop, model(seed), f"miner-{seed}") for seed in range(20)}
    with ThreadPoolExecutor(50) as pool:
        first = list(pool.map(lambda n: next_of(laptop, f"v{n}"), range(50)))
        again = list(pool.map(lambda n: next_of(laptop, f"v{n}"), range(50)))
    leases = {lease["id"]: lease for lease in [*first, *again] if lease}
    assert sorted(lease["submission_id"] for lease in leases.values()) == sorted(submitted)
    assert len({lease["validator_hotkey"] for lease in leases.values()}) == 20
    listed = told(laptop, "assignments")
    assert {lease["id"] for lease in listed} == set(leases)
    assert [lease["deadline_at"] for lease in listed] == sorted(lease["deadline_at"] for lease in listed)
    path = "/prism/internal/v1/validators/assignments"
    with ThreadPoolExecutor(20) as pool:
        body = json.dumps({"metrics": {"q_arch": 0.5, "q_recipe": 0.5}}).encode()
        list(pool.map(lambda lease: call(laptop, f"{path}/{lease}/result", body), leases))
    assert {status(laptop, one)["status"] for one in submitted} == {"completed"}
    assert told(laptop, "assignments") == []


@evaluating
def test_hostile_projects_reach_nothing_and_end_as_they_must(laptop: Laptop, endless: str, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("do not tell")
    secret.chmod(0o666)
    api, cloud = (int(url.rpartition(":")[2]) for url in (laptop.url, laptop.cloud["endpoint"]))
    with socket.create_server(("127.0.0.1", 0)) as listener:
        ports = [api, cloud, listener.getsockname()[1]]
        explorer = uploaded(laptop, hostile.explorer(ports, str(secret)), "explorer")
        waiting = [name for name in hostile.HOW_IT_ENDS if name != hostile.ENDLESS]
        others = {name: uploaded(laptop, hostile.project(name), name) for name in waiting}
        failures: list[str] = []
        stop = threading.Event()
        watcher = threading.Thread(target=_watch, args=(laptop, stop, failures))
        watcher.start()
        for _ in range(1 + len(others)):  # one after another: what they exhaust is counted for all of them
            ended(laptop, call(laptop, PROCESS_NEXT)["submission_id"])
        others[hostile.ENDLESS] = endless
        ended(laptop, endless)
        stop.set()
        watcher.join()
        listener.setblocking(False)
        with pytest.raises(BlockingIOError):
            listener.accept()
    said = str(status(laptop, explorer)["error"])
    assert "found: [" in said, said
    forbidden = ("REACHED", "WRITTEN", "KILLED", "do not tell", TOKEN, "root:", "AWS_", "PRISM_")
    assert [word for word in forbidden if word in said] == []
    assert "65534" in said
    assert secret.read_text() == "do not tell"
    for name, (end, error) in hostile.HOW_IT_ENDS.items():
        found = status(laptop, others[name])
        assert found["status"] in end, (name, found["error"])
        assert error in str(found["error"] or ""), (name, found["error"])
        assert (found["q_arch"] or 0.0) < 0.1, (name, found)
    assert failures == []


def _watch(laptop: Laptop, stop: threading.Event, failures: list[str]) -> None:
    """The API answers whatever strangers' code does beside it."""
    while not stop.wait(0.5):
        try:
            assert laptop.get("/prism/health")["status"] == "ok"
            laptop.get("/prism/v1/leaderboard")
        except (AssertionError, HTTPError, OSError) as error:
            failures.append(repr(error))


@evaluating
def test_a_lease_ends_by_its_timer_and_what_a_kill_interrupts_is_taken_up_again(laptop: Laptop) -> None:
    leased, evaluated = uploaded(laptop, model(201)), uploaded(laptop, MODEL.replace("Tiny", "Other") + RECIPE)
    laptop.stop()
    laptop.start(PRISM_VALIDATOR_ASSIGNMENT_TIMEOUT_SECONDS="6", PRISM_PLAGIARISM_ENABLED="0")
    eventually(lambda: (next_of(laptop, "slow") or {}).get("submission_id") == leased)
    assert call(laptop, PROCESS_NEXT)["submission_id"] == evaluated
    eventually(lambda: status(laptop, leased)["status"] == "pending")
    laptop.stop(signal.SIGKILL)
    laptop.start(PRISM_PLAGIARISM_ENABLED="0")
    assert ended(laptop, evaluated)["status"] in {"completed", "held"}
    eventually(lambda: (next_of(laptop, "quick") or {}).get("submission_id") == leased)


RECIPE = '\ndef get_recipe(ctx):\n    return {"learning_rate": 0.0005, "batch_size": 2}\n'
