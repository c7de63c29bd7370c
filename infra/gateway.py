"""What Chalice cannot say about its API: answers that the gateway makes by itself, and throttles.

The gateway's own refusals get the house's error shape, a request id and CORS headers, so that a browser can read them.
"""

from __future__ import annotations

import json
from typing import Any

REQUESTS_PER_SECOND = 200
BURST = 400
# The strictest that any system asks of every answer; the gateway does not know whose path was meant.
SAFETY_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "X-XSS-Protection": "1; mode=block",
    "Strict-Transport-Security": "max-age=31536000; includeSubDomains; preload",
    "Referrer-Policy": "strict-origin-when-cross-origin",
    "Permissions-Policy": "camera=(), microphone=(), geolocation=()",
    "X-Permitted-Cross-Domain-Policies": "none",
}
_HEADERS = {
    "Access-Control-Allow-Origin": "'*'",
    "Access-Control-Expose-Headers": "'*'",
    "Cache-Control": "'no-store'",
    "X-Request-Id": "context.requestId",
    **{name: f"'{value}'" for name, value in SAFETY_HEADERS.items()},
}
_MESSAGE = "$context.error.messageString"


def responses() -> dict[str, dict[str, Any]]:
    """Every refusal of the gateway by type: status, headers, body. An unknown path is a plain 404, as everywhere."""
    return {
        "MISSING_AUTHENTICATION_TOKEN": _response(404, "Not Found", "route_not_found"),
        "RESOURCE_NOT_FOUND": _response(404, "Not Found", "route_not_found"),
        "REQUEST_TOO_LARGE": _response(413, "Request body too large", "too_large"),
        "UNSUPPORTED_MEDIA_TYPE": _response(415, "Unsupported media type", "unsupported_media_type"),
        "THROTTLED": _response(429, "Too many requests", "too_many_requests", retry_after=1),
        "QUOTA_EXCEEDED": _response(429, "Too many requests", "too_many_requests", retry_after=60),
        "INTEGRATION_FAILURE": _response(503, "The service does not answer", "unavailable", retry_after=2),
        "INTEGRATION_TIMEOUT": _response(504, "The service did not answer in time", "timeout", retry_after=2),
        "DEFAULT_4XX": _response(None, _MESSAGE, "gateway_refused"),
        "DEFAULT_5XX": _response(None, _MESSAGE, "internal"),
    }


def for_template() -> dict[str, Any]:
    """The properties of `AWS::Serverless::Api` that Chalice leaves out."""
    return {
        "BinaryMediaTypes": ["*/*"],
        "GatewayResponses": {kind: _for_template(response) for kind, response in responses().items()},
        "MethodSettings": [
            {
                "ResourcePath": "/*",
                "HttpMethod": "*",
                "ThrottlingRateLimit": REQUESTS_PER_SECOND,
                "ThrottlingBurstLimit": BURST,
                "MetricsEnabled": True,
            }
        ],
    }


def finish(apigateway: Any, api_id: str, stage: str) -> None:
    """After `chalice deploy`, which overwrites the API: put the responses back, publish, throttle."""
    for kind, response in responses().items():
        status = {"statusCode": str(response["status"])} if response["status"] else {}
        apigateway.put_gateway_response(
            restApiId=api_id,
            responseType=kind,
            responseParameters=_parameters(response),
            responseTemplates={"application/json": response["body"]},
            **status,
        )
    apigateway.create_deployment(restApiId=api_id, stageName=stage, description="gateway responses")
    settings = {
        "throttling/rateLimit": REQUESTS_PER_SECOND,
        "throttling/burstLimit": BURST,
        "metrics/enabled": "true",
    }
    operations = [{"op": "replace", "path": f"/*/*/{path}", "value": str(value)} for path, value in settings.items()]
    apigateway.update_stage(restApiId=api_id, stageName=stage, patchOperations=operations)


def _response(status: int | None, detail: str, code: str, *, retry_after: int | None = None) -> dict[str, Any]:
    told = _MESSAGE if detail == _MESSAGE else json.dumps(detail)
    headers = _HEADERS | ({"Retry-After": f"'{retry_after}'"} if retry_after else {})
    return {"status": status, "headers": headers, "body": f'{{"detail":{told},"code":"{code}"}}'}


def _parameters(response: dict[str, Any]) -> dict[str, str]:
    return {f"gatewayresponse.header.{name}": value for name, value in response["headers"].items()}


def _for_template(response: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = {
        "ResponseParameters": {"Headers": response["headers"]},
        "ResponseTemplates": {"application/json": response["body"]},
    }
    return found | ({"StatusCode": response["status"]} if response["status"] else {})
