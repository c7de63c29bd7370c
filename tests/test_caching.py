"""What anybody may keep, swept over the route tables: for how long, under which tag, and 304 for who has it."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest

import app as app_module
from chalicelib.kernel import settings
from chalicelib.kernel.routing import Route
from tests.harness.client import Client, whole_app
from tests.harness.cloud import empty_cloud
from tests.harness.wallets import wallet

_HOTKEY = wallet("reader").hotkey
_ASKED = f"?miner_hotkey={_HOTKEY}&validator_hotkey={_HOTKEY}&task_id=1&task_type=cifar10_binary"
KEPT = [
    (name, route)
    for name, router in app_module.ROUTERS.items()
    for route in router.routes
    if route.fresh_for is not None
]
# They know something from the first day on; the others answer 404 until there is something to tell.
ANSWERED_IN_AN_EMPTY_WORLD = {"prism": 5, "pool": 6, "bitrecs": 7, "leoma": 15, "claims": 1}


@pytest.fixture(scope="module")
def client() -> Iterator[Client]:
    with pytest.MonkeyPatch.context() as patch, empty_cloud():
        patch.setenv("MOUNTS", ",".join(f"{name}=/{name}" for name in app_module.ROUTERS))
        patch.setenv("CLOCK_FROZEN_AT", "1700000000")
        settings.forget_all()
        yield Client(whole_app())
    settings.forget_all()


def _path(name: str, route: Route) -> str:
    return f"/{name}" + re.sub(r"\{\w+\}", _HOTKEY, route.path) + _ASKED


def test_every_kept_answer_has_a_tag_and_is_not_sent_twice(client: Client) -> None:
    answered = dict.fromkeys(ANSWERED_IN_AN_EMPTY_WORLD, 0)
    for name, route in KEPT:
        first = client.get(_path(name, route))
        tag = first.header("etag")
        if first.status != 200:
            assert (tag, first.header("cache-control")) == (None, None), route.id
            continue
        answered[name] += 1
        wanted = f"public, max-age={route.fresh_for}" if route.fresh_for else "public, no-cache"
        assert first.header("cache-control") == wanted, route.id
        again = client.get(_path(name, route), {"If-None-Match": f'"other", W/{tag}'})
        assert (again.status, again.body, again.header("etag")) == (304, b"", tag), route.id
        changed = client.get(_path(name, route), {"If-None-Match": '"other"'})
        assert (changed.status, changed.body) == (200, first.body), route.id
    assert answered == ANSWERED_IN_AN_EMPTY_WORLD
