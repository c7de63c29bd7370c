"""API Gateway's REST API on this machine: the same routing, limits and errors in front of the same handlers."""

from __future__ import annotations

import base64
import json
import random
import re
import time
import uuid
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol
from urllib.parse import parse_qsl, unquote, urlsplit

from infra.gateway import SAFETY_HEADERS
from local import sigv4

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

MAX_BODY_BYTES = 10 * 1024 * 1024
MAX_HEADER_BYTES = 10240
MAX_ANSWER_BYTES = 6 * 1024 * 1024
SECONDS_TO_ANSWER = 29
_LONGEST_ESCAPE = 12  # of a letter that JSON spells as two halves
STAGE = "local"

# Anything but visible ASCII, or an escape that is none.
_MALFORMED = re.compile(r"[^!-~]|%(?![0-9A-Fa-f]{2})")
_CORS = (("Access-Control-Allow-Origin", "*"), ("Access-Control-Expose-Headers", "*"))

Event = dict[str, Any]
Pairs = list[tuple[str, str]]


class App(Protocol):
    """What Chalice's app object is to a gateway: a route table and a Lambda handler."""

    @property
    def routes(self) -> Mapping[str, Mapping[str, Any]]: ...

    def __call__(self, event: Event, context: Any) -> dict[str, Any]: ...


@dataclass(frozen=True)
class Request:
    """A request as it came in: the target with its escapes, headers in order with their duplicates."""

    method: str
    target: str
    headers: Pairs = field(default_factory=list)
    body: bytes = b""
    source_ip: str = "127.0.0.1"


@dataclass(frozen=True)
class Answer:
    status: int
    headers: Pairs
    body: bytes


@dataclass(frozen=True)
class Context:
    """What a handler may ask of its invocation."""

    aws_request_id: str
    started: float
    function_name: str = f"subnet-functions-{STAGE}"
    function_version: str = "$LATEST"
    memory_limit_in_mb: int = 512

    def get_remaining_time_in_millis(self) -> int:
        return max(0, int((self.started + SECONDS_TO_ANSWER - time.monotonic()) * 1000))


class Node:
    """One level of the resource tree; a literal child goes before the variable one, as on API Gateway."""

    __slots__ = ("allowed", "literals", "methods", "resource", "variable", "variable_name")

    def __init__(self) -> None:
        self.literals: dict[str, Node] = {}
        self.variable: Node | None = None
        self.variable_name = ""
        self.resource = ""
        self.methods: frozenset[str] = frozenset()
        self.allowed = ""


def resource_tree(routes: Mapping[str, Iterable[str]]) -> Node:
    """The tree of all declared paths; two names for one variable would be refused by API Gateway too."""
    root = Node()
    for path, methods in routes.items():
        node = root
        for segment in path.strip("/").split("/") if path != "/" else ():
            node = _child(node, segment, path)
        node.resource = path
        node.methods = frozenset(methods)
        node.allowed = ", ".join(sorted(node.methods))
    return root


def _child(node: Node, segment: str, path: str) -> Node:
    if not segment.startswith("{"):
        return node.literals.setdefault(segment, Node())
    name = segment.strip("{}")
    if node.variable is None:
        node.variable, node.variable_name = Node(), name
    if node.variable_name != name:
        raise ValueError(f"{path}: a variable at this level is called {node.variable_name} elsewhere")
    return node.variable


def find(root: Node, path: str) -> tuple[Node | None, dict[str, str]]:
    """The resource of a raw path and its variables; one trailing slash does not count."""
    node, variables = root, {}
    segments = path[1:].removesuffix("/").split("/") if path != "/" else []
    for segment in segments:
        literal = node.literals.get(segment)
        if literal is not None:
            node = literal
        elif node.variable is not None and segment:
            variables[node.variable_name] = segment
            node = node.variable
        else:
            return None, {}
    return (node if node.resource else None), variables


def new_request_id() -> str:
    """Told apart, not kept secret: no system call per request."""
    return str(uuid.UUID(int=random.getrandbits(128), version=4))


class Gateway:
    """Turns requests into Lambda proxy events and what the handler returns into answers."""

    def __init__(self, app: App, report: Callable[[str], None] | None = None) -> None:
        self.app = app
        self.root = resource_tree(app.routes)
        self.report = report or (lambda _text: None)

    def answer(self, request: Request) -> Answer:
        request_id = new_request_id()
        path, query = split_target(request.target)
        if not path.startswith("/") or _MALFORMED.search(path):
            return refusal(400, "Malformed path", "malformed_path", request_id)
        if len(request.body) > MAX_BODY_BYTES:
            return refusal(413, "Request body too large", "body_too_large", request_id)
        node, variables = find(self.root, path)
        if node is None:
            return refusal(404, "Not Found", "route_not_found", request_id)
        if request.method not in node.methods:
            wrong = refusal(405, "Method Not Allowed", "method_not_allowed", request_id)
            wrong.headers.append(("Allow", node.allowed))
            return wrong
        event = proxy_event(request, path, query, node.resource, variables, request_id)
        if getattr(self.app.routes[node.resource][request.method], "authorizer", None):
            event["requestContext"]["identity"]["userArn"] = sigv4.principal(
                request.method, request.target, event["headers"], request.body
            )
        return self._invoke(event, request_id)

    def _invoke(self, event: Event, request_id: str) -> Answer:
        try:
            reply = self.app(event, Context(request_id, time.monotonic()))
            answer = decode_reply(reply)
        except Exception as error:  # noqa: BLE001 - a crashed function is API Gateway's 502, whatever it was
            self.report(f"request {request_id}: {event['httpMethod']} {event['resource']}: {error!r}")
            return refusal(502, "The function failed", "function_failed", request_id)
        if encoded_size(reply) > MAX_ANSWER_BYTES:
            self.report(f"request {request_id}: {event['httpMethod']} {event['resource']}: answer over 6 MB")
            return refusal(502, "The answer is too large", "answer_too_large", request_id)
        return answer


def refusal(status: int, detail: str, code: str, request_id: str) -> Answer:
    """What the gateway itself has to say, in the shape of every other error."""
    body = json.dumps({"detail": detail, "code": code}, separators=(",", ":")).encode()
    headers = [("Content-Type", "application/json"), ("Cache-Control", "no-store"), *_CORS]
    headers.append(("X-Request-Id", request_id.replace("-", "")))
    headers += SAFETY_HEADERS.items()
    return Answer(status, headers, body)


def split_target(target: str) -> tuple[str, str]:
    """Raw path and raw query of a request target; an absolute one loses its host, a fragment is dropped."""
    target = target.partition("#")[0]
    if not target.startswith("/"):
        try:
            parts = urlsplit(target)
        except ValueError:
            return "", ""
        if parts.scheme not in {"http", "https"}:
            return "", ""
        target = (parts.path or "/") + ("?" + parts.query if parts.query else "")
    path, _, query = target.partition("?")
    return path, query


def proxy_event(  # noqa: PLR0917 - the parts of one request, all different in kind
    request: Request, path: str, query: str, resource: str, variables: dict[str, str], request_id: str
) -> Event:
    """API Gateway's Lambda proxy event, format 1.0; the body is always base64, so that every byte arrives."""
    many_headers = grouped(request.headers)
    many_parameters = grouped(parse_query(query))
    return {
        "resource": resource,
        "path": path,
        "httpMethod": request.method,
        "headers": last_of(many_headers),
        "multiValueHeaders": many_headers,
        "queryStringParameters": last_of(many_parameters) or None,
        "multiValueQueryStringParameters": many_parameters or None,
        "pathParameters": {name: decoded(value) for name, value in variables.items()} or None,
        "stageVariables": None,
        "requestContext": {
            "resourcePath": resource,
            "path": path,
            "httpMethod": request.method,
            "stage": STAGE,
            "protocol": "HTTP/1.1",
            "requestId": request_id,
            "requestTimeEpoch": int(time.time() * 1000),
            "accountId": "000000000000",
            "apiId": STAGE,
            "identity": {"sourceIp": request.source_ip, "userAgent": user_agent(request.headers)},
        },
        "body": base64.b64encode(request.body).decode("ascii") if request.body else None,
        "isBase64Encoded": bool(request.body),
    }


def user_agent(headers: Pairs) -> str | None:
    return next((value for name, value in headers if name.lower() == "user-agent"), None)


def grouped(pairs: Pairs) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for name, value in pairs:
        found.setdefault(name, []).append(value)
    return found


def last_of(many: dict[str, list[str]]) -> dict[str, str]:
    return {name: values[-1] for name, values in many.items()}


def parse_query(query: str) -> Pairs:
    return parse_qsl(query, keep_blank_values=True, errors="replace") if query else []


def decoded(segment: str) -> str:
    return unquote(segment, errors="replace") if "%" in segment else segment


def decode_reply(reply: dict[str, Any]) -> Answer:
    """The handler's reply as bytes; several values of one header all go out."""
    headers: Pairs = [(name, str(value)) for name, value in (reply.get("headers") or {}).items()]
    several = reply.get("multiValueHeaders") or {}
    headers = [pair for pair in headers if pair[0] not in several]
    headers += [(name, str(value)) for name, values in several.items() for value in values]
    if any("\n" in value or "\r" in value for _, value in headers):
        raise ValueError("a header holds a line break")
    body = reply.get("body") or ""
    raw = base64.b64decode(body) if reply.get("isBase64Encoded") else str(body).encode()
    return Answer(int(reply["statusCode"]), headers, raw)


def encoded_size(reply: dict[str, Any]) -> int:
    """What Lambda counts against its limit: the body as it is quoted in the reply, in ASCII, base64 included."""
    body = reply.get("body") or ""
    if _LONGEST_ESCAPE * len(body) <= MAX_ANSWER_BYTES:
        return len(body)
    return len(json.dumps(body)) - len('""')
