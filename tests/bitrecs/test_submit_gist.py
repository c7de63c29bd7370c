"""The gist: whose it is, what is in it, when it was made."""

from __future__ import annotations

from typing import Any

import pytest

from tests.bitrecs.world import (
    FILE,
    Configure,
    World,
    change_gist,
    told,
)


def test_a_gist_that_is_not_there(world: World) -> None:  # S30
    miner = world.miner("a")
    world.github.gists.clear()

    assert told(miner.submit()) == (400, "Gist not found")


@pytest.mark.parametrize(
    ("owner", "status"), [({"login": "other"}, 400), ({"login": "MINER"}, 201), (None, 400)]
)  # S31, S32
def test_the_gist_belongs_to_the_account(world: World, owner: Any, status: int) -> None:
    miner = world.miner("a")
    change_gist(world, miner, owner=owner)

    reply = miner.submit()

    assert reply.status == status
    assert status == 201 or told(reply)[1] == "Gist owner does not match github_account"


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"files": {"a.yaml": FILE, "b.yaml": FILE}}, "Gist must contain exactly one file"),
        ({"files": {}}, "Gist must contain exactly one file"),
        ({"files": {"a.yaml": FILE | {"truncated": True}}}, "Artifact file is too large"),
        ({"files": {"a.yaml": FILE | {"size": 131_073}}}, "Artifact file is too large"),
        ({"files": {"a.yaml": FILE | {"content": "x" * 131_073}}}, "Artifact file is too large"),
        ({"files": {"a.yaml": FILE | {"content": "\ud800"}}}, "Artifact file is not valid UTF-8"),
        (
            {"history": [{"version": "b" * 40}, {"version": "a" * 40}]},
            (
                "Gist must not have multiple commits - please create a new Gist for each submission and do not update "
                "the Gist after submission"
            ),
        ),
        ({"created_at": "2026-11-17T10:06:40Z"}, "Gist must be created within the last 24 hours"),
        ({"created_at": "2026-11-18T11:20:00Z"}, "created_at timestamp does not match Gist creation time"),
    ],
)  # S33 - S35
def test_each_rule_of_a_gist_has_its_own_words(world: World, changes: dict[str, Any], text: str) -> None:
    miner = world.miner("a")
    change_gist(world, miner, **changes)

    assert told(miner.submit()) == (400, text)


def test_old_gists_and_edited_ones_pass_when_the_operator_says_so(world: World, configure: Configure) -> None:  # S35
    configure(BITRECS_GIST_MAX_AGE_SECONDS="0", BITRECS_GIST_REQUIRE_SINGLE_COMMIT="false")
    miner = world.miner("a")
    history = [{"version": miner.commit}, {"version": "a" * 40}]
    change_gist(world, miner, created_at="2025-11-17T10:06:40Z", history=history)

    assert miner.submit(created_at="2025-11-17T10:06:40+00:00").status == 201


@pytest.mark.parametrize("created_at", ["2026-11-18T07:46:40Z", "2026-11-18T07:46:41+00:00"])  # S36
def test_the_creation_time_is_compared_letter_by_letter(world: World, created_at: str) -> None:
    text = "created_at timestamp does not match Gist creation time"

    assert told(world.miner("a").submit(created_at=created_at)) == (400, text)
