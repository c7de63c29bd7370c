"""Handing in, walking the flow, closing the round: what tests of submissions and of rounds both do."""

from __future__ import annotations

from typing import Any

from chalicelib.experts import store_merges, tasks_rounds
from tests.experts.conftest import MINER, START, World, submission
from tests.experts.flows import walk

Files = dict[str, bytes]


def hand_in(world: World, name: str, signer: Any = MINER, *, group: int = 0, block: int = START + 20) -> str:
    url = f"https://miner.example.com/{name}"
    return str(world.submit(submission(signer, url=url, group=group, block=block)).json["submission_id"])


def evaluated(
    world: World, name: str, signer: Any = MINER, *, group: int = 0, block: int = START + 20
) -> dict[str, Any]:
    """The status of a submission whose flow has run."""
    submission_id = hand_in(world, name, signer, group=group, block=block)
    walk("experts-submission", {"submission_id": submission_id})
    return dict(world.get(f"/submission/{submission_id}").json)


def closed(world: World) -> list[str]:
    """Close the rounds that are over and carry out what they owe."""
    world.at(START + 26)
    tasks_rounds.close_rounds()
    return [tasks_rounds.merge(int(owed["sk"])) for owed in store_merges.owed_merges()]


def status(world: World, found: dict[str, Any]) -> dict[str, Any]:
    return dict(world.get(f"/submission/{found['submission_id']}").json)


class Killed(BaseException):
    """The machine under a task is gone."""
