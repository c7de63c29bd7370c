"""`python -m docs.reference` writes what is made from the code: `.env.example`, `docs/api.md`, `docs/errors.md`."""

from __future__ import annotations

import importlib
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import app
from chalicelib.kernel.routing import Route, Router
from chalicelib.kernel.settings import Settings, parse_env_file
from docs import refusals
from subnetctl import remedies

ROOT = Path(__file__).resolve().parent.parent
ENV_EXAMPLE = ROOT / ".env.example"
API = ROOT / "docs" / "api.md"
ERRORS = ROOT / "docs" / "errors.md"
_DECLARES_SETTINGS = re.compile(r"^class \w+\(Settings\b", re.MULTILINE)
_ENV_HEAD = """\
# Every setting with its default. Copy this file to `.env`, or set a variable in the environment, which wins.
# A setting K of a system S is looked up as S_K and then as K; one that several systems have is listed with its
# system's name. A variable that is set to nothing is set: no token, nobody, an empty list.
# Tokens and keys below are samples for a laptop: replace them before anybody else can reach the server.
"""
_API_HEAD = """\
# The API

Made from the route tables by `make docs`; the same, with every field, stands in each mount's `/openapi.json` and on its
`/docs` page. Paths are below the mount. Every refusal is `{"detail": …, "code": …}`; every answer carries
`X-Request-Id`. *kept*: for how long anybody may keep an answer; it has an `ETag`, and who sends that in `If-None-Match`
gets 304 as long as nothing has changed. *ask* stands for `no-cache`: kept, but asked for each time.
"""
_ERRORS_HEAD = """\
# Errors

Made by `make docs` from the code and `subnetctl/errors.toml`. Every refusal is `{"detail": …, "code": …}`: `detail`
is for people and may change, `code` is for programs and stays. `subnetctl explain CODE` prints a row of this table, and
every refusal of a command ends with the remedy. `Retry-After` says truly how long to wait. A status in brackets is no
refusal: the code is told as the outcome of a checkpoint.

| code | status | from | cause | what to do |
|---|---|---|---|---|
"""


def env_example(current: str) -> str:
    """The file as it should be; samples of settings whose default is empty stay as they stand in `current`."""
    samples = parse_env_file(current)
    return _ENV_HEAD + "".join(_section(cls, samples) for cls in _settings())


def api() -> str:
    """Every listed route of every system in the order of the route tables."""
    routers = {router.system: router for router in app.ROUTERS.values()}
    return _API_HEAD + "".join(_chapter(router) for router in routers.values())


def errors() -> str:
    """Every code that the code refuses with, by name."""
    found, texts = refusals.found(), remedies.known()
    return _ERRORS_HEAD + "".join(_error(code, found[code], texts[code]) for code in sorted(found))


def _error(code: str, places: set[tuple[str, int]], told: tuple[str, str]) -> str:
    statuses = " ".join(str(status) for status in sorted({status for _, status in places}) if status) or "(200)"
    systems = {system for system, _ in places}
    where = "any" if "any" in systems else ", ".join(sorted(systems))
    cause, remedy = (text.replace("|", "\\|") for text in told)
    return f'| <a id="{code}"></a>`{code}` | {statuses} | {where} | {cause} | {remedy} |\n'


def variable(cls: type[Settings], name: str) -> str:
    """The plain name where only one system has such a knob, else the one with the system's prefix."""
    strong, *plain = cls.variable_names(name)
    shared = sum(name in other.knobs and not other.prefixed_only for other in _settings()) > 1
    return plain[0] if plain and not shared else strong


def text_of(default: Any) -> str:
    """A default as it stands in a file."""
    if default is None:
        return ""
    if isinstance(default, bool):
        return str(default).lower()
    if isinstance(default, tuple):
        return ",".join(str(item) for item in default)
    return str(default)


def _settings() -> list[type[Settings]]:
    """Every class of knobs in the code; the deployment's and the laptop's before the systems'."""
    for folder in ("chalicelib", "local", "subnetctl"):
        for path in sorted((ROOT / folder).rglob("*.py")):
            if _DECLARES_SETTINGS.search(path.read_text("utf-8")):
                importlib.import_module(".".join(path.relative_to(ROOT).with_suffix("").parts))
    ours = [cls for cls in Settings.registry if cls.knobs and not cls.__module__.startswith("tests")]
    return sorted(ours, key=lambda cls: (bool(cls.system), cls.system, cls.__name__))


def _section(cls: type[Settings], samples: dict[str, str]) -> str:
    title = (cls.__doc__ or cls.__name__).strip().splitlines()[0]
    lines = [f"\n# ---- {title}\n"]
    for name, declared in cls.knobs.items():
        key = variable(cls, name)
        lines.append(f"\n# {declared.doc}\n{key}={_value(cls, name, samples)}\n")
    return "".join(lines)


def _value(cls: type[Settings], name: str, samples: dict[str, str]) -> str:
    """The default; where that is empty, the sample that stands under any of the knob's names."""
    default = text_of(cls.knobs[name].default)
    if default:
        return default
    sample = next((samples[known] for known in cls.variable_names(name) if samples.get(known)), "")
    key = variable(cls, name).lower().replace("_", "-")
    return sample or (f"sample-{key}" if cls.knobs[name].secret else "")


def _chapter(router: Router) -> str:
    listed = [route for route in router.routes if route.listed]
    if not listed:
        return ""
    rows = "".join(_rows(listed))
    return (
        f"\n## {router.title}\n\n{router.description}\n\n"
        f"| route | caller | success | refusals | kept | what it does |\n|---|---|---|---|---|---|\n{rows}"
    )


def _rows(routes: Iterable[Route]) -> Iterator[str]:
    for route in routes:
        caller = route.auth.name if route.auth else "anybody"
        statuses = sorted((route.auth.refusals if route.auth else {}) | route.refusals)
        refusals = " ".join(str(status) for status in statuses) or "–"
        summary = (route.handler.__doc__ or "").strip().partition("\n")[0].replace("|", "\\|")
        yield f"| `{route.id}` | {caller} | {route.status} | {refusals} | {_kept(route)} | {summary} |\n"


def _kept(route: Route) -> str:
    """For how long anybody may keep an answer."""
    if route.fresh_for is None:
        return "–"
    return f"{route.fresh_for} s" if route.fresh_for else "ask"


def main() -> None:
    ENV_EXAMPLE.write_text(env_example(ENV_EXAMPLE.read_text("utf-8") if ENV_EXAMPLE.exists() else ""), "utf-8")
    API.write_text(api(), "utf-8")
    ERRORS.write_text(errors(), "utf-8")


if __name__ == "__main__":
    main()
