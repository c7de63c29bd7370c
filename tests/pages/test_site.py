"""Landing page and API reference, as a person sees them."""

from __future__ import annotations

import pytest

from tests.harness.browser import Page

SMALL_ENOUGH = 100_000
READY = "document.querySelector('#status').dataset.state !== 'loading'"
PAGES = ["/", *(f"/{name}/docs" for name in ("prism", "pool", "experts", "bitrecs", "leoma"))]


@pytest.mark.parametrize("path", PAGES)
def test_a_page_loads_small_and_without_complaint(page: Page, base_url: str, path: str) -> None:
    page.complaints.clear()
    page.open(base_url + path)
    page.wait_for(READY)

    assert page.complaints == []
    assert 0 < page.bytes_loaded() < SMALL_ENOUGH
    assert page.evaluate("document.documentElement.lang") == "en"
    assert page.evaluate("Boolean(document.title && document.querySelector('meta[name=viewport]'))")


def test_the_landing_page_lists_every_system_with_its_links(page: Page, base_url: str) -> None:
    page.open(base_url + "/")
    page.wait_for("document.querySelectorAll('.card').length === 5")

    assert page.evaluate("[...document.querySelectorAll('.card h2')].map((title) => title.firstChild.data)") == [
        "PRISM",
        "Pool",
        "Experts",
        "Bitrecs",
        "Leoma",
    ]
    assert page.evaluate("document.querySelectorAll('.card a').length") == 15


def test_the_reference_shows_routes_and_finds_one(page: Page, base_url: str) -> None:
    page.open(base_url + "/leoma/docs")
    page.wait_for("document.querySelectorAll('#operations details').length > 5")

    page.evaluate(
        "const box = document.querySelector('#filter'); box.value = 'blacklist'; box.dispatchEvent(new Event('input'))"
    )

    shown = "[...document.querySelectorAll('#operations details')].filter((entry) => !entry.hidden)"
    assert page.evaluate(f"{shown}.every((entry) => entry.innerText.includes('blacklist'))")
    assert page.evaluate(f"{shown}.length") > 0


@pytest.mark.parametrize("width", [360, 1200])
@pytest.mark.parametrize("path", PAGES)
def test_nothing_sticks_out_sideways(page: Page, base_url: str, path: str, width: int) -> None:
    page.open(base_url + path, width=width)
    page.wait_for(READY)

    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
