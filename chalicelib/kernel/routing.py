"""The route table: a handler's annotations are its contract, for validation and for the OpenAPI document alike."""

from __future__ import annotations

import functools
import inspect
import re
import typing
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from . import caching, errors
from .http import MAX_BODY_BYTES, Answer, App, Request, serve, signed_with_aws_credentials
from .settings import KernelSettings
from .values import frozen

Handler = Callable[..., Any]
METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")
_INJECTED = {"request", "body", "query", "caller"}
_READING = ("GET", "HEAD")
_SECONDS_OF_PREFLIGHT = 600
_PAUSE_SECONDS = 60
_HEADER_NAMES = re.compile(r"[A-Za-z0-9-]+(, ?[A-Za-z0-9-]+){0,50}")


def never() -> bool:
    return False


@frozen
class Auth:
    """How a route knows its caller; `check` answers the caller or refuses. `headers` document what it reads, all of
    them together; `optional`: whether anybody passes without.

    `by_aws`: API Gateway checks a signature with AWS credentials first and tells who signed.
    """

    check: Callable[[Request], Any]
    name: str
    headers: dict[str, str] = field(default_factory=dict)
    refusals: dict[int, str] = field(default_factory=dict)
    optional: Callable[[], bool] = never
    by_aws: bool = False


@frozen
class Route:
    """One method of one path. Python names in the handler's signature say what is injected.

    `fresh_for`: seconds for which anybody may keep the answer, 0 to ask each time whether it is still the same.
    """

    system: str
    method: str
    path: str
    handler: Handler
    auth: Auth | None = None
    status: int = 200
    refusals: dict[int, str] = field(default_factory=dict)
    headers: dict[str, str] = field(default_factory=dict)
    body: type[Any] | None = None
    content_type: str = "application/json"
    body_limit: int | Callable[[], int] = MAX_BODY_BYTES
    listed: bool = True
    fresh_for: int | None = None

    def __post_init__(self) -> None:
        closed = self.auth is not None and self.auth.optional is never
        if self.fresh_for is not None and (closed or self.method != "GET"):
            raise ValueError(f"{self.id}: only what anybody may read may be kept")

    @functools.cached_property
    def hints(self) -> dict[str, Any]:
        return typing.get_type_hints(self.handler)

    @functools.cached_property
    def wants(self) -> frozenset[str]:
        return frozenset(inspect.signature(self.handler).parameters)

    @property
    def body_contract(self) -> type[Any] | None:
        return self.body or (self.hints.get("body") if "body" in self.wants else None)

    @property
    def query_contract(self) -> type[Any] | None:
        return self.hints.get("query") if "query" in self.wants else None

    @property
    def max_body(self) -> int:
        """Largest body in bytes; a limit that is a knob is read when it counts."""
        return self.body_limit() if callable(self.body_limit) else self.body_limit

    @property
    def id(self) -> str:
        return f"{self.method} {self.path}"

    def call(self, request: Request) -> Answer:
        """Authenticate, parse, decide: in this order, so that strangers never reach a parser."""
        if self.auth:
            request.caller = self.auth.check(request)
        given: dict[str, Any] = {name: request.variables[name] for name in self.wants - _INJECTED}
        if "query" in self.wants:
            given["query"] = request.read_query(self.hints["query"])
        if "body" in self.wants:
            given["body"] = request.read_body(self.hints["body"])
        if "request" in self.wants:
            given["request"] = request
        if "caller" in self.wants:
            given["caller"] = request.caller
        answer = self._answer(self.handler(**given))
        is_open = self.auth is None or self.auth.optional()
        return answer if self.fresh_for is None or not is_open else caching.kept(answer, request, self.fresh_for)

    def _answer(self, result: Any) -> Answer:
        if result is None and self._may_be_null:
            return Answer(b"null", self.status)
        return result if isinstance(result, Answer) else Answer(result, self.status, self.headers)

    @functools.cached_property
    def _may_be_null(self) -> bool:
        """`-> Lease | None` answers JSON's null; `-> None` has no body."""
        return type(None) in typing.get_args(self.hints.get("return"))


@dataclass
class Router:
    """A system's routes and how it says no where its specification differs from the house's ways."""

    system: str
    title: str
    description: str = ""
    trailing_slash: bool = False
    owns_root: bool = False
    not_found: str = "Not Found"
    method_not_allowed: str = "Method Not Allowed"
    too_large: str = "Request body too large"
    internal: str = "An internal error occurred"
    max_body: int | Callable[[], int] = MAX_BODY_BYTES
    cors_origins: Callable[[], Iterable[str]] = lambda: ("*",)
    headers: dict[str, str] = field(default_factory=dict)
    rephrase: Callable[[errors.Refusal], errors.Refusal] = lambda refusal: refusal
    routes: list[Route] = field(default_factory=list)

    def route(self, method: str, path: str, **options: Any) -> Callable[[Handler], Handler]:
        def register(handler: Handler) -> Handler:
            limit = options.pop("max_body", self.max_body)
            self.routes.append(Route(self.system, method, path, handler, body_limit=limit, **options))
            return handler

        return register

    def get(self, path: str, **options: Any) -> Callable[[Handler], Handler]:
        return self.route("GET", path, **options)

    def post(self, path: str, **options: Any) -> Callable[[Handler], Handler]:
        return self.route("POST", path, **options)

    def put(self, path: str, **options: Any) -> Callable[[Handler], Handler]:
        return self.route("PUT", path, **options)

    def delete(self, path: str, **options: Any) -> Callable[[Handler], Handler]:
        return self.route("DELETE", path, **options)

    def mount(self, app: App, prefix: str) -> None:
        """Declare every method of every path, so that ours is the answer to all of them."""
        base = "" if prefix == "/" else prefix
        by_path: dict[str, dict[str, Route]] = {}
        for route in self.routes:
            by_path.setdefault(route.path, {})[route.method] = route
        for path, declared in by_path.items():
            full_path = (base + path).rstrip("/") or "/"
            for method in METHODS:
                view = self._view(path, declared, method, base)
                view.__name__ = f"{method.lower()} {full_path}"
                auth = declared[method].auth if method in declared else None
                door = {"authorizer": signed_with_aws_credentials()} if auth and auth.by_aws else {}
                app.route(full_path, methods=[method], content_types=["*/*"], name=view.__name__, **door)(view)

    def _view(
        self, path: str, declared: dict[str, Route], method: str, base: str
    ) -> Callable[[dict[str, Any]], dict[str, Any]]:
        allowed = ", ".join(sorted(declared))
        route = declared.get(method)
        label = f"{self.system} {method} {path}"

        def answer(request: Request) -> Answer:
            self._check_slash(request, path)
            if route:
                return self._answer(route, request)
            if method == "OPTIONS":
                return Answer(status=200, headers=_preflight(request, allowed))
            raise errors.MethodNotAllowed(self.method_not_allowed, headers={"Allow": allowed})

        def view(event: dict[str, Any]) -> dict[str, Any]:
            request = Request.from_event(event, base)
            reply = serve(label, request, functools.partial(self._phrased, answer), self.internal)
            reply["headers"] = reply["headers"] | self.headers | self._cors(request)
            return reply

        return view

    def _phrased(self, answer: Callable[[Request], Answer], request: Request) -> Answer:
        try:
            return answer(request)
        except errors.Refusal as refusal:
            raise self.rephrase(refusal) from None

    def _answer(self, route: Route, request: Request) -> Answer:
        if route.method not in _READING and KernelSettings.current().read_only:
            raise errors.Unavailable("Writing is paused by the operator", code="paused", retry_after=_PAUSE_SECONDS)
        if len(request.body) > route.max_body:
            raise errors.TooLarge(self.too_large)
        return route.call(request)

    def _check_slash(self, request: Request, path: str) -> None:
        """API Gateway drops one trailing slash, so the raw path decides whether it belongs to the path."""
        if path != "/" and request.path.endswith("/") and not self.trailing_slash:
            raise errors.NotFound(self.not_found, code="route_not_found")

    def _cors(self, request: Request) -> dict[str, str]:
        origins = tuple(self.cors_origins())
        origin = request.header("origin")
        expose = {"Access-Control-Expose-Headers": "*"}
        if "*" in origins:
            return {"Access-Control-Allow-Origin": "*"} | expose
        allowed = {"Access-Control-Allow-Origin": origin} if origin in origins else {}
        return {"Vary": "Origin"} | ({**allowed, **expose} if allowed and origin else {})


def _preflight(request: Request, allowed: str) -> dict[str, str]:
    """Whatever headers the browser asks for, by name: `*` does not stand for `Authorization`."""
    wanted = request.header("access-control-request-headers") or ""
    return {
        "Allow": allowed,
        "Access-Control-Allow-Methods": allowed,
        "Access-Control-Allow-Headers": wanted if _HEADER_NAMES.fullmatch(wanted) else "*",
        "Access-Control-Max-Age": str(_SECONDS_OF_PREFLIGHT),
    }
