"""`make run` as its user meets it: it serves, keeps what was written, stops in order, says why it will not start."""

from __future__ import annotations

import json
import os
import signal
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.request import Request as HttpRequest
from urllib.request import urlopen

import pytest
from botocore.session import get_session

from subnetctl import signing
from tests.harness.laptop import Laptop, NotReady
from tests.harness.wallets import wallet

SECONDS_TO_WAIT = 30


class Admin:
    """A wallet as `subnetctl` has them."""

    address = wallet("admin").hotkey

    def sign(self, message: bytes) -> bytes:
        return wallet("admin").sign(message)


ADMIN = Admin()


def client(laptop: Laptop, service: str) -> Any:
    return get_session().create_client(
        service,
        endpoint_url=laptop.cloud["endpoint"],
        region_name="us-east-1",
        aws_access_key_id="test",
        aws_secret_access_key="test",
    )


def remember(laptop: Laptop, name: str) -> None:
    """A signed write that the API acknowledges."""
    body = json.dumps({"hotkey": wallet(name).hotkey}).encode()
    headers = signing.leoma(ADMIN, body) | {"Content-Type": "application/json"}
    with urlopen(HttpRequest(f"{laptop.url}/leoma/blacklist", body, headers), timeout=SECONDS_TO_WAIT) as reply:
        assert reply.status == 200


def remembers(laptop: Laptop, name: str) -> bool:
    return wallet(name).hotkey in laptop.get("/leoma/blacklist/miners")


def invoke(laptop: Laptop, task: str, event: dict[str, Any]) -> Any:
    answer = client(laptop, "lambda").invoke(
        FunctionName=f"subnet-functions-local-{task}", Payload=json.dumps(event).encode()
    )
    return json.loads(answer["Payload"].read())


def eventually(true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + SECONDS_TO_WAIT
    while not true():
        assert time.monotonic() < deadline, "it never came true"
        time.sleep(0.05)


@pytest.fixture
def own(tmp_path: Path) -> Iterator[Laptop]:
    """A server that a test may stop and break."""
    server = Laptop(tmp_path / "state", ADMIN_HOTKEYS=ADMIN.address)
    yield server
    server.close()


def test_it_serves_the_landing_page_and_every_mount(laptop: Laptop) -> None:
    for system in ("prism", "pool", "experts", "bitrecs", "leoma"):
        assert laptop.get(f"/{system}/openapi.json")["openapi"].startswith("3.1")


def test_it_tells_subnetctl_where_it_is(laptop: Laptop) -> None:
    found = laptop.cloud
    assert found["api_url"] == laptop.url
    assert found["state_version"] == 1
    assert laptop.process is not None
    assert found["pid"] == laptop.process.pid


def test_the_cloud_holds_what_a_deployment_holds(laptop: Laptop) -> None:
    tables = client(laptop, "dynamodb").list_tables()["TableNames"]
    assert {f"subnet-functions-local-{name}" for name in ("chain", "leoma", "pool", "prism")} <= set(tables)
    functions = client(laptop, "lambda").list_functions()["Functions"]
    names = {function["FunctionName"] for function in functions}
    assert {f"subnet-functions-local-{system}-tick" for system in ("chain", "leoma", "prism")} <= names
    schedules = client(laptop, "scheduler").list_schedules()["Schedules"]
    assert {schedule["Name"] for schedule in schedules} <= names


def chain_seen_at(laptop: Laptop) -> str:
    key = {"pk": {"S": "CHAIN"}, "sk": {"S": "HEAD"}}
    head = client(laptop, "dynamodb").get_item(TableName="subnet-functions-local-chain", Key=key)["Item"]
    return str(head["observed_at"]["N"])


def test_intervals_below_a_minute_are_kept(laptop: Laptop) -> None:
    first = chain_seen_at(laptop)
    eventually(lambda: chain_seen_at(laptop) != first)


def test_a_job_that_was_cut_off_does_not_hold_up_the_next_start(own: Laptop) -> None:
    own.start()
    first = chain_seen_at(own)
    client(own, "dynamodb").update_item(
        TableName="subnet-functions-local-chain",
        Key={"pk": {"S": "JOB"}, "sk": {"S": "sync"}},
        UpdateExpression="SET running_until = :until",
        ExpressionAttributeValues={":until": {"N": str(time.time() + 300)}},
    )
    own.stop()
    own.start()
    eventually(lambda: chain_seen_at(own) != first)


def test_a_function_s_exception_keeps_its_name(laptop: Laptop) -> None:
    assert invoke(laptop, "leoma-tick", {"seconds": "x"})["errorType"] == "ValueError"


def test_functions_get_the_knobs_and_nothing_else_of_the_environment(own: Laptop) -> None:
    own.start(ADMIN_HOTKEYS="", AWS_PROFILE="someone", SECRET_OF_THE_USER="x")
    described = client(own, "lambda").get_function_configuration(FunctionName="subnet-functions-local-leoma-tick")
    variables = described["Environment"]["Variables"]
    assert variables["ADMIN_HOTKEYS"] == ""
    assert variables["STAGE"] == "local"
    assert variables["CHAIN_SOURCE"].endswith("local/chain.json")
    assert "SECRET_OF_THE_USER" not in variables
    own.stop()
    own.start(ADMIN_HOTKEYS="5abc")
    described = client(own, "lambda").get_function_configuration(FunctionName="subnet-functions-local-leoma-tick")
    assert described["Environment"]["Variables"]["ADMIN_HOTKEYS"] == "5abc"


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
def test_a_restart_finds_what_was_written(own: Laptop, how: signal.Signals) -> None:
    own.start()
    endpoint = own.cloud["endpoint"]
    remember(own, "word")
    assert own.stop(how) == 0
    assert not (own.state_dir / "cloud.json").exists()
    own.start()
    assert remembers(own, "word")
    assert own.cloud["endpoint"] == endpoint, "links handed out before would be dead"


def test_a_server_that_is_killed_loses_nothing_for_its_cloud_saves_when_it_goes(own: Laptop) -> None:
    own.start()
    remember(own, "word")
    own.stop(signal.SIGKILL)
    own.start()
    assert remembers(own, "word")


def test_a_cloud_that_is_killed_too_keeps_all_but_the_last_seconds(own: Laptop) -> None:
    own.start()
    remember(own, "word")
    saved = own.state_dir / "tables" / "dynamodb.json"
    eventually(lambda: saved.exists() and wallet("word").hotkey in saved.read_text())
    os.killpg(cloud_pid(own), signal.SIGKILL)
    own.stop(signal.SIGKILL)
    own.start()
    assert remembers(own, "word")


def test_a_server_whose_cloud_dies_says_so_and_fails(own: Laptop) -> None:
    own.start()
    os.killpg(cloud_pid(own), signal.SIGKILL)
    assert own.wait() == 1
    assert "the embedded cloud has ended" in own.said()


def cloud_pid(laptop: Laptop) -> int:
    """The child that runs the emulator."""
    assert laptop.process is not None
    children = Path(f"/proc/{laptop.process.pid}/task").glob("*/children")
    return int(" ".join(path.read_text() for path in children).split()[0])


def running_in_session(leader: int) -> list[int]:
    """Processes of a session that still run; what has ended and waits to be collected does not."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            pid, _, rest = path.read_text().partition(" (")
        except (FileNotFoundError, ProcessLookupError):
            continue
        state, _parent, _group, session = rest.rpartition(") ")[2].split()[:4]
        if int(session) == leader and state != "Z":
            found.append(int(pid))
    return found


def test_nothing_of_it_runs_after_a_stop(own: Laptop) -> None:
    own.start()
    cloud = cloud_pid(own)
    own.stop()
    eventually(lambda: not running_in_session(cloud))


def test_two_run_side_by_side(laptop: Laptop, own: Laptop) -> None:
    own.start()
    remember(own, "mine")
    assert own.url != laptop.url
    assert not remembers(laptop, "mine")


def test_a_system_may_be_mounted_at_the_root(own: Laptop) -> None:
    own.start(MOUNTS="leoma=/")
    assert own.get("/health")["status"] == "healthy"


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
        ({"CHAIN_SYNC_SECONDS": "0"}, "CHAIN_SYNC_SECONDS holds '0': it must be"),
        ({"CHAIN_SOURCE": "chain.json"}, "CHAIN_SOURCE holds 'chain.json': it must be file:PATH"),
        ({"MOUNTS": "leoma"}, "MOUNTS holds 'leoma': it must be"),
        ({"ENVIRONMENT": "production", "FETCH_ALLOW_PRIVATE": "1"}, "FETCH_ALLOW_PRIVATE holds '1': it must be 0"),
    ],
)
def test_an_unusable_setting_ends_the_start_with_one_line(own: Laptop, variables: dict[str, str], said: str) -> None:
    refusal = refused(own, **variables)
    assert refusal.status == 2
    assert said in refusal.said
    assert not own.state_dir.exists()


def test_a_machine_without_bubblewrap_is_told(own: Laptop, tmp_path: Path) -> None:
    own.start(PATH=str(tmp_path))
    assert "Debian package: bubblewrap" in own.said()


def test_a_given_cloud_is_used_and_none_started(laptop: Laptop, own: Laptop) -> None:
    own.start(AWS_ENDPOINT_URL=str(laptop.cloud["endpoint"]))
    assert own.cloud["endpoint"] == laptop.cloud["endpoint"]
    assert not (own.state_dir / "tables").exists()
    assert own.get("/leoma/health")["status"] == "healthy"
