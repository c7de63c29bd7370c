"""What API Gateway takes: one name per path variable on a level, and no more resources than fit."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import pytest

import app as app_module

MOST_RESOURCES = 280
MOUNTS = ["", *(f"{name}=/" for name in app_module.ROUTERS)]

Configure = Callable[..., None]


def nodes(paths: Iterable[str]) -> set[tuple[str, ...]]:
    """Every level of the tree that the paths span, the root included."""
    found: set[tuple[str, ...]] = {()}
    for path in paths:
        segments = tuple(segment for segment in path.split("/") if segment)
        found |= {segments[:length] for length in range(1, len(segments) + 1)}
    return found


@pytest.fixture(params=MOUNTS, ids=lambda mounts: mounts or "all")
def paths(request: pytest.FixtureRequest, configure: Configure) -> list[str]:
    if request.param:
        configure(MOUNTS=request.param)
    return list(app_module.build().routes)


def test_a_level_of_the_tree_has_one_name_for_its_variable(paths: list[str]) -> None:
    names: dict[tuple[str, ...], set[str]] = {}
    for node in nodes(paths):
        if node and node[-1].startswith("{"):
            names.setdefault(node[:-1], set()).add(node[-1])
    assert {"/".join(parent): found for parent, found in names.items() if len(found) > 1} == {}


def test_the_whole_api_fits_into_one_gateway(paths: list[str]) -> None:
    assert len(nodes(paths)) <= MOST_RESOURCES


def test_every_path_answers_every_method(paths: list[str], configure: Configure) -> None:
    routes = app_module.build().routes
    assert {path for path in routes if len(routes[path]) != 7} == set()
