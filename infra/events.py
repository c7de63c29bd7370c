"""Queues and event sources: what cannot be delivered is set aside, and one bad record does not hold up the others."""

from __future__ import annotations

from typing import Any

from infra import names

SOURCE = "AWS::Lambda::EventSourceMapping"
QUEUE = "AWS::SQS::Queue"
_PARTIAL = {"FunctionResponseTypes": ["ReportBatchItemFailures"]}
_STREAM_RECORD_SECONDS = 6 * 3600
_TRIES = 8
_MOST_SECONDS_OF_A_TASK = 900


def source(resource: dict[str, Any], system: str, stage: str) -> dict[str, Any]:
    """Partial-batch answers everywhere; a stream also splits a failing batch and gives up on a record in the end."""
    given = resource["Properties"]
    added: dict[str, Any] = dict(_PARTIAL)
    if "StreamArn" in str(given["EventSourceArn"]):
        added |= {
            "StartingPosition": "TRIM_HORIZON",
            "BisectBatchOnFunctionError": True,
            "MaximumRecordAgeInSeconds": _STREAM_RECORD_SECONDS,
            "MaximumRetryAttempts": _TRIES,
            "DestinationConfig": {"OnFailure": {"Destination": names.queue_arn(stage, f"{system}-dead")}},
        }
    return {**resource, "Properties": added | given}


def queue(resource: dict[str, Any], system: str, stage: str) -> dict[str, Any]:
    """A message is out of sight for as long as any task may hold it, and moves aside after a few tries."""
    given = resource["Properties"]
    redrive = {"deadLetterTargetArn": names.queue_arn(stage, f"{system}-dead"), "maxReceiveCount": _TRIES}
    properties = {
        "VisibilityTimeout": _MOST_SECONDS_OF_A_TASK,
        "SqsManagedSseEnabled": True,
        "RedrivePolicy": redrive,
        **given,
        "QueueName": names.physical(stage, given["QueueName"]),
    }
    return {**resource, "DependsOn": names.logical(system, "dead"), "Properties": properties}
