"""`make run`: the embedded cloud, its tables, functions and schedules, and the HTTP server in front, until Ctrl-C."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import sys
import threading
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from botocore.exceptions import BotoCoreError, ClientError

from chalicelib.kernel import aws
from chalicelib.kernel.settings import KernelSettings, SettingError, env_file
from infra import stack, tasks, template
from local import cloud, functions
from local.folder import FolderRefused, StateFolder
from local.gateway import Gateway
from local.server import Server
from local.settings import OWN_CHAIN, SAMPLE_CHAIN, LaptopSettings, chain_source, check_all
from local.ticker import Ticker

if TYPE_CHECKING:
    from collections.abc import Iterator

UNUSABLE_SETTING = 2
FAILED = 1


class PortTaken(Exception):
    """One line: the address, and what to do."""


class Ended:
    """Why the server ends: a signal, which is how it should, or a failure."""

    def __init__(self) -> None:
        self._event = threading.Event()
        self._serving = False
        self.failure = ""
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, self._on_signal)

    def fail(self, text: str) -> None:
        self.failure = text
        self._event.set()

    def wait(self) -> None:
        self._event.wait()

    @contextmanager
    def before_serving(self) -> Iterator[None]:
        """A start can be given up at any moment; an orderly stop that has begun is not to be disturbed."""
        self._serving = False
        try:
            yield
        finally:
            self._serving = True

    def _on_signal(self, *_: object) -> None:
        self._event.set()
        if not self._serving:
            self._serving = True
            raise KeyboardInterrupt


def say(text: str) -> None:
    """Everything but the `ready` line goes to standard error."""
    print(text, file=sys.stderr, flush=True)


def main() -> int:
    ended = Ended()
    try:
        with ExitStack() as stops:
            with ended.before_serving():
                address = start(stops, ended)
            print(f"ready {address}", flush=True)
            ended.wait()
            say("stopping")
    except KeyboardInterrupt:
        say("stopped before it was ready")
    except SettingError as error:
        say(str(error))
        return UNUSABLE_SETTING
    except (PortTaken, FolderRefused, cloud.CloudFailed, stack.StackFailed) as error:
        say(str(error))
        return FAILED
    except (BotoCoreError, ClientError) as error:
        say(f"the cloud at {os.environ.get('AWS_ENDPOINT_URL')} refused: {error}")
        return FAILED
    if ended.failure:
        say(ended.failure)
        return FAILED
    return 0


def start(stops: ExitStack, ended: Ended) -> str:
    """Bring everything up; `stops` takes it down in the opposite order."""
    name_cloud_from_file()
    settings = LaptopSettings.current()
    listener = listen(settings.host, settings.port)
    stops.callback(listener.close)
    import app  # noqa: PLC0415 - mounts the systems, which declares their knobs

    check_all()
    folder = StateFolder(Path(settings.state_dir))
    stops.callback(folder.close)
    folder.link_chain(OWN_CHAIN, SAMPLE_CHAIN)
    address = url(settings.host, listener.getsockname()[1])
    if not shutil.which("bwrap"):
        say("bubblewrap is not installed (Debian package: bubblewrap): PRISM evaluations will end `failed`")
    given = cloud.given_endpoint()
    folder.announce(given or start_cloud(folder, stops, ended), address)
    os.environ["CHAIN_SOURCE"] = chain_source()
    put_up()
    if not given:
        for jobs in app.jobs():
            jobs.forget_leases()
    server = Server(Gateway(app.app, say).answer, listener)
    ticker = Ticker(app.jobs(), say)
    stops.callback(server.stop)
    stops.callback(ticker.stop)
    ticker.start()
    server.start()
    return address


def name_cloud_from_file() -> None:
    """`.env` may name a cloud as well as the environment; the libraries that use one read the environment only."""
    for name, value in env_file().items():
        if name.startswith(("AWS_", "LOCALSTACK")):
            os.environ.setdefault(name, value)


def listen(host: str, port: int) -> socket.socket:
    """Taken at once and for good, so that of two starts on one port the second is told before it does anything."""
    try:
        family, *_, place = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        return socket.create_server(place[:2], family=family, backlog=1024)
    except socket.gaierror as error:
        raise SettingError("HOST", host, f"an address or a name of this machine ({error.strerror})") from None
    except OSError as error:
        raise PortTaken(f"PORT {port} on HOST {host} cannot be listened on: {error.strerror}") from None


def url(host: str, port: int) -> str:
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def start_cloud(folder: StateFolder, stops: ExitStack, ended: Ended) -> str:
    embedded = cloud.EmbeddedCloud(folder)
    stops.callback(embedded.stop)
    embedded.watch(ended.fail)
    cloud.use_embedded(embedded.endpoint)
    return embedded.endpoint


def put_up() -> None:
    """Functions, then what invokes them; all of it anew at every start, and from the definitions that are deployed."""
    stage = KernelSettings.current().stage
    functions.deploy(list(tasks.declared()))
    stack.apply(aws.client, stage, template.build(stage))


if __name__ == "__main__":
    sys.exit(main())
