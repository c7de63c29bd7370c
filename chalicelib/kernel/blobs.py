"""S3: whole and ranged reads, conditional writes, listings, copies, presigned URLs; large objects: `multipart`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from . import aws, clock
from .errors import RangeNotSatisfiable, Unavailable

_TRIES = 3
_BACKOFF_SECONDS = 0.1
_PATIENT_SECONDS = 600.0  # storage copies parts of 5 GiB
_MISSING = {"NoSuchKey", "404", "NotFound", "NoSuchUpload"}
_TAKEN = {"PreconditionFailed"}
_OVERRIDES = {
    "ResponseContentDisposition": "response-content-disposition",
    "ResponseContentType": "response-content-type",
}
_RETRIED = {
    "SlowDown", "InternalError", "ServiceUnavailable", "RequestTimeout", "ConditionalRequestConflict",
    "500", "502", "503", "504",
}  # fmt: skip


class ObjectChanged(RuntimeError):
    """An object is not the one that this work began with."""


class Bucket:
    """One bucket; an object that is not there is None, never an exception."""

    def __init__(self, name: str) -> None:
        self.name = name

    def get(self, key: str, *, first: int | None = None, last: int | None = None) -> bytes | None:
        """An object, or its bytes `first` to `last` inclusive."""
        request: dict[str, Any] = {"Bucket": self.name, "Key": key}
        if first is not None:
            request["Range"] = f"bytes={first}-{'' if last is None else last}"
        answer = call("get_object", request)
        return None if answer is None else bytes(answer["Body"])

    def read(self, key: str, first: int, last: int, *, etag: str) -> Any:
        """A stream over the bytes `first` to `last` of exactly this version; None when it is gone or changed."""
        request = {"Bucket": self.name, "Key": key, "Range": f"bytes={first}-{last}", "IfMatch": etag}
        answer = call("get_object", request, whole=False)
        return None if answer is None else answer["Body"]

    def head(self, key: str, *, checksums: bool = False) -> dict[str, Any] | None:
        mode = {"ChecksumMode": "ENABLED"} if checksums else {}
        return call("head_object", {"Bucket": self.name, "Key": key, **mode})

    def list(self, prefix: str) -> Iterator[dict[str, Any]]:
        """Every object below a prefix, in the order of keys."""
        request = {"Bucket": self.name, "Prefix": prefix}
        while True:
            answer = call("list_objects_v2", request) or {}
            yield from answer.get("Contents", [])
            if not answer.get("IsTruncated"):
                return
            request["ContinuationToken"] = answer["NextContinuationToken"]

    def copy(self, source: str, key: str, *, etag: str, checksum: str, metadata: dict[str, str]) -> dict[str, Any]:
        """Copy an object of at most 5 GB, with a new checksum and metadata; answers what storage says of it."""
        request = {
            "Bucket": self.name,
            "Key": key,
            "CopySource": {"Bucket": self.name, "Key": source},
            "CopySourceIfMatch": etag,
            "ChecksumAlgorithm": checksum,
            "MetadataDirective": "REPLACE",
            "Metadata": metadata,
        }
        answer = call("copy_object", request, patient=True)
        if answer is None:
            raise ObjectChanged(f"{source} is gone or was replaced while it was copied")
        return dict(answer["CopyObjectResult"])

    def put(
        self, key: str, body: bytes | bytearray, *, content_type: str = "application/octet-stream", **headers: Any
    ) -> str:
        """Write an object; answers its ETag."""
        request = {"Bucket": self.name, "Key": key, "Body": body, "ContentType": content_type, **headers}
        answer = call("put_object", request)
        if answer is None:
            raise RuntimeError(f"S3: there is no bucket {self.name}")
        return str(answer["ETag"])

    def put_new(self, key: str, body: bytes, *, content_type: str = "application/octet-stream") -> bool:
        """Write an object unless it exists; content-addressed keys make a lost race harmless."""
        request = {"Bucket": self.name, "Key": key, "Body": body, "ContentType": content_type}
        return call("put_object", request | {"IfNoneMatch": "*"}) is not None

    def delete(self, key: str) -> None:
        call("delete_object", {"Bucket": self.name, "Key": key})

    def delete_below(self, prefix: str) -> None:
        """Remove every object whose key starts so, a thousand at a time."""
        while found := (call("list_objects_v2", {"Bucket": self.name, "Prefix": prefix}) or {}).get("Contents"):
            keys = [{"Key": entry["Key"]} for entry in found]
            call("delete_objects", {"Bucket": self.name, "Delete": {"Objects": keys, "Quiet": True}})

    def holds_below(self, prefix: str) -> bool:
        """Whether any object's key starts so."""
        answer = call("list_objects_v2", {"Bucket": self.name, "Prefix": prefix, "MaxKeys": 1})
        return bool(answer and answer.get("KeyCount"))

    def presign_get(self, key: str, seconds: int, **overrides: str) -> str:
        """A URL that reads one object for a while; no call is made."""
        return self._presign("get_object", key, seconds, overrides)

    def presign_head(self, key: str, seconds: int) -> str:
        """A signature counts for one method: a client that asks for headers needs its own URL."""
        return self._presign("head_object", key, seconds, {})

    def _presign(self, operation: str, key: str, seconds: int, overrides: dict[str, str]) -> str:
        from .s3 import address  # noqa: PLC0415 - what it imports has come with the client

        origin, folder = address(aws.client("s3"), self.name)
        method = "HEAD" if operation == "head_object" else "GET"
        query = {_OVERRIDES[name]: value for name, value in overrides.items()}
        return aws.signer("s3").url(method, origin, f"{folder}/{key}", query, seconds)


def call(
    operation: str, request: dict[str, Any], *, patient: bool = False, whole: bool = True
) -> dict[str, Any] | None:
    """The answer, or None where the object is missing or a conditional write found its key taken."""
    from botocore.exceptions import BotoCoreError, ClientError  # noqa: PLC0415 - loaded with the first client

    client = aws.client("s3", _PATIENT_SECONDS) if patient else aws.client("s3")
    send = getattr(client, operation)
    for attempt in range(_TRIES):
        if attempt:
            clock.sleep(clock.jitter(_BACKOFF_SECONDS * 2**attempt))
        try:
            answer: dict[str, Any] = send(**request)
            if whole and operation == "get_object":
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
