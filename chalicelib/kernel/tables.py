"""DynamoDB: gets, pages of queries, conditional writes and transactions; every failure has one of three meanings.

In an expression `#name` stands for the attribute `name` and `:value` for the keyword argument `value`.
Every conditional write carries a mark, so that a retry after an answer that got lost knows its own effect.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, TypeVar

from . import aws, clock
from .errors import Contended, Unavailable
from .settings import KernelSettings
from .values import frozen
from .wire import Item, WireItem, decode, from_wire, to_wire
from .wire import encode as encode_value

T = TypeVar("T")
Key = tuple[str, str]

TRIES = 4
CONFLICT_TRIES = 60
_BACKOFF_SECONDS = 0.1
_CONFLICT_BACKOFF_SECONDS = 0.01
_LONGEST_CONFLICT_NAP_SECONDS = 0.3
_CONTENTION_SECONDS = 12.0
_BATCH_GET = 100
_BATCH_WRITE = 25
_LONGEST_PK, _LONGEST_SK = 2048, 1024
_MARK = "_w"
_NAME = re.compile(r"#(\w+)")
_SET = re.compile(r"(?<![#:\w])SET ")
_RETRIED = {
    "ProvisionedThroughputExceededException",
    "ThrottlingException",
    "RequestLimitExceeded",
    "InternalServerError",
    "ServiceUnavailable",
    "TransactionInProgressException",
}


class ConditionFailed(Exception):
    """A write's premise no longer holds; `old` stands there now, `failed` tells the writes of a transaction."""

    def __init__(self, old: Item | None = None, failed: dict[int, Item | None] | None = None) -> None:
        super().__init__("a condition failed")
        self.old = old
        self.failed = failed or {0: old}


@frozen
class Write:
    """One write, for itself or as part of a transaction."""

    action: str
    request: dict[str, Any]


@frozen
class Page:
    items: list[Item]
    next_key: WireItem | None


class Table:
    """One system's table; its key attributes are `pk` and `sk`."""

    def __init__(self, name: str) -> None:
        self._name = name

    @property
    def name(self) -> str:
        return f"subnet-functions-{KernelSettings.current().stage}-{self._name}"

    def get(self, pk: str, sk: str, *, consistent: bool = True) -> Item | None:
        if not _can_exist(pk, sk):
            return None
        request = {"TableName": self.name, "Key": _key(pk, sk), "ConsistentRead": consistent}
        return _item(_call("get_item", request).get("Item"))

    def query(
        self,
        pk: str,
        *,
        where: str = "",
        values: Item | None = None,
        index: str = "",
        limit: int | None = None,
        descending: bool = False,
        consistent: bool = False,
        start: WireItem | None = None,
        fields: Sequence[str] = (),
    ) -> Page:
        """One page; `where` narrows the sort key (`#sk BETWEEN :low AND :high`)."""
        if not _can_exist(pk):
            return Page([], None)
        key = f"{index}_pk" if index else "pk"
        expression = f"#{key} = :pk" + (f" AND {where}" if where else "")
        request = self._expressions({"KeyConditionExpression": expression}, {"pk": pk, **(values or {})})
        request |= {"ScanIndexForward": not descending, "ConsistentRead": consistent and not index}
        optional = {"IndexName": index, "Limit": limit, "ExclusiveStartKey": start}
        request |= {name: value for name, value in optional.items() if value}
        if fields:
            request["ProjectionExpression"] = ", ".join(f"#{field}" for field in fields)
            request["ExpressionAttributeNames"] |= {f"#{field}": field for field in fields}
        answer = _call("query", request)
        return Page([_known(item) for item in answer["Items"]], answer.get("LastEvaluatedKey"))

    def query_all(self, pk: str, **options: Any) -> Iterator[Item]:
        """Every item of a bounded partition, page after page."""
        start: WireItem | None = None
        while True:
            page = self.query(pk, start=start, **options)
            yield from page.items
            start = page.next_key
            if not start:
                return

    def put(self, item: Item, *, when: str = "", **values: Any) -> None:
        _write_alone("put_item", self.putting(item, when=when, **values))

    def put_new(self, item: Item) -> None:
        """Write an item that must not exist yet."""
        self.put(item, when="attribute_not_exists(#pk)")

    def update(self, pk: str, sk: str, change: str, *, when: str = "", **values: Any) -> Item:
        """Apply an update expression; answers the whole new item."""
        write = self.updating(pk, sk, change, when=when, **values)
        return _write_alone("update_item", Write(write.action, write.request | {"ReturnValues": "ALL_NEW"}))

    def delete(self, pk: str, sk: str, *, when: str = "", **values: Any) -> Item | None:
        """Remove an item; answers what stood there."""
        write = self.deleting(pk, sk, when=when, **values)
        return _write_alone("delete_item", Write(write.action, write.request | {"ReturnValues": "ALL_OLD"})) or None

    def put_many(self, items: Iterable[Item]) -> None:
        """Unconditional, idempotent puts; of equal keys the last wins."""
        wanted = {(item["pk"], item["sk"]): item for item in items}
        self._batch_write([{"PutRequest": {"Item": to_wire(item)}} for item in wanted.values()])

    def delete_many(self, keys: Iterable[Key]) -> None:
        self._batch_write([{"DeleteRequest": {"Key": _key(*key)}} for key in dict.fromkeys(keys)])

    def putting(self, item: Item, *, when: str = "", **values: Any) -> Write:
        expressions = {"ConditionExpression": when} if when else {}
        return Write("Put", self._expressions(expressions, values) | {"Item": to_wire(item)})

    def putting_new(self, item: Item) -> Write:
        return self.putting(item, when="attribute_not_exists(#pk)")

    def updating(self, pk: str, sk: str, change: str, *, when: str = "", **values: Any) -> Write:
        expressions = {"UpdateExpression": change} | ({"ConditionExpression": when} if when else {})
        return Write("Update", self._expressions(expressions, values) | {"Key": _key(pk, sk)})

    def deleting(self, pk: str, sk: str, *, when: str = "", **values: Any) -> Write:
        expressions = {"ConditionExpression": when} if when else {}
        return Write("Delete", self._expressions(expressions, values) | {"Key": _key(pk, sk)})

    def checking(self, pk: str, sk: str, *, when: str, **values: Any) -> Write:
        expressions = self._expressions({"ConditionExpression": when}, values)
        return Write("ConditionCheck", expressions | {"Key": _key(pk, sk)})

    def _expressions(self, expressions: dict[str, str], values: Item) -> dict[str, Any]:
        request: dict[str, Any] = {"TableName": self.name, **expressions}
        names: dict[str, str] = {}
        for text in expressions.values():
            names |= _names(text)
        if names:
            request["ExpressionAttributeNames"] = names
        if values:
            request["ExpressionAttributeValues"] = {f":{name}": encode_value(value) for name, value in values.items()}
        return request

    def _batch_write(self, requests: list[dict[str, Any]]) -> None:
        for first in range(0, len(requests), _BATCH_WRITE):
            pending = {self.name: requests[first : first + _BATCH_WRITE]}
            for attempt in range(TRIES):
                pending = _call("batch_write_item", {"RequestItems": pending}).get("UnprocessedItems") or {}
                if not pending:
                    break
                clock.sleep(clock.jitter(_BACKOFF_SECONDS * 2**attempt))
            if pending:
                raise _busy()


@functools.lru_cache(maxsize=1024)
def _names(expression: str) -> dict[str, str]:
    """Expressions are literals in the code: each is read once per process."""
    return {f"#{name}": name for name in _NAME.findall(expression)}


def get_many(wanted: Sequence[tuple[Table, str, str]], *, consistent: bool = True) -> list[Item | None]:
    """Items of one or several tables, in the order asked for, in one round trip per hundred."""
    found: dict[tuple[str, str, str], Item] = {}
    unique = list(dict.fromkeys((table.name, pk, sk) for table, pk, sk in wanted if _can_exist(pk, sk)))
    for first in range(0, len(unique), _BATCH_GET):
        pending: dict[str, Any] = {}
        for name, pk, sk in unique[first : first + _BATCH_GET]:
            request = pending.setdefault(name, {"Keys": [], "ConsistentRead": consistent})
            request["Keys"].append(_key(pk, sk))
        for attempt in range(TRIES):
            answer = _call("batch_get_item", {"RequestItems": pending})
            for name, items in answer["Responses"].items():
                found |= {(name, item["pk"]["S"], item["sk"]["S"]): _known(item) for item in items}
            pending = answer.get("UnprocessedKeys") or {}
            if not pending:
                break
            clock.sleep(clock.jitter(_BACKOFF_SECONDS * 2**attempt))
        if pending:
            raise _busy()
    return [found.get((table.name, pk, sk)) for table, pk, sk in wanted]


def transact(writes: Sequence[Write], *, token: str = "") -> None:
    """All or nothing. A failed condition is told with the items that stand there; a retry repeats the same token."""
    request = {
        "TransactItems": [{write.action: _reporting(write.request)} for write in writes],
        "ClientRequestToken": token or clock.new_uuid(),
    }
    _call("transact_write_items", request)


def until_decided(decide: Callable[[], T], *, seconds: float | None = None) -> T:
    """Read and decide again as long as a competitor was faster, until somebody has won or the time is up.

    A decision must know its own effect when it reads it: where an answer got lost, a competitor may overwrite the mark
    before the retry, and then the writer hears of a lost race that it had won.
    """
    deadline = clock.monotonic() + (_CONTENTION_SECONDS if seconds is None else seconds)
    ceiling = 0.01
    while True:
        try:
            return decide()
        except Contended:
            if clock.monotonic() > deadline:
                raise _busy() from None
            clock.sleep(clock.jitter(ceiling))
            ceiling = min(ceiling * 2, 0.3)


def _write_alone(operation: str, write: Write) -> Item:
    """A put without a condition may be repeated as it is; every other write knows its own effect by the mark."""
    mark = clock.new_hex(6)
    request = write.request
    if write.action == "Update":
        request = _marked_update(request, mark)
    elif write.action == "Put" and "ConditionExpression" in request:
        request = request | {"Item": request["Item"] | {_MARK: {"S": mark}}}

    def is_ours(failure: ConditionFailed) -> bool:
        return failure.old is not None and failure.old.get(_MARK) == mark

    try:
        answer = _call(operation, _reporting(request), is_ours=is_ours)
    except ConditionFailed as failure:
        raise ConditionFailed(_without_mark(failure.old)) from None
    return _known(answer.get("Attributes") or {})


def _marked_update(request: dict[str, Any], mark: str) -> dict[str, Any]:
    change, condition = _marking(request["UpdateExpression"], request.get("ConditionExpression", ""))
    return request | {
        "UpdateExpression": change,
        "ConditionExpression": condition,
        "ExpressionAttributeNames": request.get("ExpressionAttributeNames", {}) | {f"#{_MARK}": _MARK},
        "ExpressionAttributeValues": request.get("ExpressionAttributeValues", {}) | {f":{_MARK}": {"S": mark}},
    }


@functools.lru_cache(maxsize=1024)
def _marking(change: str, condition: str) -> tuple[str, str]:
    """The same change and condition, with the mark set and not yet there."""
    marking = f"SET #{_MARK} = :{_MARK}"
    marked, found = _SET.subn(marking + ", ", change, count=1)
    unmarked = f"attribute_not_exists(#{_MARK}) OR #{_MARK} <> :{_MARK}"
    guard = f"{_grouped(condition)} AND ({unmarked})" if condition else unmarked
    return (marked if found else f"{marking} {marked}"), guard


def _grouped(condition: str) -> str:
    """In parentheses, once: DynamoDB refuses a second pair."""
    depth = 0
    for place, letter in enumerate(condition):
        depth += (letter == "(") - (letter == ")")
        if depth == 0 and place < len(condition) - 1:
            return f"({condition})"
    return condition if condition.startswith("(") else f"({condition})"


def _call(
    operation: str, request: dict[str, Any], *, is_ours: Callable[[ConditionFailed], bool] | None = None
) -> dict[str, Any]:
    """Send until there is an answer. A conflict is waited out: whoever comes next finds the winner's item there."""
    from botocore.exceptions import BotoCoreError, ClientError  # noqa: PLC0415 - loaded with the first client

    send = getattr(aws.client("dynamodb"), operation)
    failures = conflicts = 0
    while failures < TRIES and conflicts < CONFLICT_TRIES:
        try:
            answer: dict[str, Any] = send(**request)
        except ClientError as error:
            failure = _meaning(error)
            if isinstance(failure, ConditionFailed) and failures and is_ours and is_ours(failure):
                return {"Attributes": to_wire(failure.old or {})}
            if isinstance(failure, Contended):
                nap = min(_CONFLICT_BACKOFF_SECONDS * 2**conflicts, _LONGEST_CONFLICT_NAP_SECONDS)
                conflicts += 1
                clock.sleep(clock.jitter(nap))
                continue
            if failure:
                raise failure from None
        except BotoCoreError:
            pass
        else:
            return answer
        failures += 1
        if failures < TRIES:
            clock.sleep(clock.jitter(_BACKOFF_SECONDS * 2**failures))
    raise _busy()


def _meaning(error: Any) -> Exception | None:
    """What a failed call means; None where it is worth another try."""
    code = error.response["Error"]["Code"]
    if code == "ConditionalCheckFailedException":
        return ConditionFailed(_raw_item(error.response.get("Item")))
    if code == "TransactionConflictException":
        return Contended()
    if code == "TransactionCanceledException":
        return _meaning_of_cancel(error.response.get("CancellationReasons", []))
    return None if code in _RETRIED else RuntimeError(f"DynamoDB: {code}: {error.response['Error']['Message']}")


def _meaning_of_cancel(reasons: list[dict[str, Any]]) -> Exception | None:
    failed = {
        index: _item(reason.get("Item"))
        for index, reason in enumerate(reasons)
        if reason.get("Code") == "ConditionalCheckFailed"
    }
    codes = {reason.get("Code") for reason in reasons} - {"None", None}
    if failed:
        return ConditionFailed(next(iter(failed.values())), failed)
    if "TransactionConflict" in codes:
        return Contended()
    if codes <= {"ThrottlingError", "ProvisionedThroughputExceeded"}:
        return None
    return RuntimeError(f"DynamoDB cancelled a transaction: {reasons}")


def _reporting(request: dict[str, Any]) -> dict[str, Any]:
    if "ConditionExpression" not in request:
        return dict(request)
    return request | {"ReturnValuesOnConditionCheckFailure": "ALL_OLD"}


def _busy() -> Unavailable:
    return Unavailable("The store is busy; try again shortly", code="store_busy", retry_after=1)


def _key(pk: str, sk: str) -> WireItem:
    return {"pk": {"S": pk}, "sk": {"S": sk}}


def _can_exist(pk: str, sk: str = "") -> bool:
    """A name that somebody sent may be longer than any key: nothing stands there, and to ask would be an error."""
    return len(pk.encode("utf-8", "replace")) <= _LONGEST_PK and len(sk.encode("utf-8", "replace")) <= _LONGEST_SK


def _raw_item(item: WireItem | None) -> Item | None:
    return {name: decode(value) for name, value in item.items()} if item else None


def _item(item: WireItem | None) -> Item | None:
    return _known(item) if item else None


def _known(item: WireItem) -> Item:
    known = from_wire(item)
    known.pop(_MARK, None)
    return known


def _without_mark(item: Item | None) -> Item | None:
    return {name: value for name, value in item.items() if name != _MARK} if item else None
