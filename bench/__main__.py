"""`python -m bench [WORD…]`: run the benchmarks whose names contain a word; status 1 when one is short or broken."""

from __future__ import annotations

import importlib
import pkgutil
import sys
import traceback

import bench
from bench.interface import BENCHMARKS, Benchmark

_NOT_BENCHMARKS = {"__main__", "interface", "peers"}


def main(words: list[str]) -> int:
    for module in pkgutil.iter_modules(bench.__path__):
        if not module.ispkg and module.name not in _NOT_BENCHMARKS:
            importlib.import_module(f"bench.{module.name}")
    wanted = [found for found in BENCHMARKS if not words or any(word in found.name for word in words)]
    outcomes = [_run(found) for found in wanted]
    return 0 if all(outcomes) else 1


def _run(found: Benchmark) -> bool:
    try:
        figures = found.run()
    except Exception:  # noqa: BLE001 - one broken benchmark must not hide the others
        traceback.print_exc()
        print(f"bench {found.name} broke")
        return False
    print(found.line(figures), flush=True)
    return found.reached(figures)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
