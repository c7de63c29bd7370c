"""One JSON line per request: readable log and CloudWatch metric (EMF) at once."""

from __future__ import annotations

import json
import os
import sys
from typing import Any

from . import clock

_NAMESPACE = "SubnetFunctions"
_FIRST_FAULT = 500


def enabled() -> bool:
    return "AWS_LAMBDA_FUNCTION_NAME" in os.environ or os.environ.get("LOG_REQUESTS") == "1"


def record(route: str, request_id: str, status: int, *, code: str, seconds: float, notes: dict[str, Any]) -> None:
    """Write a request's line; header values, bodies and signatures never enter it."""
    if not enabled():
        return
    line = {
        **notes,
        "_aws": {
            "Timestamp": int(clock.now() * 1000),
            "CloudWatchMetrics": [
                {
                    "Namespace": _NAMESPACE,
                    "Dimensions": [["system"], ["system", "route"]],
                    "Metrics": [{"Name": "latency", "Unit": "Milliseconds"}, {"Name": "fault", "Unit": "Count"}],
                }
            ],
        },
        "system": route.split(" ", 1)[0],
        "route": route,
        "request_id": request_id,
        "status": status,
        "code": code,
        "latency": round(seconds * 1000, 3),
        "fault": int(status >= _FIRST_FAULT),
    }
    sys.stdout.write(json.dumps(line, default=str) + "\n")


def log(event: str, **fields: Any) -> None:
    """A line about work outside requests."""
    sys.stderr.write(json.dumps({"event": event, **fields}, default=str) + "\n")
