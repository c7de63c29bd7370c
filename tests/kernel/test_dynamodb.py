"""DynamoDB's data calls on the short road: what is sent, what comes back, what breaks."""

from __future__ import annotations

import json
import socket
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from botocore.exceptions import BotoCoreError, ClientError

from chalicelib.kernel import aws, connections, dynamodb
from chalicelib.kernel.tables import Table
from tests.harness.race import all_at_once
from tests.harness.stub import Stub, stubbed

GET = {"TableName": "a", "Key": {"pk": {"S": "b"}}}
OK = (200, b"{}")


@pytest.fixture
def stub() -> Iterator[Stub]:
    with stubbed() as found:
        yield found


def get() -> Any:
    return aws.client("dynamodb").get_item(**GET)


def test_one_post_of_json_with_bytes_as_base64(stub: Stub) -> None:
    item = {"body": {"B": b"\x00\xff"}, "map": {"M": {"B": {"S": "text"}}}, "list": {"L": [{"B": b"x"}]}}
    wire = {"body": {"B": "AP8="}, "map": {"M": {"B": {"S": "text"}}}, "list": {"L": [{"B": "eA=="}]}}
    stub.answers = [(200, json.dumps({"Item": wire}).encode()), OK]
    assert get() == {"Item": item}

    aws.client("dynamodb").put_item(TableName="a", Item=item)
    head, _, body = stub.requests[1].partition(b"{")
    assert json.loads(b"{" + body) == {"TableName": "a", "Item": wire}
    assert b"x-amz-target: DynamoDB_20120810.PutItem" in head
    assert b"authorization: AWS4-HMAC-SHA256 Credential=test/" in head


def test_a_connection_is_used_again_until_either_side_ends_it(stub: Stub, monkeypatch: pytest.MonkeyPatch) -> None:
    get(), get()
    assert stub.connections == 1

    stub.closes = True
    get(), get()
    assert stub.connections == 2
    stub.closes = False
    get()
    monkeypatch.setattr(connections, "_LONGEST_REST_SECONDS", 0)
    get()
    assert stub.connections == 4


def test_a_connection_that_ended_while_it_rested_is_not_used(stub: Stub) -> None:
    get()
    ((connection, _),) = aws.client("dynamodb")._make_api_call._connections._resting
    connection.sock.shutdown(socket.SHUT_RD)
    get()

    assert stub.connections == 2


@pytest.mark.parametrize("answer", [None, (200, b""), (200, b"{")])
def test_an_answer_that_got_lost_is_the_library_s_error(stub: Stub, answer: tuple[int, bytes] | None) -> None:
    stub.answers = [answer]
    with pytest.raises(BotoCoreError):
        get()

    assert get() == {}


@pytest.mark.parametrize(
    "raw",
    [
        b'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n8\r\n{"a": 1}\r\n0\r\n\r\n',
        b'HTTP/1.1 200 OK\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n8\r\n{"a": 1}\r\n0\r\n\r\n',
        b'HTTP/1.0 200 OK\r\n\r\n{"a": 1}',
        b'HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 8\r\n\r\n{"a": 1}',
        b"HTTP/1.1 200 \r\nX: " + b"x" * 9_000 + b'\r\ncontent-length:8\r\n\r\n{"a": 1}',
    ],
)
def test_an_answer_of_another_form_is_read_by_the_library(stub: Stub, raw: bytes) -> None:
    stub.answers = [raw]
    assert get() == {"a": 1}


def test_an_answer_cut_off_in_its_body_is_the_library_s_error(stub: Stub) -> None:
    stub.answers = [b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n{}"]
    with pytest.raises(BotoCoreError):
        get()


def test_a_host_that_does_not_answer_is_the_library_s_error(stub: Stub) -> None:
    stub.end()
    with pytest.raises(BotoCoreError):
        get()


def test_an_answer_that_never_ends_is_given_up(stub: Stub) -> None:
    calls = aws.client("dynamodb")._make_api_call
    calls._connections._seconds = (1, 0.05)
    hanging = socket.create_server(("127.0.0.1", 0))
    calls._connections._place = hanging.getsockname()
    with hanging, pytest.raises(BotoCoreError):
        get()


@pytest.mark.parametrize(
    ("status", "body", "code", "message"),
    [
        (400, b'{"__type": "com.amazonaws.dynamodb.v20120810#LimitExceeded", "message": "no"}', "LimitExceeded", "no"),
        (400, b'{"__type": "ThrottlingException", "Message": "slow"}', "ThrottlingException", "slow"),
        (503, b"<html>", "ServiceUnavailable", ""),
        (403, b"<html>", "403", ""),
        (400, b"{}", "400", ""),
    ],
)  # fmt: skip
def test_a_refusal_is_the_library_s(stub: Stub, status: int, body: bytes, code: str, message: str) -> None:
    stub.answers = [(status, body)]
    with pytest.raises(ClientError) as caught:
        get()

    assert caught.value.response["Error"] == {"Code": code, "Message": message}
    assert caught.value.response["ResponseMetadata"]["HTTPStatusCode"] == status


def test_what_a_condition_found_comes_along(stub: Stub) -> None:
    refusal = {"__type": "x#ConditionalCheckFailedException", "message": "no", "Item": {"b": {"B": "eA=="}}}
    stub.answers = [(400, json.dumps(refusal).encode())]
    client = aws.client("dynamodb")
    with pytest.raises(client.exceptions.ConditionalCheckFailedException) as caught:
        client.put_item(TableName="a", Item={})

    assert caught.value.response["Item"] == {"b": {"B": b"x"}}


def test_a_proxy_or_another_call_leads_through_the_library(stub: Stub, monkeypatch: pytest.MonkeyPatch) -> None:
    stub.answers = [(200, b'{"TableNames": ["a"]}')]
    assert aws.client("dynamodb").list_tables()["TableNames"] == ["a"]
    assert b"amz-sdk-request" in stub.requests[0]

    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    monkeypatch.setenv("no_proxy", "")
    aws.forget_clients()
    assert not isinstance(aws.client("dynamodb")._make_api_call, dynamodb.DataCalls)


def test_many_threads_share_what_rests(stub: Stub) -> None:
    calls: list[Callable[[], Any]] = [get] * 16
    assert all_at_once(calls) == [{}] * 16
    assert all_at_once(calls) == [{}] * 16
    assert stub.connections <= 32
    assert len(aws.client("dynamodb")._make_api_call._connections._resting) <= stub.connections


def test_an_expired_signature_is_never_reused(stub: Stub) -> None:
    """Credentials are asked for at each call: those of a role change."""
    get()
    aws._session().set_credentials("other", "secret")
    get()

    assert [b"Credential=other/" in request for request in stub.requests] == [False, True]


def test_our_own_table_speaks_through_it(stub: Stub) -> None:
    stub.answers = [(200, b'{"Item": {"pk": {"S": "a"}, "n": {"N": "1.5"}, "b": {"B": "AP8="}}}')]

    assert Table("leoma").get("a", "b") == {"pk": "a", "n": 1.5, "b": b"\x00\xff"}
