"""Moto, made whole for threads and quick enough for thousands of tests; what it decides stays its own.

Its models are not safe for threads, so one lock stands before them. Around each call it routes, parses and serialises
by botocore's models, which takes most of a test's time: a data call that succeeds goes straight to moto's handler here,
and one that it refuses goes moto's whole way, which words the refusal.
"""

from __future__ import annotations

import copy
import functools
import json
import threading
from collections.abc import Callable
from typing import Any

from moto import backend_index
from moto.core.base_backend import BaseBackend
from moto.core.botocore_stubber import BotocoreStubber
from moto.core.exceptions import ServiceException
from moto.core.models import DEFAULT_ACCOUNT_ID
from moto.core.utils import camelcase_to_underscores
from moto.dynamodb import models
from moto.dynamodb.models.dynamo_type import DynamoType
from moto.dynamodb.models.table import Table
from moto.dynamodb.responses import DynamoHandler
from moto.s3.responses import S3Response
from werkzeug.exceptions import HTTPException

from chalicelib.kernel.dynamodb import TARGET, DataCalls, as_base64

_LOCK = threading.RLock()
_SERVED = ("dynamodb", "s3", "stepfunctions")
REGION = "us-east-1"


def _serialised(call: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(call)
    def locked(*args: Any, **kwargs: Any) -> Any:
        with _LOCK:
            return call(*args, **kwargs)

    return locked


def _shortened(whole_way: Callable[..., Any]) -> Callable[..., Any]:
    def answer(stubber: Any, request: Any) -> Any:
        target = request.headers.get("x-amz-target", "")
        operation = target.removeprefix(TARGET) if isinstance(target, str) else ""
        found = _data_call(operation, request.body) if operation in DataCalls.calls else None
        if isinstance(request.body, bytearray):  # which a socket takes, and moto does not
            request.body = bytes(request.body)
        return whole_way(stubber, request) if found is None else (200, {}, found)

    return answer


class _Handler(DynamoHandler):
    """Knows at once what moto reads out of each request's headers."""

    current_account = DEFAULT_ACCOUNT_ID
    region = REGION

    def __init__(self, asked: dict[str, Any]) -> None:
        self.body = asked


def create_table(asked: dict[str, Any]) -> None:
    """A table, without a request."""
    _Handler(copy.deepcopy(asked)).create_table()


def _data_call(operation: str, body: bytes) -> str | None:
    """What moto answers, or nothing where it refuses: a refusal has changed nothing and may be asked for again."""
    handler = _Handler(json.loads(body))
    with _LOCK:
        try:
            result = getattr(handler, camelcase_to_underscores(operation))().result
        except (ServiceException, HTTPException):
            return None
        return json.dumps(result, default=as_base64)


class _CopyingItemsOnly:
    """Stands for the copy module where moto backs up whole tables, once for every item of a transaction."""

    @staticmethod
    def deepcopy(value: Any) -> Any:
        return value if isinstance(value, Table) else copy.deepcopy(value)


def _undoing(transact: Callable[..., None]) -> Callable[..., None]:
    """The same all or nothing as with moto's backup, for the price of the items that the transaction names."""

    @functools.wraps(transact)
    def all_or_nothing(backend: models.DynamoDBBackend, transact_items: list[dict[str, Any]]) -> None:
        before = []
        for entry in transact_items:
            ((_, request),) = entry.items()
            key = request.get("Key") or request["Item"]
            table = backend.tables[request["TableName"]]
            pk, sk = DynamoType(key["pk"]), DynamoType(key["sk"])
            before.append((table, pk, sk, copy.deepcopy(table.items.get(pk, {}).get(sk))))
        try:
            transact(backend, transact_items)
        except Exception:
            for table, pk, sk, item in before:
                if item is None:
                    table.items.get(pk, {}).pop(sk, None)
                else:
                    table.items[pk][sk] = item
            raise

    return all_or_nothing


def _in_order(table: Table) -> list[Any]:
    """Moto's own order of a whole table, which it takes for each query, without a cast for each comparison."""
    items = [item for partition in table.items.values() for item in partition.values()]
    return sorted(items, key=lambda item: (item.hash_key.value, item.range_key.value))


def _by_class(urls: Callable[[BaseBackend], dict[str, Any]]) -> Callable[[BaseBackend], dict[str, Any]]:
    """A service's URLs never change, and moto builds them anew for every request."""
    known: dict[type, dict[str, Any]] = {}

    def found(backend: BaseBackend) -> dict[str, Any]:
        if type(backend) not in known:
            known[type(backend)] = urls(backend)
        return known[type(backend)]

    return found


Table.all_items = _in_order  # type: ignore[method-assign, assignment] # see there
models.copy = _CopyingItemsOnly  # type: ignore[assignment, attr-defined] # see there
models.DynamoDBBackend.transact_write_items = _undoing(models.DynamoDBBackend.transact_write_items)  # type: ignore[method-assign] # see there
DynamoHandler.call_action = _serialised(DynamoHandler.call_action)  # type: ignore[method-assign] # see the docstring
S3Response._key_response = _serialised(S3Response._key_response)  # type: ignore[method-assign] # the same for objects
BotocoreStubber.process_request = _shortened(BotocoreStubber.process_request)  # type: ignore[method-assign] # see the docstring
BaseBackend.urls = property(_by_class(BaseBackend.urls.fget))  # type: ignore[attr-defined, method-assign, assignment] # see there
backend_index.backend_url_patterns.sort(key=lambda entry: entry[0] not in _SERVED)  # tried in turn, for each request
