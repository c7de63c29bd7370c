"""Bitrecs' dashboard, as a person sees it: who leads, who waits, how an agent was judged, what stays hidden."""

from __future__ import annotations

import pytest

from chalicelib.bitrecs import tasks
from tests.bitrecs.conftest import _github_server, github, started, world
from tests.bitrecs.world import Miner, World, screened, status_of
from tests.harness.browser import Page
from tests.harness.wallets import wallet

__all__ = ["_github_server", "github", "started", "world"]

SMALL_ENOUGH = 100_000
ROWS = "document.querySelectorAll('{} tbody tr').length === {}"


@pytest.fixture
def judged(world: World) -> list[Miner]:
    """One agent is finished, one is half evaluated, one is being screened, one waits."""
    miners = screened(world, "first", "second")
    for validator, score in zip(world.validators, (0.6, 0.7, 0.8), strict=True):
        validator.evaluate(score)
    world.validators[0].evaluate(0.5)
    for name in ("third", "fourth"):
        miners.append(world.miner(name))
        assert miners[-1].submit().status == 201
    assert world.screener("screener-1-2").claim()
    tasks.snapshots()
    return miners


def test_an_empty_subnet_says_what_is_missing(page: Page, base_url: str) -> None:
    page.open(base_url + "/bitrecs/dashboard")
    page.wait_for("document.querySelector('#status').dataset.state !== 'loading'")

    assert "No agent of this set is finished yet." in page.text("#board")
    assert "Nobody waits here." in page.text("#queue")
    assert "Nobody is connected." in page.text("#validators")


def test_the_leaderboard_the_queue_and_an_agent_s_evaluations(page: Page, judged: list[Miner], base_url: str) -> None:
    page.complaints.clear()
    page.open(base_url + "/bitrecs/dashboard")
    page.wait_for(ROWS.format("#board", 1))
    page.wait_for(ROWS.format("#queue", 2))
    page.wait_for(ROWS.format("#validators", 6))
    assert page.bytes_loaded() < SMALL_ENOUGH

    page.evaluate("document.querySelector('#board tbody button.plain').click()")
    page.wait_for("document.querySelectorAll('#agent section').length === 5")
    page.evaluate("document.querySelector('#agent details').open = true")
    assert page.flaws("bitrecs") == []
    assert page.evaluate(
        "(({ scrollWidth, clientWidth }) => scrollWidth <= clientWidth)(document.querySelector('pre'))"
    )

    assert "74.0 %" in page.text("#board")
    assert "screen…" not in page.text("#validators")
    assert "You recommend products" in str(page.evaluate("document.querySelector('#agent pre').textContent"))
    assert page.evaluate("location.hash").startswith("#agent=")
    page.evaluate("const stage = document.querySelector('#stage'); stage.value = 'validator'")
    page.evaluate("document.querySelector('#stage').dispatchEvent(new Event('change'))")
    page.wait_for(ROWS.format("#queue", 1))
    assert page.complaints == []


def test_an_agent_is_found_by_its_hotkey_and_keeps_its_prompts(page: Page, judged: list[Miner], base_url: str) -> None:
    page.open(base_url + "/bitrecs/dashboard")
    page.wait_for(ROWS.format("#board", 1))
    find(page, judged[3].hotkey)
    page.wait_for("document.querySelectorAll('#agent details').length === 2")

    shown = str(page.evaluate("document.querySelector('#agent').textContent"))
    assert "Hidden until the agent is finished or has failed." in shown
    assert "You recommend products" not in shown

    find(page, wallet("nobody").hotkey)
    page.wait_for("document.querySelector('#agent').textContent.includes('not found')")


def test_a_reader_keeps_order_and_focus_and_sees_the_agent_move_on(
    page: Page, judged: list[Miner], world: World, base_url: str
) -> None:
    page.open("about:blank")
    page.open(base_url + "/bitrecs/dashboard")
    page.wait_for(ROWS.format("#queue", 2))
    page.evaluate("document.querySelectorAll('#queue th button')[3].click()")
    page.evaluate("document.querySelectorAll('#queue th button')[3].click()")
    page.evaluate("document.querySelector('#queue tbody button.plain').focus()")
    find(page, next(miner.hotkey for miner in judged if status_of(world, miner) == "evaluating"))
    page.wait_for("document.querySelectorAll('#agent section').length === 3")
    assert world.validators[1].evaluate(0.5)
    assert world.miner("fifth").submit().status == 201
    page.evaluate("document.dispatchEvent(new Event('visibilitychange'))")
    page.wait_for("document.querySelectorAll('#agent section').length === 4")

    page.wait_for(ROWS.format("#queue", 3))
    assert page.evaluate("document.querySelectorAll('#queue th')[3].ariaSort") == "descending"
    assert page.evaluate("document.activeElement === document.querySelector('#queue tbody button.plain')")


def find(page: Page, hotkey: str) -> None:
    page.evaluate(f"document.querySelector('#wanted').value = '{hotkey}'")
    page.evaluate("document.querySelector('#find').requestSubmit()")
