"""Every page for everybody: axe finds nothing serious, nothing sticks out on a phone, all of it stays small."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.harness.browser import Page
from tests.harness.laptop import ROOT

AXE = ROOT / "node_modules" / "axe-core" / "axe.min.js"
NO_AXE = "the npm package axe-core is not installed here: `npm install --no-save axe-core@4.14.1`"
SYSTEMS = ("prism", "pool", "experts", "bitrecs", "leoma")
PAGES = ["/", *(f"/{name}/{page}" for name in SYSTEMS for page in ("dashboard", "docs"))]
SETTLED = "!document.querySelector('#status') || document.querySelector('#status').dataset.state !== 'loading'"
MOST_BYTES = 100_000


def violations(page: Page) -> list[str]:
    """What axe calls serious or critical, with the place."""
    page.evaluate(AXE.read_text("utf-8") + "; true")
    found: list[dict[str, Any]] = json.loads(
        page.evaluate("axe.run().then((result) => JSON.stringify(result.violations))")
    )
    return [
        f"{rule['id']}: {node['html'][:150]} {node.get('failureSummary', '')[:300]}"
        for rule in found
        if rule["impact"] in {"serious", "critical"}
        for node in rule["nodes"]
    ]


@pytest.mark.skipif(not AXE.exists(), reason=NO_AXE)
@pytest.mark.parametrize("path", PAGES)
def test_axe_finds_nothing_serious_by_day_and_by_night(page: Page, base_url: str, path: str) -> None:
    for dark in (False, True):
        page.open(base_url + path, width=360, dark=dark)
        page.wait_for(SETTLED)
        assert violations(page) == []


FILLED = """
import("./assets/site.js").then((site) => {
  const hotkey = "5DAAnrj7VHTznn2AWBemMuyBwZWs6FNFjdyVXUeYum3PTXFy";
  const columns = [
    { name: "Miner", value: (row) => row.hotkey, show: (row) => site.key(row.hotkey) },
    { name: "State", value: (row) => row.kind, show: (row) => site.badge(row.kind, row.kind) },
    { name: "Seen", value: (row) => row.at, show: (row) => site.when(row.at) },
  ];
  const rows = ["good", "bad", "warn", ""].map((kind) => ({ hotkey, kind, at: 1795000000 }));
  const caption = "Everything that a table can hold, in a caption that is longer than a phone is wide";
  document.querySelector("main").append(
    site.figures({ Rows: rows.length, Winner: "nobody" }),
    site.table({ caption, columns, rows, chosen: (row) => row.kind === "bad" }),
    site.table({ caption: "Nothing", columns, rows: [] }),
    site.lineChart([[0, 1], [1, 2], [2, 3]], { label: "a line" }),
    site.csvButton("x.csv", columns, () => rows));
  return true;
})
"""


@pytest.mark.skipif(not AXE.exists(), reason=NO_AXE)
@pytest.mark.parametrize("dark", [False, True])
def test_what_dashboards_are_made_of_is_accessible_when_it_is_full(page: Page, base_url: str, *, dark: bool) -> None:
    page.open(base_url + "/", width=360, dark=dark)
    page.wait_for(SETTLED)
    assert page.evaluate(FILLED)
    assert violations(page) == []
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")


@pytest.mark.parametrize("path", PAGES)
def test_a_page_fits_a_phone_and_is_small(page: Page, base_url: str, path: str) -> None:
    page.open(base_url + path, width=360, height=800)
    page.wait_for(SETTLED)
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
    assert 0 < page.bytes_loaded() < MOST_BYTES
