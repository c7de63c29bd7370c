"""Experts' dashboard: the clock for everybody, the rest for those who hold a token."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from chalicelib.experts import store, tasks_publishing, tasks_rounds
from chalicelib.kernel import chain
from chalicelib.kernel.chain import Neuron, Subnet
from tests.experts import models
from tests.experts.conftest import MINER, PHASES, START, TOKEN
from tests.harness.browser import Page

READY = "document.querySelector('#status').dataset.state !== 'loading'"
SMALL_ENOUGH = 100_000


@pytest.fixture
def dashboard(cloud: None, base_url: str, configure: Callable[..., None], page: Page) -> Iterator[str]:
    configure(EXPERTS_BZ_AUTH_TOKEN=TOKEN, EXPERTS_PHASES=PHASES)
    page.open(base_url + "/experts/dashboard")
    page.evaluate("sessionStorage.clear()")
    yield base_url + "/experts/dashboard"
    page.evaluate("sessionStorage.clear()")


@pytest.fixture
def busy(dashboard: str) -> str:
    """A published model and a submission that was refused."""
    chain.save_head(START + 20)
    chain.save_snapshot("experts", START + 20, Subnet(netuid=102, neurons=(Neuron(uid=0, hotkey=MINER.hotkey),)))
    store.models().put("m.safetensors", models.model().raw)
    uri = f"s3://{store.models().name}/m.safetensors"
    tasks_publishing.finish(tasks_publishing.plan(uri, models.ASSIGNMENT, model_version="step_1", block_number=1000))
    record: dict[str, Any] = {
        "submission_id": "00000000-0000-4000-8000-000000000000", "pubkey": "00", "hotkey": MINER.hotkey, "uid": 0,
        "group": 0, "url": "https://x", "suffix": ".pt", "block_number": START, "cycle": 40, "version_id": "v",
    }  # fmt: skip
    store.accept(record, dedupe_ttl=2**31, limit=3)
    store.move(record["submission_id"], "rejected", code="bad_checkpoint", reason="<b>broken</b>")
    tasks_rounds.write_overview()
    return dashboard


def enter(page: Page, token: str) -> None:
    page.evaluate(f"document.querySelector('#token').value = {token!r}")
    page.evaluate("document.querySelector('#key button').click()")


def test_without_a_token_the_clock_is_all_there_is(page: Page, busy: str) -> None:
    page.complaints.clear()
    page.open(busy)
    page.wait_for("document.querySelectorAll('#health .figure').length === 6")

    assert "submit" in page.text("#health")
    assert "step_1" in page.text("#health")
    assert page.evaluate("document.querySelector('#inside').hidden")
    assert page.complaints == []


def test_before_the_first_block_it_says_so(page: Page, dashboard: str) -> None:
    page.open(dashboard)
    page.wait_for(READY)

    assert "no block was observed yet" in page.text("#status")
    assert "none yet" in page.text("#health")


def test_with_a_token_versions_groups_and_reasons_are_seen(page: Page, busy: str) -> None:
    page.open(busy)
    page.wait_for(READY)
    enter(page, TOKEN)
    page.wait_for("document.querySelectorAll('#submissions tbody tr').length === 1")

    assert "step_1" in page.text("#versions")
    assert "served" in page.text("#versions")
    assert page.evaluate("document.querySelectorAll('#groups tbody tr').length") == 2
    assert "bad_checkpoint: <b>broken</b>" in page.text("#submissions")
    assert page.bytes_loaded() < SMALL_ENOUGH
    assert page.flaws("experts") == []


def test_a_wrong_token_is_told_and_forgotten(page: Page, busy: str) -> None:
    page.open(busy)
    page.wait_for(READY)
    enter(page, "wrong")
    page.wait_for("document.querySelector('#refused').textContent !== ''")

    assert page.evaluate("sessionStorage.getItem('experts-token')") is None
    assert page.evaluate("document.querySelector('#inside').hidden")


def test_what_no_header_carries_is_no_token(page: Page, busy: str) -> None:
    page.open(busy)
    page.wait_for(READY)
    enter(page, "tok\u2026")
    page.wait_for("document.querySelector('#refused').textContent !== ''")

    assert page.evaluate("sessionStorage.getItem('experts-token')") is None
    assert "submit" in page.text("#health")
