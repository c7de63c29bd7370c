"""The restore of `docs/operate.md`, rehearsed: the table in use becomes what it was, and only on agreement."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from chalicelib.kernel import aws
from infra import restore
from tests.harness.cloud import empty_cloud

TABLE = "subnet-functions-local-leoma"


@pytest.fixture
def dynamodb() -> Iterator[Any]:
    with empty_cloud():
        yield aws.client("dynamodb")


def put(dynamodb: Any, number: int, text: str) -> None:
    dynamodb.put_item(TableName=TABLE, Item={"pk": {"S": f"T#{number}"}, "sk": {"S": "-"}, "text": {"S": text}})


def content(dynamodb: Any, table: str = TABLE) -> dict[str, str]:
    pages = dynamodb.get_paginator("scan").paginate(TableName=table)
    return {item["pk"]["S"]: item["text"]["S"] for page in pages for item in page["Items"]}


def damaged(dynamodb: Any) -> tuple[dict[str, str], str]:
    """130 items are backed up; then some are lost, some changed, some new. Answers what was, and the backup."""
    for number in range(130):
        put(dynamodb, number, "as it was")
    before = content(dynamodb)
    backup = dynamodb.create_backup(TableName=TABLE, BackupName="before")["BackupDetails"]["BackupArn"]
    for number in range(40):
        dynamodb.delete_item(TableName=TABLE, Key={"pk": {"S": f"T#{number}"}, "sk": {"S": "-"}})
    for number in range(40, 70):
        put(dynamodb, number, "spoilt")
    for number in range(1000, 1033):
        put(dynamodb, number, "came later")
    return before, backup


def test_a_table_becomes_what_the_backup_holds(dynamodb: Any) -> None:
    before, backup = damaged(dynamodb)
    asked: list[str] = []

    def agree(question: str) -> bool:
        asked.append(question)
        return True

    counts = restore.restore(dynamodb, "local", "leoma", backup, agree)

    assert content(dynamodb) == before
    assert counts == (70, 33)
    assert "put 70 items back, take 33 away" in asked[0]
    assert f"{TABLE}-restored" not in dynamodb.list_tables()["TableNames"]


def test_nothing_is_changed_without_agreement_and_the_copy_goes(dynamodb: Any) -> None:
    _, backup = damaged(dynamodb)
    spoilt = content(dynamodb)

    with pytest.raises(restore.RestoreRefused):
        restore.restore(dynamodb, "local", "leoma", backup, lambda _: False)

    assert content(dynamodb) == spoilt
    assert f"{TABLE}-restored" not in dynamodb.list_tables()["TableNames"]


def test_a_restore_that_was_cut_off_is_finished_by_another(dynamodb: Any) -> None:
    before, backup = damaged(dynamodb)
    put(dynamodb, 0, "as it was")
    put(dynamodb, 50, "as it was")

    assert restore.restore(dynamodb, "local", "leoma", backup, lambda _: True) == (68, 33)
    assert content(dynamodb) == before
    assert restore.restore(dynamodb, "local", "leoma", backup, lambda _: True) == (0, 0)
