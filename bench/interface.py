"""What a benchmark file needs: the decorator, the figures, and honest ways to take the time."""

from __future__ import annotations

import statistics
import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


@dataclass(frozen=True)
class Figures:
    """One measurement of both sides; `note` says what a reader must know."""

    ours: float
    peer: float
    note: str = ""


@dataclass(frozen=True)
class Benchmark:
    """A named comparison and the ratio that it has to reach."""

    name: str
    unit: str
    run: Callable[[], Figures]
    at_most: float | None
    at_least: float | None

    def line(self, figures: Figures) -> str:
        ratio = figures.ours / figures.peer
        values = f"ours={_amount(figures.ours, self.unit)} peer={_amount(figures.peer, self.unit)}"
        verdict = "ok" if self.reached(figures) else "short"
        note = f"  # {figures.note}" if figures.note else ""
        return f"bench {self.name} {values} ratio={ratio:.3g} goal={self.goal} {verdict}{note}"

    @property
    def goal(self) -> str:
        return f"<={self.at_most:g}" if self.at_most is not None else f">={self.at_least:g}"

    def reached(self, figures: Figures) -> bool:
        ratio = figures.ours / figures.peer
        return (self.at_most is None or ratio <= self.at_most) and (self.at_least is None or ratio >= self.at_least)


BENCHMARKS: list[Benchmark] = []


def benchmark(
    name: str, *, unit: str, at_most: float | None = None, at_least: float | None = None
) -> Callable[[Callable[[], Figures]], Callable[[], Figures]]:
    """Declare a comparison; exactly one bound says which side of the ratio is good."""
    if (at_most is None) == (at_least is None):
        raise ValueError(f"{name}: give either at_most or at_least")

    def register(run: Callable[[], Figures]) -> Callable[[], Figures]:
        BENCHMARKS.append(Benchmark(name, unit, run, at_most, at_least))
        return run

    return register


def cpu_milliseconds(work: Callable[[], object], *, times: int = 200, rounds: int = 5) -> float:
    """CPU of this process for one call, the best of several rounds: what the work costs when nothing disturbs."""
    work()
    best = float("inf")
    for _ in range(rounds):
        started = time.process_time()
        for _ in range(times):
            work()
        best = min(best, time.process_time() - started)
    return best / times * 1000


def alternating(sides: Sequence[Callable[[], float]], *, rounds: int) -> list[float]:
    """The median of each side, measured in turns, so that a busy minute hurts all sides alike."""
    taken: list[list[float]] = [[] for _ in sides]
    for _ in range(rounds):
        for index, side in enumerate(sides):
            taken[index].append(side())
    return [statistics.median(values) for values in taken]


def printed_number(
    python: str | Path, code: str, *, cwd: Path = ROOT, environment: dict[str, str] | None = None
) -> float:
    """What a fresh process prints: isolated from this one's imports, with no more environment than given."""
    command = [str(python), "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=cwd, env=environment or {})
    return float(done.stdout)


def _amount(value: float, unit: str) -> str:
    return f"{value:.4g}{unit}" if value < 10_000 else f"{value:.0f}{unit}"
