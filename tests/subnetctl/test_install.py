"""The command line by itself, as a miner installs it: none of the server's libraries, and yet signed requests."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import app as app_module
from local.gateway import Gateway
from local.server import Server
from tests.harness.laptop import ROOT
from tests.prism.world import model

SERVER_ONLY = {"chalice", "boto3", "botocore", "numpy", "substrate-interface", "waitress", "jinja2", "safetensors"}
WALLET = ("--wallet-path", str(ROOT / "local" / "wallets"), "--wallet-name", "dev", "--hotkey", "dave")


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`pip install .` of a clean copy into an empty environment."""
    source, home = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("miner")
    for name in ("chalicelib", "infra", "local", "subnetctl", "pyproject.toml", "README.md", "LICENSE"):
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy2
        copy(ROOT / name, source / name)
    subprocess.run([sys.executable, "-m", "venv", str(home / "venv")], check=True)
    pip = [str(home / "venv" / "bin" / "python"), "-m", "pip", "install", "-q", "--disable-pip-version-check"]
    subprocess.run([*pip, str(source)], check=True)
    return home


@pytest.fixture
def url(cloud: None) -> Iterator[str]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        server = Server(Gateway(app_module.build()).answer, listener)
        server.start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        server.stop()


def run(installed: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """As in a miner's own shell: nothing of this project's folder or environment."""
    environment = {"PATH": os.environ["PATH"], "HOME": str(installed), "LANG": "C.UTF-8"}
    command = [str(installed / "venv" / "bin" / words[0]), *words[1:]]
    return subprocess.run(command, cwd=installed, env=environment, capture_output=True, text=True, check=False)


def test_none_of_the_server_s_libraries_come_along(installed: Path) -> None:
    listed = json.loads(run(installed, "pip", "list", "--format", "json", "--disable-pip-version-check").stdout)
    names = {package["name"].lower() for package in listed}
    assert "subnet-functions" in names
    assert not names & SERVER_ONLY


def test_it_helps_signs_and_explains(installed: Path) -> None:
    assert "leoma" in run(installed, "subnetctl", "--help").stdout
    assert len(run(installed, "subnetctl", "sign", "hello", *WALLET).stdout.strip()) == 128
    assert "nonce" in run(installed, "subnetctl", "explain", "nonce_used").stdout
    assert run(installed, "subnetctl", "cost").returncode == 0


def test_it_sends_a_signed_request_and_follows_it(installed: Path, url: str) -> None:
    (installed / "model.py").write_text(model(1))
    words = ("prism", "submit", "model.py", "--no-follow", *WALLET, "--url", f"{url}/prism", "--json")
    sent = run(installed, "subnetctl", *words)
    assert sent.returncode == 0, sent.stderr
    assert json.loads(sent.stdout)["status"] == "pending"


def test_the_doctor_looks_at_the_api_alone(installed: Path, url: str) -> None:
    told = run(installed, "subnetctl", "doctor", "--url", url, "--json")
    assert [(found["what"], found["well"]) for found in json.loads(told.stdout)] == [
        ("api", True),
        ("clock", True),
        ("version", True),
    ]
    assert told.returncode == 0


def test_an_operator_s_command_says_what_it_lacks(installed: Path) -> None:
    (installed / ".local").mkdir(exist_ok=True)
    (installed / ".local" / "cloud.json").write_text(
        '{"endpoint": "http://127.0.0.1:9", "api_url": "http://127.0.0.1:9"}'
    )
    refused = run(installed, "subnetctl", "leoma", "rank", "--json")
    (installed / ".local" / "cloud.json").unlink()
    assert refused.returncode == 1
    assert json.loads(refused.stderr)["code"] == "server_missing"
