"""Leoma's dashboard, as a person sees it: ranks, a miner's tasks, clips side by side, and what is not there yet."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from chalicelib.kernel.blobs import Bucket
from chalicelib.leoma import tasks, tasks_fold
from local.gateway import Answer
from local.server import Server
from tests.harness.browser import Page
from tests.harness.client import Client, whole_app
from tests.leoma.world import ALICE, BOB, CAROL, commitment, miner, publish, sample, send, subnet, sync

READY = "document.querySelector('#status').dataset.state !== 'loading'"
SMALL_ENOUGH = 100_000


@pytest.fixture
def judged(cloud: None, configure: Callable[..., None]) -> None:
    """Three miners over a window of ten tasks, judged by three validators who do not always agree."""
    configure(LEOMA_SCORER_TASK_WINDOW="10")
    sync(subnet())
    publish(10)
    client = Client(whole_app())
    for number, who in enumerate((ALICE, BOB, CAROL)):
        batch = [
            sample(task, miner(n), (task + number) % (n + 1) != 0, reasoning="<b>sharp</b> motion", latency_ms=41_250)
            for task in range(1, 11)
            for n in (1, 2, 3)
        ]
        assert send(client, who, batch).status == 200
    tasks_fold.fold()
    tasks.rank({}, None)


def choose_first(page: Page) -> None:
    page.evaluate("document.querySelector('#ranks tbody button.plain').click()")
    page.wait_for("document.querySelectorAll('#miner .tasks button').length === 10")


def test_an_empty_subnet_says_what_is_missing(page: Page, base_url: str) -> None:
    page.open(base_url + "/leoma/dashboard")
    page.wait_for(READY)

    assert "no ranks were computed yet" in page.text("#status")
    assert "No miner has committed" in page.text("#ranks")
    assert "burn" in page.text("#figures")


def test_old_ranks_are_shown_as_such(page: Page, judged: None, base_url: str, freeze: Callable[[float], None]) -> None:
    freeze(time.time() + 3 * 3600)
    page.open(base_url + "/leoma/dashboard")
    page.wait_for("document.querySelector('#status').dataset.state === 'stale'")

    assert "computed 3 h ago — the scorer is late" in page.text("#status")
    assert page.evaluate("document.querySelectorAll('#ranks tbody tr').length") == 3


def test_ranks_tasks_and_verdicts(page: Page, judged: None, base_url: str) -> None:
    page.open(base_url + "/leoma/dashboard")
    page.wait_for("document.querySelectorAll('#ranks tbody tr').length === 3")
    assert "ranks as of block 1000" in page.text("#status")
    assert page.evaluate("document.querySelectorAll('#validators tbody tr').length") == 3
    assert page.bytes_loaded() < SMALL_ENOUGH

    choose_first(page)
    page.evaluate("document.querySelector('#miner .tasks button').click()")
    page.wait_for("document.querySelectorAll('#task tbody tr').length === 3")

    assert "<b>sharp</b> motion" in page.text("#task")
    page.wait_for("[...document.querySelectorAll('#task video')].filter((video) => video.hidden).length === 2")
    assert "not in the bucket, or not playable" in page.text("#task")
    assert "side by side" not in page.text("#task")
    assert page.evaluate("location.hash").startswith("#miner=5")
    assert page.flaws("leoma") == []


def test_a_late_answer_about_another_miner_is_not_shown(page: Page, judged: None, base_url: str) -> None:
    page.open("about:blank")
    page.open(base_url + "/leoma/dashboard")
    page.wait_for("document.querySelectorAll('#ranks tbody tr').length === 3")
    page.evaluate(
        """
        const fetched = window.fetch;
        window.fetch = async (...given) => {
          if (given[0].endsWith("/tasks") && !window.go) await new Promise((go) => window.go = go);
          return fetched(...given);
        };
        document.querySelectorAll('#ranks tbody button.plain')[0].click()
        """
    )
    page.evaluate("document.querySelectorAll('#ranks tbody button.plain')[1].click()")
    page.wait_for("document.querySelectorAll('#miner .tasks button').length === 10")
    shown = page.text("#miner")
    page.evaluate("window.go()")
    page.evaluate("new Promise((done) => setTimeout(done, 300))")

    assert page.text("#miner") == shown


def test_a_long_model_name_leaves_the_other_rows_in_sight(page: Page, judged: None, base_url: str) -> None:
    names = {1: f"leoma{'x' * 1000}{miner(1)}"}
    held = [commitment(miner(n), 100 + n, model_name=names.get(n, f"acme/leoma-{miner(n)}")) for n in (1, 2, 3)]
    sync(subnet(commitments=tuple(held)), block=1001)
    page.open(base_url + "/leoma/dashboard")
    page.wait_for("document.querySelectorAll('#ranks tbody tr').length === 3")

    heights = "[...document.querySelectorAll('#ranks tr')].map((row) => row.offsetHeight)"
    assert page.evaluate(f"Math.max(...{heights})") < 150
    assert page.evaluate("document.querySelectorAll('#ranks .words[title*=xxx]').length") == 1


def test_what_the_browser_has_is_not_sent_again(page: Page, judged: None, base_url: str) -> None:
    for _ in range(2):
        page.open(base_url + "/leoma/dashboard")
        page.wait_for("document.querySelectorAll('#ranks tbody tr').length === 3")
    list_of_miners = "performance.getEntriesByType('resource').find((entry) => entry.name.endsWith('/miners/list'))"
    assert page.evaluate(f"{list_of_miners}.transferSize < {list_of_miners}.decodedBodySize")


@pytest.fixture
def clips(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A bucket that a browser reaches: every address that is signed leads to one short clip."""
    clip = (Path(__file__).parent / "clip.mp4").read_bytes()
    headers = [("Content-Type", "video/mp4")]
    with socket.create_server(("127.0.0.1", 0)) as listener:
        server = Server(lambda _request: Answer(200, headers, clip), listener)
        server.start()
        origin = f"http://127.0.0.1:{listener.getsockname()[1]}"
        monkeypatch.setattr(Bucket, "presign_get", lambda _bucket, key, _seconds: f"{origin}/{key}")
        yield
        server.stop()


VIDEOS = "[...document.querySelectorAll('#task video')]"
PLAY = "[...document.querySelectorAll('#task button')].find((button) => /side by side|Stop/.test(button.textContent))"


@pytest.mark.usefixtures("judged", "clips")
@pytest.mark.parametrize(("width", "dark"), [(1200, False), (390, True)])
def test_both_clips_play_at_once_and_again(page: Page, base_url: str, width: int, dark: bool) -> None:
    page.open("about:blank")
    page.open(base_url + f"/leoma/dashboard#miner={miner(1)}&task=10", width=width, dark=dark)
    page.wait_for(f"{VIDEOS}.length === 2 && {VIDEOS}.every((video) => video.readyState >= 2)")
    page.evaluate(f"{VIDEOS}.forEach((video) => video.addEventListener('ended', () => video.rounds = 1))")
    page.evaluate(f"{PLAY}.click()")
    page.wait_for(f"{VIDEOS}.every((video) => video.currentTime > 0.2 && !video.paused)")

    assert page.evaluate(f"{VIDEOS}.map((video) => [video.videoWidth, video.videoHeight])") == [[64, 36]] * 2
    tops = page.evaluate(f"{VIDEOS}.map((video) => video.getBoundingClientRect().top)")
    assert (tops[0] == tops[1]) == (width > 1000), "beside each other where there is room"
    page.wait_for(f"{VIDEOS}.every((video) => video.rounds && !video.paused)")
    page.evaluate(f"{PLAY}.click()")
    assert page.evaluate(f"{VIDEOS}.every((video) => video.paused)")
    assert page.complaints == []


def test_a_reader_keeps_place_and_order_from_block_to_block(page: Page, judged: None, base_url: str) -> None:
    page.open("about:blank")
    page.open(base_url + "/leoma/dashboard")
    page.wait_for("document.querySelectorAll('#ranks tbody tr').length === 3")
    page.evaluate("document.querySelectorAll('#ranks th button')[1].click()")
    page.evaluate(
        "window.kept = document.querySelector('#ranks table'); document.querySelector('#status').textContent = ''"
    )
    page.evaluate("document.dispatchEvent(new Event('visibilitychange'))")
    page.wait_for("document.querySelector('#status').textContent.includes('block')")

    assert page.evaluate("window.kept === document.querySelector('#ranks table') && window.kept.isConnected")


def test_the_list_is_searched_sorted_and_reached_by_keyboard(page: Page, judged: None, base_url: str) -> None:
    page.open(base_url + "/leoma/dashboard")
    page.wait_for("document.querySelectorAll('#ranks tbody tr').length === 3")
    script = f"const box = document.querySelector('#find'); box.value = '{miner(2)}'"
    page.evaluate(f"{script}; box.dispatchEvent(new Event('input'))")

    assert page.evaluate("document.querySelectorAll('#ranks tbody tr').length") == 1
    named = "node.textContent.trim() || node.ariaLabel || node.labels?.length"
    unnamed = f"[...document.querySelectorAll('button, input, video')].filter((node) => !({named}))"
    assert page.evaluate(f"{unnamed}.length") == 0
