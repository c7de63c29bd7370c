"""DynamoDB's data calls on the short road: each is a POST of JSON."""

from __future__ import annotations

import base64
import json
from typing import Any, ClassVar

from botocore.awsrequest import AWSPreparedRequest
from botocore.exceptions import HTTPClientError

from .connections import Connections, Received
from .short_road import FIRST_ERROR, ShortRoad

TARGET = "DynamoDB_20120810."
_JSON = "application/x-amz-json-1.0"
_FIRST_FAULT = 500


class DataCalls(ShortRoad):
    """Items in DynamoDB's own form; bytes are bytes on this side and base64 on the wire."""

    service: ClassVar[str] = "dynamodb"
    calls: ClassVar[frozenset[str]] = frozenset(
        {
            "BatchGetItem", "BatchWriteItem", "DeleteItem", "GetItem",
            "PutItem", "Query", "TransactWriteItems", "UpdateItem",
        }
    )  # fmt: skip

    def __init__(self, *given: Any) -> None:
        super().__init__(*given)
        self._url = f"{self._client.meta.endpoint_url}/"
        self._connections = Connections(self._url, self._client.meta.config)

    def _request(self, model: Any, params: dict[str, Any]) -> AWSPreparedRequest:
        body = json.dumps(params, separators=(",", ":"), default=as_base64).encode()
        signed = {"x-amz-target": TARGET + model.name}
        headers = self._signer("dynamodb").headers("POST", self._url, signed, body)
        headers["content-type"] = _JSON
        return AWSPreparedRequest("POST", self._url, headers, body, stream_output=False)

    def _send(self, request: AWSPreparedRequest) -> Received:
        return self._connections.send("POST", "/", request.headers, request.body)

    def _parsed(self, _model: Any, received: Received) -> tuple[int, dict[str, Any]]:
        """An error that is no JSON comes from what stands before DynamoDB."""
        status = received.status
        try:
            answer: dict[str, Any] = json.loads(received.body, object_hook=_with_bytes)
        except ValueError as error:
            if status < FIRST_ERROR:
                raise HTTPClientError(error=error) from error
            answer = {"__type": "ServiceUnavailable" if status >= _FIRST_FAULT else str(status)}
        if status < FIRST_ERROR:
            return status, answer
        code = str(answer.pop("__type", status)).rpartition("#")[2]
        message = answer.pop("message", None) or answer.pop("Message", None) or ""
        told = {"Error": {"Code": code, "Message": message}, "ResponseMetadata": {"HTTPStatusCode": status}}
        return status, {**answer, **told}


def as_base64(value: bytes) -> str:
    return base64.b64encode(value).decode("ascii")


def _with_bytes(value: dict[str, Any]) -> dict[str, Any]:
    """An attribute value of kind B as bytes; a map's attribute of that name is no text."""
    held = value.get("B")
    if isinstance(held, str) and len(value) == 1:
        value["B"] = base64.b64decode(held)
    return value
