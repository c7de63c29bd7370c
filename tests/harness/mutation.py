"""`python -m tests.harness.mutation [WORD…]`: removes one guard at a time and expects a test to notice.

Guards are listed in `tests/<part>/guards.py`; each names its file, the text that is the guard, what stands there when
it is gone, and the tests that must fail then: files, or single tests as `file::test`. The work happens in a copy of
the repository.
"""

from __future__ import annotations

import importlib
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
_COPIED = ("app.py", "chalicelib", "infra", "local", "subnetctl", "tests", "docs", "bench", "layers", "pyproject.toml")
_SHARED = (".envs", "node_modules")
_LEFT_OUT = shutil.ignore_patterns("__pycache__", "*.pyc", "node_modules", ".local")
_SECONDS = 300
UNNOTICED = "UNNOTICED"


@dataclass(frozen=True)
class Guard:
    """One line that keeps something bad out, and how the code looks without it."""

    name: str
    file: str
    guard: str
    without: str
    tests: str

    def stands_once(self) -> bool:
        return (ROOT / self.file).read_text("utf-8").count(self.guard) == 1


@dataclass(frozen=True)
class Part:
    """Makes the guards of one folder; a test file is named by its subject, one test of it as `subject:function`."""

    folder: str
    tests: str
    usual: str = ""

    def __call__(self, module: str, name: str, guard: str, without: str, tests: str = "") -> Guard:
        nodes = [self._node(*test.split(":")) for test in (tests or self.usual or module).split()]
        return Guard(name, f"{self.folder}/{module}.py", guard, without, " ".join(nodes))

    def _node(self, subject: str, *function: str) -> str:
        return "::".join([f"tests/{self.tests}/test_{subject}.py", *function])


def guards() -> list[Guard]:
    """Every listed guard of every part."""
    found: list[Guard] = []
    for path in sorted((ROOT / "tests").glob("*/guards.py")):
        found += importlib.import_module(f"tests.{path.parent.name}.guards").GUARDS
    return found


def main(words: list[str]) -> int:
    wanted = [guard for guard in guards() if not words or any(word in f"{guard.file} {guard.name}" for word in words)]
    with tempfile.TemporaryDirectory(prefix="mutants-") as folder:
        copy = Path(folder)
        _copy_to(copy)
        unnoticed = [guard for guard in wanted if not _noticed(guard, copy)]
    print(f"{len(wanted) - len(unnoticed)} of {len(wanted)} guards are missed when they are gone")
    return 1 if unnoticed else 0


def _copy_to(folder: Path) -> None:
    for name in _COPIED:
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, folder / name, ignore=_LEFT_OUT)
        elif source.exists():
            shutil.copy(source, folder / name)
    for name in _SHARED:
        if (ROOT / name).exists():
            (folder / name).symlink_to(ROOT / name)


def _noticed(guard: Guard, copy: Path) -> bool:
    path = copy / guard.file
    text = path.read_text("utf-8")
    if text.count(guard.guard) != 1:
        print(f"LOST  {guard.file}: {guard.name}: its text is not there once")
        return False
    path.write_text(text.replace(guard.guard, guard.without), "utf-8")
    started = time.monotonic()
    try:
        verdict = _verdict(guard, copy)
    finally:
        path.write_text(text, "utf-8")
    print(f"{verdict:9} {guard.file}: {guard.name} ({time.monotonic() - started:.1f} s)", flush=True)
    return verdict != UNNOTICED


def _verdict(guard: Guard, copy: Path) -> str:
    """A failed test counts, a test run that could not even start does not; tests that are skipped prove nothing."""
    command = [sys.executable, "-m", "pytest", "-q", "-x", "--no-header", *guard.tests.split()]
    try:
        done = subprocess.run(command, cwd=copy, capture_output=True, text=True, timeout=_SECONDS, check=False)
    except subprocess.TimeoutExpired:
        return "HANGS"
    if done.returncode not in {0, 1}:
        print(done.stdout[-2000:], done.stderr[-2000:])
    if done.returncode == 0 and " passed" not in done.stdout:
        return "SKIPPED"
    return "ok" if done.returncode == 1 else UNNOTICED


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
