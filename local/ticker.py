"""Intervals below a minute, which a schedule cannot keep: invokes the same `tick` functions, only more often."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from typing import Any

from botocore.exceptions import ClientError, ReadTimeoutError

from chalicelib.kernel import flows
from chalicelib.kernel.errors import Unavailable
from chalicelib.kernel.jobs import Jobs

CHAIN = "chain"
SECONDS_OF_A_SCHEDULE = 60
SECONDS_FOR_THE_CHAIN = 5
# When the schedule's tick has just done what was due, the next look comes after this part of the interval.
LOOK_AGAIN = 0.25
SHORTEST_PAUSE = 0.25


class Ticker:
    """A thread per system: catches up at start, then looks as often as its shortest interval asks for."""

    def __init__(self, jobs: Iterable[Jobs], report: Callable[[str], None]) -> None:
        self._jobs = list(jobs)
        self._report = report
        self._chain_seen = threading.Event()
        self._stopped = threading.Event()
        self._said: dict[str, str] = {}

    def start(self) -> None:
        """Returns when the chain has been looked at, or could not be for a while."""
        for jobs in self._jobs:
            threading.Thread(target=self._run, args=(jobs,), name=f"ticker-{jobs.system}", daemon=True).start()
        self._chain_seen.wait(SECONDS_FOR_THE_CHAIN)

    def stop(self) -> None:
        self._stopped.set()

    def _run(self, jobs: Jobs) -> None:
        """What ran now is due again after its interval, counted from its end; what did not is due any moment."""
        self._catch_up(jobs.system)
        interval = jobs.shortest_interval()
        frequent = {job.name for job in jobs.jobs if job.interval() == interval}
        pause = 0.0
        while interval < SECONDS_OF_A_SCHEDULE and not self._stopped.wait(max(SHORTEST_PAUSE, pause)):
            ran = frequent & self._invoke(jobs.system, {}).keys()
            pause = interval if ran else interval * LOOK_AGAIN

    def _catch_up(self, system: str) -> None:
        """The chain first, for the others build on it; then `start` restarts lost work whatever its interval."""
        if system == CHAIN:
            self._invoke(system, {"run": CHAIN})
            self._chain_seen.set()
            return
        self._chain_seen.wait(SECONDS_FOR_THE_CHAIN)
        self._invoke(system, {"run": "start"})
        self._invoke(system, {})

    def _invoke(self, system: str, event: dict[str, Any]) -> dict[str, Any]:
        """What ran; a failure is told once, not every few seconds, and a tick that runs for minutes is none."""
        try:
            outcome: dict[str, Any] = flows.invoke(f"{system}-tick", event)
        except (flows.TaskFailed, ClientError) as error:
            self._tell(system, str(error))
        except Unavailable as error:
            if not isinstance(error.__cause__, ReadTimeoutError):
                self._tell(system, str(error.detail))
        else:
            self._said.pop(system, None)
            return outcome
        return {}

    def _tell(self, system: str, text: str) -> None:
        if self._said.get(system) != text and not self._stopped.is_set():
            self._said[system] = text
            self._report(f"{system}-tick failed: {text}")
