"""PRISM's dashboard: leaderboard, families as a tree, a submission's way, holds for whoever has the token."""

from __future__ import annotations

import pytest

from chalicelib.prism.store import table
from tests.harness.browser import Page
from tests.harness.history import put_alike
from tests.prism.conftest import machines, prism
from tests.prism.test_attribution import UNKNOWN
from tests.prism.world import ALICE, CAROL, TOKEN, Prism, model, recipe, two_parts

__all__ = ["machines", "prism"]
READY = "document.querySelector('#status').dataset.state === 'fresh'"


@pytest.fixture
def busy(prism: Prism) -> dict[str, str]:
    done = prism.processed(two_parts(model(1), recipe(1)))["id"]
    held = prism.processed(two_parts(model(9), recipe(9), family=UNKNOWN), CAROL)["id"]
    return {"done": done, "held": held}


def test_it_shows_the_board_the_tree_and_a_submission_s_way(
    page: Page, base_url: str, busy: dict[str, str], prism: Prism
) -> None:
    page.complaints.clear()
    page.open(f"{base_url}/prism/dashboard")
    page.wait_for(READY)
    assert page.evaluate("document.querySelectorAll('#board tbody tr').length") == 1
    assert page.evaluate("document.querySelectorAll('.tree > li').length") == 1
    assert "current best" in page.text("#families")
    found = prism.get("/v1/architectures") + prism.get("/v1/training-variants")  # what a manifest or a decision names
    titles = page.evaluate("[...document.querySelectorAll('.tree .copy')].map((button) => button.title)")
    assert {one["id"] for one in found} <= set(titles)
    assert page.bytes_loaded() < 100_000

    page.evaluate(
        f"document.querySelector('#submission').value = '{busy['held']}'; "
        "document.querySelector('#lookup').requestSubmit()"
    )
    page.wait_for("document.querySelectorAll('.timeline li').length === 3")
    assert "component attribution held for review" in page.text("#timeline")
    assert page.evaluate("document.querySelectorAll('.timeline time').length") == 3
    assert page.complaints == []


def test_a_family_tells_whose_it_was(page: Page, base_url: str, busy: dict[str, str], prism: Prism) -> None:
    hold, family = prism.holds()[0]["id"], prism.get("/v1/architectures")[0]["id"]
    assert prism.resolve(hold, "transfer", "none", architecture_id=family, reason="<b>bought</b>").status == 200
    page.open(f"{base_url}/prism/dashboard")
    page.wait_for(READY)
    page.evaluate("document.querySelector('.tree details:last-of-type summary').click()")
    page.wait_for("document.querySelectorAll('.history li').length === 3")
    told = page.text(".history")
    assert "architecture transferred" in told
    assert "<b>bought</b>" in told
    assert ALICE.hotkey in page.evaluate("document.querySelector('.history .copy').title")


def test_a_page_of_thousands_stays_small_and_says_what_it_leaves_out(
    page: Page, base_url: str, busy: dict[str, str], prism: Prism
) -> None:
    family = prism.get("/v1/architectures")[0]["id"]
    for pk, number in (("ARCH", 60), (f"VARS#{family}", 120), ("VARS", 500)):
        (sample,) = table.query(pk, limit=1).items
        put_alike(table, sample, (f"{sample['sk']}#{count:04d}" for count in range(number)))
    page.open(f"{base_url}/prism/dashboard")
    page.wait_for(READY)
    assert page.evaluate("document.querySelectorAll('.tree > li').length") == 50
    assert "the 50 best families; there may be more" in page.text("#families > .cut")
    data = "performance.getEntriesByType('resource').filter((entry) => entry.initiatorType === 'fetch')"
    assert page.evaluate(f"{data}.length") == 4
    assert page.bytes_loaded() + page.evaluate(f"{data}.reduce((sum, one) => sum + one.decodedBodySize, 0)") < 100_000
    page.evaluate("document.querySelector('.tree summary').click()")
    page.wait_for("document.querySelectorAll('.tree details li').length === 100")
    assert "its 100 best trainings; there may be more" in page.text(".tree .cut")


def test_what_others_wrote_neither_widens_the_page_nor_turns_its_text_around(
    page: Page, base_url: str, busy: dict[str, str], prism: Prism
) -> None:
    endless = "x" * 1900 + "\u202etxt"
    second = prism.processed(two_parts(model(5), recipe(5), family=UNKNOWN), CAROL)["id"]
    holds, family = (
        {hold["submission_id"]: hold["id"] for hold in prism.holds()},
        prism.get("/v1/architectures")[0]["id"],
    )
    assert prism.resolve(holds[busy["held"]], "transfer", architecture_id=family, reason=endless).status == 200
    assert prism.resolve(holds[second], "reject", reason=endless).status == 200
    page.open(f"{base_url}/prism/dashboard")
    page.wait_for(READY)
    page.evaluate("document.querySelector('.tree details:last-of-type summary').click()")
    page.evaluate(
        f"document.querySelector('#submission').value = '{second}'; document.querySelector('#lookup').requestSubmit()"
    )
    page.wait_for("document.querySelectorAll('.history .told').length && document.querySelector('#timeline .told')")
    assert page.flaws("prism-endless") == []
    assert len(page.text(".history .told")) < 400
    assert page.evaluate("getComputedStyle(document.querySelector('#timeline .told')).unicodeBidi") == "isolate"


def test_an_operator_resolves_a_hold_with_a_token_that_no_storage_keeps(
    page: Page, base_url: str, prism: Prism, busy: dict[str, str]
) -> None:
    page.open(f"{base_url}/prism/dashboard")
    page.wait_for(READY)
    page.evaluate(
        f"document.querySelector('#token').value = '{TOKEN}'; document.querySelector('#unlock').requestSubmit()"
    )
    page.wait_for("document.querySelectorAll('.hold form').length === 1")
    page.evaluate("document.querySelector('.tree details:last-of-type summary').click()")
    page.wait_for("document.querySelectorAll('.history li').length > 0")
    assert page.flaws("prism") == []
    assert page.evaluate("document.querySelector('#token').value + localStorage.length + sessionStorage.length") == "00"
    page.evaluate(
        "const form = document.querySelector('.hold form'); form.architecture_action.value = 'new'; "
        "form.requestSubmit()"
    )
    page.wait_for("document.querySelectorAll('.hold form').length === 0")
    assert prism.status(busy["held"])["status"] == "completed"
