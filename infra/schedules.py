"""What starts by itself: each system's `tick`, once a minute; the chain's is the sync."""

from __future__ import annotations

import json
from typing import Any

from chalicelib.kernel.jobs import Task
from infra import access, names

_TICK = "tick"
_REPEAT_SECONDS = 55


def for_task(stage: str, task: Task) -> dict[str, Any]:
    """A schedule with a role of its own, so that it may exist before the function does.

    Deployed, a tick repeats its shorter intervals until the minute is over; on the laptop the runner does that.
    """
    if task.name != f"{task.system}-{_TICK}":
        return {}
    event = {} if stage == names.LOCAL else {"seconds": _REPEAT_SECONDS}
    key = names.logical(task.name)
    dead = names.queue_arn(stage, f"{task.system}-dead")
    statements = [access.invoke(stage, [task.name]), access.allow(["sqs:SendMessage"], [dead])]
    schedule = {
        "Type": "AWS::Scheduler::Schedule",
        "Properties": {
            "Name": names.physical(stage, task.name),
            "ScheduleExpression": "rate(1 minute)",
            "FlexibleTimeWindow": {"Mode": "OFF"},
            "State": "ENABLED",
            "Target": {
                "Arn": names.function_arn(stage, task.name),
                "RoleArn": {"Fn::GetAtt": [f"{key}ScheduleRole", "Arn"]},
                "Input": json.dumps(event),
                "RetryPolicy": {"MaximumRetryAttempts": 0, "MaximumEventAgeInSeconds": 60},
                "DeadLetterConfig": {"Arn": dead},
            },
        },
    }
    role = access.role(stage, f"{task.name}-schedule", "scheduler.amazonaws.com", statements)
    return {f"{key}Schedule": schedule, f"{key}ScheduleRole": role}
