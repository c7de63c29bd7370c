"""Every page for everybody, before there is anything to show: by day and by night, on a phone and on a desk."""

from __future__ import annotations

import pytest

from tests.harness.browser import AXE, NO_AXE, Page

SYSTEMS = ("prism", "pool", "experts", "bitrecs", "leoma")
PAGES = ["/", *(f"/{name}/{page}" for name in SYSTEMS for page in ("dashboard", "docs"))]
MOST_BYTES = 100_000


def test_axe_looks_at_every_page() -> None:
    if not AXE.exists():
        pytest.skip(NO_AXE)


@pytest.mark.parametrize("path", PAGES)
def test_a_page_is_small_fits_and_has_no_flaw(page: Page, base_url: str, path: str) -> None:
    page.complaints.clear()
    page.open(base_url + path)
    page.wait_for("document.querySelector('#status').dataset.state !== 'loading'")

    assert page.flaws(f"empty{path.replace('/', '-')}") == []
    assert page.complaints == []
    assert 0 < page.bytes_loaded() < MOST_BYTES
    assert page.evaluate("document.documentElement.lang") == "en"
    assert page.evaluate("Boolean(document.title && document.querySelector('meta[name=viewport]'))")
