"""The specification's concrete behaviours 54 to 64: tasks and their verdicts."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from chalicelib.kernel.blobs import Bucket
from chalicelib.leoma import tasks, tasks_fold
from tests.harness.client import Client
from tests.harness.wallets import wallet

from .world import ALICE, BOB, CAROL, NOW, get, miner, sample, send, subnet, sync, vote

pytestmark = pytest.mark.usefixtures("world")

Freeze = Callable[[float], None]
Configure = Callable[..., None]
UNKNOWN = wallet("unknown").hotkey


def listed(client: Client, hotkey: str) -> list[dict[str, Any]]:
    tasks_fold.fold()
    found: list[dict[str, Any]] = get(client, f"/tasks?miner_hotkey={hotkey}").json
    return found


# --- 54 to 64: tasks


def test_54_55_the_latest_task_only_moves_forward(client: Client) -> None:
    assert [tasks.publish({"task_id": task}, None)["latest"] for task in (107, 106, 107, 108)] == [107, 107, 107, 108]
    assert get(client, "/tasks/latest").json == {"task_id": 108}


def test_54_a_task_whose_clips_must_be_there_waits_for_them(client: Client) -> None:
    refused = tasks.publish({"task_id": 101, "prefix": "101", "require_clips": True}, None)
    bucket = Bucket("leoma-samples")
    for name in refused["missing"]:
        bucket.put(name.replace("*", "5F"), b"clip")

    assert (refused["published"], refused["latest"]) == (False, 100)
    assert tasks.publish({"task_id": 101, "prefix": "101", "require_clips": True}, None)["missing"] == []
    assert get(client, "/tasks/latest").json == {"task_id": 101}


def test_56_tasks_of_whom(client: Client) -> None:
    replies = [get(client, path) for path in ("/tasks", "/tasks?miner_hotkey=xyz", f"/tasks?miner_hotkey={UNKNOWN}")]

    assert [reply.status for reply in replies] == [422, 400, 200]
    assert replies[2].json == []


def test_57_58_a_verdict_follows_the_stakes_of_now(client: Client) -> None:
    sync(subnet(stakes={ALICE: 100_000, BOB: 60_000, CAROL: 40_000}), block=1001)
    vote(client, 5, {ALICE: True, BOB: False, CAROL: False}, miner(1))
    assert listed(client, miner(1))[0]["passed"] is False

    sync(subnet(stakes={ALICE: 100_001, BOB: 60_000, CAROL: 40_000}), block=1002)

    assert listed(client, miner(1))[0]["passed"] is True
    assert get(client, f"/tasks/5/miner/{miner(1)}").json["final_passed"] is True
    assert get(client, "/tasks/5").json["miners"][0]["passed"] is True


def test_59_a_voter_who_left_leaves_a_failed_task(client: Client) -> None:
    vote(client, 5, {CAROL: True}, miner(1))
    sync(subnet(stakes={ALICE: 5000}), block=1001)

    assert [(task["task_id"], task["passed"]) for task in listed(client, miner(1))] == [(5, False)]


def test_60_the_list_tells_the_newest_latency_and_the_detail_the_oldest(client: Client, freeze: Freeze) -> None:
    for number, (who, latency) in enumerate([(ALICE, 10), (BOB, None), (CAROL, 20)]):
        freeze(NOW + number)
        vote(client, 5, {who: True}, miner(1), latency_ms=latency, prompt=f"prompt {number}")
    (line,) = listed(client, miner(1))
    detail = get(client, f"/tasks/5/miner/{miner(1)}").json

    assert (line["latency_ms"], detail["latency_ms"]) == (20, 10)
    assert line["updated"] == "2027-01-15T08:00:02.250000Z"
    assert [one["validator_hotkey"] for one in detail["validators"]] == [ALICE.hotkey, BOB.hotkey, CAROL.hotkey]
    assert detail["description"] == "prompt 0"


@pytest.mark.parametrize("task", ["abc", "-1", "1.5", "99999999999999"])
def test_61_a_task_id_that_is_no_number(client: Client, task: str) -> None:
    for path in (f"/tasks/{task}/miner/{miner(1)}", f"/tasks/{task}"):
        reply = get(client, path)
        assert (reply.status, reply.json["detail"]) == (404, "Not Found")


def test_62_a_task_that_nobody_judged(client: Client) -> None:
    vote(client, 5, {ALICE: True}, miner(1))
    tasks_fold.fold()
    replies = [get(client, f"/tasks/{task}/miner/{miner(n)}") for task, n in ((6, 1), (5, 2))]

    assert {(reply.status, reply.json["detail"]) for reply in replies} == {(404, "No evaluations for this task/miner")}
    assert get(client, "/tasks/5/miner/xyz").status == 400
    assert (get(client, "/tasks/6").status, get(client, "/tasks/6").json["detail"]) == (404, "Task not found")


@pytest.mark.parametrize(
    ("artifacts", "aspects", "overall"),
    [
        ('{"aspect_scores": {"prompt_adherence": 88}, "overall_score": 86}', {"prompt_adherence": 88}, 86),
        ("not json", None, None),
        ("[1]", None, None),
        (None, None, None),
        ('{"aspect_scores": {"a": "x"}, "overall_score": 1.5}', None, None),
        ("[" * 8000, None, None),
        ('{"aspect_scores": {"\\ud800": 5}, "overall_score": 86}', None, 86),
        ('{"aspect_scores": {"a": true}, "overall_score": ' + "9" * 400 + "}", None, None),
    ],
)
def test_63_aspects_out_of_artifacts(client: Client, artifacts: str | None, aspects: Any, overall: Any) -> None:
    vote(client, 5, {ALICE: True}, miner(1), generated_artifacts=artifacts)
    tasks_fold.fold()
    (verdict,) = get(client, f"/tasks/5/miner/{miner(1)}").json["validators"]

    assert (verdict["aspect_scores"], verdict["overall_score"]) == (aspects, overall)


def test_64_clips_are_signed_for_the_configured_bucket_alone(client: Client, configure: Configure) -> None:
    vote(client, 5, {ALICE: True}, miner(1), s3_bucket="evil", s3_prefix="../../evil")
    tasks_fold.fold()
    detail = get(client, f"/tasks/5/miner/{miner(1)}").json

    assert detail["s3_prefix"] == "5"
    assert detail["generated_video_path"] == f"5/generated_videos/{miner(1)}.mp4"
    for name in ("first_frame", "original_clip", "generated_video"):
        assert f"leoma-samples/{detail[f'{name}_path']}?" in detail[f"{name}_url"].replace(".s3.amazonaws.com", "")
        assert "X-Amz-Expires=3600" in detail[f"{name}_url"]
    assert "evil" not in str(detail)

    configure(LEOMA_SAMPLES_BUCKET="")
    detail = get(client, f"/tasks/5/miner/{miner(1)}").json
    assert [detail[f"{name}_url"] for name in ("first_frame", "original_clip", "generated_video")] == [None] * 3


def test_an_overview_of_a_task_has_the_passed_first(client: Client) -> None:
    send(client, ALICE, [sample(5, miner(n), passed=n == 2) for n in (1, 2, 3)])
    tasks_fold.fold()
    found = get(client, "/tasks/5").json

    assert [one["passed"] for one in found["miners"]] == [True, False, False]
    assert [one["miner_hotkey"] for one in found["miners"]] == [miner(2), *sorted([miner(1), miner(3)])]
    assert (found["miner_count"], found["validator_count"], found["description"]) == (3, 1, "a cyclist turns left")


def test_settled_tasks_stay_in_the_list_and_open_again(client: Client, freeze: Freeze) -> None:
    for first in range(1, 41, 10):
        freeze(NOW + first)
        send(client, ALICE, [sample(task, miner(1), latency_ms=task) for task in range(first, first + 10)])
        tasks_fold.fold()
    settled = listed(client, miner(1))
    vote(client, 2, {BOB: True, CAROL: True}, miner(1))
    after = listed(client, miner(1))

    assert [line["task_id"] for line in settled] == list(range(40, 0, -1))
    assert [line["latency_ms"] for line in settled] == list(range(40, 0, -1))
    assert [line for line in after if line["task_id"] != 2] == [line for line in settled if line["task_id"] != 2]
    assert get(client, f"/miners/{miner(1)}/tasks").json == after
    send(client, ALICE, [sample(task, miner(2)) for task in range(50, 70)])
    assert listed(client, miner(1)) == after
