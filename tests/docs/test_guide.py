"""The guide's commands, run word for word against a server of their own."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import socket
import subprocess
import sys
from pathlib import Path

from tests.harness.laptop import ROOT, Laptop

GUIDE = ROOT / "docs" / "guide.md"
_BLOCK = re.compile(r"^```sh\n(.*?)^```", re.MULTILINE | re.DOTALL)
_FIRST_TERMINAL = re.compile(r"^((?: {4}\S[^\n]*\n)+?) {4}make run$", re.MULTILINE)


def test_the_guide_works_word_for_word(tmp_path: Path) -> None:
    text = GUIDE.read_text("utf-8").replace("/tmp/", f"{tmp_path}/").replace("8001", free_port())
    said = tmp_path / "said"
    before, blocks = _FIRST_TERMINAL.findall(text), _BLOCK.findall(text)
    run(before[0].replace(" .env ", f" {tmp_path}/.env ").replace(" .env\n", f" {tmp_path}/.env\n"), said)
    server = Laptop(tmp_path / "state", ENV_FILE=str(tmp_path / ".env")).start()
    try:
        script = "\n".join(blocks).replace("http://127.0.0.1:8000", server.url)
        run(script, said, STATE_DIR=str(server.state_dir), ENV_FILE=str(tmp_path / ".env"))
    finally:
        server.close()

    assert len(blocks) > 4


def run(script: str, said: Path, **variables: str) -> None:
    """As a terminal of its own, which takes what runs in it along when it is closed."""
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", **variables}
    with said.open("w") as output:
        shell = subprocess.Popen(
            ["bash", "-ec", script], cwd=ROOT, env=environment, stdout=output, stderr=output, start_new_session=True
        )
    status = shell.wait()
    with contextlib.suppress(ProcessLookupError):
        os.killpg(shell.pid, signal.SIGKILL)
    assert status == 0, said.read_text()[-3000:]


def free_port() -> str:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return str(listener.getsockname()[1])
