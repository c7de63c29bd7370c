"""On the embedded cloud, which checks what an in-process one does not: signatures of URLs, methods, real flows."""

from __future__ import annotations

import functools
import http.server
import json
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from chalicelib.experts import tasks_evaluation, tensors
from tests.experts import models
from tests.experts.conftest import MINER, PHASES, START, TOKEN, submission
from tests.harness.laptop import ROOT, Laptop, eventually

PYTHON = tasks_evaluation.interpreter("torch")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("experts")


@pytest.fixture(scope="module")
def laptop(folder: Path) -> Iterator[Laptop]:
    neuron = {"uid": 0, "hotkey": MINER.hotkey, "stake_rao": "0"}
    move(folder, START + 20, neurons=[neuron])
    started = Laptop(
        folder / "state", EXPERTS_BZ_AUTH_TOKEN=TOKEN, EXPERTS_PHASES=PHASES, EXPERTS_EVALUATOR="stub",
        EXPERTS_ROUND_SECONDS="1", CHAIN_SYNC_SECONDS="1", FETCH_ALLOW_PRIVATE="1",
        CHAIN_SOURCE=f"file:{folder / 'chain.json'}",
    )  # fmt: skip
    yield started.start()
    started.close()


def move(folder: Path, block: int, *, neurons: list[dict[str, Any]] | None = None) -> None:
    path = folder / "chain.json"
    found: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {"frozen": True, "subnets": {}}
    if neurons is not None:
        found["subnets"]["experts"] = {"netuid": 102, "neurons": neurons}
    path.write_text(json.dumps(found | {"block": block}))


def control(laptop: Laptop, *words: str) -> Any:
    command = [sys.executable, "-m", "subnetctl.main", "--json", *words]
    environment = {"PATH": "/usr/bin:/bin", "ENV_FILE": "/dev/null"} | laptop.variables | laptop.environment
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


class Unfollowed(urllib.request.HTTPRedirectHandler):
    """Leaves a redirect to the test."""

    def redirect_request(self, *_: Any) -> None:
        return None


def call(laptop: Laptop, method: str, path: str, body: Any = None, **headers: str) -> tuple[int, Any, bytes]:
    sent = {"Authorization": f"Bearer {TOKEN}", "Content-Type": "application/json", **headers}
    raw = None if body is None else json.dumps(body).encode()
    return fetched(urllib.request.Request(f"{laptop.url}/experts{path}", raw, sent, method=method))


def fetched(request: urllib.request.Request | str) -> tuple[int, Any, bytes]:
    try:
        with urllib.request.build_opener(Unfollowed).open(request) as answer:
            return answer.status, answer.headers, answer.read()
    except urllib.error.HTTPError as error:
        return error.code, error.headers, error.read()


@pytest.fixture(scope="module")
def published(laptop: Laptop, folder: Path) -> models.Model:
    source = models.model(dtype="BF16", hidden=1024, width=1024)
    (folder / "model.safetensors").write_bytes(source.raw)
    (folder / "assignment.json").write_text(json.dumps(models.ASSIGNMENT))
    words = ("experts", "publish", "--model", str(folder / "model.safetensors"), "--assignment")
    told = control(laptop, *words, str(folder / "assignment.json"), "--version", "step_1", "--block", "1000")
    assert told["model_version"] == "step_1"
    return source


def redirect(laptop: Laptop, method: str, group: str = "0") -> tuple[Any, str]:
    status, headers, _ = call(laptop, method, "/model/partial", **{"X-Expert-Group": group, "X-Hotkey": MINER.hotkey})
    assert status == 307
    return headers, headers["Location"]


def test_a_url_gives_the_slice_to_its_method_alone_and_only_as_it_was_signed(
    laptop: Laptop, published: models.Model
) -> None:
    headers, url = redirect(laptop, "GET")
    status, answered, wire = fetched(url)
    payload = models.payload(wire)

    assert (status, models.digest(payload)) == (200, headers["X-Content-Hash"])
    assert answered["x-amz-meta-content-hash"] == headers["X-Content-Hash"]
    assert models.parts_of(payload) == {name: published.parts[name] for name in published.names("0")}
    part = fetched(urllib.request.Request(url, headers={"Range": "bytes=100-199"}))
    assert (part[0], part[2]) == (206, wire[100:200])
    assert fetched(url[:-1] + ("0" if url[-1] != "0" else "1"))[0] == 403
    assert fetched(url.replace("group_0", "group_1"))[0] == 403
    _, head_url = redirect(laptop, "HEAD")
    assert fetched(urllib.request.Request(head_url, method="HEAD"))[0] == 200
    assert fetched(head_url)[0] == 403


def test_a_download_goes_on_where_it_stopped_and_is_checked(
    laptop: Laptop, published: models.Model, folder: Path
) -> None:
    out = folder / "group.safetensors"
    words = ("experts", "download", "--group", "1", "--out", str(out), "--address", MINER.hotkey, "--url")
    told = control(laptop, *words, f"{laptop.url}/experts")

    raw = out.read_bytes()
    assert models.digest(raw) == told["content_hash"]
    assert models.parts_of(raw) == {name: published.parts[name] for name in published.names("1")}
    header = raw[8 : 8 + tensors.header_length(raw[:8], len(raw))]
    assert tensors.directory(header, len(raw)).metadata["base_model"] == "model"
    assert [path.name for path in folder.iterdir() if path.name.startswith(".")] == []


def test_a_file_of_torch_travels_from_a_web_server_into_the_next_version(
    laptop: Laptop, published: models.Model, folder: Path
) -> None:
    (folder / "www").mkdir()
    (folder / "base.safetensors").write_bytes(models.scaled(published, "0", 1.0))
    program = (
        "import json, sys, torch\n"
        "raw = open(sys.argv[1], 'rb').read()\n"
        "at = 8 + int.from_bytes(raw[:8], 'little')\n"
        "state = {n: torch.frombuffer(bytearray(raw[at + e['data_offsets'][0]:at + e['data_offsets'][1]]),\n"
        "         dtype=torch.bfloat16).reshape(e['shape']) * 0.5 for n, e in json.loads(raw[8:at]).items()}\n"
        "torch.save({'model_state_dict': state}, sys.argv[2])\n"
    )
    made = [PYTHON, "-W", "ignore", "-c", program, str(folder / "base.safetensors"), str(folder / "www" / "made.pt")]
    subprocess.run(made, check=True, capture_output=True)
    handler = functools.partial(QuietHandler, directory=str(folder / "www"))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}/made.pt"
        status, _, raw = call(laptop, "POST", "/submit", submission(url=url))
        assert status == 202, raw
        submission_id = json.loads(raw)["submission_id"]
        eventually(lambda: told(laptop, submission_id)["state"] in {"scored", "rejected", "failed"})
        server.shutdown()

    assert (told(laptop, submission_id)["state"], told(laptop, submission_id)["reason"]) == ("scored", None)
    move(folder, START + 26)
    control(laptop, "chain", "sync")
    control(laptop, "sweep")

    assert told(laptop, submission_id)["merged_into"] == "step_2"
    headers, moved = redirect(laptop, "GET")
    assert headers["X-Model-Version"] == "step_2"
    assert models.digest(models.payload(fetched(moved)[2])) == headers["X-Content-Hash"]


class QuietHandler(http.server.SimpleHTTPRequestHandler):
    """Serves a folder and says nothing about it."""

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the library's name
        return


def told(laptop: Laptop, submission_id: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(call(laptop, "GET", f"/submission/{submission_id}")[2])
    return found


def test_the_state_machine_publishes_as_the_command_does(laptop: Laptop, published: models.Model, folder: Path) -> None:
    words = ("experts", "publish", "--model", str(folder / "model.safetensors"), "--assignment")
    more = (str(folder / "assignment.json"), "--version", "step_9", "--block", str(START + 500), "--in-cloud")

    assert control(laptop, *words, *more)["model_version"] == "step_9"


def test_the_laptop_s_chain_is_moved_on_to_a_phase(laptop: Laptop, folder: Path) -> None:
    before = control(laptop, "experts", "phase")
    moved = control(laptop, "experts", "phase", "--set", "train")

    assert (moved["phase"], moved["block"] > before["block"]) == ("train", True)
    assert json.loads(call(laptop, "GET", "/health")[2])["phase"] == "train"


# ---- a restart with other settings comes last, for it keeps nothing but the world


@pytest.fixture
def restarted(laptop: Laptop, published: models.Model) -> Laptop:
    """URLs for two seconds, and the chain that is there when nobody names one."""
    laptop.stop()
    laptop.variables |= {"CHAIN_SOURCE": "", "EXPERTS_PRESIGN_TTL_S": "2"}
    return laptop.start()


def test_a_url_expires_and_the_sample_chain_is_never_written_to(restarted: Laptop) -> None:
    urls = (redirect(restarted, "GET")[1] for _ in range(10))
    url = next(url for url in urls if fetched(url)[0] == 200)  # a busy machine may be late
    sample = (ROOT / "local" / "chain.json").read_bytes()
    before = control(restarted, "experts", "phase")
    other = "train" if before["phase"] == "commit" else "commit"
    moved = control(restarted, "experts", "phase", "--set", other)

    assert (moved["phase"], moved["block"] > before["block"]) == (other, True)
    assert json.loads(call(restarted, "GET", "/health")[2])["current_block"] >= moved["block"]
    assert (ROOT / "local" / "chain.json").read_bytes() == sample
    eventually(lambda: fetched(url)[0] == 403)
    assert b"expired" in fetched(url)[2]
