"""Creates the environments that the project runs in, then runs a command in them.

Standard library only: this runs on a bare Python, before any environment exists.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
import subprocess
import sys
import threading
import time
from collections import deque
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

ROOT = Path(__file__).resolve().parent.parent
OLDEST_PYTHON = (3, 11)
NEWEST_PYTHON = (3, 15)
STEPS_OF_PIP = ("Collecting", "Downloading", "Using cached", "Building", "Preparing", "Installing", "Successfully")


def birthplace() -> str:
    """A virtual environment names its interpreter and its own place everywhere; with another of either it is void."""
    return f"{ROOT} {sys.base_prefix} {sys.version_info[0]}.{sys.version_info[1]}"


@dataclass(frozen=True)
class Environment:
    """One virtual environment: rebuilt when a watched file, the interpreter or the folder's place changes."""

    folder: str
    holds: str
    install: tuple[str, ...]
    watched: tuple[str, ...]
    extras: tuple[str, ...] = ()

    @property
    def path(self) -> Path:
        return ROOT / self.folder

    @property
    def python(self) -> Path:
        return self.path / "bin" / "python"

    @property
    def stamp(self) -> Path:
        return self.path / "installed.json"

    def key(self) -> str:
        """What an installation was made from; an equal key means that nothing needs to be done."""
        parts = [birthplace(), *self.install]
        parts += [(ROOT / name).read_text() for name in self.watched]
        return hashlib.sha256("\0".join(parts).encode()).hexdigest()


# Compatible: a path in a file rather than an import hook that every start and every function would load.
_EDITABLE = ("--config-settings", "editable_mode=compat", "-e", ".")
PROJECT = Environment(".venv", "the project", _EDITABLE, ("pyproject.toml", "requirements.txt"), ("server",))
CLOUD = Environment(
    ".envs/cloud",
    "the embedded cloud",
    ("-r", "local/cloud-requirements.txt"),
    ("local/cloud-requirements.txt",),
)
EVALUATOR = Environment(
    ".envs/evaluator",
    "the evaluator of strangers' models",
    ("--retries", "1", "-r", "layers/evaluator/requirements.txt"),
    ("layers/evaluator/requirements.txt",),
)


@dataclass(frozen=True)
class Command:
    """A `make` target: what must be installed, and what then runs in the project's environment."""

    environments: tuple[Environment, ...]
    extras: tuple[str, ...] = ()
    steps: tuple[tuple[str, ...], ...] = ()


COMMANDS = {
    "setup": Command((PROJECT, CLOUD, EVALUATOR), ("dev",)),
    "run": Command((PROJECT, CLOUD, EVALUATOR), steps=(("-m", "local.run"),)),
    "test": Command(
        (PROJECT, CLOUD, EVALUATOR),
        ("dev",),
        (("-m", "pytest", "-n", "auto", "--maxprocesses", "4", "--dist", "loadfile", "-rs", "--durations", "25"),),
    ),
    "check": Command(
        (PROJECT,),
        ("dev",),
        (
            ("-m", "ruff", "check", "."),
            ("-m", "ruff", "format", "--check", "."),
            ("-m", "mypy"),
            ("-m", "pytest", "-q", "tests/rules"),
        ),
    ),
    "docs": Command((PROJECT,), ("dev",), (("-m", "docs.reference"),)),
    "bench": Command((PROJECT, CLOUD, EVALUATOR), ("dev",), (("-m", "bench"),)),
    "mutate": Command((PROJECT,), ("dev",), (("-m", "tests.harness.mutation"),)),
    "plan": Command((PROJECT,), steps=(("-m", "infra.deploy", "plan"),)),
    "deploy": Command((PROJECT,), steps=(("-m", "infra.deploy", "apply"),)),
    "finish": Command((PROJECT,), steps=(("-m", "infra.deploy", "finish"),)),
    "smoke": Command((PROJECT,), steps=(("-m", "infra.deploy", "smoke"),)),
    "pause": Command((PROJECT,), steps=(("-m", "infra.pause", "pause"),)),
    "resume": Command((PROJECT,), steps=(("-m", "infra.pause", "resume"),)),
    "restore": Command((PROJECT,), steps=(("-m", "infra.restore"),)),
    "destroy": Command((PROJECT,), steps=(("-m", "infra.deploy", "destroy"),)),
    "package": Command((PROJECT,), steps=(("-m", "infra.package"),)),
    "image": Command((PROJECT,), steps=(("-m", "infra.push"),)),
}


class BootstrapError(Exception):
    """Something about this machine keeps an environment from being made."""


class Progress:
    """One line that moves on a terminal; elsewhere a line at the start, every ten seconds and at the end."""

    def __init__(self, subject: str, out: IO[str]) -> None:
        self.subject = subject
        self.out = out
        self.started = time.monotonic()
        self.shown = self.started
        self._write(f"{subject} ...", last=not out.isatty())

    def update(self, doing: str) -> None:
        now = time.monotonic()
        if not self.out.isatty() and now - self.shown < 10:  # noqa: PLR2004
            return
        self.shown = now
        self._write(f"{self.subject} ({now - self.started:.0f} s): {doing}", last=not self.out.isatty())

    def done(self) -> None:
        self._write(f"{self.subject}: done in {time.monotonic() - self.started:.0f} s", last=True)

    def _write(self, text: str, *, last: bool) -> None:
        clear = "\r\033[K" if self.out.isatty() else ""
        self.out.write(f"{clear}{text[:100]}" + ("\n" if last else ""))
        self.out.flush()


@contextmanager
def exclusive(folder: Path) -> Iterator[None]:
    """Two first starts on one checkout take turns; the second finds the work done."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print("another start is installing; waiting for it", file=sys.stderr, flush=True)
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def installed(environment: Environment) -> dict[str, object]:
    """The stamp of the last finished installation, empty when there is none or its interpreter is gone."""
    if not environment.python.exists():
        return {}
    try:
        stamp = json.loads(environment.stamp.read_text())
    except (OSError, ValueError):
        return {}
    return stamp if isinstance(stamp, dict) else {}


def ensure(environment: Environment, extras: tuple[str, ...] = ()) -> None:
    """Installs what is missing; an environment that was left half made is made anew."""
    stamp = installed(environment)
    had = stamp.get("extras")
    known = {str(extra) for extra in had} if isinstance(had, list) else set()
    extras = (*environment.extras, *extras)
    if stamp.get("key") == environment.key() and known.issuperset(extras):
        return
    progress = Progress(f"installing {environment.holds} into {environment.folder}", sys.stderr)
    environment.stamp.unlink(missing_ok=True)
    if stamp.get("birthplace") != birthplace():
        shutil.rmtree(environment.path, ignore_errors=True)
        create(environment)
    wanted = sorted(known.union(extras))
    target = list(environment.install)
    if wanted:
        target[-1] += f"[{','.join(wanted)}]"
    pip(environment, target, progress)
    content = {"key": environment.key(), "extras": wanted, "birthplace": birthplace()}
    environment.stamp.write_text(json.dumps(content))
    progress.done()


def create(environment: Environment) -> None:
    made = subprocess.run(
        [sys.executable, "-m", "venv", str(environment.path)], capture_output=True, text=True, check=False
    )
    if made.returncode != 0:
        shutil.rmtree(environment.path, ignore_errors=True)
        why = "".join(made.stdout.splitlines(keepends=True)[:1] + made.stderr.splitlines(keepends=True)[-1:])
        raise BootstrapError(f"python -m venv failed (on Debian it comes with the package python3-venv): {why.strip()}")


def pip(environment: Environment, target: list[str], progress: Progress) -> None:
    """Runs pip and tells what it is at; its output is shown only when it fails."""
    command = [str(environment.python), "-m", "pip", "install", "--disable-pip-version-check"]
    command += ["--no-input", "--progress-bar", "off", *target]
    tail: deque[str] = deque(maxlen=20)
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        assert process.stdout is not None
        reader = threading.Thread(target=tail.extend, args=(process.stdout,), daemon=True)
        reader.start()
        while reader.is_alive():
            reader.join(0.5)
            progress.update(doing(list(tail)))
    if process.returncode != 0:
        sys.stderr.write("\n" + "".join(tail))
        raise BootstrapError(f"pip could not install {environment.holds}; its last words are above")


def doing(lines: Iterable[str]) -> str:
    """The last thing that pip said it does; its warnings and hints are no progress."""
    told = [line.strip() for line in lines if line.strip().startswith(STEPS_OF_PIP)]
    return told[-1] if told else "resolving"


def require_python() -> None:
    """Hands over to a newer interpreter on this machine when the one that was called is too old."""
    if sys.version_info >= OLDEST_PYTHON:
        return
    for minor in range(NEWEST_PYTHON[1], OLDEST_PYTHON[1] - 1, -1):
        newer = shutil.which(f"python3.{minor}")
        if newer:
            os.execv(newer, [newer, *sys.argv])  # noqa: S606
    oldest = ".".join(map(str, OLDEST_PYTHON))
    raise BootstrapError(f"Python {oldest} or newer is needed, this is {sys.version.split()[0]}")


def perform(command: Command, arguments: list[str]) -> int:
    """Runs every step, the last with the caller's arguments; a single step replaces this process."""
    python = str(PROJECT.python)
    if len(command.steps) == 1:
        os.execv(python, [python, *command.steps[0], *arguments])  # noqa: S606
    failed = 0
    for step in command.steps:
        failed |= subprocess.run([python, *step], check=False, cwd=ROOT).returncode
    return 1 if failed else 0


def extras_for(command: Command) -> tuple[str, ...]:
    """A LocalStack is found through its own client library, which comes with the `dev` extra."""
    if os.environ.get("LOCALSTACK", "").lower() in {"1", "true"}:
        return (*command.extras, "dev")
    return command.extras


def main(arguments: list[str]) -> int:
    if not arguments or arguments[0] not in COMMANDS:
        print(f"usage: bootstrap.py {'|'.join(COMMANDS)} [ARGUMENTS]", file=sys.stderr)
        return 2
    command = COMMANDS[arguments[0]]
    os.chdir(ROOT)
    try:
        require_python()
        with exclusive(ROOT / ".envs"):
            for environment in command.environments:
                ensure(environment, extras_for(command) if environment is PROJECT else ())
    except BootstrapError as error:
        print(error, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\ninterrupted; the next start goes on from here", file=sys.stderr)
        return 130
    return perform(command, arguments[1:])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
