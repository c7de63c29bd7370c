"""Periodic work: once per interval whoever ticks, at once on command, and going on after a crash."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from chalicelib.kernel import jobs as jobs_module
from chalicelib.kernel.jobs import Jobs, JobsFailed
from chalicelib.kernel.settings import Settings, knob
from chalicelib.kernel.tables import Table
from tests.harness.budget import counted
from tests.harness.faults import answer_lost, script, trouble
from tests.harness.race import all_at_once

NOW = 1_700_000_000.0
Freeze = Callable[[float], None]
pytestmark = pytest.mark.usefixtures("cloud")


class Shop:
    """Two jobs and what they did."""

    def __init__(self, settings: type[Settings]) -> None:
        self.jobs = Jobs("shop", __name__, Table("leoma"), settings.current)
        self.done: list[str] = []
        self.broken = False
        self.jobs.every("fast", on=("sweep", "chain"))(self.count)
        self.jobs.every("slow", on=("sweep", "stream"))(self.report_sales)

    def count(self) -> None:
        self.done.append("count")
        if self.broken:
            raise RuntimeError("out of paper")

    def report_sales(self) -> None:
        self.done.append("report")

    def tick(self, **event: object) -> dict[str, Any]:
        outcome: dict[str, Any] = self.jobs.tick(event, None)
        return outcome


@pytest.fixture
def shop(freeze: Freeze, monkeypatch: pytest.MonkeyPatch) -> Iterator[Shop]:
    registered = list(Settings.registry)
    monkeypatch.setattr(jobs_module, "TASKS", {})
    freeze(NOW)

    class ShopSettings(Settings, system="shop"):
        fast: int = knob(10, "seconds")
        slow: int = knob(100, "seconds")

    yield Shop(ShopSettings)
    Settings.registry[:] = registered


def test_a_tick_runs_what_is_due_and_nothing_twice(shop: Shop, freeze: Freeze) -> None:
    assert shop.tick() == {"count": "done", "report-sales": "done"}
    assert shop.tick() == {}
    freeze(NOW + 9.9)
    assert shop.tick() == {}
    freeze(NOW + 10)
    assert shop.tick() == {"count": "done"}
    assert shop.done == ["count", "report", "count"]


def test_of_ticks_at_the_same_time_one_runs_the_job(shop: Shop) -> None:
    all_at_once([shop.tick] * 20)
    assert sorted(shop.done) == ["count", "report"]


def test_a_job_whose_run_crashed_waits_for_its_lease_and_then_runs(shop: Shop, freeze: Freeze) -> None:
    shop.jobs.table.update("JOB", "count", "SET #running_until = :until", until=NOW + 300)
    freeze(NOW + 300)
    assert "count" not in shop.tick()
    freeze(NOW + 300.1)
    assert shop.tick() == {"count": "done"}


def test_a_fresh_start_forgets_the_leases_of_the_dead(shop: Shop) -> None:
    shop.jobs.table.update("JOB", "count", "SET #running_until = :until", until=NOW + 300)
    shop.jobs.forget_leases()
    assert shop.tick() == {"count": "done", "report-sales": "done"}
    assert {item["sk"] for item in shop.jobs.table.query_all("JOB")} == {"count", "report-sales"}


def test_a_command_runs_its_jobs_at_once_whether_due_or_not(shop: Shop) -> None:
    shop.tick()
    assert shop.tick(run="sweep") == {"count": "done", "report-sales": "done"}
    assert shop.tick(run="chain") == {"count": "done"}
    assert shop.tick(run="no such command") == {}


def test_a_command_waits_for_a_running_job_and_says_when_it_does_not_end(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jobs_module, "_WAIT_FOR_A_RUNNING_JOB_SECONDS", 0.05)
    shop.jobs.table.update("JOB", "count", "SET #running_until = :until", until=NOW + 300)
    with pytest.raises(JobsFailed, match="still running"):
        shop.tick(run="chain")


def test_a_broken_job_fails_the_tick_stops_no_other_and_is_tried_again(
    shop: Shop, capsys: pytest.CaptureFixture[str]
) -> None:
    shop.broken = True
    with pytest.raises(JobsFailed, match="out of paper"):
        shop.tick()
    assert "job failed" in capsys.readouterr().err
    shop.broken = False
    assert shop.tick() == {"count": "done"}
    assert shop.done == ["count", "report", "count"]


def test_an_interval_of_zero_switches_a_job_off(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shop.jobs.settings(), "fast", 0)
    assert shop.tick() == {"report-sales": "done"}
    assert shop.jobs.shortest_interval() == 100


@pytest.fixture
def sleepless(monkeypatch: pytest.MonkeyPatch) -> None:
    """Naps pass at once."""
    moments = {"now": 0.0}
    monkeypatch.setattr("chalicelib.kernel.clock.monotonic", lambda: moments["now"])
    monkeypatch.setattr("chalicelib.kernel.clock.now", lambda: NOW + moments["now"])
    monkeypatch.setattr("chalicelib.kernel.clock.sleep", lambda seconds: moments.update(now=moments["now"] + seconds))


def test_a_tick_repeats_until_its_seconds_are_over(shop: Shop, sleepless: None) -> None:
    """A schedule fires once a minute; what is due more often repeats inside."""
    shop.tick(seconds=55)
    assert shop.done.count("count") == 6
    assert shop.done.count("report") == 1


def test_a_job_that_can_wait_keeps_no_tick_awake(shop: Shop, sleepless: None) -> None:
    """A deployment that nobody uses must not pay for naps."""
    del shop.jobs.jobs[:]
    shop.jobs.every("fast", awake=False)(shop.count)
    shop.tick(seconds=55)
    assert shop.done == ["count"]
    assert shop.jobs.shortest_interval() == 10


def test_a_table_s_stream_runs_its_jobs_at_once_and_takes_the_whole_batch(shop: Shop) -> None:
    shop.tick()
    assert shop.tick(Records=[{}]) == {"batchItemFailures": []}
    assert shop.done == ["count", "report", "report"]


def test_a_stream_s_batch_comes_again_when_its_job_failed(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    shop.jobs.table.update("JOB", "report-sales", "SET #running_until = :until", until=NOW + 300)
    monkeypatch.setattr(jobs_module, "_WAIT_FOR_A_RUNNING_JOB_SECONDS", 0.05)
    with pytest.raises(JobsFailed):
        shop.tick(Records=[{}])


def test_a_lost_answer_to_the_claim_does_not_lose_the_run(shop: Shop) -> None:
    with trouble(script({1: answer_lost()})):
        assert shop.tick() == {"count": "done", "report-sales": "done"}


def test_tasks_are_named_by_system_and_know_their_code(shop: Shop) -> None:
    @shop.jobs.task("print", timeout=9, memory=256)
    def print_receipt(event: dict[str, int]) -> int:
        return event["n"] + 1

    task = jobs_module.TASKS["shop-print"]
    assert (task.handler, task.timeout, task.memory) == (f"{__name__}.print_receipt", 9, 256)
    assert jobs_module.TASKS["shop-tick"].handler == f"{__name__}.tick"
    assert print_receipt({"n": 1}, None) == 2


def test_looking_when_nothing_is_due_is_one_read(shop: Shop) -> None:
    shop.tick()
    with counted() as spent:
        shop.tick()

    assert dict(spent.calls) == {"dynamodb:Query": 1}
