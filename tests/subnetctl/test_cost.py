"""The bill: what it takes for granted is what the template, the registry and the jobs are."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from dataclasses import replace

import pytest

import app as app_module
from chalicelib.pool.domain import INPUT_DIMS
from infra import schedules, tasks, template
from infra.names import SYSTEMS
from subnetctl import costs
from tests.harness.budget import counted
from tests.harness.client import Client
from tests.harness.laptop import ROOT

NOW = 1_795_000_000.0


USUAL = costs.Load()


def dollars(systems: tuple[str, ...] = SYSTEMS, load: costs.Load = USUAL) -> float:
    return sum(line.dollars for line in costs.bill(load, systems))


def test_alarms_are_those_of_the_template() -> None:
    names = [
        resource["Properties"]["AlarmName"].removeprefix("subnet-functions-prod-").partition("-")[0]
        for resource in template.build("prod", variables={})["Resources"].values()
        if resource["Type"] == "AWS::CloudWatch::Alarm"
    ]
    counts = Counter(name if name in costs.ALARMS else "api" for name in names)
    assert counts == {**costs.ALARMS, "api": costs.ALARMS_OF_THE_API}


def test_ticks_are_as_large_and_as_long_as_the_registry_says() -> None:
    ticks = {task.system: task.memory for task in tasks.declared() if task.name.endswith("-tick")}
    assert set(ticks) == set(costs.IDLE)
    assert set(ticks.values()) == {costs.TICK_MEMORY_GB * 1024}
    assert costs.TICK_SECONDS == schedules._REPEAT_SECONDS
    busy = {jobs.system for jobs in app_module.jobs() if jobs.shortest_interval(awake=True) < costs.TICK_SECONDS}
    assert busy == {system for system, (_, _, whole) in costs.IDLE.items() if whole}


@pytest.mark.usefixtures("cloud")
def test_an_idle_minute_costs_no_more_than_the_bill_says(
    freeze: Callable[[float], None], configure: Callable[..., None]
) -> None:
    configure(CHAIN_SOURCE=f"file:{ROOT / 'local' / 'chain.json'}")
    for jobs in app_module.jobs():
        step = max(jobs.shortest_interval(awake=True), 0.2)
        freeze(NOW)
        jobs._run_due()
        with counted() as spent:
            for look in range(max(1, int(60 / step))):
                freeze(NOW + 60 + look * step)
                jobs._run_due()
        reads, writes, _ = costs.IDLE[jobs.system]
        assert spent.read_units <= reads, jobs.system
        assert spent.write_units <= writes, jobs.system


LOOKS = {
    "prism": ("v1/leaderboard", "v1/architectures?limit=50", "v1/training-variants?limit=50", "v1/epochs/current"),
    "pool": (
        "health", "api/v1/pool", "api/v1/miners/leaderboard?limit=100",
        *(f"api/v1/results/sota?task_type={name}" for name in INPUT_DIMS), "claims/epochs",
    ),
    "experts": ("health",),
    "bitrecs": (
        "health", "retrieval/top-agents", "scoring/wta", "scoring/latest-set-info",
        "validator/connected-validators-info", "retrieval/queue?stage=screener_1",
    ),
    "leoma": (
        "scores/rank", "weights", "miners/list", "scores/stats", "scores/validators", "scores/agreement",
        "tasks/latest",
    ),
}  # fmt: skip


@pytest.mark.parametrize("system", SYSTEMS)
def test_a_look_at_a_dashboard_costs_no_more_than_the_bill_says(client: Client, system: str) -> None:
    page = (ROOT / "chalicelib" / "site" / "assets" / f"{system}.js").read_text("utf-8")
    budget = costs.budget(system, "dashboards")
    with counted() as spent:
        for path in LOOKS[system]:
            assert path.partition("claims/")[2] or path.partition("=")[0] in page
            assert client.get(f"/{system}/{path}").status in {200, 404}
    assert len(LOOKS[system]) <= budget.requests
    assert spent.read_units <= budget.reads
    assert spent.write_units <= budget.writes


def test_egress_gets_cheaper_by_the_step() -> None:
    assert costs.egress(100) == 0
    assert costs.egress(1100) == pytest.approx(90)
    assert costs.egress(100 + 10_240 + 40_960) == pytest.approx(10_240 * 0.09 + 40_960 * 0.085)


def test_slices_that_leave_are_what_a_large_model_costs() -> None:
    small, large = costs.Load(slice_gb=0.1), costs.Load(slice_gb=10)
    assert dollars(load=large) - dollars(load=small) > 256 * costs.DAYS * 9.9 * 0.05
    assert dollars(("leoma",), large) == pytest.approx(dollars(("leoma",), small))


def test_everything_costs_more_with_more_of_it() -> None:
    for name in ("miners", "validators", "viewers", "kept_gb", "model_gb"):
        more = replace(USUAL, **{name: getattr(USUAL, name) * 2})
        assert dollars(load=more) > dollars(), name
    assert dollars(("leoma",)) < dollars()


def test_the_command_prints_lines_that_add_up() -> None:
    command = [sys.executable, "-m", "subnetctl.main", "cost", "--system", "leoma", "--miners", "10", "--json"]
    told = json.loads(subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout)
    assert told["total"] == pytest.approx(sum(line["dollars"] for line in told["lines"]))
    assert {line["system"] for line in told["lines"]} == {"chain", "leoma", "all"}
    refused = subprocess.run([*command, "--system", "lyoma"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert refused.returncode == 1
