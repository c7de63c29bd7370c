"""What tells the operator that something is wrong: dead-letter queues, and alarms on all that can fail."""

from __future__ import annotations

from typing import Any

from infra import names

TOPIC = "AlarmTopic"
_LOG_DAYS = 30
_KINDS = ("errors", "dead-letters", "failed", "timed-out", "read-throttles", "write-throttles")
_FOURTEEN_DAYS = 14 * 24 * 3600


def common(stage: str) -> dict[str, Any]:
    """Where alarms ring, and the one on throttled invocations, which no function's own errors show."""
    topic = {"Type": "AWS::SNS::Topic", "Properties": {"TopicName": names.physical(stage, "alarms")}}
    return {TOPIC: topic, **alarm(stage, "throttled-invocations", "AWS/Lambda", "Throttles", {})}


def dead_letters(stage: str, system: str) -> dict[str, Any]:
    """One queue per system for whatever a schedule, a stream or an event could not deliver, and its alarm."""
    short = f"{system}-dead"
    key = names.logical(short)
    queue = {
        "Type": "AWS::SQS::Queue",
        "Properties": {
            "QueueName": names.physical(stage, short),
            "MessageRetentionPeriod": _FOURTEEN_DAYS,
            "SqsManagedSseEnabled": True,
        },
    }
    dimensions = {"QueueName": {"Fn::GetAtt": [key, "QueueName"]}}
    name, metric = f"{short}-letters", "ApproximateNumberOfMessagesVisible"
    return {key: queue, **alarm(stage, name, "AWS/SQS", metric, dimensions, statistic="Maximum")}


def task(stage: str, name: str) -> dict[str, Any]:
    return _function(stage, name, names.physical(stage, name))


def machine(stage: str, key: str, short: str) -> dict[str, Any]:
    dimensions = {"StateMachineArn": {"Ref": key}}
    return {
        **alarm(stage, f"{short}-failed", "AWS/States", "ExecutionsFailed", dimensions),
        **alarm(stage, f"{short}-timed-out", "AWS/States", "ExecutionsTimedOut", dimensions),
    }


def table(stage: str, key: str, short: str) -> dict[str, Any]:
    dimensions = {"TableName": {"Ref": key}}
    return {
        **alarm(stage, f"{short}-read-throttles", "AWS/DynamoDB", "ReadThrottleEvents", dimensions),
        **alarm(stage, f"{short}-write-throttles", "AWS/DynamoDB", "WriteThrottleEvents", dimensions),
    }


def api(stage: str) -> dict[str, Any]:
    """The API answers no 5xx by contract; latency is an early sign of a full table or a cold upstream."""
    dimensions = {"ApiName": names.APP, "Stage": stage}
    return {
        **_function(stage, "api", names.api_function(stage)),
        **alarm(stage, "api-5xx", "AWS/ApiGateway", "5XXError", dimensions),
        **alarm(
            stage,
            "api-latency",
            "AWS/ApiGateway",
            "Latency",
            dimensions,
            statistic="Average",
            threshold=5000,
            periods=5,
        ),
    }


def _function(stage: str, name: str, function: str) -> dict[str, Any]:
    """A log that does not grow for ever (a function may not open one itself), and an alarm on what raises."""
    log = {"LogGroupName": f"/aws/lambda/{function}", "RetentionInDays": _LOG_DAYS}
    return {
        f"{names.logical(name)}Log": {"Type": "AWS::Logs::LogGroup", "Properties": log},
        **alarm(stage, f"{name}-errors", "AWS/Lambda", "Errors", {"FunctionName": function}),
    }


def runbook(name: str) -> str:
    """The heading of an alarm's section in `docs/operate.md`: its own name, or its kind's."""
    kind = next((kind for kind in _KINDS if name.endswith(f"-{kind}")), "")
    return f"…-{kind}" if kind and not name.startswith("api-") else name


def alarm(
    stage: str,
    name: str,
    namespace: str,
    metric: str,
    dimensions: dict[str, Any],
    *,
    statistic: str = "Sum",
    threshold: int = 0,
    periods: int = 1,
) -> dict[str, Any]:
    """Rings when the metric passes the threshold for so many consecutive minutes; silence is health."""
    properties = {
        "AlarmName": names.physical(stage, name),
        "AlarmDescription": f"What to do: docs/operate.md, {runbook(name)}",
        "Namespace": namespace,
        "MetricName": metric,
        "Dimensions": [{"Name": key, "Value": value} for key, value in dimensions.items()],
        "Statistic": statistic,
        "Period": 60,
        "EvaluationPeriods": periods,
        "Threshold": threshold,
        "ComparisonOperator": "GreaterThanThreshold",
        "TreatMissingData": "notBreaching",
        "AlarmActions": [{"Ref": TOPIC}],
    }
    return {names.logical(name, "alarm"): {"Type": "AWS::CloudWatch::Alarm", "Properties": properties}}
