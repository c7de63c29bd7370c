"""Where a guest runs: no network, no environment, a read-only system under neutral paths, limits on everything.

Without bubblewrap (and outside the evaluator's image) nothing is run at all.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import json
import os
import re
import selectors
import shutil
import signal
import struct
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

NOBODY = 65534
MAX_OUTPUT_BYTES = 1_048_576
MAX_FILE_BYTES = 67_108_864
MAX_ANSWER_BYTES = 65_536
LONGEST_SECONDS = 870
_GUEST = Path(__file__).parent / "guest"
_LAPTOP_PYTHON = Path(__file__).parent.parent.parent / ".envs" / "evaluator" / "bin" / "python"
_IN_IMAGE = "PRISM_EVALUATOR_IMAGE"
_HEADER = struct.Struct(">II")
_KEPT_OUTPUT = 4000
_ERROR_CHARACTERS = 2000
_SIZE = re.compile(r"(\d+)([kmg]?)b?", re.IGNORECASE)
_UNIT = {"": 1, "k": 1024, "m": 1024**2, "g": 1024**3}
_PR_SET_DUMPABLE = 4
_PR_SET_CHILD_SUBREAPER = 36
_SYSTEM_FOLDERS = ("/lib", "/lib64", "/usr/lib", "/usr/lib64", "/etc/ld.so.cache")
_OPEN_FOLDERS = ("/opt", "/opt/python", "/opt/python/bin", "/opt/python/lib", "/usr", "/etc")
_ASK = (
    "import json, sys, sysconfig; print(json.dumps([sys.base_prefix, sysconfig.get_path('purelib'),"
    " '%d.%d' % sys.version_info[:2]]))"
)
NO_BUBBLEWRAP = (
    "failed: bubblewrap is not installed (Debian package: bubblewrap), and strangers' code does not run without it"
)


class RunFailed(Exception):
    """Why there is no measurement, in words for the author of the project."""


@dataclass(frozen=True)
class Limits:
    """What one run may use."""

    seconds: float
    memory: int
    processes: int
    threads: int
    python: str

    @classmethod
    def of(cls, run: Mapping[str, Any]) -> Limits:
        found = _SIZE.fullmatch(str(run["memory"]).strip())
        if not found:
            raise RunFailed(f"failed: PRISM_PLATFORM_EVAL_MEMORY holds {run['memory']!r}")
        return cls(
            seconds=min(float(run["seconds"]), LONGEST_SECONDS),
            memory=int(found[1]) * _UNIT[found[2].lower()],
            processes=int(run["processes"]),
            threads=int(run["threads"]),
            python=str(run["python"]),
        )


class Guest:
    """A running project, asked one thing at a time over pipes that are not its standard output."""

    def __init__(self, files: Mapping[str, str], limits: Limits) -> None:
        self._limits = limits
        self._deadline = time.monotonic() + limits.seconds
        self._folder = tempfile.TemporaryDirectory(prefix="prism-")
        self._output = bytearray()
        self._flooded = False
        try:
            _write_project(Path(self._folder.name), files)
            self._start()
        except BaseException:
            self._folder.cleanup()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._kill()
        os.close(self._to)
        os.close(self._from)
        if os.environ.get(_IN_IMAGE) == "1":
            _end_descendants()
        self._reader.join()
        self._folder.cleanup()

    def ask(self, question: Mapping[str, Any], blob: bytes = b"", *, answer: int = 0) -> tuple[dict[str, Any], bytes]:
        """Send one question and read its answer, whose blob must have the expected length."""
        header = json.dumps(question).encode()
        try:
            self._write(_HEADER.pack(len(header), len(blob)) + header + blob)
            size, blob_size = _HEADER.unpack(self._read(_HEADER.size))
            if size > MAX_ANSWER_BYTES or blob_size != answer:
                raise RunFailed("did not return metrics")
            told = json.loads(self._read(size))
            content = self._read(blob_size)
        except (EOFError, BrokenPipeError):
            raise self._died() from None
        except ValueError:
            raise RunFailed("did not return metrics") from None
        if not isinstance(told, dict):
            raise RunFailed("did not return metrics")
        return told, content

    def _start(self) -> None:
        inside, self._to = os.pipe()
        self._from, outside = os.pipe()
        os.set_blocking(self._to, False)
        try:
            command, environment = _command(Path(self._folder.name), self._limits, inside, outside)
            self._process = subprocess.Popen(  # noqa: S603 - our own words, and a project that is data
                command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                pass_fds=(inside, outside),
                env=environment,
                cwd="/",
                start_new_session=True,
            )
        except BaseException:
            os.close(self._to)
            os.close(self._from)
            raise
        finally:
            os.close(inside)
            os.close(outside)
        self._reader = threading.Thread(target=self._collect, daemon=True)
        self._reader.start()

    def _collect(self) -> None:
        """Keep the last words; a guest that floods its output is ended."""
        assert self._process.stdout is not None
        total = 0
        with self._process.stdout as output:
            while chunk := os.read(output.fileno(), 65_536):
                total += len(chunk)
                self._output += chunk
                del self._output[:-_KEPT_OUTPUT]
                if total > MAX_OUTPUT_BYTES and not self._flooded:
                    self._flooded = True
                    self._kill()

    def _write(self, content: bytes) -> None:
        view = memoryview(content)
        while view:
            self._wait(self._to, selectors.EVENT_WRITE)
            view = view[os.write(self._to, view) :]

    def _read(self, size: int) -> bytes:
        content = bytearray()
        while len(content) < size:
            self._wait(self._from, selectors.EVENT_READ)
            chunk = os.read(self._from, min(size - len(content), 1 << 20))
            if not chunk:
                raise EOFError
            content += chunk
        return bytes(content)

    def _wait(self, descriptor: int, event: int) -> None:
        with selectors.DefaultSelector() as selector:
            selector.register(descriptor, event)
            if not selector.select(max(0.0, self._deadline - time.monotonic())):
                raise RunFailed("timed out")

    def _kill(self) -> None:
        """The namespace dies with its first process, and everything in it."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()

    def _died(self) -> RunFailed:
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(5)
        self._kill()
        self._reader.join()
        if self._flooded:
            return RunFailed(f"failed: more than {MAX_OUTPUT_BYTES} bytes of output")
        words = self._output.decode("utf-8", "replace").strip()[-_ERROR_CHARACTERS:]
        return RunFailed(f"failed: {words or f'ended with status {self._process.returncode}'}")


def _write_project(folder: Path, files: Mapping[str, str]) -> None:
    """Readable by nobody in particular, so by everybody: the guest is a stranger to this file system."""
    folder.chmod(0o755)
    for path, text in files.items():
        place = folder / path
        if ".." in Path(path).parts or (place.is_absolute() and not place.is_relative_to(folder)):
            raise RunFailed("failed: unsafe source path")
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(text, "utf-8", "surrogateescape")
    for place in folder.rglob("*"):
        place.chmod(0o755 if place.is_dir() else 0o644)


def _command(project: Path, limits: Limits, inside: int, outside: int) -> tuple[list[str], dict[str, str]]:
    told = [str(limits.memory), str(limits.processes), str(int(limits.seconds * limits.threads) + 5)]
    told += [str(MAX_FILE_BYTES), str(NOBODY), str(inside), str(outside)]
    if os.environ.get(_IN_IMAGE) == "1":
        return _in_image(project, told, limits)
    bubblewrap = shutil.which("bwrap")
    if not bubblewrap:
        raise RunFailed(NO_BUBBLEWRAP)
    base, site, version = _interpreter(limits.python or str(_LAPTOP_PYTHON))
    launch = ["/opt/python/bin/python3", "-I", "-S", "-B", "/opt/guest/launcher.py", *told, "/opt/site", "/opt/project"]
    binds = list(_binds(base, site, version, project))
    settings = [word for name, value in _environment(limits).items() for word in ("--setenv", name, value)]
    return [bubblewrap, *_isolation(), *binds, *settings, "--", *launch], {}


def _isolation() -> list[str]:
    """Root keeps its own user namespace, in which the launcher becomes nobody; others are nobody from the start."""
    common = ["--unshare-ipc", "--unshare-pid", "--unshare-net", "--unshare-uts", "--unshare-cgroup-try"]
    common += ["--die-with-parent", "--new-session", "--clearenv", "--hostname", "prism", "--chdir", "/tmp"]  # noqa: S108
    if os.geteuid() == 0:
        return [*common, "--cap-drop", "ALL", "--cap-add", "CAP_SETUID", "--cap-add", "CAP_SETGID"]
    return [*common, "--unshare-user", "--uid", str(NOBODY), "--gid", str(NOBODY), "--cap-drop", "ALL"]


def _binds(base: str, site: str, version: str, project: Path) -> Iterator[str]:
    library = f"libpython{version}.so.1.0"
    for folder in _OPEN_FOLDERS:  # bubblewrap would close the folders that it makes on the way
        yield from ("--perms", "0755", "--dir", folder)
    for folder in _SYSTEM_FOLDERS:
        yield from ("--ro-bind-try", folder, folder)
    yield from ("--ro-bind", os.path.realpath(f"{base}/bin/python{version}"), "/opt/python/bin/python3")
    yield from ("--ro-bind", f"{base}/lib/python{version}", f"/opt/python/lib/python{version}")
    yield from ("--ro-bind-try", f"{base}/lib/{library}", f"/opt/python/lib/{library}")
    yield from ("--ro-bind", site, "/opt/site", "--ro-bind", str(_GUEST), "/opt/guest")
    yield from ("--ro-bind", str(project), "/opt/project", "--dev", "/dev", "--proc", "/proc")
    yield from ("--size", str(MAX_FILE_BYTES), "--perms", "1777", "--tmpfs", "/tmp")  # noqa: S108 - the guest's own
    yield from ("--size", str(MAX_FILE_BYTES), "--tmpfs", "/dev/shm", "--remount-ro", "/")  # noqa: S108


def _environment(limits: Limits) -> dict[str, str]:
    """All that a guest finds in its environment."""
    return {
        "PATH": "/opt/python/bin",
        "HOME": "/tmp",  # noqa: S108 - the guest's own
        "LANG": "C.UTF-8",
        "LD_LIBRARY_PATH": "/opt/python/lib",
        "PYTHONHOME": "/opt/python",
        "PYTHONHASHSEED": "0",
        "OMP_NUM_THREADS": str(limits.threads),
    }


@functools.cache
def _interpreter(python: str) -> tuple[str, str, str]:
    """Where an interpreter's own library, its packages and its version are."""
    try:
        command = [python, "-I", "-c", _ASK]
        told = subprocess.run(command, capture_output=True, text=True, check=True, env={})  # noqa: S603 - our own
    except (OSError, subprocess.CalledProcessError):
        raise RunFailed(f"failed: the evaluator's environment {python} is missing (`make setup` creates it)") from None
    base, site, version = json.loads(told.stdout)
    return str(base), str(site), str(version)


def _in_image(project: Path, told: Sequence[str], limits: Limits) -> tuple[list[str], dict[str, str]]:
    """The function is the wall; a fresh process with nothing in its environment, which cannot look into this one."""
    library = ctypes.CDLL(None)
    library.prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)
    library.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    site = next(path for path in sys.path if path.endswith("site-packages"))
    environment = _environment(limits) | {"PYTHONHOME": sys.base_prefix, "LD_LIBRARY_PATH": f"{sys.base_prefix}/lib"}
    return [sys.executable, "-I", "-S", "-B", str(_GUEST / "launcher.py"), *told, site, str(project)], environment


def _end_descendants() -> None:
    """Outside a namespace a guest's orphans come to us; none of them may meet the next guest, nor may its files."""
    while children := _children():
        for child in children:
            with contextlib.suppress(ProcessLookupError):
                os.kill(child, signal.SIGKILL)
            with contextlib.suppress(ChildProcessError):
                os.waitpid(child, 0)
    if "AWS_LAMBDA_FUNCTION_NAME" in os.environ:
        for left in Path(tempfile.gettempdir()).iterdir():
            shutil.rmtree(left) if left.is_dir() and not left.is_symlink() else left.unlink()


def _children() -> list[int]:
    found = []
    for status in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            after_name = status.read_text().rpartition(")")[2].split()
            if int(after_name[1]) == os.getpid():
                found.append(int(status.parent.name))
    return found
