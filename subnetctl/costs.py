"""What a month on AWS costs: how often things happen, times the budgets that tests hold the code to, times list prices.

`tests/*/test_bill.py` measure the budgets, `tests/subnetctl/test_cost.py` the rest; prices are the operator's to check.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

PRICES_OF = "2025-06, us-east-1, on demand, without any free tier but the first 100 GB of egress"
DAYS = 30.4
MINUTES = DAYS * 24 * 60

# Dollars each.
API_REQUEST = 3.5e-6
LAMBDA_REQUEST = 0.2e-6
LAMBDA_GB_SECOND = 1.66667e-5
READ_UNIT = 0.125e-6
WRITE_UNIT = 0.625e-6
PUT = 5e-6
GET = 0.4e-6
TRANSITION = 25e-6
SCHEDULED_CALL = 1e-6
ALARM = 0.1
METRIC = 0.3
LOG_GB = 0.5
BUCKET_GB = 0.023
TABLE_GB = 0.25 + 0.20  # with point-in-time recovery
EGRESS = ((100, 0.0), (10_240, 0.09), (40_960, 0.085), (102_400, 0.07), (float("inf"), 0.05))  # by GB, step by step

# What the deployment is made of; tests compare these with the template and the task registry.
API_MEMORY_GB = 1.0
API_SECONDS = 0.05
TICK_MEMORY_GB = 0.5
TICK_SECONDS = 55
ALARMS = {"chain": 4, "prism": 13, "pool": 15, "experts": 19, "bitrecs": 9, "leoma": 6}
ALARMS_OF_THE_API = 4
# Latency and faults of a route are two metrics, each billed while the route is used.
METRICS_PER_ROUTE = 2
LOG_BYTES = 500

# Read and write units of an idle minute, and whether its tick works the whole minute.
IDLE = {
    "chain": (40, 50, True),
    "prism": (10, 10, False),
    "pool": (30, 20, False),
    "experts": (20, 20, False),
    "bitrecs": (20, 20, False),
    "leoma": (20, 20, False),
}


@dataclass(frozen=True)
class Load:
    """How much a subnet is used."""

    miners: int = 256
    validators: int = 20
    viewers: int = 2
    tasks_per_day: float = 144
    leases_per_day: float = 24
    submissions_per_day: float = 1
    downloads_per_day: float = 1
    slice_gb: float = 0.15
    model_gb: float = 1.0
    kept_gb: float = 20


@dataclass(frozen=True)
class Budget:
    """One thing that somebody does: at most so many requests, units and objects, and what it takes besides."""

    system: str
    name: str
    per_day: Callable[[Load], float]
    requests: float = 1
    reads: float = 1
    writes: float = 0
    puts: float = 0
    gets: float = 0
    transitions: float = 0
    gb_seconds: float = 0
    out_gb: Callable[[Load], float] = lambda _: 5e-6


def _looks(load: Load) -> float:
    """A viewer's dashboard, eight hours a day, a block apart."""
    return load.viewers * 8 * 3600 / 12


def _tempos(load: Load) -> float:
    """Every validator reads weights once per tempo of 360 blocks."""
    return load.validators * 20


def _submissions(load: Load) -> float:
    return load.miners * load.submissions_per_day


BUDGETS = (
    Budget("prism", "uploads", _submissions, writes=12, puts=1),
    Budget(
        "prism", "reviews and evaluations", _submissions, requests=0, reads=80, writes=120, puts=1, gets=2,
        transitions=12, gb_seconds=2 * 10 + 10 * 120,
    ),
    Budget("prism", "weights", _tempos),
    Budget("prism", "dashboards", _looks, requests=4, reads=24),
    Budget("pool", "leases", lambda load: load.miners * load.leases_per_day, reads=40, writes=60),
    Budget(
        "pool", "hand-ins", lambda load: load.miners * load.leases_per_day, reads=20, writes=30, transitions=4,
        gb_seconds=0.5 * 2,
    ),
    Budget("pool", "dashboards", _looks, requests=7, reads=60),
    Budget(
        "experts", "slices", lambda load: load.miners * load.downloads_per_day, reads=8, writes=8, gets=2,
        out_gb=lambda load: load.slice_gb,
    ),
    Budget(
        "experts", "full models", lambda load: load.validators * load.downloads_per_day, reads=8, writes=8, gets=2,
        out_gb=lambda load: load.model_gb,
    ),
    Budget(
        "experts", "checkpoints", _submissions, reads=30, writes=60, puts=12, gets=40, transitions=10,
        gb_seconds=1 * 60 + 3 * 60,
    ),
    Budget("experts", "dashboards", _looks, requests=2, reads=4),
    Budget("bitrecs", "submissions", _submissions, requests=2, reads=32, writes=56, puts=2, gb_seconds=3 * 2),
    # Two screeners and three validators, each for twenty minutes, in which a flow looks a dozen times after it.
    Budget(
        "bitrecs", "evaluations", _submissions, requests=150, reads=500, writes=350, puts=55, transitions=5 * 12 * 3,
        gb_seconds=5 * 12 * 0.5 * 0.2,
    ),
    Budget("bitrecs", "heartbeats", lambda load: load.validators * 24 * 120, reads=3, writes=5),
    Budget("bitrecs", "dashboards", _looks, requests=6, reads=20, writes=18, gets=2),
    Budget(
        "leoma", "samples, by the hundred", lambda load: load.validators * load.tasks_per_day * -(-load.miners // 100),
        reads=40, writes=250, puts=1, gb_seconds=0.5 * 2,
    ),
    Budget("leoma", "ranks and weights", _tempos, requests=2, reads=40),
    Budget("leoma", "dashboards", _looks, requests=7, reads=60),
)  # fmt: skip


def budget(system: str, name: str) -> Budget:
    """One by name, for the test that measures it."""
    return next(found for found in BUDGETS if (found.system, found.name) == (system, name))


@dataclass(frozen=True)
class Line:
    """One line of the bill."""

    system: str
    what: str
    quantity: float
    unit: str
    dollars: float


def bill(load: Load, systems: Iterable[str]) -> list[Line]:
    """The month, line by line; lines below a cent are left out."""
    served = [system for system in IDLE if system in {"chain", *systems}]
    found = [line for system in served for line in _of_system(load, system)]
    found += _shared(load, served)
    return [line for line in found if line.dollars >= 0.01]  # noqa: PLR2004 - a cent


def _of_system(load: Load, system: str) -> Iterator[Line]:
    done = [(one, one.per_day(load) * DAYS) for one in BUDGETS if one.system == system]

    def total(figure: Callable[[Budget], float]) -> float:
        return sum(times * figure(one) for one, times in done)

    reads, writes, busy = IDLE[system]
    seconds = TICK_SECONDS if busy else 1
    requests = total(lambda one: one.requests)
    yield _line(system, "API requests", requests, "requests", API_REQUEST + LAMBDA_REQUEST)
    yield _line(system, "computing answers", requests * API_SECONDS * API_MEMORY_GB, "GB-s", LAMBDA_GB_SECOND)
    yield _line(system, "computing in tasks", total(lambda one: one.gb_seconds), "GB-s", LAMBDA_GB_SECOND)
    yield _line(system, "the schedule, all day", MINUTES * seconds * TICK_MEMORY_GB, "GB-s", LAMBDA_GB_SECOND)
    yield _line(system, "scheduled calls", MINUTES, "calls", SCHEDULED_CALL + LAMBDA_REQUEST)
    yield _line(system, "table reads", total(lambda one: one.reads) + MINUTES * reads, "units", READ_UNIT)
    yield _line(system, "table writes", total(lambda one: one.writes) + MINUTES * writes, "units", WRITE_UNIT)
    yield _line(system, "objects written", total(lambda one: one.puts), "objects", PUT)
    yield _line(system, "objects read", total(lambda one: one.gets), "objects", GET)
    yield _line(system, "flow steps", total(lambda one: one.transitions), "steps", TRANSITION)
    yield _line(system, "request log", requests * LOG_BYTES / 1e9, "GB", LOG_GB)
    yield _line(system, "alarms", ALARMS[system], "alarms", ALARM)


def _shared(load: Load, served: list[str]) -> Iterator[Line]:
    """What is cheaper by the step is counted for all systems together."""
    leaving = {
        one: one.per_day(load) * DAYS * (one.out_gb(load) + (0 if one.out_gb(load) > 0.001 else one.requests * 2e-6))  # noqa: PLR2004
        for one in BUDGETS
        if one.system in served
    }
    total = sum(leaving.values())
    dollars = egress(total)
    for one, gigabytes in leaving.items():
        if gigabytes > 0.01 * total:
            yield Line(one.system, f"egress of {one.name}", gigabytes, "GB", dollars * gigabytes / total)
    if "experts" in served:
        yield _line("experts", "kept versions of the model", 3 * 2 * load.model_gb, "GB", BUCKET_GB)
    yield _line("all", "tables, restorable", load.kept_gb, "GB", TABLE_GB)
    yield _line("all", "metrics of routes in use", METRICS_PER_ROUTE * 20 * (len(served) - 1), "metrics", METRIC)
    yield _line("all", "alarms of the API", ALARMS_OF_THE_API, "alarms", ALARM)


def egress(gigabytes: float) -> float:
    """Dollars for bytes that leave to the internet; the more, the cheaper."""
    dollars = 0.0
    for size, price in EGRESS:
        some = min(gigabytes, size)
        dollars += some * price
        gigabytes -= some
    return dollars


def _line(system: str, what: str, quantity: float, unit: str, price: float) -> Line:
    return Line(system, what, quantity, unit, quantity * price)
