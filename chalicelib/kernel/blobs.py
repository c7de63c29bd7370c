"""S3: whole and ranged reads, conditional writes, presigned URLs."""

from __future__ import annotations

from typing import Any

from . import aws, clock
from .errors import RangeNotSatisfiable, Unavailable

_TRIES = 3
_BACKOFF_SECONDS = 0.1
_MISSING = {"NoSuchKey", "404", "NotFound"}
_TAKEN = {"PreconditionFailed"}
_RETRIED = {
    "SlowDown", "InternalError", "ServiceUnavailable", "RequestTimeout", "ConditionalRequestConflict",
    "500", "502", "503", "504",
}  # fmt: skip


class Bucket:
    """One bucket; an object that is not there is None, never an exception."""

    def __init__(self, name: str) -> None:
        self.name = name

    def get(self, key: str, *, first: int | None = None, last: int | None = None) -> bytes | None:
        """An object, or its bytes `first` to `last` inclusive."""
        request: dict[str, Any] = {"Bucket": self.name, "Key": key}
        if first is not None:
            request["Range"] = f"bytes={first}-{'' if last is None else last}"
        answer = _call("get_object", request)
        return None if answer is None else bytes(answer["Body"])

    def head(self, key: str) -> dict[str, Any] | None:
        return _call("head_object", {"Bucket": self.name, "Key": key})

    def put(self, key: str, body: bytes, *, content_type: str = "application/octet-stream") -> None:
        if _call("put_object", {"Bucket": self.name, "Key": key, "Body": body, "ContentType": content_type}) is None:
            raise RuntimeError(f"S3: there is no bucket {self.name}")

    def put_new(self, key: str, body: bytes, *, content_type: str = "application/octet-stream") -> bool:
        """Write an object unless it exists; content-addressed keys make a lost race harmless."""
        request = {"Bucket": self.name, "Key": key, "Body": body, "ContentType": content_type}
        return _call("put_object", request | {"IfNoneMatch": "*"}) is not None

    def delete(self, key: str) -> None:
        _call("delete_object", {"Bucket": self.name, "Key": key})

    def holds_below(self, prefix: str) -> bool:
        """Whether any object's key starts so."""
        answer = _call("list_objects_v2", {"Bucket": self.name, "Prefix": prefix, "MaxKeys": 1})
        return bool(answer and answer.get("KeyCount"))

    def presign_get(self, key: str, seconds: int, **overrides: str) -> str:
        """A URL that reads one object for a while; no call is made."""
        params = {"Bucket": self.name, "Key": key, **overrides}
        url: str = aws.client("s3").generate_presigned_url("get_object", Params=params, ExpiresIn=seconds)
        return url


def _call(operation: str, request: dict[str, Any]) -> dict[str, Any] | None:
    """The answer, or None where the object is missing or a conditional write found its key taken."""
    from botocore.exceptions import BotoCoreError, ClientError  # noqa: PLC0415 - loaded with the first client

    send = getattr(aws.client("s3"), operation)
    for attempt in range(_TRIES):
        if attempt:
            clock.sleep(clock.jitter(_BACKOFF_SECONDS * 2**attempt))
        try:
            answer: dict[str, Any] = send(**request)
            if operation == "get_object":
                answer["Body"] = answer["Body"].read()
        except ClientError as error:
            code = error.response["Error"]["Code"]
            if code in _MISSING | _TAKEN:
                return None
            if code == "InvalidRange":
                raise RangeNotSatisfiable("The range lies outside the object") from None
            if code not in _RETRIED:
                raise RuntimeError(f"S3: {code}: {error.response['Error'].get('Message', '')}") from None
        except BotoCoreError:
            continue
        else:
            return answer
    raise Unavailable("Object storage does not answer; try again shortly", code="storage_busy", retry_after=2)
