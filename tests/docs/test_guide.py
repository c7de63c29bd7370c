"""The guide's commands, run word for word against a server of their own."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

from tests.harness.laptop import ROOT, Laptop

GUIDE = ROOT / "docs" / "guide.md"
_BLOCK = re.compile(r"^```sh\n(.*?)^```", re.MULTILINE | re.DOTALL)


def test_the_guide_works_word_for_word(tmp_path: Path) -> None:
    blocks = _BLOCK.findall(GUIDE.read_text("utf-8"))
    sample = tmp_path / ".env"
    shutil.copy(ROOT / ".env.example", sample)
    server = Laptop(tmp_path / "state", ENV_FILE=str(sample)).start()
    try:
        script = "\n".join(["set -e", *blocks]).replace("http://127.0.0.1:8000", server.url)
        environment = {
            **os.environ,
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            "STATE_DIR": str(server.state_dir),
            "ENV_FILE": str(sample),
        }
        done = subprocess.run(
            ["bash", "-c", script.replace("/tmp/", f"{tmp_path}/")],
            cwd=ROOT, env=environment, capture_output=True, text=True, check=False,
        )  # fmt: skip
    finally:
        server.close()

    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    assert len(blocks) > 4
