"""Objects: missing is None, a lost race is told, and trouble ends as unavailable instead of as a wrong answer."""

from __future__ import annotations

from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from botocore.exceptions import IncompleteReadError

from chalicelib.kernel import aws
from chalicelib.kernel.blobs import Bucket
from chalicelib.kernel.errors import RangeNotSatisfiable, Unavailable
from tests.harness.faults import Fault, always, answer_lost, never_sent, refused, script, trouble
from tests.harness.race import all_at_once

pytestmark = pytest.mark.usefixtures("cloud")

PASSING = [
    refused("SlowDown"),
    refused("InternalError"),
    refused("503"),
    refused("ConditionalRequestConflict"),
    never_sent(),
    answer_lost(),
]


@pytest.fixture
def bucket() -> Bucket:
    aws.client("s3").create_bucket(Bucket="things")
    return Bucket("things")


def test_what_is_put_is_read_whole_and_by_range(bucket: Bucket) -> None:
    bucket.put("a", b"0123456789", content_type="text/plain")
    assert bucket.get("a") == b"0123456789"
    assert bucket.get("a", first=2, last=4) == b"234"
    assert bucket.get("a", first=8) == b"89"
    assert (bucket.head("a") or {})["ContentType"] == "text/plain"


def test_what_is_not_there_is_none_and_deleting_it_is_no_trouble(bucket: Bucket) -> None:
    assert (bucket.get("a"), bucket.head("a")) == (None, None)
    bucket.put("a", b"x")
    bucket.delete("a")
    bucket.delete("a")
    assert bucket.get("a") is None


def test_a_range_outside_the_object_is_the_caller_s_mistake(bucket: Bucket) -> None:
    bucket.put("a", b"0123")
    with pytest.raises(RangeNotSatisfiable):
        bucket.get("a", first=4)


def test_of_many_writers_of_a_new_key_one_wins_and_its_bytes_stay(bucket: Bucket) -> None:
    won = all_at_once([lambda n=n: bucket.put_new("a", str(n).encode()) for n in range(20)])  # type: ignore[misc] # one lambda per n
    assert won.count(True) == 1
    assert bucket.get("a") == str(won.index(True)).encode()


@pytest.mark.parametrize("fault", PASSING, ids=lambda fault: type(fault.error).__name__)
def test_trouble_that_passes_is_not_felt(bucket: Bucket, fault: Fault) -> None:
    with trouble(script({1: fault, 2: fault})):
        bucket.put("a", b"x")
    with trouble(script({1: fault, 2: fault})):
        assert bucket.get("a") == b"x"


@pytest.mark.parametrize("fault", PASSING[:-1], ids=lambda fault: type(fault.error).__name__)
def test_trouble_that_stays_is_unavailable(bucket: Bucket, fault: Fault) -> None:
    for access in (lambda: bucket.get("a"), lambda: bucket.put("a", b"x"), lambda: bucket.put_new("a", b"x")):
        with trouble(always(fault)) as happened, pytest.raises(Unavailable) as told:
            access()
        assert (len(happened.calls), told.value.retry_after) == (3, 2)


def test_a_stream_that_breaks_is_read_again(bucket: Bucket) -> None:
    bucket.put("a", b"0123")
    breaks = iter([True, False])

    class Body:
        def read(self) -> bytes:
            if next(breaks):
                raise IncompleteReadError(actual_bytes=1, expected_bytes=4)
            return b"0123"

    broken = type("Broken", (), {"get_object": staticmethod(lambda **_: {"Body": Body()})})
    with trouble(script({})), pytest.MonkeyPatch.context() as patch:
        patch.setattr(aws, "client", lambda _service: broken)
        assert bucket.get("a") == b"0123"


def test_a_missing_bucket_is_never_told_as_a_write_or_an_absent_object() -> None:
    nowhere = Bucket("no-such-bucket")
    for access in (lambda: nowhere.put("a", b"x"), lambda: nowhere.put_new("a", b"x"), lambda: nowhere.get("a")):
        with pytest.raises(RuntimeError, match="NoSuchBucket"):
            access()


def test_an_error_of_ours_is_not_retried(bucket: Bucket) -> None:
    with trouble(always(refused("AccessDenied"))) as happened, pytest.raises(RuntimeError):
        bucket.get("a")
    assert len(happened.calls) == 1


def test_a_presigned_url_names_one_object_for_a_while_and_costs_no_call(bucket: Bucket) -> None:
    with trouble(script({})) as happened:
        url = bucket.presign_get("folder/a b", 120, ResponseContentType="video/mp4")
    split = urlsplit(url)
    query: dict[str, Any] = parse_qs(split.query)
    assert happened.calls == []
    assert split.path.endswith("/folder/a%20b")
    assert (query["X-Amz-Expires"], query["X-Amz-Algorithm"]) == (["120"], ["AWS4-HMAC-SHA256"])
    assert query["response-content-type"] == ["video/mp4"]


def test_clients_are_made_one_at_a_time_whoever_asks_first() -> None:
    aws.forget_clients()
    clients = all_at_once([lambda: aws.client("dynamodb")] * 20)
    assert all(client.meta.service_model.service_name == "dynamodb" for client in clients)
