"""Leoma's dashboard, as a person sees it: ranks, a miner's tasks, clips side by side, and what is not there yet."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

import app as app_module
from chalicelib.leoma import fold, tasks
from tests.harness.browser import Page
from tests.harness.client import Client
from tests.leoma.world import ALICE, BOB, CAROL, miner, publish, sample, send, subnet, sync

READY = "document.querySelector('#status').dataset.state !== 'loading'"
SMALL_ENOUGH = 100_000


@pytest.fixture
def judged(cloud: None, configure: Callable[..., None]) -> None:
    """Three miners over a window of ten tasks, judged by three validators who do not always agree."""
    configure(LEOMA_SCORER_TASK_WINDOW="10")
    sync(subnet())
    publish(10)
    client = Client(app_module.build())
    for number, who in enumerate((ALICE, BOB, CAROL)):
        batch = [
            sample(task, miner(n), (task + number) % (n + 1) != 0, reasoning="<b>sharp</b> motion", latency_ms=41_250)
            for task in range(1, 11)
            for n in (1, 2, 3)
        ]
        assert send(client, who, batch).status == 200
    fold.fold()
    tasks.rank({}, None)


def choose_first(page: Page) -> None:
    page.evaluate("document.querySelector('#ranks tbody button.plain').click()")
    page.wait_for("document.querySelectorAll('#miner .tasks button').length === 10")


def test_an_empty_subnet_says_what_is_missing(page: Page, base_url: str) -> None:
    page.complaints.clear()
    page.open(base_url + "/leoma/dashboard")
    page.wait_for(READY)

    assert "no ranks were computed yet" in page.text("#status")
    assert "No miner" in page.text("#ranks")
    assert "burn" in page.text("#figures")
    assert page.evaluate("[document.documentElement.lang, Boolean(document.title)]") == ["en", True]


def test_ranks_tasks_and_verdicts(page: Page, judged: None, base_url: str, pictures: Path) -> None:
    page.open(base_url + "/leoma/dashboard")
    page.wait_for("document.querySelectorAll('#ranks tbody tr').length === 3")
    assert "ranks as of block 1000" in page.text("#status")
    assert page.evaluate("document.querySelectorAll('#validators tbody tr').length") == 3
    assert page.bytes_loaded() < SMALL_ENOUGH

    choose_first(page)
    page.evaluate("document.querySelector('#miner .tasks button').click()")
    page.wait_for("document.querySelectorAll('#task tbody tr').length === 3")

    assert "<b>sharp</b> motion" in page.text("#task")
    assert page.evaluate("document.querySelectorAll('#task video').length") == 2
    assert page.evaluate("location.hash").startswith("#miner=5")


@pytest.mark.parametrize("width", [360, 1200])
def test_nothing_sticks_out_sideways(page: Page, judged: None, base_url: str, width: int) -> None:
    page.open(base_url + f"/leoma/dashboard#miner={miner(1)}&task=10", width=width)
    page.wait_for("document.querySelectorAll('#task tbody tr').length === 3")

    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")


def test_the_list_is_searched_sorted_and_reached_by_keyboard(page: Page, judged: None, base_url: str) -> None:
    page.open(base_url + "/leoma/dashboard")
    page.wait_for("document.querySelectorAll('#ranks tbody tr').length === 3")
    script = f"const box = document.querySelector('#find'); box.value = '{miner(2)}'"
    page.evaluate(f"{script}; box.dispatchEvent(new Event('input'))")

    assert page.evaluate("document.querySelectorAll('#ranks tbody tr').length") == 1
    named = "node.textContent.trim() || node.ariaLabel || node.labels?.length"
    unnamed = f"[...document.querySelectorAll('button, input, video')].filter((node) => !({named}))"
    assert page.evaluate(f"{unnamed}.length") == 0
