"""A copy of the project to deploy from, and an empty cloud to deploy to; both made once."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from botocore.config import Config
from botocore.session import get_session

from local import bootstrap
from tests.harness.wallets import Wallet, wallet

ROOT = Path(__file__).parents[2]
REGION = "us-east-1"
# Chalice keeps the wheels of requirements.txt here, by their hash: worth sharing with the copy.
WHEELS = Path(".chalice") / "deployments"


@dataclass(frozen=True)
class Cloud:
    """An emulator that runs functions in a bare interpreter: what they import must be in their package."""

    endpoint: str

    def client(self, service: str) -> Any:
        return get_session().create_client(
            service,
            region_name=REGION,
            endpoint_url=self.endpoint,
            aws_access_key_id="test",
            aws_secret_access_key="test",
            config=Config(inject_host_prefix=False, retries={"total_max_attempts": 2}),
        )


@dataclass(frozen=True)
class Checkout:
    """A copy of the project, as an operator has it."""

    path: Path
    endpoint: str

    def run(self, module: str, *arguments: str) -> str:
        """Run a module of the copy; answers what it printed."""
        return self.type(sys.executable, "-m", module, *arguments)

    def type(self, *command: str) -> str:
        """What an operator types in the project's folder, with the project's environment."""
        environment = {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ}
        environment |= {
            "ENV_FILE": os.devnull,
            "AWS_ACCESS_KEY_ID": "test",
            "AWS_SECRET_ACCESS_KEY": "test",
            "AWS_DEFAULT_REGION": REGION,
            "AWS_ENDPOINT_URL": self.endpoint,
        }
        done = subprocess.run(command, cwd=self.path, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"{command} failed:\n{done.stdout}\n{done.stderr}"
        return done.stdout


@pytest.fixture(scope="session")
def admin() -> Wallet:
    return wallet("admin of the deployment")


@pytest.fixture(scope="session")
def deployment_cloud(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cloud]:
    bootstrap.ensure(bootstrap.CLOUD)
    folder = tmp_path_factory.mktemp("cloud")
    script = ROOT / "tests" / "infra" / "emulator.py"
    command = [str(bootstrap.CLOUD.python), "-I", str(script), str(folder), bare_python()]
    environment = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=folder, env=environment, start_new_session=True
    ) as process:
        assert process.stdout is not None
        assert process.stdin is not None
        port = process.stdout.readline().strip()
        assert port, "the embedded cloud did not start"
        yield Cloud(f"http://127.0.0.1:{int(port)}")
        process.stdin.close()
        process.wait(30)


@pytest.fixture(scope="session")
def checkout(tmp_path_factory: pytest.TempPathFactory, deployment_cloud: Cloud, admin: Wallet) -> Checkout:
    path = tmp_path_factory.mktemp("checkout")
    listed = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"]
    for name in subprocess.run(listed, cwd=ROOT, capture_output=True, text=True, check=True).stdout.split("\0"):
        if name and (ROOT / name).is_file():
            (path / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, path / name)
    (ROOT / WHEELS).mkdir(parents=True, exist_ok=True)
    (path / WHEELS).symlink_to(ROOT / WHEELS)
    settle(path, admin)
    return Checkout(path, deployment_cloud.endpoint)


def settle(path: Path, admin: Wallet) -> None:
    """What an operator would set: an admin, a chain, in prod one system alone; and a state machine, to run one."""
    file = path / ".chalice" / "config.json"
    config = json.loads(file.read_text("utf-8"))
    config["stages"]["prod"]["environment_variables"]["MOUNTS"] = "leoma=/leoma"
    for stage in config["stages"].values():
        stage["environment_variables"] |= {
            "LEOMA_ADMIN_HOTKEYS": admin.hotkey,
            "CHAIN_SOURCE": f"file:{path / 'local' / 'chain.json'}",
        }
    file.write_text(json.dumps(config), "utf-8")
    # One schedule is enough to see one fire, and the emulator cannot replace a function that runs for a minute.
    schedules = path / "infra" / "schedules.py"
    text = schedules.read_text("utf-8").replace("_REPEAT_SECONDS = 55", "_REPEAT_SECONDS = 0")
    only = '"ENABLED" if (stage, task.system) == ("prod", "chain") else "DISABLED"'
    schedules.write_text(text.replace('"ENABLED"', only), "utf-8")
    with (path / "infra" / "chain.yaml").open("a", encoding="utf-8") as fragment:
        fragment.write(PROBE)


PROBE = """
  ChainProbe:
    Type: AWS::StepFunctions::StateMachine
    Properties:
      StateMachineName: chain-probe
      Definition:
        StartAt: Sync
        States:
          Sync:
            Type: Task
            Resource: ${task:chain-tick}
            Parameters: {run: chain}
            Catch: [{ErrorEquals: [States.ALL], Next: GiveUp}]
            End: true
          GiveUp: {Type: Fail}
"""


CHALICE = str(Path(sys.executable).parent / "chalice")


def bare_python() -> str:
    """The interpreter that the environment was made from: it has none of the project's packages."""
    return str(getattr(sys, "_base_executable", sys.executable))
