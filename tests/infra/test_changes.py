"""What leaves a stack keeps its data, and finds it again when it comes back."""

from __future__ import annotations

from typing import Any

from infra import changes, stack, stores, template
from tests.infra.conftest import Cloud

TABLE = "subnet-functions-spare-leoma"
ENTRY = {"pk": {"S": "a"}, "sk": {"S": "b"}, "kept": {"BOOL": True}}


def tables_of(stage: str, *systems: str) -> dict[str, Any]:
    built = template.build(stage, systems=systems, variables={})
    return {"Resources": {key: made for key, made in built["Resources"].items() if made["Type"] == stores.TABLE}}


def carry_out(client: stack.Client, stage: str, wanted: dict[str, Any]) -> list[changes.Change]:
    planned = changes.prepare(client, stage, wanted)
    changes.execute(client, planned)
    return planned.changes


def test_a_system_that_goes_keeps_its_data_and_finds_it_when_it_comes_back(deployment_cloud: Cloud) -> None:
    client, dynamodb = deployment_cloud.client, deployment_cloud.client("dynamodb")
    both, alone = tables_of("spare", "pool", "leoma"), tables_of("spare", "pool")
    carry_out(client, "spare", both)
    dynamodb.put_item(TableName=TABLE, Item=ENTRY)

    (gone,) = carry_out(client, "spare", alone)
    assert (gone.action, gone.key, gone.kept, gone.loses_data) == ("Remove", "LeomaTable", True, False)
    assert str(gone).endswith("(its data stays)")

    assert changes.adopt(client, "spare", both) == ["LeomaTable"]
    assert changes.adopt(client, "spare", both) == []
    assert carry_out(client, "spare", both) == []
    assert dynamodb.get_item(TableName=TABLE, Key={"pk": ENTRY["pk"], "sk": ENTRY["sk"]})["Item"] == ENTRY


def test_a_table_that_nothing_keeps_is_not_lost_unnoticed(deployment_cloud: Cloud) -> None:
    client, both = deployment_cloud.client, tables_of("careless", "pool", "leoma")
    del both["Resources"]["PoolTable"]["DeletionPolicy"]
    carry_out(client, "careless", both)

    planned = changes.prepare(client, "careless", tables_of("careless", "leoma"))

    assert [change.key for change in planned.changes if change.loses_data] == ["PoolTable"]
