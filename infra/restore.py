"""Bring a table back to what it was: `python -m infra.restore --stage dev --table leoma --at MOMENT`.

AWS restores into a new table only. That copy is compared with the table in use, which is then made equal to it: it
keeps its name, settings, alarms and roles, and goes on answering reads. Nobody may write meanwhile: `make pause` first.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

from infra import cloud, consent, names
from infra.consent import Agree

_KEY = ("pk", "sk")
_READ_AT_ONCE = 100
_WRITTEN_AT_ONCE = 25
# A restore takes minutes to hours, whatever the size.
_PATIENCE = {"Delay": 20, "MaxAttempts": 1080}
Item = dict[str, Any]


class RestoreRefused(RuntimeError):
    """The operator said no, or there is nothing to restore from."""


def restore(dynamodb: Any, stage: str, short: str, source: datetime | str, agree: Agree) -> tuple[int, int]:
    """The table as at a moment, or as in a backup (its ARN); answers how many items were put back and taken away."""
    table = names.physical(stage, short)
    copy = f"{table}-restored"
    if isinstance(source, datetime):
        dynamodb.restore_table_to_point_in_time(
            SourceTableName=table, TargetTableName=copy, RestoreDateTime=source.astimezone(UTC)
        )
    else:
        dynamodb.restore_table_from_backup(TargetTableName=copy, BackupArn=source)
    try:
        dynamodb.get_waiter("table_exists").wait(TableName=copy, WaiterConfig=_PATIENCE)
        puts = sum(1 for _ in _lost(dynamodb, table, copy))
        deletes = sum(1 for _ in _since(dynamodb, table, copy))
        if not agree(f"{table}: put {puts} items back, take {deletes} away? [y/N] "):
            raise RestoreRefused("nothing was changed")
        _write(dynamodb, table, ({"PutRequest": {"Item": item}} for item in _lost(dynamodb, table, copy)))
        _write(dynamodb, table, ({"DeleteRequest": {"Key": key}} for key in _since(dynamodb, table, copy)))
    finally:
        dynamodb.delete_table(TableName=copy)
    return puts, deletes


def _lost(dynamodb: Any, table: str, copy: str) -> Iterator[Item]:
    """Items of the copy that the table holds otherwise or not at all."""
    for page in dynamodb.get_paginator("scan").paginate(TableName=copy, ConsistentRead=True):
        for some in _pieces(page["Items"], _READ_AT_ONCE):
            held = {_name(item): item for item in _items(dynamodb, table, [_key(item) for item in some])}
            yield from (item for item in some if held.get(_name(item)) != item)


def _since(dynamodb: Any, table: str, copy: str) -> Iterator[Item]:
    """Keys that the table has got since."""
    pages = dynamodb.get_paginator("scan").paginate(TableName=table, ConsistentRead=True, ProjectionExpression="pk, sk")
    for page in pages:
        for some in _pieces(page["Items"], _READ_AT_ONCE):
            known = {_name(item) for item in _items(dynamodb, copy, some)}
            yield from (key for key in some if _name(key) not in known)


def _items(dynamodb: Any, table: str, keys: list[Item]) -> list[Item]:
    found: list[Item] = []
    pending: dict[str, Any] = {table: {"Keys": keys, "ConsistentRead": True}} if keys else {}
    while pending:
        answer = dynamodb.batch_get_item(RequestItems=pending)
        found += answer["Responses"].get(table, [])
        pending = answer.get("UnprocessedKeys", {})
    return found


def _write(dynamodb: Any, table: str, requests: Iterator[Item]) -> None:
    for some in _pieces(list(requests), _WRITTEN_AT_ONCE):
        pending: dict[str, Any] = {table: some}
        while pending:
            pending = dynamodb.batch_write_item(RequestItems=pending).get("UnprocessedItems", {})


def _pieces(items: list[Item], most: int) -> Iterator[list[Item]]:
    return (items[first : first + most] for first in range(0, len(items), most))


def _key(item: Item) -> Item:
    return {name: item[name] for name in _KEY}


def _name(item: Item) -> tuple[str, ...]:
    return tuple(str(item[name]) for name in _KEY)


def main() -> None:
    parser = argparse.ArgumentParser(prog="infra.restore", description=__doc__)
    parser.add_argument("--stage", required=True)
    parser.add_argument("--table", required=True, help="its short name: chain, prism, pool, experts, bitrecs or leoma")
    moment = parser.add_mutually_exclusive_group(required=True)
    moment.add_argument("--at", type=datetime.fromisoformat, help="a moment of the last 35 days, with its UTC offset")
    moment.add_argument("--backup", help="ARN of a backup")
    parser.add_argument("--yes", action="store_true", help="agree beforehand")
    given = parser.parse_args()
    if given.at and given.at.tzinfo is None:
        parser.error("--at needs an offset, such as 2027-01-31T12:00:00+00:00")
    try:
        puts, deletes = restore(
            cloud.client("dynamodb"),
            given.stage,
            given.table,
            given.at or given.backup,
            consent.asked(beforehand=given.yes),
        )
    except (RestoreRefused, cloud.NoRegion) as refused:
        sys.exit(str(refused))
    print(f"{puts} items put back, {deletes} taken away")


if __name__ == "__main__":
    main()
