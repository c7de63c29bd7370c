"""A page that polls: once per block, more slowly while the API is down, and with what it has kept on the screen."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from typing import Any

import pytest

import app as app_module
from local.gateway import Gateway
from local.server import Server
from tests.harness.browser import Page

BLOCK_MS = 12_000
DASHBOARDS = ["pool", "prism", "bitrecs", "leoma"]
# A round at once, whose pause is noted instead of waited for.
ROUND = """
new Promise((done) => {
  const real = window.setTimeout;
  window.setTimeout = (work, pause) => {
    if (pause < 12000) return real(work, pause);
    window.setTimeout = real;
    done(pause);
    return 0;
  };
  document.dispatchEvent(new Event("visibilitychange"));
})
"""


def serve(port: int = 0) -> tuple[Server, socket.socket]:
    listener = socket.create_server(("127.0.0.1", port))
    server = Server(Gateway(app_module.build()).answer, listener)
    server.start()
    return server, listener


@pytest.fixture
def server(cloud: None) -> Iterator[dict[str, Any]]:
    """One that a test may stop, and start again at the same address."""
    running, listener = serve()
    held = {"server": running, "listener": listener, "port": listener.getsockname()[1]}
    yield held
    if held["server"]:
        held["server"].stop()
        held["listener"].close()


def state(page: Page) -> str:
    return str(page.evaluate("document.querySelector('#status').dataset.state"))


@pytest.mark.parametrize("name", DASHBOARDS)
def test_a_dashboard_outlives_a_short_outage(page: Page, server: dict[str, Any], name: str) -> None:
    page.open(f"http://127.0.0.1:{server['port']}/{name}/dashboard")
    page.wait_for("document.querySelector('#status').dataset.state === 'fresh'")
    shown = page.text("main")
    assert page.evaluate(ROUND) == BLOCK_MS

    server["server"].stop()
    server["listener"].close()
    assert page.evaluate(ROUND) == 2 * BLOCK_MS
    assert state(page) == "stale"
    assert "trying again" in page.text("#status")
    assert len(page.text("main")) > len(shown) / 2

    server["server"], server["listener"] = serve(server["port"])
    assert page.evaluate(ROUND) == BLOCK_MS
    assert state(page) == "fresh"


def test_rows_are_saved_as_csv_and_as_json(page: Page, server: dict[str, Any]) -> None:
    page.open(f"http://127.0.0.1:{server['port']}/leoma/dashboard")
    saved = page.evaluate(
        """
        (async () => {
          const { csvButton } = await import("./assets/site.js");
          const files = [];
          const real = URL.createObjectURL;
          URL.createObjectURL = (blob) => (files.push(blob), "data:,");
          const columns = [{ name: "who", value: (row) => row.who }, { name: "rank", value: (row) => row.rank }];
          const buttons = csvButton("x.csv", columns, () => [{ who: "=1+1", rank: 1 }, { who: "b" }]);
          for (const button of buttons.querySelectorAll("button")) button.click();
          URL.createObjectURL = real;
          return Promise.all(files.map((file) => file.text()));
        })()
        """
    )
    assert saved[0] == '"who","rank"\r\n"\'=1+1","1"\r\n"b",""\r\n'
    assert json.loads(saved[1]) == [{"who": "=1+1", "rank": 1}, {"who": "b", "rank": None}]
