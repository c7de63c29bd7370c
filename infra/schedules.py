"""What starts by itself: each system's `tick` and the chain sync, once a minute."""

from __future__ import annotations

from typing import Any

from infra import access, names
from infra.tasks import Task

_STARTERS = ("tick", "sync")


def for_task(stage: str, task: Task) -> dict[str, Any]:
    """A schedule with a role of its own, so that it may exist before the function does."""
    if task.name.removeprefix(f"{task.system}-") not in _STARTERS:
        return {}
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
                "Input": "{}",
                "RetryPolicy": {"MaximumRetryAttempts": 0, "MaximumEventAgeInSeconds": 60},
                "DeadLetterConfig": {"Arn": dead},
            },
        },
    }
    role = access.role(stage, f"{task.name}-schedule", "scheduler.amazonaws.com", statements)
    return {f"{key}Schedule": schedule, f"{key}ScheduleRole": role}
