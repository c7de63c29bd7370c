"""`make run` as its user meets it: it serves all there is, keeps to its own, and says why it will not start."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from infra import smoke
from tests.harness.laptop import Laptop, NotReady, eventually


@pytest.fixture(scope="module")
def other(laptop: Laptop, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Laptop]:
    """A second server beside the first, on a machine that lacks something, for an operator with a domain."""
    folder = tmp_path_factory.mktemp("other")
    server = Laptop(folder / "state", MOUNTS="leoma=/", PATH=str(folder)).start()
    yield server
    server.close()


@pytest.fixture
def own(tmp_path: Path) -> Iterator[Laptop]:
    server = Laptop(tmp_path / "state")
    yield server
    server.close()


def chain_seen_at(laptop: Laptop) -> str:
    key = {"pk": {"S": "CHAIN"}, "sk": {"S": "HEAD"}}
    head = laptop.client("dynamodb").get_item(TableName="subnet-functions-local-chain", Key=key)["Item"]
    return str(head["observed_at"]["N"])


def test_it_passes_the_smoke_test_of_a_deployment(laptop: Laptop) -> None:
    smoke.check(laptop.url)


def test_it_serves_every_mount(laptop: Laptop) -> None:
    for system in ("prism", "pool", "experts", "bitrecs", "leoma"):
        assert laptop.get(f"/{system}/openapi.json")["openapi"].startswith("3.1")


def test_it_tells_subnetctl_where_it_is(laptop: Laptop) -> None:
    found = laptop.cloud
    assert found["api_url"] == laptop.url
    assert found["state_version"] == 1
    assert laptop.process is not None
    assert found["pid"] == laptop.process.pid


def test_the_cloud_holds_what_a_deployment_holds(laptop: Laptop) -> None:
    tables = laptop.client("dynamodb").list_tables()["TableNames"]
    assert {f"subnet-functions-local-{name}" for name in ("chain", "leoma", "pool", "prism")} <= set(tables)
    functions = laptop.client("lambda").list_functions()["Functions"]
    names = {function["FunctionName"] for function in functions}
    assert {f"subnet-functions-local-{system}-tick" for system in ("chain", "leoma", "prism")} <= names
    schedules = laptop.client("scheduler").list_schedules()["Schedules"]
    assert {schedule["Name"] for schedule in schedules} <= names


def test_intervals_below_a_minute_are_kept(laptop: Laptop) -> None:
    first = chain_seen_at(laptop)
    eventually(lambda: chain_seen_at(laptop) != first)


def test_a_function_s_exception_keeps_its_name(laptop: Laptop) -> None:
    function = "subnet-functions-local-leoma-tick"
    answer = laptop.client("lambda").invoke(FunctionName=function, Payload=b'{"seconds": "x"}')
    assert json.loads(answer["Payload"].read())["errorType"] == "ValueError"


def test_two_run_side_by_side(laptop: Laptop, other: Laptop) -> None:
    assert other.url != laptop.url
    assert other.cloud["endpoint"] != laptop.cloud["endpoint"]


def test_a_system_may_be_mounted_at_the_root_and_all_tables_exist_all_the_same(other: Laptop) -> None:
    assert other.get("/health")["status"] == "healthy"
    assert "subnet-functions-local-pool" in other.client("dynamodb").list_tables()["TableNames"]


def test_a_machine_without_bubblewrap_is_told(other: Laptop) -> None:
    assert "Debian package: bubblewrap" in other.said()


def refused(laptop: Laptop, **variables: str) -> NotReady:
    with pytest.raises(NotReady) as caught:
        laptop.start(**variables)
    refusal: NotReady = caught.value
    assert len(refusal.said.strip().splitlines()) == 1, refusal.said
    return refusal


def test_a_folder_in_use_is_refused(laptop: Laptop) -> None:
    refusal = refused(Laptop(laptop.state_dir))
    assert refusal.status == 1
    assert "in use by another server" in refusal.said


def test_a_folder_of_a_newer_version_is_refused_and_left_alone(own: Laptop) -> None:
    own.state_dir.mkdir()
    (own.state_dir / "state.json").write_text('{"version": 2}')
    refusal = refused(own)
    assert refusal.status == 1
    assert "newer version" in refusal.said
    assert {path.name for path in own.state_dir.iterdir()} == {"state.json", "lock"}


def test_a_port_in_use_is_refused_before_anything_is_touched(own: Laptop) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        refusal = refused(own, PORT=str(port))
    assert refusal.status == 1
    assert f"PORT {port} on HOST 127.0.0.1 cannot be listened on: Address already in use" in refusal.said
    assert not own.state_dir.exists()


@pytest.mark.parametrize(
    ("variables", "said"),
    [
        ({"PORT": "http"}, "PORT holds 'http': it must be a whole number of at least 0 and at most 65535"),
        ({"MOUNTS": "leoma"}, "MOUNTS holds 'leoma': it must be"),
        ({"HOST": "nowhere.invalid"}, "HOST holds 'nowhere.invalid': it must be an address or a name of this machine"),
    ],
)
def test_an_unusable_setting_ends_the_start_with_one_line(own: Laptop, variables: dict[str, str], said: str) -> None:
    refusal = refused(own, **variables)
    assert refusal.status == 2
    assert said in refusal.said
    assert not own.state_dir.exists()


def test_a_given_cloud_is_used_and_none_started(other: Laptop, own: Laptop) -> None:
    own.start(AWS_ENDPOINT_URL=str(other.cloud["endpoint"]))
    assert own.cloud["endpoint"] == other.cloud["endpoint"]
    assert not (own.state_dir / "tables").exists()
    assert own.get("/leoma/health")["status"] == "healthy"
