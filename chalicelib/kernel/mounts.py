"""Which systems a deployment serves, and under which prefixes."""

from __future__ import annotations

import copy
import re
from collections.abc import Iterable, Mapping

from . import pages
from .http import App
from .routing import Router
from .settings import SettingError

_PREFIX = re.compile(r"/|(/[A-Za-z0-9._~-]+)+/?")
_MUST_BE = "a comma list of name=/prefix, each name and prefix once, at most one at /"


def parse(mounts: Iterable[str], known: Iterable[str]) -> dict[str, str]:
    """Prefix per mounted name."""
    names = list(known)
    found: dict[str, str] = {}
    for mount in mounts:
        name, separator, prefix = (part.strip() for part in mount.partition("="))
        if not separator or name not in names or name in found or not _PREFIX.fullmatch(prefix):
            raise SettingError("MOUNTS", ",".join(mounts), f"{_MUST_BE}; the names are {', '.join(names)}")
        prefix = prefix.rstrip("/") or "/"
        if prefix in found.values():
            raise SettingError("MOUNTS", ",".join(mounts), _MUST_BE)
        found[name] = prefix
    return found


def systems(mounted: Iterable[str]) -> set[str]:
    """Whose tables and tasks the mounts need: the claim server is the pool's."""
    return {"pool" if name == "claims" else name for name in mounted}


def mount_all(app: App, mounted: Mapping[str, str], routers: Mapping[str, Router]) -> None:
    """Mount each system; the landing page gives way to a system at `/` whose specification has a `/` of its own."""
    titles: dict[str, tuple[str, str]] = {}
    taken: set[str] = set()
    for name, prefix in mounted.items():
        router = copy.copy(routers[name])
        router.routes = list(router.routes)
        titles[name] = (prefix, router.title)
        pages.add_to(router, prefix)
        router.mount(app, prefix)
        if prefix == "/":
            taken = {route.path for route in router.routes}
    landing = pages.landing(titles)
    landing.routes = [route for route in landing.routes if route.path not in taken]
    landing.mount(app, "/")
