"""The specification's concrete behaviours 50 to 53: samples as they are listed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from chalicelib.leoma import tasks_fold
from tests.harness.client import Client

from .world import ALICE, BOB, NOW, get, miner, publish, sample, send

pytestmark = pytest.mark.usefixtures("world")

Freeze = Callable[[float], None]
Configure = Callable[..., None]


def of_task(client: Client, task: int = 7) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = get(client, f"/samples/task?validator_hotkey={ALICE.hotkey}&task_id={task}").json
    return found


# --- 50 to 53: lists


@pytest.mark.parametrize(
    ("limit", "kind"),
    [("0", "greater_than_equal"), ("501", "less_than_equal"), ("9" * 38, "less_than_equal"), ("x", "int_parsing")],
)
@pytest.mark.parametrize("path", ["/samples/list", f"/samples/validator/{ALICE.hotkey}", f"/samples/miner/{miner(1)}"])
def test_50_a_limit_out_of_range(client: Client, path: str, limit: str, kind: str) -> None:
    reply = get(client, f"{path}?limit={limit}", ALICE)

    assert (reply.status, reply.json["detail"][0]["type"]) == (422, kind)
    assert reply.json["detail"][0]["loc"] == ["query", "limit"]


@pytest.mark.parametrize(("limit", "count"), [(None, 200), (150, 150), (500, 300)])
def test_50_the_newest_first(client: Client, freeze: Freeze, limit: int | None, count: int) -> None:
    for number in range(3):
        freeze(NOW + number)
        who = (ALICE, BOB)[number % 2]
        assert send(client, who, [sample(7 + number, miner(n)) for n in range(100)]).status == 200
    tasks_fold.fold()

    listed = get(client, "/samples/list" + (f"?limit={limit}" if limit else "")).json
    assert len(listed) == count
    assert listed == sorted(listed, key=lambda one: (one["evaluated_at"], one["id"]), reverse=True)


def test_51_52_a_validators_samples_of_a_task(client: Client) -> None:
    send(client, ALICE, [sample(7, miner(n)) for n in range(5)])
    path = f"/samples/task?validator_hotkey={ALICE.hotkey}"

    assert [get(client, one).status for one in ("/samples/task", path, "/samples/task?task_id=7")] == [422] * 3
    assert get(client, path.replace(ALICE.hotkey, "xyz") + "&task_id=7").status == 400
    assert get(client, path + "&task_id=7").json == get(client, path + "&sample_id=7").json
    assert [one["miner_hotkey"] for one in of_task(client)] == sorted(miner(n) for n in range(5))
    assert get(client, path + "&task_id=99").json == []


def test_53_lists_of_validators_and_miners_need_a_validator(client: Client, freeze: Freeze) -> None:
    for number in range(3):
        freeze(NOW + number)
        send(client, ALICE, [sample(number + 1, miner(n)) for n in range(60)])
        send(client, BOB, [sample(number + 1, miner(1))])
    tasks_fold.fold()

    assert get(client, f"/samples/validator/{ALICE.hotkey}").status == 422
    assert get(client, "/samples/validator/xyz", ALICE).status == 400
    found = get(client, f"/samples/validator/{ALICE.hotkey}", BOB).json
    assert len(found) == 100
    assert found == sorted(found, key=lambda one: (one["evaluated_at"], one["id"]), reverse=True)
    about = get(client, f"/samples/miner/{miner(1)}", BOB).json
    assert [(one["task_id"], one["validator_hotkey"]) for one in about] == [
        (task, who.hotkey) for task in (3, 2, 1) for who in (BOB, ALICE)
    ]


def test_a_validators_list_shows_a_replaced_sample_once_and_as_it_is_now(client: Client, freeze: Freeze) -> None:
    for moment, latency in ((NOW, 10), (NOW + 1, 77)):
        freeze(moment)
        assert send(client, ALICE, [sample(7, miner(1), latency_ms=latency)]).status == 200

    assert [one["latency_ms"] for one in get(client, f"/samples/validator/{ALICE.hotkey}", BOB).json] == [77]


def test_a_validators_list_says_where_its_look_back_ended(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    """A validator that replaced its samples over and over may have older ones that no list reaches."""
    monkeypatch.setattr("chalicelib.leoma.routes_samples._BATCHES_LOOKED_AT", 3)
    path = f"/samples/validator/{ALICE.hotkey}"
    seen = []
    for number in (1, 2, 2, 2):
        send(client, ALICE, [sample(7, miner(number))])
        reply = get(client, path, BOB)
        seen.append((len(reply.json), reply.header("X-Truncated")))

    assert seen == [(1, None), (2, None), (2, None), (1, "true")]
    assert get(client, path + "?limit=1", BOB).header("X-Truncated") is None, "as many as were asked for"


def test_a_miners_newest_sample_is_found_on_an_old_task(client: Client, freeze: Freeze) -> None:
    publish(300)
    for number in range(30):
        freeze(NOW + number)
        send(client, ALICE, [sample(number + 101, miner(1))])
    freeze(NOW + 99)
    send(client, BOB, [sample(105, miner(1))])
    tasks_fold.fold()

    newest = get(client, f"/samples/miner/{miner(1)}?limit=2", ALICE).json
    assert [(one["task_id"], one["validator_hotkey"]) for one in newest] == [(105, BOB.hotkey), (130, ALICE.hotkey)]
