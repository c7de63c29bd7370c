"""The cloud that the server works on: the embedded one as a child process, or one that the environment names."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable

from chalicelib.kernel import aws
from local.folder import StateFolder
from local.settings import ROOT

PYTHON = ROOT / ".envs" / "cloud" / "bin" / "python"
SECONDS_TO_STOP = 9
SECONDS_OF_A_PAUSE = 3  # a save that writes nothing for so long hangs
CREDENTIALS = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test"}
# What a program on this machine needs to reach the world; nothing else of the caller's environment gets in.
_PASSED_ON = ["PATH", "HOME", "LANG", "LC_ALL", "TZ", "SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE"]
_PASSED_ON += [name for proxy in ("HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY") for name in (proxy, proxy.lower())]


class CloudFailed(Exception):
    """One line: what did not start."""


def given_endpoint() -> str | None:
    """A cloud that is there already, by `AWS_ENDPOINT_URL` or by `LOCALSTACK=1`; nothing is probed."""
    try:
        endpoint = aws.endpoint("dynamodb")
    except ImportError:
        raise CloudFailed(
            "LOCALSTACK=1 needs the package localstack-client: .venv/bin/python -m pip install localstack-client"
        ) from None
    if endpoint:
        use_given()
    return endpoint


def use_given() -> None:
    """An emulator takes any credentials; a developer need not have some."""
    for name, value in CREDENTIALS.items():
        os.environ.setdefault(name, value)
    os.environ.setdefault("AWS_DEFAULT_REGION", aws.REGION)


def use_embedded(endpoint: str) -> None:
    """Point this process at the embedded cloud, whatever the caller's AWS configuration says."""
    for name in ("AWS_PROFILE", "AWS_DEFAULT_PROFILE", "AWS_SESSION_TOKEN", "AWS_REGION"):
        os.environ.pop(name, None)
    os.environ |= CREDENTIALS | {
        "AWS_ENDPOINT_URL": endpoint,
        "AWS_DEFAULT_REGION": aws.REGION,
        "AWS_CONFIG_FILE": os.devnull,
        "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
    }
    for name in ("NO_PROXY", "no_proxy"):
        os.environ[name] = ",".join(filter(None, [os.environ.get(name), "127.0.0.1,localhost"]))
    aws.forget_clients()


class EmbeddedCloud:
    """The emulator in a session of its own, so that a Ctrl-C reaches the server first, which stops it in order.

    It ends by itself when its standard input does, so it outlives no server, however that one ends.
    """

    def __init__(self, folder: StateFolder) -> None:
        self._log = folder.path / "cloud.log"
        self._tables = folder.path / "tables"
        self._stopping = False
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                [PYTHON, "-s", "-m", "local.emulator", folder.path, str(folder.last_port), sys.executable],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                start_new_session=True,
                pass_fds=(folder.lock_descriptor,),
                env={name: os.environ[name] for name in _PASSED_ON if name in os.environ},
                cwd=ROOT,
            )
        assert self._process.stdout is not None
        port = self._process.stdout.readline().strip()
        if not port:
            self._process.wait()
            raise CloudFailed(f"the embedded cloud did not start: {self._last_words()}")
        self.endpoint = f"http://127.0.0.1:{int(port)}"

    def watch(self, died: Callable[[str], None]) -> None:
        """Call once when it ends without being told to."""

        def wait() -> None:
            status = self._process.wait()
            if not self._stopping:
                died(f"the embedded cloud has ended (status {status}): {self._last_words()}")

        threading.Thread(target=wait, daemon=True).start()

    def stop(self) -> None:
        """Let it save; it takes its functions along. What takes long to save is left to end by itself."""
        self._stopping = True
        assert self._process.stdin is not None
        self._process.stdin.close()
        try:
            self._process.wait(SECONDS_TO_STOP)
        except subprocess.TimeoutExpired:
            if self._is_saving():
                print("the embedded cloud is large and still saves; it ends by itself", file=sys.stderr, flush=True)
                return
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()

    def _is_saving(self) -> bool:
        """Whether a draft of what it keeps grows."""
        now = time.time()
        try:
            return any(now - draft.stat().st_mtime < SECONDS_OF_A_PAUSE for draft in self._tables.glob("*.tmp"))
        except FileNotFoundError:
            return True

    def _last_words(self) -> str:
        lines = self._log.read_text("utf-8", "replace").split("\n")
        said = [line for line in lines if line.strip()]
        return f"{said[-1]} (see {self._log})" if said else f"it said nothing (see {self._log})"
