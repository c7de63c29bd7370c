"""What is written about settings and routes is complete and true."""

from __future__ import annotations

import difflib
from typing import Any

import pytest

import app as app_module
from chalicelib.kernel.settings import Knob, Settings, parse_env_file
from docs import reference, refusals
from subnetctl import remedies

EXAMPLE = reference.ENV_EXAMPLE.read_text("utf-8") if reference.ENV_EXAMPLE.exists() else ""
CLASSES = reference._settings()
KNOBS = [
    pytest.param(cls, name, declared, id=reference.variable(cls, name))
    for cls in CLASSES
    for name, declared in cls.knobs.items()
]


def differences(written: str, wanted: str) -> list[str]:
    return [
        line
        for line in difflib.unified_diff(written.splitlines(), wanted.splitlines(), lineterm="", n=0)
        if not line.startswith(("---", "+++", "@@"))
    ]


def test_env_example_is_what_the_knobs_say() -> None:
    assert differences(EXAMPLE, reference.env_example(EXAMPLE)) == [], "run `make docs`"


def test_every_variable_is_explained_once() -> None:
    names = [line.partition("=")[0] for line in EXAMPLE.splitlines() if line and not line.startswith("#")]
    assert sorted(names) == sorted(set(names))


def test_the_route_reference_is_what_the_route_tables_say() -> None:
    written = reference.API.read_text("utf-8") if reference.API.exists() else ""
    assert differences(written, reference.api()) == [], "run `make docs`"


def test_every_code_in_the_source_is_explained_and_no_other() -> None:
    assert set(remedies.known()) == set(refusals.found()), "subnetctl/errors.toml"


def test_only_a_checkpoint_s_outcome_is_a_code_without_a_status() -> None:
    """A refusal whose class is chosen at run time has to be written out for each status."""
    found = refusals.found().items()
    nowhere = {code: {system for system, _ in places} for code, places in found if not any(at for _, at in places)}

    assert {code: systems for code, systems in nowhere.items() if systems != {"experts"}} == {}


def test_the_page_of_errors_is_what_the_code_says() -> None:
    written = reference.ERRORS.read_text("utf-8") if reference.ERRORS.exists() else ""
    assert differences(written, reference.errors()) == [], "run `make docs`"


@pytest.mark.parametrize("cls", CLASSES, ids=lambda cls: cls.__name__)
def test_env_example_as_it_stands_means_the_defaults(cls: type[Settings]) -> None:
    """But for samples of what is empty by default."""
    loaded = cls.load({}, parse_env_file(EXAMPLE))
    defaults = cls()
    changed = {name: getattr(loaded, name) for name in cls.knobs if getattr(loaded, name) != getattr(defaults, name)}
    assert {name: value for name, value in changed.items() if reference.text_of(getattr(defaults, name))} == {}


@pytest.mark.parametrize(("cls", "name", "declared"), KNOBS)
def test_a_knob_is_described_in_one_line_and_a_secret_has_a_sample(
    cls: type[Settings], name: str, declared: Knob
) -> None:
    assert declared.doc
    assert "\n" not in declared.doc
    key = reference.variable(cls, name)
    assert not declared.secret or parse_env_file(EXAMPLE)[key]


@pytest.mark.parametrize(
    "router",
    {router.system: router for router in app_module.ROUTERS.values()}.values(),
    ids=lambda router: router.system,
)
def test_every_listed_route_says_what_it_does(router: Any) -> None:
    assert [route.id for route in router.routes if route.listed and not (route.handler.__doc__ or "").strip()] == []
