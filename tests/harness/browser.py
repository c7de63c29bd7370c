"""A headless Chromium that looks at our pages: what they say, what they log, how they look."""

from __future__ import annotations

import base64
import itertools
import json
import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.request import urlopen

from websockets.sync.client import ClientConnection, connect

ROOT = Path(__file__).resolve().parent.parent.parent
AXE = ROOT / "node_modules" / "axe-core" / "axe.min.js"
NO_AXE = "the npm package axe-core is not installed here: `npm install --no-save axe-core@4.14.1`"
_PICTURES = os.environ.get("PICTURES")
CHROMIUM = shutil.which("chromium")
NO_CHROMIUM = "pages are looked at with Debian's package `chromium`, which is not installed"
_QUIET = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync",
    "--disable-background-networking", "--disable-component-update", "--disable-dev-shm-usage", "--hide-scrollbars",
)  # fmt: skip
_PATIENCE_SECONDS = 20.0


class Page:
    """One tab."""

    def __init__(self, connection: ClientConnection) -> None:
        self._connection = connection
        self._numbers = itertools.count(1)
        self.complaints: list[str] = []
        for domain in ("Page", "Runtime", "Log", "Network"):
            self._send(f"{domain}.enable")

    def open(self, url: str, *, width: int = 1200, dark: bool = False) -> None:
        """Load a page at a width and in a colour scheme."""
        self.resize(width, dark=dark)
        self._send("Page.navigate", url=url)
        self.wait_for("document.readyState === 'complete'")

    def resize(self, width: int, *, dark: bool) -> None:
        self._send("Emulation.setDeviceMetricsOverride", width=width, height=900, deviceScaleFactor=1, mobile=False)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self._send("Emulation.setEmulatedMedia", features=[scheme])

    def evaluate(self, script: str) -> Any:
        answer = self._send("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        if "exceptionDetails" in answer:
            raise AssertionError(f"{script}: {answer['exceptionDetails']}")
        return answer["result"].get("value")

    def wait_for(self, condition: str) -> None:
        """Until a script is true; the page's own text tells why it never was."""
        for _ in range(int(_PATIENCE_SECONDS / 0.05)):
            if self.evaluate(f"Boolean({condition})"):
                return
            time.sleep(0.05)
        raise AssertionError(f"never: {condition}\n{self.evaluate('document.body.innerText')}\n{self.complaints}")

    def text(self, selector: str = "body") -> str:
        return str(self.evaluate(f"document.querySelector({json.dumps(selector)})?.innerText ?? ''"))

    def bytes_loaded(self) -> int:
        """What the page itself fetched: documents, scripts and styles, without the data it polls."""
        entries = "[...performance.getEntriesByType('navigation'), ...performance.getEntriesByType('resource')]"
        own = f"{entries}.filter((entry) => !['fetch', 'xmlhttprequest'].includes(entry.initiatorType))"
        return int(self.evaluate(f"{own}.reduce((sum, entry) => sum + entry.decodedBodySize, 0)"))

    def flaws(self, name: str) -> list[str]:
        """What is wrong with the page as it stands, on a desk by day and on a phone by night.

        That is what sticks out sideways, and what axe (where it is installed) calls serious or critical. With a folder
        in `PICTURES`, a picture of each is left there.
        """
        found = []
        for width, dark in itertools.product((1200, 360), (False, True)) if _PICTURES else ((1200, False), (360, True)):
            self.resize(width, dark=dark)
            if _PICTURES:
                self._photograph(Path(_PICTURES) / f"{name}-{width}-{'dark' if dark else 'light'}.png")
            if self.evaluate("document.documentElement.scrollWidth > window.innerWidth"):
                found.append(f"{width}: wider than its window")
            found += [f"{width}: {flaw}" for flaw in self._axe()]
        return found

    def _axe(self) -> list[str]:
        if not AXE.exists():
            return []
        if not self.evaluate("'axe' in window"):
            self.evaluate(AXE.read_text("utf-8") + "; true")
        run = "axe.run(document, { resultTypes: ['violations'] })"
        rules = json.loads(self.evaluate(f"{run}.then((result) => JSON.stringify(result.violations))"))
        return [
            f"{rule['id']}: {node['html'][:150]} {node.get('failureSummary', '')[:300]}"
            for rule in rules
            if rule["impact"] in {"serious", "critical"}
            for node in rule["nodes"]
        ]

    def _photograph(self, path: Path) -> None:
        """The whole page as a PNG."""
        path.parent.mkdir(parents=True, exist_ok=True)
        answer = self._send("Page.captureScreenshot", format="png", captureBeyondViewport=True)
        path.write_bytes(base64.b64decode(answer["data"]))

    def _send(self, method: str, **params: Any) -> dict[str, Any]:
        number = next(self._numbers)
        self._connection.send(json.dumps({"id": number, "method": method, "params": params}))
        while True:
            message = json.loads(self._connection.recv(timeout=_PATIENCE_SECONDS))
            self._note(message)
            if message.get("id") == number:
                if "error" in message:
                    raise AssertionError(f"{method}: {message['error']}")
                result: dict[str, Any] = message["result"]
                return result

    def _note(self, message: dict[str, Any]) -> None:
        """Exceptions, console errors and breaches of the content security policy are complaints; a 404 is not."""
        params = message.get("params", {})
        match message.get("method"):
            case "Runtime.exceptionThrown":
                self.complaints.append(json.dumps(params["exceptionDetails"]))
            case "Runtime.consoleAPICalled" if params["type"] == "error":
                self.complaints.append(json.dumps(params["args"]))
            case "Log.entryAdded" if params["entry"]["level"] == "error" and params["entry"]["source"] != "network":
                self.complaints.append(json.dumps(params["entry"]))


@contextmanager
def chromium(profile: Path) -> Iterator[Page]:
    """A browser with a fresh profile and one tab."""
    assert CHROMIUM
    command = [CHROMIUM, *_QUIET, f"--user-data-dir={profile}", "--remote-debugging-port=0", "about:blank"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        with connect(_tab(profile), max_size=None, ping_interval=None) as connection:
            yield Page(connection)
    finally:
        process.terminate()
        process.wait(10)


def _tab(profile: Path) -> str:
    """The tab's debugging address; Chromium writes its port into the profile."""
    port_file = profile / "DevToolsActivePort"
    for _ in range(int(_PATIENCE_SECONDS / 0.05)):
        if port_file.is_file() and port_file.read_text().strip():
            break
        time.sleep(0.05)
    port = port_file.read_text().splitlines()[0]
    with urlopen(f"http://127.0.0.1:{port}/json/list") as answer:
        tabs = json.load(answer)
    return str(next(tab["webSocketDebuggerUrl"] for tab in tabs if tab["type"] == "page"))
