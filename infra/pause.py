"""Close a stage's intake and open it again: `python -m infra.pause pause|resume --stage dev`.

Paused, every writing route answers 503 with the code `paused`; reads go on. With `--workers` schedules stop as well, so
that nothing but flows under way still writes. A deployment opens everything again.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from typing import Any

from infra import cloud, names

_KEPT_OF_A_SCHEDULE = ("Name", "ScheduleExpression", "FlexibleTimeWindow", "Target")


def set_intake(client: Callable[[str], Any], stage: str, *, is_open: bool) -> None:
    """The API function's READ_ONLY; containers with the old value are gone within seconds."""
    functions, name = client("lambda"), names.api_function(stage)
    variables = functions.get_function_configuration(FunctionName=name).get("Environment", {}).get("Variables", {})
    kept = {variable: value for variable, value in variables.items() if variable != "READ_ONLY"}
    wanted = kept if is_open else {**kept, "READ_ONLY": "true"}
    functions.update_function_configuration(FunctionName=name, Environment={"Variables": wanted})
    functions.get_waiter("function_updated_v2").wait(FunctionName=name)


def set_workers(client: Callable[[str], Any], stage: str, *, running: bool) -> list[str]:
    """Every schedule of the stage; answers their names."""
    scheduler, changed = client("scheduler"), []
    for page in scheduler.get_paginator("list_schedules").paginate(NamePrefix=names.physical(stage, "")):
        for found in page["Schedules"]:
            schedule = scheduler.get_schedule(Name=found["Name"])
            kept = {field: schedule[field] for field in _KEPT_OF_A_SCHEDULE}
            scheduler.update_schedule(**kept, State="ENABLED" if running else "DISABLED")
            changed.append(str(found["Name"]))
    return changed


def main() -> None:
    parser = argparse.ArgumentParser(prog="infra.pause", description=__doc__)
    parser.add_argument("verb", choices=["pause", "resume"])
    parser.add_argument("--stage", required=True)
    parser.add_argument("--workers", action="store_true", help="pause: stop schedules too (resume always starts them)")
    given = parser.parse_args()
    resume = given.verb == "resume"
    try:
        set_intake(cloud.client, given.stage, is_open=resume)
        schedules = set_workers(cloud.client, given.stage, running=resume) if resume or given.workers else []
    except cloud.NoRegion as refused:
        sys.exit(str(refused))
    print("intake is open" if resume else "intake is closed")
    for name in schedules:
        print(f"{name} {'runs' if resume else 'is stopped'}")


if __name__ == "__main__":
    main()
