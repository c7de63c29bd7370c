"""What every mount serves beside its own routes: OpenAPI document, docs page, dashboard and their assets."""

from __future__ import annotations

import functools
import mimetypes
from pathlib import Path

from . import caching, clock, codec
from .errors import NotFound
from .http import Answer, Request
from .routing import Handler, Router
from .version import VERSION

_SITE = Path(__file__).parent.parent / "site"
_CONTENT_SECURITY_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; media-src 'self' https: http:; "
    "connect-src 'self'; font-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_PAGE_SECONDS = 300


def add_to(router: Router, prefix: str) -> None:
    """Give a mount its documents and pages, unless its own specification claims the path."""
    taken = {route.path for route in router.routes if route.method == "GET"}

    @functools.cache
    def rendered() -> bytes:
        from . import openapi  # noqa: PLC0415 - the schema generator, for the few requests that want it

        return codec.encode(openapi.document(router, VERSION, prefix))

    def openapi_document(request: Request) -> Answer:
        """This document."""
        return caching.kept(Answer(rendered()), request, _PAGE_SECONDS)

    def docs_page(request: Request) -> Answer:
        """The API reference as a page."""
        return page("docs.html", request)

    def dashboard(request: Request) -> Answer:
        """What is going on, as a page."""
        return page(f"{router.system}.html", request)

    def asset(asset: str, request: Request) -> Answer:
        """Scripts and styles of the pages."""
        return page(f"assets/{asset}", request)

    offered: dict[str, Handler] = {
        "/openapi.json": openapi_document,
        "/docs": docs_page,
        "/redoc": docs_page,
        "/dashboard": dashboard,
        "/assets/{asset}": asset,
    }
    for path, handler in offered.items():
        if path not in taken:
            router.get(path, listed=False)(handler)


def landing(mounted: dict[str, tuple[str, str]]) -> Router:
    """`GET /` with what is mounted, and `GET /time` for clients whose clock is in doubt."""
    router = Router("site", "Subnet Functions")

    @router.get("/", listed=False)
    def index(request: Request) -> Answer:
        """What this deployment serves; JSON for programs, a page for people."""
        if "text/html" in (request.header("accept") or ""):
            return page("index.html", request)
        return Answer({"mounts": _mounts(mounted), "version": VERSION})

    @router.get("/mounts.json", listed=False)
    def mounts() -> Answer:
        """What this deployment serves."""
        return Answer({"mounts": _mounts(mounted), "version": VERSION})

    @router.get("/time", listed=False)
    def time() -> dict[str, object]:
        """The server's clock, for a client that is told that its timestamp is off."""
        now = clock.now()
        return {"unix": int(now), "unix_ms": int(now * 1000), "utc": clock.stamp(now)}

    @router.get("/assets/{asset}", listed=False)
    def asset(asset: str, request: Request) -> Answer:
        return page(f"assets/{asset}", request)

    return router


def page(name: str, request: Request) -> Answer:
    """A static file with its ETag; only names that exist in the site folder are ever opened."""
    content = _files().get(name)
    if content is None:
        raise NotFound("Not Found", code="route_not_found")
    kind = mimetypes.guess_type(name)[0] or "application/octet-stream"
    charset = "; charset=utf-8" if kind.startswith("text/") or kind.endswith("javascript") else ""
    headers = {"Content-Security-Policy": _CONTENT_SECURITY_POLICY}
    return caching.kept(Answer(content, headers=headers, content_type=kind + charset), request, _PAGE_SECONDS)


@functools.cache
def _files() -> dict[str, bytes]:
    return {
        str(path.relative_to(_SITE)): path.read_bytes()
        for path in sorted(_SITE.rglob("*"))
        if path.is_file() and not path.name.startswith(".")
    }


def _mounts(mounted: dict[str, tuple[str, str]]) -> list[dict[str, str]]:
    return [
        {
            "name": name,
            "title": title,
            "path": prefix,
            "docs": f"{prefix.rstrip('/')}/docs",
            "openapi": f"{prefix.rstrip('/')}/openapi.json",
            "dashboard": f"{prefix.rstrip('/')}/dashboard",
            "health": f"{prefix.rstrip('/')}/health",
        }
        for name, (prefix, title) in mounted.items()
    ]
