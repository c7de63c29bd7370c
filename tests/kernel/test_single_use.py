"""Nonces and signatures that count once: by our own clock, per kind, and never used up by a refused request."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from chalicelib.kernel import single_use, tables
from chalicelib.kernel.tables import ConditionFailed, Table
from tests.harness.faults import answer_lost, script, trouble
from tests.harness.race import all_at_once
from tests.harness.scale import scaled

NOW = 1_700_000_000.0
TABLE = Table("leoma")

Freeze = Callable[[float], None]
pytestmark = pytest.mark.usefixtures("cloud")


@pytest.fixture(autouse=True)
def _clock(freeze: Freeze) -> None:
    freeze(NOW)


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
