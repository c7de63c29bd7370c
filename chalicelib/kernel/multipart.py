"""Multipart uploads: parts from memory and parts that storage copies by itself; an abandoned one can be resumed."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from .blobs import Bucket, ObjectChanged, call

SMALLEST_PART = 5 * 1024 * 1024
LARGEST_PART = 5 * 1024 * 1024 * 1024
MOST_PARTS = 10_000


@dataclass
class Upload:
    """One object in the making; nothing of it is visible before `complete`."""

    bucket: Bucket
    key: str
    id: str
    parts: dict[int, str] = field(default_factory=dict)

    def put(self, number: int, body: bytes | memoryview) -> None:
        """Send a part from memory."""
        answer = self._call("upload_part", {"PartNumber": number, "Body": bytes(body)})
        self.parts[number] = answer["ETag"]

    def copy(self, number: int, source: Bucket, key: str, first: int, last: int, *, etag: str) -> None:
        """Let storage copy the bytes `first` to `last` of exactly this version; none of them passes through here."""
        request = {
            "PartNumber": number,
            "CopySource": {"Bucket": source.name, "Key": key},
            "CopySourceRange": f"bytes={first}-{last}",
            "CopySourceIfMatch": etag,
        }
        self.parts[number] = self._call("upload_part_copy", request)["CopyPartResult"]["ETag"]

    def complete(self, *, full_checksum: str = "") -> str:
        """Make the object visible; answers its ETag."""
        parts = [{"PartNumber": number, "ETag": self.parts[number]} for number in sorted(self.parts)]
        kind = {"ChecksumType": "FULL_OBJECT"} if full_checksum else {}
        return str(self._call("complete_multipart_upload", {"MultipartUpload": {"Parts": parts}, **kind})["ETag"])

    def abort(self) -> None:
        """Give up; storage forgets the parts."""
        call("abort_multipart_upload", {"Bucket": self.bucket.name, "Key": self.key, "UploadId": self.id})

    def _call(self, operation: str, request: dict[str, Any]) -> dict[str, Any]:
        identity = {"Bucket": self.bucket.name, "Key": self.key, "UploadId": self.id}
        answer = call(operation, identity | request, patient=True)
        if answer is None:
            raise ObjectChanged(f"{self.key}: the upload or its source is gone or was replaced")
        return answer


class Writer:
    """An object written front to back; large ones go out in parts while they grow."""

    def __init__(self, bucket: Bucket, key: str, *, part_bytes: int = 2 * SMALLEST_PART) -> None:
        self._bucket, self._key, self._part_bytes = bucket, key, part_bytes
        self._waiting = bytearray()
        self._upload: Upload | None = None
        self._parts = 0
        self.size = 0

    def write(self, data: bytes | memoryview) -> None:
        self._waiting += data
        self.size += len(data)
        while len(self._waiting) >= 2 * self._part_bytes:
            self._send(self._part_bytes)

    def close(self) -> str:
        """Make the object visible; answers its ETag."""
        if self._upload is None:
            return self._bucket.put(self._key, bytes(self._waiting))
        self._send(len(self._waiting))
        return self._upload.complete()

    def abort(self) -> None:
        """Leave nothing behind."""
        if self._upload is not None:
            self._upload.abort()

    def _send(self, size: int) -> None:
        if self._upload is None:
            self._upload = begin(self._bucket, self._key)
        self._parts += 1
        self._upload.put(self._parts, memoryview(self._waiting)[:size])
        self._waiting = self._waiting[size:]


def begin(
    bucket: Bucket, key: str, *, metadata: dict[str, str] | None = None, full_checksum: str = "", **headers: str
) -> Upload:
    """Open an upload; `full_checksum` names the algorithm that storage applies to the whole object."""
    checksum = {"ChecksumAlgorithm": full_checksum, "ChecksumType": "FULL_OBJECT"} if full_checksum else {}
    request = {"Bucket": bucket.name, "Key": key, "Metadata": metadata or {}, **checksum, **headers}
    answer = call("create_multipart_upload", request)
    if answer is None:
        raise ObjectChanged(f"there is no bucket {bucket.name}")
    return Upload(bucket, key, answer["UploadId"])


def abort_below(bucket: Bucket, prefix: str) -> None:
    """Give up what killed processes left open below a prefix."""
    answer = call("list_multipart_uploads", {"Bucket": bucket.name, "Prefix": prefix}) or {}
    for entry in answer.get("Uploads", []):
        Upload(bucket, entry["Key"], entry["UploadId"]).abort()


def resume(bucket: Bucket, key: str) -> tuple[Upload, dict[int, int]] | None:
    """The newest open upload of a key with the size of each part that has arrived; None when there is none."""
    answer = call("list_multipart_uploads", {"Bucket": bucket.name, "Prefix": key}) or {}
    found = [entry for entry in answer.get("Uploads", []) if entry["Key"] == key]
    if not found:
        return None
    newest = max(found, key=lambda entry: entry["Initiated"])
    upload = Upload(bucket, key, newest["UploadId"])
    sizes: dict[int, int] = {}
    request: dict[str, Any] = {"Bucket": bucket.name, "Key": key, "UploadId": upload.id}
    while True:
        page = call("list_parts", request) or {}
        for part in page.get("Parts", []):
            upload.parts[part["PartNumber"]] = part["ETag"]
            sizes[part["PartNumber"]] = part["Size"]
        if not page.get("IsTruncated"):
            return upload, sizes
        request["PartNumberMarker"] = page["NextPartNumberMarker"]
