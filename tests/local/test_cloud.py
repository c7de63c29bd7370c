"""How the server takes leave of its cloud: one that saves is let, one that hangs is ended. And what a save writes."""

from __future__ import annotations

import io
import json
import sys
from pathlib import Path
from typing import Any

import pytest

from local import cloud, emulator
from local.folder import StateFolder
from tests.harness.laptop import eventually

# Ends with its input, like the emulator, after a save that outlasts the server's patience; or hangs.
STAND_IN = """#!{python}
import pathlib, sys, time
print(1, flush=True)
sys.stdin.read()
if {saves}:
    tables = pathlib.Path(sys.argv[4]) / "tables"
    tables.mkdir()
    for number in range(15):
        (tables / "dynamodb.json.tmp").write_text(str(number))
        time.sleep(0.1)
    (tables / "dynamodb.json.tmp").rename(tables / "dynamodb.json")
else:
    time.sleep(600)
"""


@pytest.mark.parametrize("saves", [True, False])
def test_a_cloud_that_saves_longer_than_a_stop_may_take_is_left_to_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *, saves: bool
) -> None:
    stand_in = tmp_path / "python"
    stand_in.write_text(STAND_IN.format(python=sys.executable, saves=saves))
    stand_in.chmod(0o755)
    monkeypatch.setattr(cloud, "PYTHON", stand_in)
    monkeypatch.setattr(cloud, "SECONDS_TO_STOP", 0.5)
    folder = StateFolder(tmp_path / "state")
    running = cloud.EmbeddedCloud(folder)
    assert running._process.stdout is not None
    running._process.stdout.close()
    running.stop()
    folder.close()
    assert ("it ends by itself" in capsys.readouterr().err) is saves
    assert (running._process.poll() is None) is saves
    StateFolder(tmp_path / "state").close()  # waits for whoever still saves there
    assert (tmp_path / "state" / "tables" / "dynamodb.json").exists() is saves
    eventually(lambda: running._process.poll() is not None)


class Scoped:
    """Something that JSON does not know."""

    def __init__(self, inner: Any) -> None:
        self.inner = inner


def test_a_save_writes_what_the_standard_library_would() -> None:
    deep: Any = {"text": 'ä"\n', "none": None, "list": [1, {"a": ()}], "numbers": {1: 2.5, 2: True}, "empty": {}}
    for _ in range(9):
        deep = {"payload": deep, "scoped": Scoped({"tables": deep, "bytes": Scoped("eA==")}), "[]": []}
    written = io.StringIO()
    emulator.dump(deep, written, default=vars)
    assert written.getvalue() == json.dumps(deep, default=vars)
