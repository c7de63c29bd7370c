"""A stage deployed for real: plan, stack, `chalice deploy`, event sources, gateway answers; then used, and removed.

The cloud is an emulator and the code is the artefact that goes to AWS, with nothing else to import from.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import Any

import pytest

from infra import pause
from infra.smoke import Api
from subnetctl import signing
from tests.harness.wallets import Wallet
from tests.infra.conftest import CHALICE, Checkout, Cloud

SECONDS_UNTIL_A_SCHEDULE_FIRED = 100


@pytest.fixture(scope="module")
def deployed(checkout: Checkout) -> str:
    """`make deploy`, agreed to; its last line is the URL, and it has already checked what it made."""
    said = checkout.run("infra.deploy", "apply", "--stage", "dev", "--yes")
    assert "Add" in said
    assert "FAIL" not in said
    return said.splitlines()[-1]


@pytest.fixture(scope="module")
def packaged(checkout: Checkout) -> str:
    """The second way: one template for everything, on a stage of its own."""
    return checkout.run("infra.package", "--stage", "prod", "--out", "build/prod", "--deploy").splitlines()[-1]


@pytest.fixture(params=["packaged", "deployed"])
def api(request: pytest.FixtureRequest) -> Api:
    return Api(request.getfixturevalue(request.param))


def signed(wallet: Wallet, body: bytes) -> dict[str, str]:
    class Signer:
        address = wallet.hotkey
        sign = staticmethod(wallet.sign)

    return signing.leoma(Signer(), body) | {"Content-Type": "application/json"}


def test_a_signed_write_is_read_back(api: Api, admin: Wallet) -> None:
    body = json.dumps({"hotkey": admin.hotkey, "reason": "a test"}).encode()
    assert api.ask("POST", "/leoma/blacklist", body=body, headers=signed(admin, body)).status == 200
    listed = api.ask("GET", "/leoma/blacklist").json
    assert [(entry["hotkey"], entry["reason"]) for entry in listed] == [(admin.hotkey, "a test")]
    removal = api.ask("DELETE", f"/leoma/blacklist/{admin.hotkey}", headers=signed(admin, b""))
    assert removal.status == 401, "a blacklisted signer is refused, an admin too"


def test_an_unknown_path_has_the_house_s_shape(deployed: str) -> None:
    reply = Api(deployed).ask("GET", "/no/such/path")
    assert (reply.status, reply.json) == (404, {"detail": "Not Found", "code": "route_not_found"})
    assert reply.headers["access-control-allow-origin"] == "*"
    assert reply.headers["x-request-id"]


def test_a_state_machine_runs_the_deployed_task(deployed: str, deployment_cloud: Cloud) -> None:
    states = deployment_cloud.client("stepfunctions")
    (machine,) = (m for m in states.list_state_machines()["stateMachines"] if m["name"].endswith("-dev-chain-probe"))
    execution = states.start_execution(stateMachineArn=machine["stateMachineArn"], name="probe")["executionArn"]
    until(60, lambda: states.describe_execution(executionArn=execution)["status"] != "RUNNING")
    assert states.describe_execution(executionArn=execution)["status"] == "SUCCEEDED"
    assert head(deployment_cloud, "dev")


def test_a_table_s_stream_starts_the_work_that_no_schedule_would_do_in_time(
    deployed: str, deployment_cloud: Cloud
) -> None:
    """Leoma's schedule does not fire here."""
    tables, table = deployment_cloud.client("dynamodb"), "subnet-functions-dev-leoma"
    job = {"pk": {"S": "JOB"}, "sk": {"S": "folding"}}
    assert "Item" not in tables.get_item(TableName=table, Key=job)
    tables.put_item(TableName=table, Item={"pk": {"S": "T#s:probe"}, "sk": {"S": "somebody"}})
    until(60, lambda: "last_success_at" in tables.get_item(TableName=table, Key=job).get("Item", {}))


def test_another_machine_finds_what_was_deployed(deployed: str, checkout: Checkout) -> None:
    notes = checkout.path / ".chalice" / "deployed" / "dev.json"
    notes.unlink()
    said = checkout.run("infra.deploy", "smoke", "--stage", "dev")
    assert "ok   leoma: a stranger's signed request" in said
    assert notes.exists()


def test_deploying_again_restores_what_a_chalice_deploy_typed_by_hand_overwrote(
    deployed: str, checkout: Checkout
) -> None:
    """Chalice replaces the whole API, and with it the gateway's own answers; stack and data stay as they are."""
    checkout.type(CHALICE, "deploy", "--stage", "dev")
    assert Api(deployed).ask("GET", "/leoma/health").status == 200
    assert Api(deployed).ask("GET", "/no/such/path").status == 403
    said = checkout.run("infra.deploy", "apply", "--stage", "dev", "--yes")
    assert "the stack stays as it is" in said
    assert said.splitlines()[-1] == deployed
    assert Api(deployed).ask("GET", "/no/such/path").status == 404
    assert len(Api(deployed).ask("GET", "/leoma/blacklist").json) == 1


def test_functions_carry_their_settings_and_roles(deployed: str, deployment_cloud: Cloud) -> None:
    function = deployment_cloud.client("lambda").get_function_configuration(
        FunctionName="subnet-functions-dev-leoma-tick"
    )
    assert (function["Timeout"], function["MemorySize"]) == (300, 512)
    assert function["Role"].endswith(":role/subnet-functions-dev-leoma-tick")
    chain = deployment_cloud.client("lambda").get_function_configuration(FunctionName="subnet-functions-dev-chain-tick")
    assert any(":subnet-functions-dev-chain:" in layer["Arn"] for layer in chain["Layers"])


def test_a_pause_closes_the_intake_and_a_resume_opens_it(
    deployed: str, checkout: Checkout, deployment_cloud: Cloud
) -> None:
    def variables() -> dict[str, str]:
        function = deployment_cloud.client("lambda").get_function_configuration(FunctionName="subnet-functions-dev")
        found: dict[str, str] = function["Environment"]["Variables"]
        return found

    before = variables()
    checkout.run("infra.pause", "pause", "--stage", "dev")
    reply = Api(deployed).ask("POST", "/leoma/blacklist", body=b"{}")
    assert (reply.status, reply.code) == (503, "paused")
    assert Api(deployed).ask("GET", "/leoma/health").status == 200
    assert variables() == {**before, "READ_ONLY": "true"}
    checkout.run("infra.pause", "resume", "--stage", "dev")
    assert variables() == before


def test_a_pause_stops_schedules_where_that_is_asked_for(deployed: str, deployment_cloud: Cloud) -> None:
    def states() -> set[str]:
        schedules = deployment_cloud.client("scheduler").list_schedules()["Schedules"]
        return {schedule["State"] for schedule in schedules if schedule["Name"].startswith("subnet-functions-dev-")}

    names = pause.set_workers(deployment_cloud.client, "dev", running=True)
    assert states() == {"ENABLED"}
    assert pause.set_workers(deployment_cloud.client, "dev", running=False) == names
    assert states() == {"DISABLED"}
    assert len(names) == 6


def test_destroying_keeps_the_data_and_a_new_deployment_takes_it_over(
    deployed: str, checkout: Checkout, deployment_cloud: Cloud
) -> None:
    checkout.run("infra.deploy", "destroy", "--stage", "dev", "--confirm", "dev")
    functions = deployment_cloud.client("lambda").list_functions()["Functions"]
    assert not [f for f in functions if f["FunctionName"].startswith("subnet-functions-dev")]
    assert "subnet-functions-dev-leoma" in deployment_cloud.client("dynamodb").list_tables()["TableNames"]
    said = checkout.run("infra.deploy", "apply", "--stage", "dev", "--yes")
    assert "took over" in said
    assert len(Api(said.splitlines()[-1]).ask("GET", "/leoma/blacklist").json) == 1


def test_destroying_with_data_leaves_nothing(deployed: str, checkout: Checkout, deployment_cloud: Cloud) -> None:
    checkout.run("infra.deploy", "destroy", "--stage", "dev", "--data", "--confirm", "delete dev")
    tables = deployment_cloud.client("dynamodb").list_tables()["TableNames"]
    buckets = [bucket["Name"] for bucket in deployment_cloud.client("s3").list_buckets()["Buckets"]]
    assert not [name for name in (*tables, *buckets) if name.startswith("subnet-functions-dev-")]


def test_a_schedule_runs_the_deployed_task(packaged: str, deployment_cloud: Cloud) -> None:
    """Nobody ever invoked the sync of this stage but its schedule."""
    until(SECONDS_UNTIL_A_SCHEDULE_FIRED, lambda: bool(head(deployment_cloud, "prod")))


def head(cloud: Cloud, stage: str) -> dict[str, Any]:
    key = {"pk": {"S": "CHAIN"}, "sk": {"S": "HEAD"}}
    found = cloud.client("dynamodb").get_item(TableName=f"subnet-functions-{stage}-chain", Key=key)
    return dict(found.get("Item", {}))


def until(seconds: float, happened: Callable[[], bool]) -> None:
    deadline = time.monotonic() + seconds
    while not happened():
        assert time.monotonic() < deadline, f"nothing happened within {seconds} s"
        time.sleep(0.2)
