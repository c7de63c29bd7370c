"""Limits, single use and tokens: exactly as many as allowed, once, and only for who has the token."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from chalicelib.kernel import limits, single_use, tables, tokens
from chalicelib.kernel.limits import Limit
from chalicelib.kernel.tables import ConditionFailed, Table
from tests.harness.faults import answer_lost, script, trouble
from tests.harness.race import all_at_once
from tests.harness.scale import scaled

NOW = 1_700_000_000.0
TABLE = Table("leoma")
FIVE = Limit(5, 5)

Freeze = Callable[[float], None]
pytestmark = pytest.mark.usefixtures("cloud")


@pytest.fixture(autouse=True)
def _clock(freeze: Freeze) -> None:
    freeze(NOW)


@pytest.mark.parametrize("seed", range(scaled(3)))
def test_of_a_hundred_at_once_exactly_the_burst_passes(seed: int) -> None:
    waits = all_at_once([lambda: limits.wait_before(TABLE, f"b{seed}", FIVE)] * 100)
    assert sorted(waits)[:5] == [0.0] * 5
    assert sorted(waits)[5:] == pytest.approx([1.0] * 95)


def test_the_wait_is_the_true_one(freeze: Freeze) -> None:
    for _ in range(5):
        assert limits.wait_before(TABLE, "b", FIVE) == 0.0
    freeze(NOW + 0.25)
    wait = limits.wait_before(TABLE, "b", FIVE)
    assert wait == pytest.approx(0.75)
    freeze(NOW + 0.25 + wait - 0.01)
    assert limits.wait_before(TABLE, "b", FIVE) > 0
    freeze(NOW + 0.25 + wait)
    assert limits.wait_before(TABLE, "b", FIVE) == 0.0
    assert limits.wait_before(TABLE, "b", FIVE) == pytest.approx(1.0)


@given(st.integers(1, 12), st.sampled_from([0.1, 1.0, 7.0, 60.0, 3600.0, 604800.0]), st.floats(0, 1000))
@example(3, 1.0, 0.123456)
@example(7, 0.1, 999.9999)
@settings(max_examples=scaled(40), deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_bucket_holds_its_count_whatever_the_numbers(
    freeze: Freeze, count: int, seconds: float, offset: float
) -> None:
    freeze(NOW + offset)
    TABLE.delete("LIMIT#b", "-")
    waits = [limits.wait_before(TABLE, "b", Limit(count, seconds)) for _ in range(count + 1)]
    assert waits[:-1] == [0.0] * count
    assert waits[-1] == pytest.approx(seconds / count, rel=1e-3)


def test_buckets_are_apart_and_an_empty_one_fills_again(freeze: Freeze) -> None:
    assert limits.wait_before(TABLE, "a", Limit(1, 10)) == 0.0
    assert limits.wait_before(TABLE, "b", Limit(1, 10)) == 0.0
    assert limits.wait_before(TABLE, "a", Limit(1, 10)) == pytest.approx(10.0)
    freeze(NOW + 10)
    assert limits.wait_before(TABLE, "a", Limit(1, 10)) == 0.0


def test_a_lost_answer_costs_one_place_only() -> None:
    with trouble(script({1: answer_lost()})):
        assert limits.wait_before(TABLE, "b", FIVE) == 0.0
    assert [limits.wait_before(TABLE, "b", FIVE) for _ in range(5)] == pytest.approx([0.0] * 4 + [1.0])


@pytest.mark.parametrize("seed", range(scaled(3)))
def test_a_token_is_consumed_by_one_of_a_hundred(seed: int) -> None:
    taken = all_at_once([lambda: single_use.consume(TABLE, "NONCE", f"n{seed}", expires_at=NOW + 60)] * 100)
    assert taken.count(True) == 1


def test_a_token_is_free_again_only_after_its_time_by_our_clock_not_by_ttl_s(freeze: Freeze) -> None:
    assert single_use.consume(TABLE, "NONCE", "n", expires_at=NOW + 60)
    freeze(NOW + 60)
    assert not single_use.consume(TABLE, "NONCE", "n", expires_at=NOW + 120)
    freeze(NOW + 60.001)
    assert single_use.consume(TABLE, "NONCE", "n", expires_at=NOW + 120)


def test_kinds_and_tokens_are_apart() -> None:
    assert single_use.consume(TABLE, "NONCE", "a#b", expires_at=NOW + 60)
    assert single_use.consume(TABLE, "SIG", "a#b", expires_at=NOW + 60)
    assert single_use.consume(TABLE, "NONCE", "a", expires_at=NOW + 60)


def test_the_same_use_is_a_retry_and_another_use_is_a_replay() -> None:
    assert single_use.consume(TABLE, "SIG", "s", expires_at=NOW + 60, use="POST /a")
    assert single_use.consume(TABLE, "SIG", "s", expires_at=NOW + 60, use="POST /a")
    assert not single_use.consume(TABLE, "SIG", "s", expires_at=NOW + 60, use="POST /b")
    assert not single_use.consume(TABLE, "SIG", "s", expires_at=NOW + 60)


def test_a_lost_answer_does_not_use_a_token_up() -> None:
    with trouble(script({1: answer_lost()})):
        assert single_use.consume(TABLE, "NONCE", "n", expires_at=NOW + 60)
    assert not single_use.consume(TABLE, "NONCE", "n", expires_at=NOW + 60)


def test_a_token_inside_a_refused_transaction_stays_free() -> None:
    TABLE.put({"pk": "taken", "sk": "-"})

    def attempt(pk: str) -> None:
        consuming = single_use.consuming(TABLE, "NONCE", "n", expires_at=NOW + 60)
        tables.transact([consuming, TABLE.putting_new({"pk": pk, "sk": "-"})])

    with pytest.raises(ConditionFailed):
        attempt("taken")
    attempt("free")
    with pytest.raises(ConditionFailed):
        attempt("free-too")


@pytest.mark.parametrize(
    ("header", "token"),
    [
        ("Bearer abc", "abc"),
        ("bearer   abc", "abc"),
        ("BEARER a.b-c_d~e+f/=", "a.b-c_d~e+f/="),
        ("Bearer", None),
        ("Bearer ", None),
        ("Bearer a b", None),
        (" Bearer a", None),
        ("Bearer a ", None),
        ("Basic abc", None),
        ("", None),
        (None, None),
    ],
)
def test_a_bearer_header_has_one_form(header: str | None, token: str | None) -> None:
    assert tokens.bearer(header) == token


@pytest.mark.parametrize(
    ("token", "accepted", "result"),
    [
        ("a", ["a"], True),
        ("b", ["a", "b"], True),
        ("c", ["a", "b"], False),
        ("a", [], False),
        ("", [""], False),
        (None, [""], False),
        (None, [], False),
        ("ü\udcff", ["ü\udcff"], True),
        ("A", ["a"], False),
    ],
)
def test_a_token_counts_only_where_one_is_configured(token: str | None, accepted: list[str], result: object) -> None:
    assert tokens.is_one_of(token, accepted) is result


def test_every_candidate_is_compared_in_constant_time_whatever_matched(monkeypatch: pytest.MonkeyPatch) -> None:
    compared: list[str] = []

    def noting(_given: str, candidate: str) -> bool:
        compared.append(candidate)
        return True

    monkeypatch.setattr("hmac.compare_digest", noting)
    assert tokens.is_one_of("a", ["a", "b", "c"])
    assert compared == [tokens.digest(candidate) for candidate in "abc"]
