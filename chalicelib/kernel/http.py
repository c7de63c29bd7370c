"""Requests, answers and the one mapping from refusals to HTTP; the only kernel module that knows chalice."""

from __future__ import annotations

import base64
import functools
import sys
import traceback
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

from chalice.app import Blueprint, Chalice, IAMAuthorizer
from pydantic import BaseModel, ValidationError

from . import clock, codec, errors, telemetry

M = TypeVar("M", bound=BaseModel)

JSON = "application/json"
MAX_BODY_BYTES = 2 * 1024 * 1024
MAX_ECHO = 200
HOUSE_HEADERS = {"X-Content-Type-Options": "nosniff", "Referrer-Policy": "no-referrer"}

STATUS: dict[type[errors.Refusal], int] = {
    errors.Malformed: 400,
    errors.Unauthenticated: 401,
    errors.PaymentRequired: 402,
    errors.Forbidden: 403,
    errors.NotFound: 404,
    errors.MethodNotAllowed: 405,
    errors.Conflict: 409,
    errors.PreconditionFailed: 412,
    errors.TooLarge: 413,
    errors.RangeNotSatisfiable: 416,
    errors.Invalid: 422,
    errors.Locked: 423,
    errors.TooMany: 429,
    errors.Internal: 500,
    errors.Unavailable: 503,
}


@dataclass
class Request:
    """What reached a route: the exact body bytes, lower-cased header names, decoded path variables."""

    method: str
    path: str
    headers: Mapping[str, str]
    query: Mapping[str, list[str]]
    variables: Mapping[str, str]
    body: bytes
    id: str
    ip: str
    principal: str = ""
    prefix: str = ""
    caller: Any = None
    notes: dict[str, Any] = field(default_factory=dict)
    sent_headers: Mapping[str, list[str]] = field(default_factory=dict)

    @classmethod
    def from_event(cls, event: dict[str, Any], prefix: str) -> Request:
        context = event["requestContext"]
        identity = context.get("identity", {})
        return cls(
            method=event["httpMethod"],
            path=event["path"],
            headers={name.lower(): value for name, value in (event.get("headers") or {}).items()},
            query=event.get("multiValueQueryStringParameters") or {},
            variables=event.get("pathParameters") or {},
            body=_sent(event),
            id=context["requestId"].replace("-", ""),
            ip=identity.get("sourceIp") or "",
            principal=identity.get("userArn") or "",
            prefix=prefix,
            sent_headers=event.get("multiValueHeaders") or {},
        )

    @property
    def path_below_mount(self) -> str:
        """The path as the system's own specification writes it, whatever the mount."""
        return self.path.removeprefix(self.prefix) or "/"

    def header(self, name: str) -> str | None:
        return self.headers.get(name.lower())

    def repeats(self, name: str) -> bool:
        """Whether a header came more than once, in whatever spelling: then nobody can say which value counts."""
        return sum(len(values) for sent, values in self.sent_headers.items() if sent.lower() == name.lower()) > 1

    @functools.cached_property
    def json(self) -> Any:
        """The body as checked JSON; of duplicate keys the last wins."""
        try:
            return codec.decode(self.body)
        except codec.BadJson as error:
            raise errors.Invalid([problem("json_invalid", ["body", 0], str(error))], code="invalid_json") from None

    def read_body(self, contract: type[M]) -> M:
        return validated(contract, self.json, "body")

    def read_query(self, contract: type[M]) -> M:
        return validated(contract, {name: values[-1] for name, values in self.query.items()}, "query")


def _sent(event: dict[str, Any]) -> bytes:
    """The body's bytes; text that is no Unicode stays wrong, so that the parser refuses it."""
    text = event.get("body") or ""
    return base64.b64decode(text) if event.get("isBase64Encoded") else text.encode("utf-8", "surrogatepass")


@dataclass
class Answer:
    """A response; bytes leave as they are, everything else as JSON."""

    body: Any = None
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    content_type: str = JSON


def validated(contract: type[M], value: Any, where: str) -> M:
    """The value as its contract, or a 422 with every problem found."""
    try:
        return contract.model_validate(value)
    except ValidationError as error:
        raise errors.Invalid(list(problems(error, where)), code="invalid_request") from None


def problems(error: ValidationError, where: str) -> Iterator[dict[str, Any]]:
    """Validation problems in FastAPI's shape; long or whole inputs are not sent back."""
    for found in error.errors(include_url=False):
        echo = found["input"] if isinstance(found["input"], (str, int, float, bool)) else None
        entry: dict[str, Any] = {
            "type": found["type"],
            "loc": [where, *found["loc"]],
            "msg": found["msg"],
            "input": echo[:MAX_ECHO] if isinstance(echo, str) else echo,
        }
        context = {name: value for name, value in found.get("ctx", {}).items() if name != "error"}
        yield entry | ({"ctx": context} if context else {})


def problem(kind: str, loc: list[str | int], message: str, held: Any = None) -> dict[str, Any]:
    return {"type": kind, "loc": loc, "msg": message, "input": held}


def missing_header(name: str) -> dict[str, Any]:
    return problem("missing", ["header", name.lower()], "Field required")


def answer_of(refusal: errors.Refusal) -> Answer:
    """The one mapping from a refusal to its response."""
    body = {"detail": refusal.detail, "code": refusal.code, **refusal.extra}
    headers = dict(refusal.headers)
    if refusal.retry_after is not None:
        headers["Retry-After"] = str(max(1, -int(-refusal.retry_after // 1)))
    kind = next(cls for cls in type(refusal).__mro__ if cls in STATUS)
    return Answer(body, STATUS[kind], headers)


class App(Chalice):
    """Chalice's route table and deployment with our own dispatch: no state shared between requests, every byte ours."""

    def __call__(self, event: dict[str, Any], context: Any) -> dict[str, Any]:  # noqa: ARG002 - Lambda's signature
        gateway = event["requestContext"]
        entry = self.routes[gateway["resourcePath"]][event["httpMethod"]]
        reply: dict[str, Any] = entry.view_function(event)
        return reply


def signed_with_aws_credentials() -> IAMAuthorizer:
    """For routes that API Gateway opens to principals of the account alone."""
    return IAMAuthorizer()


class Functions(Blueprint):
    """The Lambda functions of one module, as Chalice deploys them."""


def serve(route: str, request: Request, handle: Callable[[Request], Answer], internal_detail: str) -> dict[str, Any]:
    """Run a handler at the very edge: whatever happens becomes one answer, one log line and one metric."""
    started = clock.monotonic()
    try:
        reply, code = _outcome(request, handle)
    except Exception:  # noqa: BLE001 - the edge: nothing unexpected may reach the caller
        print(f"request {request.id}\n{traceback.format_exc()}", file=sys.stderr)  # noqa: T201 - Lambda logs stderr
        fault = errors.Internal(internal_detail, extra={"request_id": request.id})
        reply, code = _reply(answer_of(fault), request), fault.code
    elapsed = clock.monotonic() - started
    telemetry.record(route, request.id, reply["statusCode"], code=code, seconds=elapsed, notes=request.notes)
    return reply


def _outcome(request: Request, handle: Callable[[Request], Answer]) -> tuple[dict[str, Any], str]:
    """The reply and the code of a refusal; encoding is part of it, since an answer may turn out to have no JSON."""
    try:
        return _reply(handle(request), request), ""
    except errors.Refusal as refusal:
        return _reply(answer_of(refusal), request), refusal.code


def _reply(answer: Answer, request: Request) -> dict[str, Any]:
    """The Lambda proxy response; text goes as text, for API Gateway decodes base64 only where an Accept header asks."""
    raw = answer.body if isinstance(answer.body, bytes) else b"" if answer.body is None else codec.encode(answer.body)
    headers = {"Content-Type": answer.content_type, "X-Request-Id": request.id, **HOUSE_HEADERS}
    if answer.status in {204, 304}:
        del headers["Content-Type"]
    return {
        "statusCode": answer.status,
        "headers": headers | {name: str(value) for name, value in answer.headers.items()},
        "multiValueHeaders": {},
        **_body(raw),
    }


def _body(raw: bytes) -> dict[str, Any]:
    try:
        return {"body": raw.decode("utf-8"), "isBase64Encoded": False}
    except UnicodeDecodeError:
        return {"body": base64.b64encode(raw).decode("ascii"), "isBase64Encoded": True}
