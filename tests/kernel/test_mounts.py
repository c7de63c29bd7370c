"""What is served where: prefixes, one system at the root, the claims alone, and what every mount has."""

from __future__ import annotations

from collections.abc import Callable

import pytest

import app as app_module
from chalicelib.kernel import mounts
from chalicelib.kernel.settings import SettingError
from tests.harness.client import Client

Configure = Callable[..., None]
NAMES = tuple(app_module.ROUTERS)


@pytest.mark.parametrize(
    ("given", "found"),
    [
        (["leoma=/"], {"leoma": "/"}),
        (["leoma=/leoma/", " pool = /a/b.c-d_e~f "], {"leoma": "/leoma", "pool": "/a/b.c-d_e~f"}),
        ([], {}),
    ],
)
def test_mounts_are_names_with_prefixes(given: list[str], found: dict[str, str]) -> None:
    assert mounts.parse(given, NAMES) == found


@pytest.mark.parametrize(
    "given",
    [
        ["leoma"],
        ["leoma="],
        ["leoma=x"],
        ["leoma=/{x}"],
        ["leoma=//"],
        ["leoma=/a//b"],
        ["leoma=/ä"],
        ["unknown=/"],
        ["leoma=/a", "leoma=/b"],
        ["leoma=/a", "pool=/a"],
        ["leoma=/", "pool=/"],
    ],
)
def test_anything_else_stops_the_start_and_names_the_variable(given: list[str]) -> None:
    with pytest.raises(SettingError, match="MOUNTS holds"):
        mounts.parse(given, NAMES)


@pytest.fixture
def serve(cloud: None, configure: Configure) -> Callable[[str], Client]:
    def build(given: str) -> Client:
        configure(MOUNTS=given)
        return Client(app_module.build())

    return build


def test_the_landing_page_lists_what_is_mounted_for_programs_and_for_people(serve: Callable[[str], Client]) -> None:
    client = serve("leoma=/chain/leoma,pool=/pool")
    listed = {mount["name"]: mount for mount in client.get("/").json["mounts"]}
    assert set(listed) == {"leoma", "pool"}
    assert listed["leoma"]["docs"] == "/chain/leoma/docs"
    page = client.get("/", {"Accept": "text/html,*/*"})
    assert (page.header("Content-Type") or "").startswith("text/html")


def test_a_system_at_the_root_is_served_as_its_specification_writes_it(serve: Callable[[str], Client]) -> None:
    client = serve("leoma=/")
    assert client.get("/health").json["status"] == "healthy"
    assert client.get("/openapi.json").json["servers"] == [{"url": "/"}]
    assert client.get("/time").json["unix"] > 0


def test_the_clock_is_told(serve: Callable[[str], Client], configure: Configure) -> None:
    client = serve("leoma=/leoma")
    configure(CLOCK_FROZEN_AT="1700000000.25")
    assert client.get("/time").json == {
        "unix": 1_700_000_000, "unix_ms": 1_700_000_000_250, "utc": "2023-11-14T22:13:20.250000Z",
    }  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
def test_every_system_can_stand_alone_at_the_root_or_under_a_long_prefix(
    serve: Callable[[str], Client], name: str
) -> None:
    assert serve(f"{name}=/").get("/openapi.json").status == 200
    deep = serve(f"{name}=/a/b/c")
    assert deep.get("/a/b/c/openapi.json").json["servers"] == [{"url": "/a/b/c"}]
    assert [mount["name"] for mount in deep.get("/").json["mounts"]] == [name]


@pytest.mark.parametrize("name", app_module.ROUTERS)
def test_one_at_the_root_leaves_room_for_the_others(serve: Callable[[str], Client], name: str) -> None:
    others = [other for other in NAMES if other not in {name, "claims"}]
    client = serve(",".join([f"{name}=/", *(f"{other}=/{other}" for other in others)]))
    assert all(client.get(f"/{other}/openapi.json").status == 200 for other in others)


def test_two_apps_do_not_share_their_mounts(serve: Callable[[str], Client]) -> None:
    first, second = serve("leoma=/one"), serve("leoma=/two")
    assert first.get("/one/openapi.json").json["servers"] == [{"url": "/one"}]
    assert second.get("/two/openapi.json").json["servers"] == [{"url": "/two"}]
