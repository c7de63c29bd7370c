"""DynamoDB access: every failure has one of three meanings, and no write happens twice or half."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import pytest

from chalicelib.kernel import aws, tables
from chalicelib.kernel.errors import Contended, Unavailable
from chalicelib.kernel.tables import ConditionFailed, Table, get_many, transact, until_decided
from local.gateway import SECONDS_TO_ANSWER
from tests.harness.crash import tables as raw_tables
from tests.harness.faults import Fault, always, answer_lost, at_random, cancelled, never_sent, refused, script, trouble
from tests.harness.race import all_at_once
from tests.harness.scale import scaled

pytestmark = pytest.mark.usefixtures("cloud")

TABLE = Table("leoma")
OTHER = Table("pool")
PASSING = [
    refused("ThrottlingException"),
    refused("ProvisionedThroughputExceededException"),
    refused("RequestLimitExceeded"),
    refused("InternalServerError"),
    refused("ServiceUnavailable"),
    never_sent(),
    answer_lost(),
]
PASSING_IDS = ["throttled", "over-capacity", "request-limit", "internal", "unavailable", "reset", "answer-lost"]


def put_new() -> None:
    TABLE.put_new({"pk": "a", "sk": "1", "n": 1})


def bump() -> int:
    return int(TABLE.update("counter", "-", "ADD #n :one", one=1)["n"])


def bump_below(limit: int) -> None:
    TABLE.update("counter", "-", "SET #n = #n + :one", when="#n < :limit", one=1, limit=limit)


def move() -> None:
    transact(
        [
            TABLE.updating("counter", "-", "ADD #n :one", one=1),
            OTHER.putting_new({"pk": "moved", "sk": "-"}),
        ]
    )


def read() -> Any:
    return TABLE.get("a", "1")


ACCESSES: dict[str, Callable[[], Any]] = {
    "get": read,
    "get_many": lambda: get_many([(TABLE, "a", "1"), (OTHER, "a", "1")]),
    "query": lambda: TABLE.query("a"),
    "put": lambda: TABLE.put({"pk": "a", "sk": "1"}),
    "put_new": put_new,
    "update": bump,
    "delete": lambda: TABLE.delete("a", "1"),
    "put_many": lambda: TABLE.put_many([{"pk": "a", "sk": "1"}]),
    "delete_many": lambda: TABLE.delete_many([("a", "1")]),
    "transact": move,
}


@pytest.mark.parametrize("access", ACCESSES.values(), ids=ACCESSES)
@pytest.mark.parametrize("fault", PASSING, ids=PASSING_IDS)
def test_trouble_that_passes_is_not_felt(access: Callable[[], Any], fault: Fault) -> None:
    if access is move and fault.applied:
        pytest.skip("the emulator does not know transaction tokens; see the token test")
    with trouble(script({1: fault, 2: fault})) as happened:
        access()
    assert len(happened.calls) in ({2, 3} if fault.applied else {3})


@pytest.mark.parametrize("access", ACCESSES.values(), ids=ACCESSES)
@pytest.mark.parametrize("fault", PASSING[:-1], ids=PASSING_IDS[:-1])
def test_trouble_that_stays_is_unavailable_with_a_time_to_come_back(access: Callable[[], Any], fault: Fault) -> None:
    with trouble(always(fault)) as happened, pytest.raises(Unavailable) as told:
        access()
    assert (len(happened.calls), told.value.retry_after, told.value.code) == (tables.TRIES, 1, "store_busy")
    assert sum(happened.naps) <= 1.5


def test_a_store_that_hangs_is_given_up_while_the_caller_still_waits() -> None:
    naps = sum(tables._BACKOFF_SECONDS * 2**failures for failures in range(1, tables.TRIES))
    wait: float = aws.client("dynamodb").meta.config.read_timeout

    assert tables.TRIES * wait + naps < SECONDS_TO_ANSWER


def test_a_lost_answer_of_put_new_is_success_not_a_conflict() -> None:
    with trouble(script({1: answer_lost()})):
        put_new()
    assert TABLE.get("a", "1") == {"pk": "a", "sk": "1", "n": 1}


def test_a_lost_answer_of_a_competitor_s_put_is_still_a_conflict() -> None:
    put_new()
    with trouble(script({1: never_sent()})), pytest.raises(ConditionFailed) as told:
        put_new()
    assert told.value.old == {"pk": "a", "sk": "1", "n": 1}


@pytest.mark.parametrize("fault", [answer_lost(), Fault(refused("InternalServerError").error, applied=True)])
def test_a_counter_counts_once_when_the_answer_is_lost(fault: Fault) -> None:
    with trouble(script({1: fault, 2: never_sent()})):
        assert bump() == 1
    assert bump() == 2


def test_a_guarded_update_counts_once_when_the_answer_is_lost() -> None:
    TABLE.put({"pk": "counter", "sk": "-", "n": 4})
    with trouble(script({1: answer_lost()})):
        bump_below(5)
    assert TABLE.get("counter", "-") == {"pk": "counter", "sk": "-", "n": 5}
    with pytest.raises(ConditionFailed):
        bump_below(5)


def test_a_retried_transaction_repeats_its_token_and_two_transactions_do_not() -> None:
    with trouble(script({1: never_sent()})) as first:
        move()
    OTHER.delete("moved", "-")
    with trouble(script({})) as second:
        move()
    tokens = [request["ClientRequestToken"] for _, request in (*first.calls, *second.calls)]
    assert tokens[0] == tokens[1] != tokens[2]


def test_a_deletion_whose_answer_was_lost_is_never_told_as_a_second_success() -> None:
    TABLE.put({"pk": "a", "sk": "1"})
    with trouble(script({1: answer_lost()})), pytest.raises(ConditionFailed):
        TABLE.delete("a", "1", when="attribute_exists(#pk)")


@pytest.mark.parametrize(
    ("reasons", "meaning"),
    [
        (["None", "ConditionalCheckFailed"], ConditionFailed),
        (["TransactionConflict", "ConditionalCheckFailed"], ConditionFailed),
        (["ThrottlingError", "ConditionalCheckFailed"], ConditionFailed),
        (["None", "ValidationError"], RuntimeError),
        (["ItemCollectionSizeLimitExceeded", "ThrottlingError"], RuntimeError),
    ],
)
def test_a_cancelled_transaction_means_its_strongest_reason(reasons: list[str], meaning: type[Exception]) -> None:
    with trouble(always(cancelled(*reasons))) as happened, pytest.raises(meaning):
        move()
    assert len(happened.calls) == 1


@pytest.mark.parametrize("reasons", [["None", "ThrottlingError"], ["ProvisionedThroughputExceeded"] * 2, []])
def test_a_transaction_cancelled_for_lack_of_capacity_is_tried_again(reasons: list[str]) -> None:
    with trouble(script({1: cancelled(*reasons)})) as happened:
        move()
    assert len(happened.calls) == 2


@pytest.mark.parametrize(
    "conflict",
    [
        cancelled("None", "TransactionConflict"),
        cancelled("TransactionConflict", "ThrottlingError"),
        refused("TransactionConflictException"),
    ],
)
def test_a_conflict_is_waited_out_longer_than_trouble(conflict: Fault) -> None:
    with trouble(script(dict.fromkeys(range(1, 31), conflict))) as happened:
        move()
    assert len(happened.calls) == 31
    with trouble(always(conflict)), pytest.raises(Unavailable):
        bump()


def test_the_failed_writes_of_a_transaction_are_told_with_what_stands_there() -> None:
    OTHER.put({"pk": "moved", "sk": "-", "by": "somebody"})
    with pytest.raises(ConditionFailed) as told:
        move()
    assert told.value.failed == {1: {"pk": "moved", "sk": "-", "by": "somebody"}}
    assert TABLE.get("counter", "-") is None


def test_an_error_of_ours_is_neither_retried_nor_dressed_up() -> None:
    with trouble(always(refused("ValidationException"))) as happened, pytest.raises(RuntimeError, match="Validation"):
        put_new()
    assert len(happened.calls) == 1


def test_the_mark_never_leaves_the_module() -> None:
    put_new()
    updated = TABLE.update("a", "1", "SET #n = :n", n=2)
    queried = TABLE.query("a").items
    with pytest.raises(ConditionFailed) as told:
        put_new()
    seen = [updated, queried[0], TABLE.get("a", "1"), get_many([(TABLE, "a", "1")])[0], told.value.old]
    assert seen == [{"pk": "a", "sk": "1", "n": 2}] * 5
    assert TABLE.delete("a", "1") == {"pk": "a", "sk": "1", "n": 2}


@pytest.mark.parametrize(
    ("condition", "sent"),
    [
        ("#n < :one", "(#n < :one) AND ("),
        ("(#n < :one OR #n > :one)", "(#n < :one OR #n > :one) AND ("),
        ("(#n < :one) OR (#n > :one)", "((#n < :one) OR (#n > :one)) AND ("),
        ("attribute_exists(#n)", "(attribute_exists(#n)) AND ("),
    ],
)
def test_a_condition_is_put_in_parentheses_once(condition: str, sent: str) -> None:
    """DynamoDB refuses `((…)) AND …`; the emulator of these tests does not."""
    TABLE.put({"pk": "a", "sk": "1", "n": 0})
    with trouble(script({})) as happened:
        TABLE.update("a", "1", "SET #m = :one", when=condition, one=1)
    assert happened.calls[0][1]["ConditionExpression"].startswith(sent)


def test_an_update_that_names_an_attribute_like_a_keyword_is_left_alone() -> None:
    TABLE.put({"pk": "a", "sk": "1", "OFFSET": 1})
    assert TABLE.update("a", "1", "REMOVE #gone SET #OFFSET = :two", two=2) == {"pk": "a", "sk": "1", "OFFSET": 2}


def test_many_items_come_in_the_order_asked_for_missing_and_repeated_ones_included() -> None:
    TABLE.put_many({"pk": "many", "sk": f"{number:03d}"} for number in range(130))
    wanted = [(TABLE, "many", f"{number:03d}") for number in (129, 0, 500, 0, *range(1, 128))]
    found = get_many(wanted)
    assert [item and item["sk"] for item in found[:4]] == ["129", "000", None, "000"]
    assert len(found) == len(wanted)


def test_items_that_a_batch_left_over_are_asked_for_again() -> None:
    TABLE.put_many({"pk": "many", "sk": str(number)} for number in range(3))
    real = aws.client("dynamodb").batch_get_item
    left_over = {"count": 0}

    def stingy(**request: Any) -> Any:
        left_over["count"] += 1
        if left_over["count"] > 1:
            return real(**request)
        ((name, wanted),) = request["RequestItems"].items()
        first = real(RequestItems={name: wanted | {"Keys": wanted["Keys"][:1]}})
        return first | {"UnprocessedKeys": {name: wanted | {"Keys": wanted["Keys"][1:]}}}

    with trouble(script({})), pytest.MonkeyPatch.context() as patch:
        patch.setattr(aws, "client", lambda _service: type("Stingy", (), {"batch_get_item": staticmethod(stingy)}))
        found = get_many([(TABLE, "many", str(number)) for number in range(3)])
    assert [item and item["sk"] for item in found] == ["0", "1", "2"]


@pytest.mark.parametrize("access", ["get_many", "put_many", "delete_many"])
def test_a_batch_that_never_gets_done_is_unavailable(access: str) -> None:
    def nothing(**request: Any) -> Any:
        return {
            "Responses": {},
            "UnprocessedKeys": request["RequestItems"],
            "UnprocessedItems": request["RequestItems"],
        }

    full = type("Full", (), {"batch_get_item": staticmethod(nothing), "batch_write_item": staticmethod(nothing)})
    with trouble(script({})), pytest.MonkeyPatch.context() as patch:
        patch.setattr(aws, "client", lambda _service: full)
        with pytest.raises(Unavailable):
            ACCESSES[access]()


def test_a_query_walks_its_pages_and_projects_what_is_asked_for() -> None:
    TABLE.put_many({"pk": "q", "sk": f"{number}", "n": number, "long": "x" * 100} for number in range(7))
    first = TABLE.query("q", limit=3, descending=True, fields=("sk",))
    rest = TABLE.query("q", limit=9, descending=True, start=first.next_key)
    assert first.items == [{"sk": "6"}, {"sk": "5"}, {"sk": "4"}]
    assert [item["n"] for item in rest.items] == [3, 2, 1, 0]
    between = TABLE.query("q", where="#sk BETWEEN :low AND :high", values={"low": "2", "high": "4"})
    assert [item["sk"] for item in between.items] == ["2", "3", "4"]
    assert len(list(TABLE.query_all("q", limit=2))) == 7


def test_fifty_callers_of_one_item_all_get_an_answer_and_each_counts_once() -> None:
    """Read, decide, write with the premise; whoever loses decides again, and knows its own effect."""
    TABLE.put({"pk": "places", "sk": "-", "taken": []})

    def decide(caller: str) -> int:
        taken = (TABLE.get("places", "-") or {})["taken"]
        if caller in taken:
            return int(taken.index(caller))
        try:
            TABLE.update("places", "-", "SET #taken = :next", when="#taken = :held", next=[*taken, caller], held=taken)
        except ConditionFailed:
            raise Contended from None
        return len(taken)

    def take(caller: str) -> int:
        return until_decided(lambda: decide(caller))

    with trouble(at_random(7, 0.02), sleeping=True):
        answers = all_at_once([functools.partial(take, f"caller {number}") for number in range(50)])
    assert sorted(answers) == list(range(50))


def test_who_never_wins_is_told_to_come_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tables, "_CONTENTION_SECONDS", 0.05)

    def loses() -> None:
        raise Contended

    with pytest.raises(Unavailable):
        until_decided(loses)


@pytest.mark.parametrize("seed", range(scaled(20)))
def test_random_trouble_never_doubles_or_drops_an_acknowledged_write(seed: int) -> None:
    acknowledged = 0
    TABLE.put({"pk": "counter", "sk": "-", "n": 0})
    with trouble(at_random(seed, 0.3)):
        for number in range(20):
            try:
                bump()
                TABLE.put_new({"pk": "new", "sk": str(number)})
            except Unavailable:
                continue
            acknowledged += 1
    world = raw_tables("leoma")
    written = sum(key.startswith("leoma: new") for key in world)
    assert acknowledged <= written
    assert written <= world["leoma: counter / -"]["n"] <= 20


@pytest.mark.parametrize(("pk", "sk"), [("a" * 2049, "-"), ("é" * 1025, "-"), ("a", "s" * 1025)])
def test_what_no_key_can_hold_is_not_there_and_nobody_is_asked(pk: str, sk: str) -> None:
    with trouble(script({})) as happened:
        assert TABLE.get(pk, sk) is None
        assert get_many([(TABLE, pk, sk)]) == [None]
        assert TABLE.query(pk).items == [] or len(pk) == 1
    assert happened.operations in ([], ["query"])
