"""Tasks (one Lambda function each) and periodic jobs, which a system's `tick` task runs when they are due.

A schedule invokes `tick` each minute, and a table's stream may do so at once. A job's last success and its running
lease stand in the system's table, so overlapping ticks, lost ticks and crashed runs all end the same way: the job runs
once per interval.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from . import clock, telemetry
from .http import Functions
from .settings import Settings
from .tables import ConditionFailed, Table
from .values import frozen
from .wire import Item

APP_NAME = "subnet-functions"
_LEASE_SECONDS = 300
_WAIT_FOR_A_RUNNING_JOB_SECONDS = 60
_SHORTEST_NAP_SECONDS = 0.2

TaskFunction = Callable[[dict[str, Any]], Any]


@frozen
class Task:
    """One Lambda function: where its code stands and what it needs.

    One with an `image` runs in that container image, which the template ships and Chalice does not know of.
    """

    name: str
    system: str
    handler: str
    timeout: int
    memory: int
    layers: tuple[str, ...] = ()
    image: str = ""


@frozen
class Job:
    """Work repeated every so often; `on` names the commands that run it at once, `stream` among them.

    One that is not `awake` does not keep a deployed tick running from minute to minute, however short its interval.
    """

    name: str
    interval: Callable[[], float]
    run: Callable[[], Any]
    on: tuple[str, ...]
    awake: bool


TASKS: dict[str, Task] = {}


class JobsFailed(RuntimeError):
    """Some jobs of a tick raised; the others ran."""


@dataclass
class Jobs:
    """A system's tasks and periodic jobs."""

    system: str
    module: str
    table: Table
    settings: Callable[[], Settings]
    layers: tuple[str, ...] = ()
    jobs: list[Job] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.blueprint = Functions(self.module)
        self.tick = self.task("tick", timeout=300, layers=self.layers)(self._tick)

    def task(
        self, name: str, *, timeout: int = 60, memory: int = 512, layers: tuple[str, ...] = (), image: str = ""
    ) -> Callable[[TaskFunction], Callable[[Any, Any], Any]]:
        """Declare a Lambda function `<system>-<name>`; the function gets the event alone."""
        full_name = f"{self.system}-{name}"

        def register(function: TaskFunction) -> Callable[[Any, Any], Any]:
            def handler(event: Any, _context: Any) -> Any:
                return function(event or {})

            handler.__name__ = "tick" if function == self._tick else function.__name__
            TASKS[full_name] = Task(
                full_name, self.system, f"{self.module}.{handler.__name__}", timeout, memory, layers, image
            )
            if not image:
                self.blueprint.lambda_function(name=full_name)(handler)
            return handler

        return register

    def every(
        self, interval: str, *, on: tuple[str, ...] = ("sweep",), awake: bool = True
    ) -> Callable[[Callable[[], Any]], Callable[[], Any]]:
        """Declare periodic work; `interval` names the knob that holds its seconds."""

        def register(function: Callable[[], Any]) -> Callable[[], Any]:
            name = function.__name__.replace("_", "-")
            self.jobs.append(Job(name, lambda: float(getattr(self.settings(), interval)), function, on, awake))
            return function

        return register

    def shortest_interval(self, *, awake: bool = False) -> float:
        """Of all jobs, or of those alone that keep a tick awake."""
        intervals = (job.interval() for job in self.jobs if job.awake or not awake)
        return min((interval for interval in intervals if interval > 0), default=60.0)

    def forget_leases(self) -> None:
        """After a start that knows that nothing of a former life still runs: no job waits for a dead one's lease."""
        for job in self.jobs:
            with contextlib.suppress(ConditionFailed):
                self.table.update("JOB", job.name, "REMOVE #running_until", when="attribute_exists(#running_until)")

    def _tick(self, event: dict[str, Any]) -> dict[str, Any]:
        """Run what is due, or at once what a command names; repeat while `seconds` last and a job is urgent."""
        if "Records" in event:
            self._report(self._run_now([job for job in self.jobs if "stream" in job.on]))
            return {"batchItemFailures": []}
        command = event.get("run", "due")
        if command != "due":
            return self._report(self._run_now([job for job in self.jobs if command in job.on]))
        deadline = clock.monotonic() + float(event.get("seconds", 0))
        outcome = self._run_due()
        nap = max(self.shortest_interval(awake=True), _SHORTEST_NAP_SECONDS)
        while clock.monotonic() + nap < deadline:
            clock.sleep(nap)
            outcome |= self._run_due()
        return self._report(outcome)

    def _run_due(self) -> dict[str, Any]:
        """One read tells which jobs could be due, so that looking often costs next to nothing; the claim decides."""
        outcome = {}
        held = {item["sk"]: item for item in self.table.query_all("JOB", consistent=True)}
        for job in self.jobs:
            if _could_be_due(job, held.get(job.name, {})) and self._claim(job, not_before=clock.now() - job.interval()):
                outcome[job.name] = self._run(job)
        return outcome

    def _run_now(self, jobs: list[Job]) -> dict[str, Any]:
        outcome = {}
        for job in jobs:
            deadline = clock.monotonic() + _WAIT_FOR_A_RUNNING_JOB_SECONDS
            while not (claimed := self._claim(job, not_before=None)) and clock.monotonic() < deadline:
                clock.sleep(_SHORTEST_NAP_SECONDS)
            outcome[job.name] = self._run(job) if claimed else "still running elsewhere"
        return outcome

    def _claim(self, job: Job, *, not_before: float | None) -> bool:
        """Take the job's lease if nobody holds it and, for a due run, its last success is old enough."""
        now = clock.now()
        free = "attribute_not_exists(#running_until) OR #running_until < :now"
        values: dict[str, Any] = {"now": now, "until": now + _LEASE_SECONDS}
        if not_before is not None:
            free = f"({free}) AND (attribute_not_exists(#last_success_at) OR #last_success_at <= :not_before)"
            values["not_before"] = not_before
        try:
            self.table.update("JOB", job.name, "SET #running_until = :until", when=free, **values)
        except ConditionFailed:
            return False
        return True

    def _run(self, job: Job) -> str:
        started = clock.now()
        try:
            job.run()
        except Exception as error:  # noqa: BLE001 - one broken job must not stop the others; the tick fails in the end
            telemetry.log("job failed", system=self.system, job=job.name, error=repr(error))
            self.table.update("JOB", job.name, "REMOVE #running_until")
            return f"failed: {error}"
        self.table.update("JOB", job.name, "SET #last_success_at = :at REMOVE #running_until", at=started)
        return "done"

    def _report(self, outcome: dict[str, Any]) -> dict[str, Any]:
        broken = {name: result for name, result in outcome.items() if result != "done"}
        if broken:
            raise JobsFailed(f"{self.system}: {broken}")
        return outcome


def _could_be_due(job: Job, held: Item) -> bool:
    """By its last success alone; whether somebody runs it is for the claim to find out."""
    return job.interval() > 0 and held.get("last_success_at", 0) <= clock.now() - job.interval()
