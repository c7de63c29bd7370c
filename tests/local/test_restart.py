"""Stopped or killed, a server comes back with what it acknowledged, under the settings of its new start."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

import pytest

from chalicelib.kernel import keys
from chalicelib.pool import merkle
from subnetctl import signing
from tests.harness.laptop import ROOT, Laptop, eventually
from tests.harness.wallets import wallet
from tests.local.test_laptop import chain_seen_at


class Admin:
    """A wallet as `subnetctl` has them."""

    address = wallet("admin").hotkey

    def sign(self, message: bytes) -> bytes:
        return wallet("admin").sign(message)


def remember(laptop: Laptop, name: str) -> None:
    """A signed write that the API acknowledges."""
    body = json.dumps({"hotkey": wallet(name).hotkey}).encode()
    headers = signing.leoma(Admin(), body) | {"Content-Type": "application/json"}
    with urlopen(Request(f"{laptop.url}/leoma/blacklist", body, headers), timeout=60) as reply:
        assert reply.status == 200


def remembers(laptop: Laptop, name: str) -> bool:
    return wallet(name).hotkey in laptop.get("/leoma/blacklist/miners")


def variables_of_functions(laptop: Laptop) -> dict[str, Any]:
    function = laptop.client("lambda").get_function_configuration(FunctionName="subnet-functions-local-leoma-tick")
    variables: dict[str, Any] = function["Environment"]["Variables"]
    return variables


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


def pretend_a_job_was_cut_off(laptop: Laptop) -> None:
    laptop.client("dynamodb").update_item(
        TableName="subnet-functions-local-chain",
        Key={"pk": {"S": "JOB"}, "sk": {"S": "sync"}},
        UpdateExpression="SET running_until = :until",
        ExpressionAttributeValues={":until": {"N": str(time.time() + 300)}},
    )


@dataclass
class Lives:
    """One folder, two servers after each other: what the first was like, and the second as it runs."""

    before: dict[str, Any]
    status: int
    left_behind: set[str]
    now: Laptop


@pytest.fixture(scope="module")
def lives(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lives]:
    server = Laptop(tmp_path_factory.mktemp("lives") / "state")
    server.start(ADMIN_HOTKEYS=Admin.address, AWS_PROFILE="someone", SECRET_OF_THE_USER="x")
    remember(server, "miner")
    before = {
        "endpoint": server.cloud["endpoint"],
        "variables": variables_of_functions(server),
        "chain": chain_seen_at(server),
        "cloud": cloud_pid(server),
    }
    pretend_a_job_was_cut_off(server)
    status = server.stop(signal.SIGINT)
    left_behind = {path.name for path in server.state_dir.iterdir()}
    yield Lives(before, status, left_behind, server.start(ADMIN_HOTKEYS=""))
    server.close()


def test_a_stop_is_no_failure_and_takes_everything_along(lives: Lives) -> None:
    assert lives.status == 0
    assert "cloud.json" not in lives.left_behind
    eventually(lambda: not running_in_session(lives.before["cloud"]))


def test_a_restart_finds_what_was_written(lives: Lives) -> None:
    assert remembers(lives.now, "miner")


def test_links_handed_out_before_lead_to_the_same_place(lives: Lives) -> None:
    assert lives.now.cloud["endpoint"] == lives.before["endpoint"]


def test_functions_get_the_knobs_of_this_start_and_nothing_else_of_the_environment(lives: Lives) -> None:
    assert lives.before["variables"]["ADMIN_HOTKEYS"] == Admin.address
    assert lives.before["variables"].keys().isdisjoint({"SECRET_OF_THE_USER", "AWS_PROFILE"})
    now = variables_of_functions(lives.now)
    assert now["ADMIN_HOTKEYS"] == ""
    assert now["STAGE"] == "local"
    assert now["CHAIN_SOURCE"].endswith("/chain.json")


def test_a_job_that_was_cut_off_does_not_hold_up_the_next_start(lives: Lives) -> None:
    eventually(lambda: chain_seen_at(lives.now) != lives.before["chain"])


@pytest.fixture
def own(tmp_path: Path) -> Iterator[Laptop]:
    server = Laptop(tmp_path / "state", ADMIN_HOTKEYS=Admin.address, MERKLE_CLAIM_ENABLED="1")
    yield server
    server.close()


def test_a_server_that_is_killed_loses_nothing_for_its_cloud_saves_when_it_goes(own: Laptop) -> None:
    own.start()
    remember(own, "miner")
    own.stop(signal.SIGKILL)
    own.start()
    assert remembers(own, "miner")

    cloud = cloud_pid(own)
    assert own.stop(signal.SIGTERM) == 0
    assert not (own.state_dir / "cloud.json").exists()
    eventually(lambda: not running_in_session(cloud))


CLAIMS = 500


def publishing(laptop: Laptop, **variables: str) -> subprocess.Popen[bytes]:
    """`subnetctl pool publish-epoch` on its way."""
    file = laptop.state_dir.with_name("claims.csv")
    rows = [f"{keys.address(hashlib.sha256(b'%d' % n).digest())},,{n + 1}" for n in range(CLAIMS)]
    file.write_text("\n".join(["hotkey,recipient_coldkey,amount_units", *rows]))
    command = [sys.executable, "-m", "subnetctl.main", "pool", "publish-epoch", "--epoch", "7", "--claims", str(file)]
    environment = {"PATH": os.environ["PATH"], "ENV_FILE": os.devnull, **laptop.environment, **variables}
    return subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def has_begun_to_publish(laptop: Laptop) -> bool:
    """Asked of the cloud itself: the API shows nothing of an epoch before it is published."""
    found = laptop.client("dynamodb").query(
        TableName="subnet-functions-local-pool",
        KeyConditionExpression="pk = :pk",
        ExpressionAttributeValues={":pk": {"S": "PUBLISHING#7"}},
    )
    return bool(found["Count"])


def proves(laptop: Laptop, number: int, root: str) -> bool:
    hotkey = hashlib.sha256(b"%d" % number).digest()
    found = laptop.get(f"/pool/claims/epoch/7/proof/{keys.address(hotkey)}")
    leaf = merkle.Leaf(found["index"], hotkey, hotkey, number + 1)
    return merkle.verifies(bytes.fromhex(root[2:]), 7, leaf, [bytes.fromhex(item[2:]) for item in found["proof"]])


def test_a_cloud_that_is_killed_keeps_all_but_the_last_seconds_and_a_publication_goes_on(own: Laptop) -> None:
    own.start()
    remember(own, "miner")
    publication = publishing(own, PUBLISH_CHUNK="1")
    eventually(lambda: has_begun_to_publish(own))
    publication.send_signal(signal.SIGSTOP)  # it must not be done before the cloud saves what it began
    saved = own.state_dir / "tables" / "dynamodb.json"
    for word in (wallet("miner").hotkey, "PUBLISHING#7"):
        eventually(lambda word=word: saved.exists() and word in saved.read_text())  # type: ignore[misc] # mypy infers no default
    publication.kill()
    os.killpg(cloud_pid(own), signal.SIGKILL)
    assert publication.wait() == -signal.SIGKILL
    assert own.wait() == 1
    assert "the embedded cloud has ended" in own.said()
    own.start()
    assert remembers(own, "miner")
    assert own.get("/pool/claims/epochs")["epochs"] == []
    assert publishing(own).wait() == 0
    found = own.get("/pool/claims/epoch")
    assert found["num_of_leaves"] == CLAIMS
    assert all(proves(own, number, found["root"]) for number in range(0, CLAIMS, 9))
