"""The pool's and the claim server's pages, as a person sees them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from chalicelib.kernel import clock, flows
from chalicelib.pool import merkle, store_claims, tasks_epochs
from tests.harness.browser import Page
from tests.harness.client import Client, over_http, whole_app
from tests.harness.wallets import Wallet, wallet
from tests.pages.test_polling import ROUND
from tests.pool.world import Pool, add_seeds, at_block, settle

SMALL_ENOUGH = 100_000
READY = "document.querySelector('#status').dataset.state === 'fresh'"
LARGE = 2**63 + 12345
LAST = 2**64 - 1


@pytest.fixture
def pool_url(cloud: None, configure: Callable[..., None], monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A pool with miners, a verified result and an epoch, behind the laptop's gateway."""
    configure(MERKLE_CLAIM_ENABLED="true", MOUNTS="pool=/pool,claims=/claims")
    monkeypatch.setattr(flows, "start_or_leave", lambda *_: True)
    at_block(1144 * 320)
    add_seeds()
    built = whole_app()
    pool = Pool(Client(built))
    author, *judges = pool.register("author", "b", "c", "d")
    number = pool.candidate(author)
    pool.complete(number, judges)
    pool.verify(judges[0], number)
    settle()
    publish(1144, author, *judges)
    with over_http(built) as url:
        yield url


def publish(epoch: int, *paid: Wallet) -> None:
    records = [tasks_epochs.record(each.hotkey, each.hotkey, LARGE) for each in paid]
    staged, tree = tasks_epochs.stage(epoch, merkle.in_order(records))
    tasks_epochs.write_chunk(staged, 0, tree)
    assert tasks_epochs.publish(staged)
    assert store_claims.epochs()[epoch] <= clock.now()


def open_page(page: Page, url: str) -> Any:
    page.complaints.clear()
    page.open(url)
    page.wait_for(READY)
    assert page.complaints == []
    assert 0 < page.bytes_loaded() < SMALL_ENOUGH


def check(page: Page, hotkey: str) -> str:
    page.evaluate(f"document.querySelector('#hotkey').value = '{hotkey}'")
    page.evaluate("document.querySelector('#checker').requestSubmit()")
    page.wait_for("document.querySelector('#outcome .badge') !== null")
    return str(page.evaluate("document.querySelector('#outcome').textContent"))


def test_the_pool_s_page_shows_miners_the_state_of_the_art_and_epochs(page: Page, pool_url: str) -> None:
    open_page(page, f"{pool_url}/pool/dashboard")

    assert page.evaluate("document.querySelectorAll('#leaderboard tbody tr').length") == 4
    assert "0.9100 by program" in page.evaluate("document.querySelector('#sota').textContent")
    assert page.evaluate("document.querySelectorAll('#sota svg').length") == 1
    assert "1144" in page.text("#epochs")
    assert f"{4 * LARGE:,}" in page.text("#epochs")
    assert "Programs waiting for scores" in page.text("#work")


@pytest.mark.parametrize("mount", ["pool", "claims"])
def test_a_proof_is_verified_in_the_browser_to_the_last_digit(page: Page, pool_url: str, mount: str) -> None:
    open_page(page, f"{pool_url}/{mount}/dashboard")

    assert "the proof holds" in check(page, wallet("author").hotkey)
    assert page.flaws(mount) == []
    assert "No claim for hotkey" in check(page, wallet("nobody").hotkey)


@pytest.mark.parametrize("mount", ["pool", "claims"])
def test_an_epoch_s_number_is_shown_to_the_last_digit(page: Page, pool_url: str, mount: str) -> None:
    publish(LAST, wallet("b"))
    open_page(page, f"{pool_url}/{mount}/dashboard")

    assert str(LAST) in page.text("#epochs")
    assert mount == "pool" or str(LAST) in page.text("#figures")
    assert "the proof holds" in check(page, wallet("b").hotkey)


@pytest.mark.parametrize("mount", ["pool", "claims"])
def test_a_published_epoch_is_fetched_once_unless_it_is_claimed_from(
    page: Page, pool_url: str, mount: str, configure: Callable[..., None]
) -> None:
    fetched = "performance.getEntriesByType('resource').filter((entry) => entry.name.endsWith('/epoch/1144')).length"
    open_page(page, f"{pool_url}/{mount}/dashboard")
    page.evaluate(ROUND)
    assert page.evaluate(fetched) == 1
    configure(CLAIM_SIMULATION_ENABLED="true")
    page.evaluate(ROUND)
    assert page.evaluate(fetched) == 2
    assert "1144" in page.text("#epochs")
