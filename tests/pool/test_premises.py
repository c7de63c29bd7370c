"""What was decided on no longer stands: every write repeats its premise, and the loser changes nothing."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from chalicelib.kernel.errors import Conflict, Contended, Unauthenticated
from chalicelib.pool import consensus, domain, genome, store, store_claims, store_results, store_work, tasks
from chalicelib.pool.contracts import Claim, PoolSettings
from chalicelib.pool.contracts_records import Algorithm, Assignment, Candidate, Credit, Discovery, Outcome, Seed, Vote
from tests.harness.wallets import Wallet, wallet
from tests.pool.test_claims import ALICE, publish
from tests.pool.world import NOW, TASK, Pool, program

SECONDS = 60


def candidate(number: int) -> Candidate:
    return next(work for work in store_work.board(TASK).candidates if work.id == number)


def handed(signer: Wallet, name: str, *works: Candidate, kind: str = "evaluate", at: float = NOW) -> Assignment:
    return Assignment(
        name, kind, signer.hotkey, "ACTIVE", TASK, 16, 0, at, at + SECONDS,
        candidate_ids=tuple(work.id for work in works),
    )  # fmt: skip


def take(signer: Wallet, name: str, *works: Candidate, kind: str = "evaluate", at: float = NOW) -> Assignment:
    """Hand out what somebody saw free."""
    found = handed(signer, name, *works, kind=kind, at=at)
    places = [(work, domain.instead_of(work, signer.hotkey, at)) for work in works]
    store_work.issue(store.miner(signer.hotkey), found, places, None)
    return found


def free(signer: Wallet) -> None:
    store.table.update(f"MINER#{signer.hotkey}", "META", "REMOVE #active")


def vote(signer: Wallet, work: Candidate | Seed, score: float = 0.9) -> Outcome:
    return consensus.outcome(work, Vote(signer.hotkey, signer.hotkey, score, NOW, 0), NOW, PoolSettings.current())


def found_program(author: Wallet, number: int, text: str) -> Discovery:
    fingerprint = genome.parse(text, 16).fingerprint(TASK, 16)
    key = author.hotkey
    return Discovery(Algorithm(number, TASK, 16, key, key, "lease", (), fingerprint, 0, NOW, 0.5), text)


def judged(pool: Pool) -> tuple[int, list[Wallet]]:
    """A program that three judges agreed on."""
    author, *judges = pool.register("author", "b", "c", "d")
    number = pool.candidate(author)
    pool.complete(number, judges)
    return number, judges


# ---- handing out


def test_who_seemed_free_and_is_not_gets_nothing(pool: Pool) -> None:
    (a,) = pool.register("a")
    seemed = store.miner(a.hotkey)
    store_work.issue(seemed, handed(a, "first"), [], None)

    with pytest.raises(Contended):
        store_work.issue(seemed, handed(a, "second"), [], None)
    assert store_work.assignment("second") is None


def test_a_window_s_lease_is_one_whatever_was_read_before(pool: Pool) -> None:
    (a,) = pool.register("a")
    seemed = store.miner(a.hotkey)
    take(a, "first", kind="lease")
    free(a)

    with pytest.raises(Contended):
        store_work.issue(seemed, handed(a, "second", kind="lease"), [], None)


def test_a_place_that_seemed_free_is_taken_once(pool: Pool) -> None:
    author, b, c, d, e = pool.register("author", "b", "c", "d", "e")
    seemed = candidate(pool.candidate(author))
    for judge in (b, c, d):
        take(judge, judge.hotkey, seemed)

    with pytest.raises(Contended):
        take(e, "late", seemed)
    assert candidate(seemed.id).slots_open == 0


def test_nobody_holds_two_places_at_one_program(pool: Pool) -> None:
    author, b = pool.register("author", "b")
    seemed = candidate(pool.candidate(author))
    take(b, "first", seemed)
    free(b)

    with pytest.raises(Contended):
        take(b, "second", seemed)
    assert candidate(seemed.id).slots_open == 2


def test_an_expired_place_is_taken_over_once(pool: Pool) -> None:
    author, b, c, d, e, f = pool.register("author", "b", "c", "d", "e", "f")
    number = pool.candidate(author)
    for judge in (b, c, d):
        take(judge, judge.hotkey, candidate(number))
    seemed, later = candidate(number), NOW + SECONDS
    take(e, "first", seemed, at=later)

    with pytest.raises(Contended):
        take(f, "second", seemed, at=later)
    assert e.hotkey in candidate(number).holders


# ---- handing in


def submitted(
    pool: Pool, score: float = 0.9, *, text: str = "", number: int = 0
) -> tuple[Wallet, Assignment, list[Outcome], Discovery | None]:
    """A judge's finished batch, decided and not yet written."""
    author, b = pool.register("author", "b")
    found = take(b, "batch", candidate(pool.candidate(author)))
    work = candidate(found.candidate_ids[0])
    return b, found, [vote(b, work, score)], found_program(b, number, text) if text else None


def hand_in(signer: Wallet, found: Assignment, outcomes: list[Outcome], now: float = NOW, **more: Any) -> None:
    store_work.complete(store.miner(signer.hotkey), found, outcomes, now, **more)


def test_an_assignment_that_ended_meanwhile_takes_nothing(pool: Pool) -> None:
    b, found, outcomes, _ = submitted(pool)
    store.table.update("ASSIGN#batch", "META", "SET #status = :expired", expired="EXPIRED")

    with pytest.raises(Contended):
        hand_in(b, found, outcomes)
    assert candidate(found.candidate_ids[0]).votes == ()


def test_what_is_past_its_time_is_past_it_in_the_write_too(pool: Pool) -> None:
    b, found, outcomes, _ = submitted(pool)

    with pytest.raises(Contended):
        hand_in(b, found, outcomes, NOW + SECONDS)


def test_whoever_holds_another_assignment_by_now_keeps_it(pool: Pool) -> None:
    b, found, outcomes, _ = submitted(pool)
    free(b)
    take(b, "another")

    with pytest.raises(Contended):
        hand_in(b, found, outcomes)
    active = store.miner(b.hotkey).active
    assert active is not None
    assert active["id"] == "another"


def test_a_place_that_somebody_took_over_gives_no_vote(pool: Pool) -> None:
    b, found, outcomes, _ = submitted(pool)
    key = f"WORK#{TASK}", f"C#{found.candidate_ids[0]:012d}"
    taken = {"assignment": "another", "until": NOW}
    store.table.update(*key, f"SET #holders.#{b.hotkey} = :taken", taken=taken)

    with pytest.raises(Contended):
        hand_in(b, found, outcomes)
    with pytest.raises(Contended):
        hand_in(b, found, [], unused=list(found.candidate_ids))
    assert candidate(found.candidate_ids[0]).holders[b.hotkey]["assignment"] == "another"


@pytest.mark.parametrize("decides", [False, True])
def test_a_vote_is_counted_on_top_of_those_that_it_saw(pool: Pool, configure: Any, *, decides: bool) -> None:
    configure(CONSENSUS_K="2")
    author, b, c = pool.register("author", "b", "c")
    number = pool.candidate(author)
    batches = [take(judge, judge.hotkey, candidate(number)) for judge in (b, c)]
    if decides:
        hand_in(b, batches[0], [vote(b, candidate(number))])
    seen = candidate(number)
    store.table.update(f"WORK#{TASK}", f"C#{number:012d}", "SET #votes_n = :more", more=len(seen.votes) + 1)

    with pytest.raises(Contended):
        hand_in(c, batches[1], [vote(c, seen)])
    assert candidate(number).votes == seen.votes


def test_two_finders_of_one_program_cannot_both_be_first(pool: Pool) -> None:
    b, found, outcomes, first = submitted(pool, text=program(77), number=900)
    (c,) = pool.register("c")
    other = take(c, "other")
    hand_in(b, found, outcomes, discovery=first, slots=3)

    with pytest.raises(Contended):
        hand_in(c, other, [], discovery=found_program(c, 901, program(77)), slots=3)


def test_a_seed_s_vote_is_counted_on_top_of_those_that_it_saw(pool: Pool) -> None:
    b, c = pool.register("b", "c")
    seed = store_work.board(TASK).seeds[0]
    for judge, fails in ((b, False), (c, True)):
        found = take(judge, judge.hotkey)
        if fails:
            with pytest.raises(Contended):
                hand_in(judge, found, [vote(judge, seed)])
        else:
            hand_in(judge, found, [vote(judge, seed)])
    assert len(store_work.board(TASK).seeds[0].votes) == 1


def test_a_signature_that_was_spent_meanwhile_is_told(pool: Pool) -> None:
    a, b = pool.register("a", "b")
    guard = store.spending("token", expires_at=NOW + 600)
    store_work.issue(store.miner(a.hotkey), handed(a, "one"), [], guard)

    with pytest.raises(Unauthenticated, match="Signature already used"):
        store_work.issue(store.miner(b.hotkey), handed(b, "two"), [], guard)


# ---- expiry, credits


def test_what_was_handed_in_meanwhile_does_not_expire(pool: Pool, freeze: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    b, found, outcomes, _ = submitted(pool)
    seen = store_work.assignment("batch")
    hand_in(b, found, outcomes)
    monkeypatch.setattr(store_work, "assignment", lambda _: seen)

    with pytest.raises(Contended):
        store_work.expire("batch", NOW + SECONDS)


def test_the_end_of_an_old_assignment_does_not_end_the_next(pool: Pool, monkeypatch: pytest.MonkeyPatch) -> None:
    (b,) = pool.register("b")
    take(b, "old")
    seen = store.miner(b.hotkey)
    take(b, "new", at=NOW + SECONDS)
    monkeypatch.setattr(store_work, "miner", lambda _: seen)

    with pytest.raises(Contended):
        store_work.expire("old", NOW + SECONDS)
    active = store.miner(b.hotkey).active
    assert active is not None
    assert active["id"] == "new"


def test_an_assignment_does_not_expire_before_its_time(pool: Pool) -> None:
    (b,) = pool.register("b")
    take(b, "batch")

    assert not store_work.expire("batch", NOW + SECONDS - 1)
    assert store_work.expire("batch", NOW + SECONDS)


def test_a_credit_is_paid_once_and_on_top_of_what_stood(pool: Pool) -> None:
    (b,) = pool.register("b")
    before = store.miner(b.hotkey)
    first, second = (Credit(number, b.hotkey, "evaluator", 5, 0, agrees=True, judged=True) for number in (1, 2))
    store_work.pay(first, before, consensus.credited(before, first), NOW)
    store_work.pay(first, store.miner(b.hotkey), consensus.credited(store.miner(b.hotkey), first), NOW)

    with pytest.raises(Contended):
        store_work.pay(second, before, consensus.credited(before, second), NOW)
    assert store.miner(b.hotkey).reputation == 5


# ---- miners, results, claims


def test_a_miner_registers_once_whoever_thought_it_new(pool: Pool) -> None:
    stranger = store.miner(wallet("new").hotkey)
    store.register(stranger, NOW, None)

    with pytest.raises(Contended):
        store.register(stranger, NOW + 1, None)
    assert pool.stats(wallet("new"))["pool"]["total_miners"] == 1


def test_an_older_recipient_update_loses_in_the_write(pool: Pool) -> None:
    store.set_recipient(ALICE, ALICE, NOW, NOW)

    for timestamp in (NOW - 1, NOW):
        with pytest.raises(Conflict, match="Stale"):
            store.set_recipient(ALICE, wallet("thief").hotkey, timestamp, NOW)
    assert store.miner(ALICE).recipient == ALICE


def test_an_older_leaderboard_never_replaces_a_newer(pool: Pool) -> None:
    store.refresh_leaderboard(NOW)
    store.refresh_leaderboard(NOW - 1)

    assert store.leaderboard()[0]["at"] == NOW


def test_a_result_is_verified_once_and_against_the_state_of_the_art_that_it_saw(pool: Pool) -> None:
    number, (b, c, _) = judged(pool)
    algorithm, text, state, _ = store_results.program(number)
    assert algorithm is not None
    assert state is not None
    credit = Credit(number, algorithm.author, "evolver", 0, 0)

    def verify(signer: Wallet) -> None:
        caller = store.miner(signer.hotkey)
        store_results.verify(algorithm, text, state, caller, now=NOW, sota=(None, None), credit=credit, guard=None)

    store.table.put({"pk": "SOTA", "sk": TASK, "result_id": 5})
    with pytest.raises(Contended):
        verify(b)
    store.table.delete("SOTA", TASK)
    verify(b)
    with pytest.raises(Contended):
        verify(c)


def test_a_claim_is_paid_once_whatever_was_read_before(pool: Pool) -> None:
    publish()
    found, _ = store_claims.standing(1144)
    assert found is not None
    body = Claim(index=0, hotkey=ALICE, recipient_coldkey=ALICE, amount_units=1, proof=[])
    store_claims.claim(found, body, NOW)

    with pytest.raises(Conflict, match="Already claimed"):
        store_claims.claim(found, body, NOW)


def test_an_epoch_and_what_a_window_pays_are_those_of_the_first(pool: Pool) -> None:
    publish()
    found = store_claims.epoch(1144)
    assert found is not None

    assert store_claims.publish(replace(found, root="00" * 32), "s", "m") is False
    assert store_claims.freeze(3, {"root": "first"}) == {"root": "first"}
    assert store_claims.freeze(3, {"root": "second"}) == {"root": "first"}
    assert tasks.prepare_epoch({"window": 1144}, None)["nothing"] is True
