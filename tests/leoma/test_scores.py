"""The specification's concrete behaviours 65 to 72, 80, 81 and 86: scores, ranks and weights."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from chalicelib.leoma import domain_views, store, store_jobs, tasks
from tests.harness.client import Client
from tests.harness.wallets import wallet

from .world import ALICE, BOB, CAROL, NOW, get, miner, model, neuron, publish, sample, send, subnet, sync, vote

pytestmark = pytest.mark.usefixtures("world")

Freeze = Callable[[float], None]
Configure = Callable[..., None]
UNKNOWN = wallet("unknown").hotkey


# --- 65 to 72: ranks and weights


def judged(client: Client, hotkey: str, evaluated: int, passed: int, *, last: int = 100) -> None:
    """Alice judges the newest tasks of a miner; the passed ones come first."""
    for first in range(0, evaluated, 50):
        chunk = range(first, min(first + 50, evaluated))
        assert send(client, ALICE, [sample(last - n, hotkey, n < passed) for n in chunk]).status == 200


def ranks(client: Client) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = get(client, "/scores/rank").json["ranks"]
    return found


def test_65_nothing_is_ranked_before_the_window_is_full(client: Client) -> None:
    judged(client, miner(1), 99, 99, last=99)
    tasks.rank({}, None)

    assert ranks(client) == []
    assert get(client, "/weights").json == {"winner_uid": 0, "miners": []}
    assert get(client, "/scores").json["scores"][miner(1)]["total_samples"] == 99


def test_66_67_completeness_decides_and_the_rate_is_of_what_was_evaluated(client: Client) -> None:
    judged(client, miner(1), 80, 60)
    judged(client, miner(2), 79, 79)
    tasks.rank({}, None)

    assert ranks(client) == [
        {
            "miner_hotkey": miner(1),
            "uid": 1,
            "rank": 1,
            "passed_count": 60,
            "pass_rate": 0.75,
            "block": 101,
            "eligible": True,
        }
    ]
    reply = get(client, "/weights")
    weight = {"miner_hotkey": miner(1), "uid": 1, "pass_rate": 0.75, "weight": 1.0}
    assert reply.json == {"winner_uid": 1, "miners": [weight]}
    assert b'"weight":1.0' in reply.body
    assert reply.header("X-Snapshot-Age") == "0"


def test_weights_serve_the_last_snapshot_with_its_age(client: Client, freeze: Freeze) -> None:
    judged(client, miner(1), 80, 60)
    tasks.rank({}, None)
    freeze(NOW + 86_400)
    reply = get(client, "/weights")

    assert (reply.json["winner_uid"], reply.header("X-Snapshot-Age")) == (1, "86400")


def test_69_a_winner_that_becomes_invalid_burns_and_keeps_its_rank(client: Client) -> None:
    judged(client, miner(1), 80, 60)
    judged(client, miner(2), 80, 10)
    tasks.rank({}, None)
    before = ranks(client)
    store.add_to_blacklist(miner(1), None, "admin")
    tasks.miners()

    assert ranks(client) == before
    found = get(client, "/weights").json
    assert (found["winner_uid"], [one["weight"] for one in found["miners"]]) == (0, [0.0, 0.0])
    assert [one["uid"] for one in found["miners"]] == [1, 2]


def test_69_a_winner_that_becomes_invalid_burns_whether_the_scorer_runs_or_died(client: Client) -> None:
    judged(client, miner(1), 80, 60)
    tasks.rank({}, None)
    store.add_to_blacklist(miner(1), None, "admin")
    store.table.put({"pk": "LOCK", "sk": "scorer", "owner": "crashed", "until": NOW + 600})
    tasks.miners()

    assert get(client, "/weights").json["winner_uid"] == 0


def test_69_weights_of_an_older_list_never_replace_a_newer_one(
    client: Client, freeze: Freeze, monkeypatch: pytest.MonkeyPatch
) -> None:
    judged(client, miner(1), 80, 60)
    tasks.rank({}, None)
    read = store.snapshot
    known = [store.snapshot("ranking")]
    freeze(NOW + 1)
    judged(client, miner(2), 80, 80)
    tasks.rank({}, None)
    newer = get(client, "/weights").json
    monkeypatch.setattr(store, "snapshot", lambda name: known.pop() if name == "ranking" and known else read(name))
    tasks.weigh()

    assert known == []
    assert get(client, "/weights").json == newer


def test_69_a_scorer_that_knew_the_miners_before_undoes_no_burn(
    client: Client, freeze: Freeze, monkeypatch: pytest.MonkeyPatch
) -> None:
    judged(client, miner(1), 80, 60)
    weigh = domain_views.weights

    def meanwhile(*given: Any) -> Any:
        monkeypatch.undo()
        freeze(NOW + 1)
        store.add_to_blacklist(miner(1), None, "admin")
        tasks.miners()
        return weigh(*given)

    monkeypatch.setattr(domain_views, "weights", meanwhile)
    tasks.rank({}, None)

    found = get(client, "/weights").json
    assert (found["winner_uid"], [one["miner_hotkey"] for one in found["miners"]]) == (0, [miner(1)])


def test_70_a_winner_with_uid_zero_looks_like_a_burn(client: Client) -> None:
    sync(
        subnet(0, neurons=(*subnet(0).neurons, neuron(0, miner(1), model=model())), commitments=subnet(1).commitments),
        1001,
    )
    judged(client, miner(1), 80, 60)
    tasks.rank({}, None)

    assert get(client, "/weights").json == {
        "winner_uid": 0,
        "miners": [{"miner_hotkey": miner(1), "uid": 0, "pass_rate": 0.75, "weight": 0.0}],
    }


def test_71_a_ranked_miner_that_left(client: Client) -> None:
    judged(client, miner(1), 80, 60)
    tasks.rank({}, None)
    state = subnet()
    sync(subnet(neurons=tuple(one for one in state.neurons if one.hotkey != miner(1))), block=1001)

    assert [one["uid"] for one in ranks(client)] == [None]
    assert get(client, "/weights").json["miners"][0]["uid"] == 0
    assert get(client, "/weights").json["winner_uid"] == 0


def test_72_the_only_eligible_miner_wins_without_a_single_pass(client: Client) -> None:
    judged(client, miner(1), 80, 0)
    tasks.rank({}, None)

    assert get(client, "/weights").json["winner_uid"] == 1


def test_a_later_rank_run_replaces_the_whole_list(client: Client) -> None:
    judged(client, miner(1), 80, 60)
    tasks.rank({}, None)
    publish(200)
    judged(client, miner(2), 80, 80, last=200)
    tasks.rank({}, None)

    assert [one["miner_hotkey"] for one in ranks(client)] == [miner(2)]


# --- 80, 81: scores


def test_80_plain_mean_and_pooled_rate_differ(client: Client) -> None:
    send(client, ALICE, [sample(task, miner(1), task <= 4) for task in range(1, 11)])
    send(client, ALICE, [sample(task, miner(2)) for task in (1, 2)])
    send(client, BOB, [sample(1, UNKNOWN)])
    tasks.rank({}, None)

    (summary,) = get(client, "/scores/validators").json
    assert summary == {
        "validator_hotkey": ALICE.hotkey,
        "total_samples": 12,
        "total_passed": 6,
        "avg_score": 0.7,
        "pass_rate": 0.5,
        "last_updated": "2027-01-15T08:00:00.250000+00:00",
    }
    assert get(client, "/scores/stats").json == {
        "total_validators": 1,
        "total_miners": 2,
        "total_samples": 13,
        "total_score_entries": 2,
        "overall_pass_rate": 0.5,
    }
    row = {"score": 0.4, "total_samples": 10, "total_passed": 4, "pass_rate": 0.4}
    about = get(client, f"/scores/miner/{miner(1)}").json
    assert about["by_validator"] == [
        {"validator_hotkey": ALICE.hotkey, "updated_at": "2027-01-15T08:00:00.250000+00:00"} | row
    ]
    assert get(client, "/scores").json["scores"][miner(1)] == about["aggregated"]
    assert about["aggregated"] == {
        "avg_score": 0.4,
        "total_samples": 10,
        "total_passed": 4,
        "pass_rate": 0.4,
        "validator_count": 1,
    }
    by = get(client, f"/scores/validator/{ALICE.hotkey}").json
    assert [one["miner_hotkey"] for one in by["scores"]] == sorted([miner(1), miner(2)])
    assert by["total_miners"] == 2


def test_81_scores_of_the_unknown_and_before_any(client: Client) -> None:
    zeros = {"avg_score": 0.0, "total_samples": 0, "total_passed": 0, "pass_rate": 0.0, "validator_count": 0}

    for _ in range(2):
        about = get(client, f"/scores/miner/{UNKNOWN}")
        assert (about.status, about.json["by_validator"], about.json["aggregated"]) == (200, [], zeros)
        nothing = {"validator_hotkey": UNKNOWN, "scores": [], "total_miners": 0}
        assert get(client, f"/scores/validator/{UNKNOWN}").json == nothing
        assert get(client, "/scores").json["scores"] == {}
        assert get(client, "/scores/validators").json == []
        assert set(get(client, "/scores/stats").json.values()) == {0}
        assert ranks(client) == []
        tasks.rank({}, None)
    assert {get(client, f"/scores/{kind}/xyz").status for kind in ("miner", "validator")} == {400}


def test_who_left_no_longer_scores_and_an_invalid_miner_neither(client: Client) -> None:
    vote(client, 5, {ALICE: True, BOB: False}, miner(1))
    vote(client, 5, {ALICE: True}, miner(2))
    store.add_to_blacklist(miner(2), None, "admin")
    sync(subnet(stakes={ALICE: 5000}), block=1001)
    tasks.scores()

    assert get(client, "/scores").json["total_validators"] == 1
    assert list(get(client, "/scores").json["scores"]) == [miner(1)]
    assert get(client, "/scores/stats").json["total_samples"] == 3


def test_without_a_valid_miner_the_old_scores_stay(client: Client) -> None:
    vote(client, 5, {ALICE: True}, miner(1))
    tasks.scores()
    before = get(client, "/scores").json
    for number in (1, 2, 3):
        store.add_to_blacklist(miner(number), None, "admin")
    tasks.miners()
    vote(client, 6, {ALICE: True}, miner(1))
    tasks.scores()

    assert get(client, "/scores").json == before
    stats = get(client, "/scores/stats").json
    assert (stats["total_samples"], stats["total_score_entries"], stats["overall_pass_rate"]) == (2, 1, 1.0)


def test_samples_are_counted_before_anybody_is_valid(client: Client) -> None:
    sync(subnet(commitments=()), block=1001)
    store.table.delete("SNAP", "miners")
    vote(client, 5, {ALICE: True}, miner(1))
    tasks.scores()

    nothing = {"total_validators": 0, "total_miners": 0, "total_score_entries": 0, "overall_pass_rate": 0.0}
    assert get(client, "/scores/stats").json == nothing | {"total_samples": 1}


# --- 86: one scorer


def test_86_a_second_scorer_does_nothing_while_the_first_runs(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    runs: list[str] = []

    def rank() -> int:
        runs.append("ran")
        return 0

    monkeypatch.setattr(tasks, "_rank", rank)
    with store_jobs.lock("scorer", 60) as alone:
        assert alone
        tasks.ranks()
        assert runs == []
    tasks.ranks()
    assert len(runs) == 1


def test_86_a_crashed_scorer_blocks_nobody_for_ever(client: Client, freeze: Freeze) -> None:
    store.table.put({"pk": "LOCK", "sk": "scorer", "owner": "crashed", "until": NOW + 600})
    freeze(NOW + 601)
    judged(client, miner(1), 80, 60)
    tasks.ranks()

    assert len(ranks(client)) == 1


def test_agreement_is_the_share_of_votes_on_valid_miners_that_the_verdict_confirmed(client: Client) -> None:
    vote(client, 5, {ALICE: True, BOB: False, CAROL: True}, miner(1))
    vote(client, 6, {ALICE: False, BOB: False}, miner(1))
    vote(client, 6, {BOB: True}, UNKNOWN)
    tasks.scores()

    found = {one["validator_hotkey"]: (one["votes"], one["agreement"]) for one in get(client, "/scores/agreement").json}
    assert found == {ALICE.hotkey: (2, 1.0), BOB.hotkey: (2, 0.5), CAROL.hotkey: (1, 1.0)}
