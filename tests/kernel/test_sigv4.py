"""Our signatures are the library's, for the same request at the same moment."""

from __future__ import annotations

import datetime as dt
from typing import Any

import pytest
from botocore import auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from chalicelib.kernel import clock
from chalicelib.kernel.sigv4 import Signer, canonical

MOMENT = 1_795_000_000.9
TOKENS = (None, "a/token+of=a role")


@pytest.fixture(autouse=True)
def at_one_moment(monkeypatch: pytest.MonkeyPatch) -> None:
    then = dt.datetime.fromtimestamp(MOMENT, dt.UTC)
    monkeypatch.setattr(clock, "wall", lambda: MOMENT)
    monkeypatch.setattr(auth, "get_current_datetime", lambda *_a, **_k: then.replace(tzinfo=None), raising=False)


def theirs(kind: Any, token: str | None, service: str, **options: Any) -> Any:
    return kind(Credentials("AKID", "a/secret", token), service, "eu-west-3", **options)


@pytest.mark.parametrize("token", TOKENS)
@pytest.mark.parametrize("body", [b"", '{"a": "é"}'.encode()])
def test_a_request(token: str | None, body: bytes) -> None:
    url = "https://dynamodb.eu-west-3.amazonaws.com"
    request = AWSRequest("POST", url + "/", headers={"X-Amz-Target": "DynamoDB_20120810.GetItem"}, data=body)
    theirs(auth.SigV4Auth, token, "dynamodb").add_auth(request)
    ours = Signer("AKID", "a/secret", token, "eu-west-3", "dynamodb").headers(
        "POST", url + "/", {"x-amz-target": "DynamoDB_20120810.GetItem"}, body
    )

    assert ours["authorization"] == request.headers["Authorization"]
    assert (ours["x-amz-date"], ours.get("x-amz-security-token")) == (request.headers["X-Amz-Date"], token)


@pytest.mark.parametrize("token", TOKENS)
@pytest.mark.parametrize(("method", "body"), [("HEAD", b""), ("PUT", b"bytes"), ("POST", b"")])
def test_a_request_about_an_object(token: str | None, method: str, body: bytes) -> None:
    url = "http://models.s3.eu-west-3.amazonaws.com/7/generated%20videos/%2B%C3%A9~.mp4"
    query = {"uploadId": "a+b/c=", "partNumber": 7, "uploads": ""}
    named = {"x-amz-meta-note": "two  spaces", "x-amz-copy-source-range": "bytes=0-9"}
    request = AWSRequest(method, url, params=query, headers=named, data=body)
    theirs(auth.S3SigV4Auth, token, "s3").add_auth(request)
    ours = Signer("AKID", "a/secret", token, "eu-west-3", "s3").headers(
        method, f"{url}?{canonical(query)}", named, body
    )

    assert ours["authorization"] == request.headers["Authorization"]
    assert ours["x-amz-content-sha256"] == request.headers["X-Amz-Content-SHA256"]


@pytest.mark.parametrize("token", TOKENS)
@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize("origin", ["https://clips.s3.amazonaws.com", "http://127.0.0.1:4566"])
def test_a_url(token: str | None, method: str, origin: str) -> None:
    path, query = "/7/generated videos/+é~*'.mp4", {"response-content-disposition": 'attachment; filename="a b"'}
    escaped = "/7/generated%20videos/%2B%C3%A9~%2A%27.mp4"
    request = AWSRequest(method, origin + escaped, params=query)
    theirs(auth.S3SigV4QueryAuth, token, "s3", expires=3600).add_auth(request)
    ours = Signer("AKID", "a/secret", token, "eu-west-3", "s3").url(method, origin, path, query, 3600)

    def parts(url: str) -> tuple[str, list[str]]:
        place, _, pairs = url.partition("?")
        return place, sorted(pairs.split("&"))

    assert parts(ours) == parts(request.url)
