"""GitHub and the chain at their slowest: the answer comes within the budget, and nothing is half written."""

from __future__ import annotations

from http.server import BaseHTTPRequestHandler
from typing import Any

import pytest

from chalicelib.bitrecs import routes_github, store
from chalicelib.bitrecs.contracts import BitrecsSettings
from chalicelib.kernel import chain, clock, flows
from local.gateway import SECONDS_TO_ANSWER
from tests.bitrecs.github import Behaviour, GitHub, answer, hanging, trickling
from tests.bitrecs.world import Configure, World, told

SHORT = 0.3
HANGS = 20.0


@pytest.mark.parametrize("behaviour", [hanging(HANGS), trickling(0.02, 2_000)], ids=["silent", "one byte at a time"])
def test_a_slow_github_is_cut_off_at_its_time(world: World, configure: Configure, behaviour: Behaviour) -> None:
    configure(BITRECS_GITHUB_TIMEOUT_SECONDS=str(SHORT))
    world.github.behaviour = behaviour
    miner = world.miner("a")

    started = clock.monotonic()
    reply = miner.submit()
    waited = clock.monotonic() - started

    assert told(reply) == (503, "GitHub is currently unavailable. Please try again later.")
    assert reply.headers["Retry-After"]
    assert waited < HANGS
    assert store.agents_of(miner.hotkey, limit=1) == []


def test_an_endless_answer_is_cut_off_at_its_size(github: GitHub) -> None:
    github.behaviour = lambda handler: answer(handler, 200, b" " * (routes_github.MAX_ANSWER_BYTES + 1))

    with pytest.raises(routes_github.AnswerTooLarge):
        routes_github.get(f"{github.url}/gists/a", {}, clock.monotonic() + 5)


def test_a_cut_off_answer_is_no_answer(github: GitHub) -> None:
    def half(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(200)
        handler.send_header("Content-Length", "100")
        handler.end_headers()
        handler.wfile.write(b"{}")
        handler.close_connection = True

    github.behaviour = half

    with pytest.raises(routes_github.Unreachable):
        routes_github.get(f"{github.url}/gists/a", {}, clock.monotonic() + 5)


def test_redirects_are_not_followed(world: World) -> None:
    world.github.behaviour = lambda handler: answer(handler, 302, b"", Location=f"{world.github.url}/elsewhere")

    assert told(world.miner("a").check()) == (400, "Gist not found")
    assert len(world.github.requests) == 1


def test_a_commitment_that_comes_late_is_waited_for(
    world: World, configure: Configure, monkeypatch: pytest.MonkeyPatch
) -> None:
    configure(BITRECS_COMMITMENT_RETRY_SECONDS="4")
    miner = world.miner("a")
    late = world.commitments.pop()
    world.sync()
    pauses: list[float] = []

    def sleep(seconds: float) -> None:
        pauses.append(seconds)
        if len(pauses) == 2:
            world.commitments.append(late)
            world.sync()

    monkeypatch.setattr(clock, "sleep", sleep)

    assert miner.submit().status == 201
    assert pauses == [4, 4]


class SlowTime:
    """A clock that stands still until something takes its time."""

    def __init__(self) -> None:
        self.now = 1_000.0

    def pass_by(self, seconds: float) -> None:
        self.now += seconds


@pytest.fixture
def slow(monkeypatch: pytest.MonkeyPatch) -> SlowTime:
    """Time passes where a test says so, and where the submission sleeps."""
    time = SlowTime()
    monkeypatch.setattr(clock, "monotonic", lambda: time.now)
    monkeypatch.setattr(clock, "sleep", time.pass_by)
    return time


@pytest.mark.parametrize("share", [0.9, 1.0])
def test_the_slowest_that_is_allowed_still_ends_within_the_budget(
    world: World, configure: Configure, monkeypatch: pytest.MonkeyPatch, slow: SlowTime, share: float
) -> None:
    """GitHub and index near their limits, a commitment that the chain's copy shows at the last look."""
    assert world.miner("earlier").submit().status == 201
    configure(BITRECS_COMMITMENT_RETRY_SECONDS="4")
    settings = BitrecsSettings.current()
    miner = world.miner("a")
    late = world.commitments.pop()
    world.sync()
    look, invoke, snapshot = routes_github.get, flows.invoke, chain.snapshot

    def slow_github(url: str, headers: dict[str, str], until: float) -> tuple[int, dict[str, str], bytes]:
        found = look(url, headers, until)
        slow.pass_by(share * settings.github_timeout_seconds)
        return found

    def slow_index(task: str, payload: Any, *, seconds: float) -> Any:
        slow.pass_by(share * seconds)
        return invoke(task, payload, seconds=seconds)

    def slow_chain(system: str) -> chain.Snapshot | None:
        if slow.now > started + (settings.commitment_attempts - 1) * settings.commitment_retry_seconds:
            world.commitments.append(late)
            world.sync()
        return snapshot(system)

    monkeypatch.setattr(routes_github, "get", slow_github)
    monkeypatch.setattr(flows, "invoke", slow_index)
    monkeypatch.setattr(chain, "snapshot", slow_chain)
    started = slow.now

    assert miner.submit().status == 201
    assert slow.now - started <= settings.request_budget_seconds
    assert slow.now - started > share * (settings.github_timeout_seconds + settings.similarity_timeout_seconds)


def test_whatever_is_slower_than_allowed_is_told_within_the_budget(world: World, slow: SlowTime) -> None:
    settings = BitrecsSettings.current()
    assert world.miner("earlier").submit().status == 201

    def never(url: str, _headers: dict[str, str], until: float) -> tuple[int, dict[str, str], bytes]:
        slow.pass_by(until - slow.now)
        raise routes_github.Unreachable(url)

    started = slow.now
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(routes_github, "get", never)
        reply = world.miner("a").submit()

    assert told(reply) == (503, "GitHub is currently unavailable. Please try again later.")
    assert reply.headers["Retry-After"]
    assert slow.now - started <= settings.request_budget_seconds


def test_the_steps_together_leave_room_below_the_gateway_s_limit() -> None:
    """Each step at its limit, one after the other; the gateway cuts at 29 s."""
    settings = BitrecsSettings()
    pauses = (settings.commitment_attempts - 1) * settings.commitment_retry_seconds
    index = settings.similarity_timeout_seconds + 2
    github = settings.github_timeout_seconds

    assert github + pauses + index + 4 <= settings.request_budget_seconds < SECONDS_TO_ANSWER


def test_when_the_budget_is_spent_the_chain_is_not_waited_for(
    world: World, configure: Configure, monkeypatch: pytest.MonkeyPatch
) -> None:
    configure(BITRECS_COMMITMENT_RETRY_SECONDS="10", BITRECS_REQUEST_BUDGET_SECONDS="5")
    monkeypatch.setattr(clock, "sleep", lambda _seconds: pytest.fail("waited"))
    miner = world.miner("a")
    world.commitments.clear()
    world.sync()

    reply = miner.submit()

    assert told(reply) == (503, "Bittensor chain is currently unavailable. Please try again later.")
    assert reply.headers["Retry-After"] == "10"


def test_a_torn_copy_of_the_chain_is_an_outage(world: World) -> None:
    miner = world.miner("a")
    head = chain.table.get("SNAP#bitrecs", "HEAD")
    assert head
    chain.table.delete(f"SNAP#bitrecs#{head['version']}", "0000")
    chain._load.cache_clear()

    assert miner.submit().status == 503
