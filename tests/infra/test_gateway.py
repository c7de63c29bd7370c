"""The gateway's own refusals read like ours."""

from __future__ import annotations

import json
from typing import Any

import pytest

from infra import gateway


@pytest.mark.parametrize("kind", sorted(gateway.responses()))
def test_every_refusal_has_a_detail_a_code_an_id_and_cors_and_is_not_kept(kind: str) -> None:
    response = gateway.responses()[kind]
    body = json.loads(response["body"].replace("$context.error.messageString", '"told"'))
    assert set(body) == {"detail", "code"}
    assert response["headers"]["Access-Control-Allow-Origin"] == "'*'"
    assert response["headers"]["X-Request-Id"] == "context.requestId"
    assert response["headers"]["Cache-Control"] == "'no-store'"


def test_an_unknown_path_is_a_404_and_a_large_body_a_413() -> None:
    found = gateway.responses()
    assert found["MISSING_AUTHENTICATION_TOKEN"]["status"] == 404
    assert json.loads(found["MISSING_AUTHENTICATION_TOKEN"]["body"])["detail"] == "Not Found"
    assert found["REQUEST_TOO_LARGE"]["status"] == 413
    assert found["THROTTLED"]["status"] == 429
    assert found["THROTTLED"]["headers"]["Retry-After"] == "'1'"
    assert {"DEFAULT_4XX", "DEFAULT_5XX"} <= set(found)


def test_template_and_api_calls_say_the_same() -> None:
    calls: list[dict[str, Any]] = []

    class ApiGateway:
        def put_gateway_response(self, **call: Any) -> None:
            calls.append(call)

        def create_deployment(self, **call: Any) -> None:
            assert len(calls) == len(gateway.responses()), "published before everything was said"

        def update_stage(self, **call: Any) -> None:
            operations = {item["path"]: item["value"] for item in call["patchOperations"]}
            assert operations["/*/*/throttling/rateLimit"] == str(gateway.REQUESTS_PER_SECOND)
            assert operations["/*/*/throttling/burstLimit"] == str(gateway.BURST)

    gateway.finish(ApiGateway(), "id", "dev")
    (settings,) = gateway.for_template()["MethodSettings"]
    throttled = (settings["ResourcePath"], settings["HttpMethod"], settings["ThrottlingRateLimit"])
    assert throttled == ("/*", "*", gateway.REQUESTS_PER_SECOND)
    assert settings["ThrottlingBurstLimit"] == gateway.BURST
    declared = gateway.for_template()["GatewayResponses"]
    for call in calls:
        said = declared[call["responseType"]]
        assert call["responseTemplates"] == said["ResponseTemplates"]
        assert call.get("statusCode") == (str(said["StatusCode"]) if "StatusCode" in said else None)
        assert {k.removeprefix("gatewayresponse.header."): v for k, v in call["responseParameters"].items()} == said[
            "ResponseParameters"
        ]["Headers"]
