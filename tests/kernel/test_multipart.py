"""Large objects: parts that are sent, parts that storage copies, uploads that go on after a crash."""

from __future__ import annotations

import os

import pytest

from chalicelib.kernel import aws, multipart
from chalicelib.kernel.blobs import Bucket

MIB = 1024 * 1024


@pytest.fixture
def bucket(cloud: None) -> Bucket:
    return Bucket("experts-models")


def test_parts_are_sent_and_copied_into_one_object(bucket: Bucket) -> None:
    source = os.urandom(6 * MIB)
    etag = bucket.put("source", source)

    upload = multipart.begin(bucket, "made", metadata={"of": "two"})
    upload.copy(1, bucket, "source", 0, 5 * MIB - 1, etag=etag)
    upload.put(2, b"tail")
    assert bucket.head("made") is None
    upload.complete()

    assert bucket.get("made") == source[: 5 * MIB] + b"tail"
    assert (bucket.head("made") or {})["Metadata"] == {"of": "two"}


def test_a_part_carries_no_checksum_that_its_upload_did_not_announce(bucket: Bucket) -> None:
    """Storage refuses such a part; the emulators take it."""
    sent: list[str] = []
    for client in (aws.client("s3"), aws.client("s3", 600.0)):
        client.meta.events.register(
            "before-send.s3.UploadPart", lambda request, **_: sent.extend(request.headers), unique_id="headers"
        )
    upload = multipart.begin(bucket, "made", full_checksum="CRC64NVME")
    upload.put(1, b"tail")

    assert sent
    assert [name for name in sent if "checksum" in name.lower() or "trailer" in name.lower()] == []


def test_an_upload_is_found_again_with_the_parts_that_arrived(bucket: Bucket) -> None:
    multipart.begin(bucket, "made").put(1, b"x" * 5 * MIB)

    found = multipart.resume(bucket, "made")

    assert found is not None
    upload, sizes = found
    assert sizes == {1: 5 * MIB}
    upload.put(2, b"end")
    upload.complete()
    assert multipart.resume(bucket, "made") is None
    assert bucket.get("made", first=5 * MIB) == b"end"


def test_an_aborted_upload_leaves_nothing_and_may_be_aborted_twice(bucket: Bucket) -> None:
    upload = multipart.begin(bucket, "made")
    upload.put(1, b"x")

    upload.abort()
    upload.abort()

    assert multipart.resume(bucket, "made") is None


@pytest.mark.parametrize("size", [0, 1, 20 * MIB, 20 * MIB + 1, 33 * MIB])
def test_a_writer_makes_the_same_object_in_one_piece_or_in_parts(bucket: Bucket, size: int) -> None:
    content = os.urandom(size)

    writer = multipart.Writer(bucket, "made")
    for first in range(0, size, 3 * MIB):
        writer.write(content[first : first + 3 * MIB])
    writer.close()

    assert writer.size == size
    assert bucket.get("made") == content


def test_a_read_is_of_one_version_and_a_listing_is_whole(bucket: Bucket) -> None:
    etag = bucket.put("a/1", b"first")
    for number in range(2, 4):
        bucket.put(f"a/{number}", b"x")
    bucket.put("b/1", b"x")

    assert bucket.read("a/1", 1, 3, etag=etag).read() == b"irs"
    bucket.put("a/1", b"other")

    assert bucket.read("a/1", 1, 3, etag=etag) is None
    assert [entry["Key"] for entry in bucket.list("a/")] == ["a/1", "a/2", "a/3"]


def test_a_copy_carries_a_new_checksum_and_new_metadata(bucket: Bucket) -> None:
    etag = bucket.put("a", b"content")

    told = bucket.copy("a", "b", etag=etag, checksum="SHA256", metadata={"kind": "copy"})

    assert told["ETag"]
    assert bucket.get("b") == b"content"
    assert (bucket.head("b") or {})["Metadata"] == {"kind": "copy"}


def test_a_url_for_headers_is_signed_for_head(bucket: Bucket) -> None:
    assert bucket.presign_head("a", 60) != bucket.presign_get("a", 60)


def test_what_lies_below_a_prefix_goes_together(bucket: Bucket) -> None:
    for number in range(5):
        bucket.put(f"scratch/a/{number}", b"x")
    bucket.put("scratch/b", b"x")

    bucket.delete_below("scratch/a/")
    bucket.delete_below("scratch/none/")

    assert [entry["Key"] for entry in bucket.list("scratch/")] == ["scratch/b"]
