"""S3's calls on the short road: what is sent, what comes back, and what goes botocore's way after all."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from botocore.exceptions import BotoCoreError

from chalicelib.kernel import multipart
from chalicelib.kernel.blobs import Bucket
from chalicelib.kernel.errors import Unavailable
from tests.harness.stub import Stub, stubbed

BUCKET = Bucket("models")
HEADERS = b'HTTP/1.1 200 OK\r\nContent-Length: %d\r\nETag: "e"\r\nLast-Modified: %s\r\nx-amz-meta-of: two\r\n\r\n'
COPIED = (
    b"<CopyPartResult><ETag>&quot;e&quot;</ETag><LastModified>2026-11-28T00:00:00.000Z</LastModified></CopyPartResult>"
)
FAILED = b"<Error><Code>InternalError</Code><Message>We are sorry</Message></Error>"
BY_BOTOCORE = b"amz-sdk-request"


@pytest.fixture
def stub(monkeypatch: pytest.MonkeyPatch) -> Iterator[Stub]:
    monkeypatch.setattr("chalicelib.kernel.clock.sleep", lambda _seconds: None)
    with stubbed() as found:
        found.otherwise = (200, b"")
        yield found


def test_an_object_is_one_signed_request(stub: Stub) -> None:
    stub.answers = [HEADERS % (0, b"-")]
    assert BUCKET.put("a b/ü+~c", b"bytes", content_type="text/plain", Metadata={"of": "two"}) == '"e"'

    head, _, body = stub.requests[0].partition(b"bytes")
    assert head.startswith(b"PUT /models/a%20b/%C3%BC%2B~c HTTP/1.1\r\n")
    assert body == b""
    assert b"content-type: text/plain\r\n" in head
    assert b"SignedHeaders=content-type;host;x-amz-content-sha256;x-amz-date;x-amz-meta-of, " in head


@pytest.mark.parametrize("moment", [b"Sat, 28 Nov 2026 00:00:00 GMT", b"2026-11-28T00:00:00.000Z", b"1795824000"])
def test_a_head_tells_of_a_body_that_does_not_come(stub: Stub, moment: bytes) -> None:
    stub.answers = [HEADERS % (1000, moment), (404, b"")]
    found = BUCKET.head("a")
    assert found is not None
    assert (found["ContentLength"], found["ETag"], found["Metadata"]) == (1000, '"e"', {"of": "two"})
    assert found["LastModified"].isoformat() == "2026-11-28T00:00:00+00:00"
    assert BUCKET.head("a") is None


def test_an_end_that_is_no_date_is_told_as_it_came(stub: Stub) -> None:
    stub.answers = [b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nEXPIRES: never\r\n\r\n"]
    found = BUCKET.head("a")
    assert found is not None
    assert (found["ExpiresString"], "Expires" in found) == ("never", False)


def test_parts_are_copied_inside_storage(stub: Stub) -> None:
    stub.answers = [
        (200, b"<R><UploadId>u/1</UploadId></R>"),
        (200, COPIED),
        (200, b"<R><ETag>&quot;w&quot;</ETag></R>"),
    ]
    upload = multipart.begin(BUCKET, "made")
    upload.copy(1, Bucket("other"), "a b", 0, 9, etag='"x"')
    assert upload.complete() == '"w"'

    begun, copied, completed = stub.requests
    assert begun.startswith(b"POST /models/made?uploads= HTTP/1.1\r\n")
    assert copied.startswith(b"PUT /models/made?partNumber=1&uploadId=u%2F1 HTTP/1.1\r\n")
    assert b"x-amz-copy-source: other/a%20b\r\n" in copied
    assert b'x-amz-copy-source-if-match: "x"\r\n' in copied
    assert completed.endswith(b'<Part><PartNumber>1</PartNumber><ETag>"e"</ETag></Part></CompleteMultipartUpload>')


def test_a_copy_that_fails_after_its_status_is_tried_again(stub: Stub) -> None:
    upload = multipart.Upload(BUCKET, "made", "u")
    stub.answers = [(200, FAILED), (200, COPIED)]
    upload.copy(1, BUCKET, "a", 0, 9, etag='"x"')
    assert upload.parts == {1: '"e"'}

    stub.otherwise = (200, FAILED)
    with pytest.raises(Unavailable):
        upload.copy(2, BUCKET, "a", 0, 9, etag='"x"')


@pytest.mark.parametrize("status", [301, 307, 400])
def test_where_a_bucket_of_another_region_is_botocore_knows(stub: Stub, status: int) -> None:
    stub.answers = [(status, b"")]
    BUCKET.delete("a")

    assert [BY_BOTOCORE in request for request in stub.requests] == [False, True]


def test_a_body_is_read_as_it_comes_and_its_connection_goes_on(stub: Stub) -> None:
    stub.otherwise = (206, b"0123456789")
    body = BUCKET.read("a", 0, 9, etag='"x"')
    assert [body.read(4), body.read(4), body.read(4), body.read(4)] == [b"0123", b"4567", b"89", b""]
    assert BUCKET.get("a") == b"0123456789"
    assert stub.connections == 1
    assert b"range: bytes=0-9\r\n" in stub.requests[0]
    assert b'if-match: "x"\r\n' in stub.requests[0]


def test_a_body_fills_the_same_memory_again_and_again(stub: Stub) -> None:
    stub.otherwise = (206, b"0123456789")
    body, memory = BUCKET.read("a", 0, 9, etag='"x"'), memoryview(bytearray(6))
    assert [bytes(memory[: body.readinto(memory)]) for _ in range(3)] == [b"012345", b"6789", b""]
    assert BUCKET.get("a") == b"0123456789"
    assert stub.connections == 1


def test_a_body_that_nobody_reads_to_its_end_takes_its_connection_with_it(stub: Stub) -> None:
    stub.otherwise = (200, b"0123456789")
    body = BUCKET.read("a", 0, 9, etag='"x"')
    body.read(4)
    body.close()
    assert BUCKET.get("a") == b"0123456789"
    assert stub.connections == 2


def test_a_body_that_breaks_off_is_told_as_botocore_tells_it(stub: Stub) -> None:
    cut = b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n0123"
    stub.answers = [cut, cut, cut]
    with pytest.raises(BotoCoreError):
        BUCKET.read("a", 0, 9, etag='"x"').read()
    with pytest.raises(BotoCoreError):
        BUCKET.read("a", 0, 9, etag='"x"').readinto(memoryview(bytearray(10)))
    assert BUCKET.get("a") == b""


def test_a_list_goes_botocore_s_way(stub: Stub) -> None:
    list(BUCKET.list("a"))

    assert BY_BOTOCORE in stub.requests[0]
