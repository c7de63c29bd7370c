"""Knobs: looked up in the environment, then in the `.env` file, typed and checked once, at start.

A knob K of system S is `S_K` or `K` in the environment, then `S_K` or `K` in the file, then its default.
A variable that is set to the empty string is set: nothing replaces it. One that names a secret
(`ssm:NAME`, `secretsmanager:NAME`) stands for the secret's value, which is read again every five minutes.
"""

from __future__ import annotations

import json
import os
import types
import typing
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, ClassVar, Self

from . import clock, secrets
from .errors import Unavailable
from .values import frozen

_TRUE = {"true", "1"}
_FALSE = {"false", "0"}


class SettingError(ValueError):
    """One line: the variable, what it held, what it must be."""

    def __init__(self, variable: str, held: str, must_be: str) -> None:
        super().__init__(f"{variable} holds {held!r}: it must be {must_be}")
        self.variable = variable


@frozen
class Knob:
    default: Any
    doc: str
    minimum: float | None = None
    maximum: float | None = None
    choices: tuple[str, ...] = ()
    prefixed_only: bool = False
    secret: bool = False


def knob(
    default: Any,
    doc: str,
    *,
    minimum: float | None = None,
    maximum: float | None = None,
    choices: tuple[str, ...] = (),
    prefixed_only: bool = False,
    secret: bool = False,
) -> Any:
    """Declare a knob: its default, one line for `.env.example`, and what it may hold."""
    return Knob(default, doc, minimum, maximum, choices, prefixed_only, secret)


class Settings:
    """A system's knobs; the attributes of a loaded instance are typed values."""

    system: ClassVar[str] = ""
    prefixed_only: ClassVar[bool] = False
    knobs: ClassVar[dict[str, Knob]] = {}
    registry: ClassVar[list[type[Settings]]] = []
    _current: ClassVar[Settings | None] = None
    _read_again_at: ClassVar[float] = float("inf")

    def __init_subclass__(cls, *, system: str = "", prefixed_only: bool = False) -> None:
        cls.system = system
        cls.prefixed_only = prefixed_only
        cls.knobs = {name: value for name, value in vars(cls).items() if isinstance(value, Knob)}
        cls._current = None
        Settings.registry.append(cls)

    def __init__(self, **values: Any) -> None:
        for name, declared in self.knobs.items():
            setattr(self, name, values.get(name, declared.default))

    @classmethod
    def load(cls, environment: Mapping[str, str], file: Mapping[str, str] | None = None) -> Self:
        """Read and check every knob; the first unusable value is a SettingError."""
        hints = typing.get_type_hints(cls)
        values = {}
        for name, declared in cls.knobs.items():
            variable, text = cls._find(name, (environment, file or {}))
            if text is not None and secrets.is_name(text):
                values[name] = _parse_secret(variable, text, hints[name], declared)
            elif text is not None:
                values[name] = _parse(variable, text, hints[name], declared)
        return cls(**values)

    @classmethod
    def current(cls) -> Self:
        """This process's settings, read once; those that name secrets, again when these may have changed."""
        known = cls._current if isinstance(cls._current, cls) else None
        if known is None or clock.monotonic() >= cls._read_again_at:
            try:
                known = cls.load(os.environ, env_file())
            except Unavailable:
                if known is None:
                    raise
            cls._current = known
            fresh = secrets.FRESH_SECONDS if cls._names_secrets() else float("inf")
            cls._read_again_at = clock.monotonic() + fresh
        return known

    @classmethod
    def _names_secrets(cls) -> bool:
        found = (cls._find(name, (os.environ, env_file())) for name in cls.knobs)
        return any(secrets.is_name(text or "") for _, text in found)

    @classmethod
    def variable_names(cls, name: str) -> list[str]:
        """The variables that may hold this knob, the stronger first."""
        plain = name.upper()
        if not cls.system:
            return [plain]
        prefixed = f"{cls.system}_{name}".upper()
        return [prefixed] if cls.prefixed_only or cls.knobs[name].prefixed_only else [prefixed, plain]

    @classmethod
    def is_set(cls, name: str) -> bool:
        """Whether a variable holds this knob, be it the empty string."""
        return cls._find(name, (os.environ, env_file()))[1] is not None

    @classmethod
    def _find(cls, name: str, sources: tuple[Mapping[str, str], ...]) -> tuple[str, str | None]:
        """The variable that holds a knob, and what it holds."""
        for source in sources:
            for variable in cls.variable_names(name):
                if variable in source:
                    return variable, source[variable]
        return "", None


def forget_all() -> None:
    """Let every class read its knobs again."""
    for cls in Settings.registry:
        cls._current = None
    _FILES.clear()


_FILES: dict[str, dict[str, str]] = {}


def env_file() -> dict[str, str]:
    """The `.env` file of the working directory, or the one that `ENV_FILE` names; absent is empty."""
    path = os.environ.get("ENV_FILE", ".env")
    if path not in _FILES:
        _FILES[path] = parse_env_file(Path(path).read_text("utf-8")) if Path(path).is_file() else {}
    return _FILES[path]


def parse_env_file(text: str) -> dict[str, str]:
    """`NAME=value` lines; quotes around a value fall away, `#` starts a comment line."""
    found = {}
    for raw_line in text.splitlines():
        line = raw_line.strip().removeprefix("export ")
        name, separator, value = line.partition("=")
        if not separator or line.startswith("#"):
            continue
        value = value.strip()
        if len(value) > 1 and value[0] == value[-1] and value[0] in "'\"":
            value = value[1:-1]
        found[name.strip()] = value
    return found


def _parse_secret(variable: str, secret: str, kind: Any, declared: Knob) -> Any:
    """A secret that is not there leaves the default; an unusable one is refused without being shown."""
    value = secrets.fetch(secret)
    if value is None:
        return declared.default
    try:
        return _parse(variable, value, kind, declared)
    except SettingError:
        raise SettingError(variable, secret, "the name of a secret that holds a usable value") from None


def _parse(variable: str, text: str, kind: Any, declared: Knob) -> Any:
    if isinstance(kind, types.UnionType):
        kind = next(option for option in typing.get_args(kind) if option is not type(None))
        if not text:
            return None
    parse: Callable[[str, str, Knob], Any] = _PARSERS[typing.get_origin(kind) or kind]
    return parse(variable, text, declared)


def _text(variable: str, text: str, declared: Knob) -> str:
    if declared.choices and text not in declared.choices:
        raise SettingError(variable, text, "one of " + ", ".join(declared.choices))
    return text


def _boolean(variable: str, text: str, _declared: Knob) -> bool:
    if text.lower() in _TRUE:
        return True
    if text.lower() in _FALSE:
        return False
    raise SettingError(variable, text, "true, false, 1 or 0")


def _whole(variable: str, text: str, declared: Knob) -> int:
    try:
        value = int(text)
    except ValueError:
        raise SettingError(variable, text, "a whole number" + _range(declared)) from None
    _check_range(variable, text, value, declared)
    return value


def _real(variable: str, text: str, declared: Knob) -> float:
    try:
        value = float(text)
    except ValueError:
        value = float("nan")
    if value != value or value in (float("inf"), float("-inf")):  # noqa: PLR0124 - the test for NaN
        raise SettingError(variable, text, "a number" + _range(declared))
    _check_range(variable, text, value, declared)
    return value


def _list(variable: str, text: str, _declared: Knob) -> tuple[str, ...]:
    if text.lstrip().startswith("["):
        try:
            items = json.loads(text)
        except ValueError:
            raise SettingError(variable, text, "a comma list or a JSON list of strings") from None
        if not all(isinstance(item, str) for item in items):
            raise SettingError(variable, text, "a comma list or a JSON list of strings")
        return tuple(items)
    return tuple(item.strip() for item in text.split(",") if item.strip())


def _check_range(variable: str, text: str, value: float, declared: Knob) -> None:
    below = declared.minimum is not None and value < declared.minimum
    above = declared.maximum is not None and value > declared.maximum
    if below or above:
        raise SettingError(variable, text, "a number" + _range(declared))


def _range(declared: Knob) -> str:
    bounds = []
    if declared.minimum is not None:
        bounds.append(f"at least {declared.minimum:g}")
    if declared.maximum is not None:
        bounds.append(f"at most {declared.maximum:g}")
    return " of " + " and ".join(bounds) if bounds else ""


_PARSERS: dict[Any, Callable[[str, str, Knob], Any]] = {
    str: _text,
    bool: _boolean,
    int: _whole,
    float: _real,
    tuple: _list,
}


class KernelSettings(Settings):
    """What the whole deployment shares."""

    stage: str = knob("local", "name of the deployment; part of every resource's name")
    environment: str = knob(
        "development", "`production` closes what only a test may do", choices=("development", "production")
    )
    mounts: tuple[str, ...] = knob(
        ("prism=/prism", "pool=/pool", "experts=/experts", "bitrecs=/bitrecs", "leoma=/leoma"),
        "what is served, and where: comma list of name=/prefix; one may be mounted at /",
    )
    read_only: bool = knob(False, "answer every writing route with 503 `paused`; reads go on")
    chain_source: str = knob("", "file:PATH, or ws:// or wss:// of a substrate node; empty: the sample")
    chain_sync_seconds: int = knob(12, "how often chain state is copied into the tables", minimum=1)
    chain_genesis: str = knob("", "hash of block 0 that a live node must serve; empty: any chain")
    prism_netuid: int = knob(100, "PRISM's subnet on a live chain", minimum=0, maximum=65535)
    pool_netuid: int = knob(94, "the Pool's subnet on a live chain", minimum=0, maximum=65535)
    experts_netuid: int = knob(102, "Experts' subnet on a live chain", minimum=0, maximum=65535)
    bitrecs_netuid: int = knob(122, "Bitrecs' subnet on a live chain", minimum=0, maximum=65535)
    leoma_netuid: int = knob(99, "Leoma's subnet on a live chain", minimum=0, maximum=65535)
    fetch_allow_private: bool = knob(
        False, "strangers' URLs on this host may be plain http and on any port (never in production)"
    )

    def may_fetch_from_this_host(self) -> bool:
        """Only on a laptop: a function in the cloud has credentials behind its loopback address."""
        deployed = "AWS_LAMBDA_FUNCTION_NAME" in os.environ and "AWS_ENDPOINT_URL" not in os.environ
        return self.fetch_allow_private and self.environment != "production" and not deployed
