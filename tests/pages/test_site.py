"""Landing page and API reference, as a person sees them."""

from __future__ import annotations

from tests.harness.browser import Page


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
