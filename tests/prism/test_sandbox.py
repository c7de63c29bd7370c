"""What a stranger's project can reach when it runs: nothing. And how it can raise its score: by learning alone."""

from __future__ import annotations

import base64
import json
import os
import shutil
import socket
import subprocess
import threading
import zlib
from pathlib import Path
from typing import Any

import pytest

from layers.evaluator import judge, sandbox
from layers.evaluator.language import VOCABULARY, Language
from tests.prism.world import MODEL

PYTHON = os.environ.get("PRISM_EVALUATOR_PYTHON", str(sandbox._LAPTOP_PYTHON))
MISSING = (
    ["bubblewrap is not installed (Debian package: bubblewrap)"] * (not shutil.which("bwrap"))
    + [f"the evaluator's environment {PYTHON} is missing (`make setup`)"] * (not Path(PYTHON).exists())
)  # fmt: skip
confined = pytest.mark.skipif(bool(MISSING), reason="strangers' code cannot be run here: " + "; ".join(MISSING))
RUN = {
    "sequence_length": 16,
    "max_layers": 96,
    "max_parameters": 150_000_000,
    "steps": 3,
    "seconds": 60,
    "memory": "8g",
    "processes": 64,
    "threads": 2,
    "python": PYTHON,
}
HEAD = "import torch\n"


def evaluate(code: str, *, files: dict[str, str] | None = None, **changes: Any) -> dict[str, Any]:
    content = {"files": files or {"model.py": code}, "entrypoint": "model.py"}
    project = base64.b64encode(zlib.compress(json.dumps(content).encode())).decode()
    return judge.evaluate("submission-1", project, RUN | changes)


def error(code: str, **changes: Any) -> str:
    found = evaluate(code, **changes)
    assert "error" in found, found
    return str(found["error"])


def attempt(act: str) -> str:
    """A project that does something while its model is built, and says how it went."""
    lines = "\n".join("    " + line for line in act.strip().split("\n"))
    return f"{MODEL}\ndef build_model(ctx):\n{lines}\n    raise SystemExit('done: ' + str(found))\n"


@confined
def test_a_project_is_measured_the_same_every_time() -> None:
    found = evaluate(MODEL)["metrics"]
    assert found == evaluate(MODEL)["metrics"]
    assert found["q_recipe"] == 1.0
    assert found["parameter_count"] == 102_400
    assert 0 < found["q_arch"] < 1
    assert found["final_loss"] < found["initial_loss"]


@confined
def test_several_files_hooks_and_the_interface_work() -> None:
    files = {
        "src/model.py": MODEL.replace("def get_recipe", "def old_recipe")
        + "\nfrom train import recipe, configure\nfrom prism_challenge.evaluator.interface import TrainingRecipe\n"
        + "def get_recipe(ctx):\n    return recipe(ctx)\n"
        + "def configure_optimizer(model, recipe, ctx):\n    return configure(model)\n"
        + "def inference_logits(model, batch, ctx):\n    return model(batch.tokens)\n",
        "src/train.py": "import torch\nfrom prism_challenge.evaluator.interface import TrainingRecipe\n"
        "def recipe(ctx):\n    return TrainingRecipe(learning_rate=0.1, batch_size=1)\n"
        "def configure(model):\n    return torch.optim.AdamW(model.parameters(), lr=0.05)\n",
    }
    content = base64.b64encode(
        zlib.compress(json.dumps({"files": files, "entrypoint": "src/model.py"}).encode())
    ).decode()
    found = judge.evaluate("submission-1", content, RUN | {"steps": 30})["metrics"]
    assert found["q_recipe"] == 0.5
    assert found["hook.configure_optimizer.used"] == found["hook.inference_logits.used"] == 1.0
    assert found["hook.train_step.present"] == 0.0
    assert found["final_loss"] < 8.0  # it has learned
    assert found["q_arch"] > 0.05


PROBES = {
    "environment": "sorted(os.environ)",
    "environment of the first process": "open('/proc/1/environ').read()",
    "own environment": "open('/proc/self/environ').read()",
    "user": "[os.getuid(), os.getgid(), os.getgroups()]",
    "processes": "[n for n in os.listdir('/proc') if n.isdigit()]",
    "interfaces": "[name for _, name in socket.if_nameindex()]",
    "root": "sorted(os.listdir('/'))",
    "files around": "[p for p in PLACES if os.path.exists(p)]",
    "written": "[p for p in TARGETS if can_write(p)]",
    "connected": "[a for a in ('127.0.0.1', '169.254.169.254', '8.8.8.8') if can_connect(a)]",
    "more rights": "can_become_root()",
}
OUTSIDE = ["/etc/passwd", "/etc/shadow", "/root", "/home", "/var", str(Path.home()), str(Path(__file__).parent)]
TARGETS = ["/x", "/opt/project/model.py", "/opt/site/x", "/opt/guest/worker.py", "/usr/lib/x", "/dev/x", "/etc/x"]


@pytest.fixture(scope="module")
def seen() -> dict[str, Any]:
    """What one project finds out about the place where it runs; its connections would reach a listener here."""
    if MISSING:
        pytest.skip("; ".join(MISSING))
    with socket.create_server(("127.0.0.1", 0)) as server, pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_SECRET_ACCESS_KEY", "do not tell")
        patch.setenv("PRISM_SHARED_TOKEN", "do not tell")
        port = server.getsockname()[1]
        probes = ", ".join(f"{name!r}: tried(lambda: {code})" for name, code in PROBES.items())
        helpers = f"""
import os, socket, json
PLACES, TARGETS = {OUTSIDE!r}, {TARGETS!r}

def tried(act):
    try:
        return act()
    except Exception as error:
        return type(error).__name__

def can_write(place):
    try:
        open(place, 'w').close()
    except OSError:
        return False
    return True

def can_connect(host):
    try:
        socket.create_connection((host, {port}), 1).close()
    except OSError:
        return False
    return True

def can_become_root():
    try:
        os.setuid(0)
    except OSError:
        return False
    return True

def build_model(ctx):
    found = {{{probes}}}
    raise SystemExit('done: ' + json.dumps(found))
"""
        said = error(MODEL + helpers)
        server.setblocking(False)
        with pytest.raises(BlockingIOError):
            server.accept()
    found: dict[str, Any] = json.loads(said.partition("done: ")[2])
    return found


def test_a_project_finds_an_environment_without_secrets(seen: dict[str, Any]) -> None:
    allowed = {"PATH", "HOME", "LANG", "LD_LIBRARY_PATH", "PYTHONHOME", "PYTHONHASHSEED", "OMP_NUM_THREADS", "PWD"}
    assert set(seen["environment"]) <= allowed | {"LC_CTYPE", "KMP_INIT_AT_FORK", "KMP_DUPLICATE_LIB_OK"}
    assert "do not tell" not in str(seen)


def test_a_project_runs_as_nobody_among_nobody_else(seen: dict[str, Any]) -> None:
    assert seen["user"] in ([65534, 65534, []], [65534, 65534, [65534]])
    assert len(seen["processes"]) <= 2
    assert seen["more rights"] is False


def test_a_project_sees_no_network_and_reaches_nobody(seen: dict[str, Any]) -> None:
    assert seen["interfaces"] == ["lo"]
    assert seen["connected"] == []


def test_a_project_sees_neutral_paths_and_writes_nowhere_but_in_tmp(seen: dict[str, Any]) -> None:
    assert set(seen["root"]) <= {"dev", "etc", "lib", "lib64", "opt", "proc", "tmp", "usr"}
    assert seen["files around"] == []
    assert seen["written"] == []


@confined
def test_a_fork_bomb_stops_at_the_limit() -> None:
    bomb = """
import os, signal, time
found = 0
try:
    while found < 500:
        if os.fork() == 0:
            time.sleep(60)
            os._exit(0)
        found += 1
except BlockingIOError:
    pass
"""
    said = error(attempt(bomb), processes=40)
    assert int(said.rpartition("done: ")[2]) < 40


@confined
def test_memory_is_limited() -> None:
    said = error(attempt("found = len(bytearray(6 * 1024**3))"), memory="4g")
    assert "MemoryError" in said


@confined
def test_files_are_limited() -> None:
    write = "found = open('/tmp/x', 'wb').write(b'x' * (65 * 1024**2))"
    said = error(attempt(write))
    assert "File too large" in said or "No space left" in said or "status" in said


@confined
def test_an_endless_loop_times_out() -> None:
    assert error(attempt("while True:\n    pass\nfound = 0"), seconds=4) == "Prism container evaluation timed out"


@confined
def test_a_flood_of_output_ends_it() -> None:
    said = error(attempt("while True:\n    print('x' * 10000)\nfound = 0"))
    assert said == "Prism container evaluation failed: more than 1048576 bytes of output"


@confined
def test_errors_are_the_last_words_and_bounded() -> None:
    said = error(attempt("found = 1\nraise ValueError('y' * 5000)"))
    assert said.startswith("Prism container evaluation failed: ")
    assert len(said) <= 2000


@confined
def test_nothing_of_it_is_left_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    threads = threading.active_count()
    evaluate(MODEL)
    error(attempt("found = 1"))
    assert list(tmp_path.iterdir()) == []
    assert threading.active_count() == threads


@confined
@pytest.mark.parametrize(
    "trick",
    [
        "print('PRISM_METRICS_JSON={\"q_arch\": 1.0}')\n    raise SystemExit(0)",
        "import os\n    os._exit(0)",
        "import os\n    [os.write(n, b'\\0\\0\\0\\x10\\0\\0\\0\\0{\"q_arch\": 1.0}  ') for n in range(3, 12)]",
        "import os\n    os.closerange(3, 64)",
        "import sys\n    sys.modules['__main__'].answer({'parameters': 1, 'learning_rate': 'x', 'batch_size': 1})",
        "import sys\n    sys.modules['__main__'].answer({'parameters': -1, 'learning_rate': 1.0, 'batch_size': 1})",
        "import sys\n    sys.modules['__main__'].answer({}, b'x' * 100)",
    ],
)
def test_metrics_cannot_be_said(trick: str) -> None:
    code = MODEL.replace("def build_model(ctx):\n", f"def build_model(ctx):\n    {trick}\n")
    found = evaluate(code)
    assert "error" in found or found["metrics"]["q_arch"] < 0.2


ANSWER = "def inference_logits(model, batch, ctx):\n"
CHEATS = {
    "a loss that is always good": "def compute_loss(model, batch, ctx):\n"
    "    return sum(p.sum() for p in model.parameters()) * 0.0\n",
    "a step that says it is good": "def train_step(model, batch, optimizer, ctx):\n    return 0.0\n",
    "no opinion": ANSWER + "    return torch.zeros(*batch.tokens.shape, ctx.vocab_size, requires_grad=True)\n",
    "the targets, if they were told": ANSWER
    + "    return torch.nn.functional.one_hot(batch.targets, ctx.vocab_size) * 100.0 + model(batch.tokens) * 0\n",
    "a bad start on purpose": "class S:\n    trained = False\n\n" + ANSWER + "    known = model(batch.tokens) * 0.0\n"
    "    return known if S.trained else known + torch.randn(*known.shape) * 1000\n\n"
    "def train_step(model, batch, optimizer, ctx):\n    S.trained = True\n    return 0.0\n",
}


@confined
@pytest.mark.parametrize("name", CHEATS)
def test_hooks_that_cheat_earn_no_quality(name: str) -> None:
    """A start counts no worse than knowing nothing."""
    found = evaluate(MODEL + CHEATS[name])
    efficiency = 0.18 / (1 + 5.0103)
    assert found["metrics"]["q_arch"] == pytest.approx(efficiency, abs=0.002)


@confined
@pytest.mark.parametrize("value", ["float('nan')", "float('inf')", "-float('inf')"])
def test_logits_that_are_no_numbers_fail(value: str) -> None:
    hook = f"def infer(model, batch, ctx):\n    return torch.full((*batch.tokens.shape, ctx.vocab_size), {value})\n"
    assert "not finite" in error(MODEL + hook)


@confined
def test_a_model_is_as_large_as_is_allowed() -> None:
    assert "parameters; 1 to 1000 are allowed" in error(MODEL, max_parameters=1000)
    assert "0 parameters" in error(MODEL.replace("Mix(ctx.vocab_size)", "torch.nn.Identity()"))


def test_without_bubblewrap_nothing_runs_and_the_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda _name: None)
    assert error(MODEL) == (
        "Prism container evaluation failed: bubblewrap is not installed (Debian package: bubblewrap), "
        "and strangers' code does not run without it"
    )


@pytest.mark.skipif(not shutil.which("bwrap"), reason="without bubblewrap that is what is told")
def test_a_missing_environment_is_named() -> None:
    assert "environment /nonexistent/python is missing" in error(MODEL, python="/nonexistent/python")


def test_a_project_that_cannot_be_unpacked_is_a_failure() -> None:
    assert "could not be unpacked" in judge.evaluate("x", "!!!", RUN)["error"]
    assert "PRISM_PLATFORM_EVAL_MEMORY" in error(MODEL, memory="lots")


def test_a_language_is_its_submission_s_own_and_the_same_every_time() -> None:
    first, again, other = (Language(name).sequences(4, 32) for name in ("a", "a", "b"))
    assert first == again != other
    assert all(0 <= token < VOCABULARY for row in first for token in row)


IN_THE_IMAGE = """
import json, os, subprocess, sys
sys.path.insert(0, {root!r})
from tests_of_the_image import project, RUN
from layers.evaluator import judge
found = judge.evaluate("submission-1", project, RUN)
orphans = subprocess.run(["pgrep", "-f", {mark!r}], capture_output=True, text=True).stdout.split()
print(json.dumps([found, orphans]))
"""


def open_to_all(place: Path) -> bool:
    """Whether nobody in particular may go there."""
    return all(folder.stat().st_mode & 0o001 for folder in (place, *place.parents))


@pytest.mark.skipif(not Path(PYTHON).exists(), reason="; ".join(MISSING))
@pytest.mark.skipif(
    not open_to_all(Path(os.path.realpath(PYTHON))), reason="the interpreter lies in a folder closed to others"
)
def test_in_the_image_a_guest_leaves_no_process_and_sees_no_secret(tmp_path: Path) -> None:
    """There the function is the wall; the run itself still has a fresh process, no environment and limits."""
    mark = f"sleeper-{os.getpid()}"
    act = f"""
import os, sys
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        os.execv(sys.executable, [sys.executable, '-c', 'import time; time.sleep(120)', '{mark}'])
    os._exit(0)
found = sorted(os.environ)
"""
    content = {"files": {"model.py": attempt(act)}, "entrypoint": "model.py"}
    packed = base64.b64encode(zlib.compress(json.dumps(content).encode())).decode()
    (tmp_path / "tests_of_the_image.py").write_text(f"project = {packed!r}\nRUN = {RUN!r}\n")
    root = str(Path(__file__).resolve().parent.parent.parent)
    script = IN_THE_IMAGE.format(root=root, mark=mark)
    environment = {"PRISM_EVALUATOR_IMAGE": "1", "PATH": os.environ["PATH"], "SECRET": "x", "PYTHONPATH": str(tmp_path)}
    tmp_path.chmod(0o755)
    told = subprocess.run([PYTHON, "-c", script], env=environment, capture_output=True, text=True, check=True)
    found, orphans = json.loads(told.stdout)
    assert "done: [" in found["error"]
    assert "SECRET" not in found["error"]
    assert orphans == []
