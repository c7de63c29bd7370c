"""Step Functions and task invocation: deterministic names make a second start harmless."""

from __future__ import annotations

import functools
import os
from typing import Any

from . import aws, codec, telemetry
from .errors import Unavailable
from .settings import KernelSettings

_EMULATOR_ACCOUNT = "000000000000"
RUNNING = "RUNNING"
NO_SUCH_TASK = "ResourceNotFoundException"
_BUSY = {"TooManyRequestsException", "ServiceException", "EC2ThrottledException", "ResourceNotReadyException"}


class TaskFailed(RuntimeError):
    """A task ended with an exception; `kind` is its class name."""

    def __init__(self, task: str, kind: str, message: str) -> None:
        super().__init__(f"{task}: {kind}: {message}")
        self.kind = kind


def function_name(task: str) -> str:
    return f"subnet-functions-{KernelSettings.current().stage}-{task}"


def start(machine: str, name: str, payload: Any) -> bool:
    """Start an execution; False when one of this name was started before."""
    states = aws.client("stepfunctions")
    try:
        states.start_execution(
            stateMachineArn=_arn("stateMachine", machine), name=name, input=codec.encode(payload).decode()
        )
    except states.exceptions.ExecutionAlreadyExists:
        return False
    return True


def start_or_leave(machine: str, name: str, payload: Any) -> bool:
    """Start what a sweep would start anyway: when the service does not answer, the request goes on without it."""
    from botocore.exceptions import BotoCoreError, ClientError  # noqa: PLC0415 - loaded with the first client

    try:
        return start(machine, name, payload)
    except (BotoCoreError, ClientError) as error:
        telemetry.log("flow not started", machine=machine, name=name, error=repr(error))
        return False


def running(machine: str) -> set[str]:
    """The names of a machine's executions that have not ended."""
    pages = aws.client("stepfunctions").get_paginator("list_executions")
    found = pages.paginate(stateMachineArn=_arn("stateMachine", machine), statusFilter=RUNNING)
    return {str(execution["name"]) for page in found for execution in page["executions"]}


def status(machine: str, name: str) -> str | None:
    """The state of an execution, None when there never was one."""
    states = aws.client("stepfunctions")
    try:
        arn = f"{_arn('execution', machine)}:{name}"
        return str(states.describe_execution(executionArn=arn)["status"])
    except states.exceptions.ExecutionDoesNotExist:
        return None


def invoke(task: str, payload: Any, *, seconds: float | None = None) -> Any:
    """Run a task and wait for its answer; with `seconds`, no longer than that, then it is Unavailable."""
    from botocore.exceptions import BotoCoreError, ClientError  # noqa: PLC0415 - loaded with the first client

    send = (aws.client("lambda", seconds) if seconds else aws.client("lambda")).invoke
    try:
        answer = send(FunctionName=function_name(task), Payload=codec.encode(payload))
        raw = answer["Payload"].read()
    except BotoCoreError as error:
        raise Unavailable(f"{task} does not answer", code="task_unavailable", retry_after=5) from error
    except ClientError as error:
        code = error.response["Error"]["Code"]
        if code == NO_SUCH_TASK:
            raise TaskFailed(task, code, "there is no such function") from None
        if code not in _BUSY:
            raise
        raise Unavailable(f"{task} is busy", code="task_unavailable", retry_after=5) from error
    result: Any = codec.decode(raw) if raw else {}
    if answer.get("FunctionError"):
        raise TaskFailed(task, str(result.get("errorType")), str(result.get("errorMessage")))
    return result


def wake(task: str) -> None:
    """Start a container of a task that will be needed soon; whether it starts changes nothing but the wait."""
    from botocore.exceptions import BotoCoreError, ClientError  # noqa: PLC0415 - loaded with the first client

    try:
        aws.client("lambda").invoke(
            FunctionName=function_name(task), Payload=codec.encode({"wake": True}), InvocationType="Event"
        )
    except (BotoCoreError, ClientError) as error:
        telemetry.log("task not woken", task=task, error=repr(error))


def _arn(kind: str, machine: str) -> str:
    region = aws.client("stepfunctions").meta.region_name
    return f"arn:aws:states:{region}:{_account()}:{kind}:{function_name(machine)}"


def _account() -> str:
    """A deployed function is told its account; an operator's command asks for it."""
    told = os.environ.get("AWS_ACCOUNT_ID") or (_EMULATOR_ACCOUNT if aws.endpoint("stepfunctions") else "")
    return told or _account_of_the_caller()


@functools.cache
def _account_of_the_caller() -> str:
    return str(aws.client("sts").get_caller_identity()["Account"])
