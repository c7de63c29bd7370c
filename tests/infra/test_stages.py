"""`.chalice/config.json` agrees with the task registry, and carries the account that a stage lives in."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import app
from infra import stages, tasks, template
from infra.stages import Pin

ACCOUNT = "123456789012"


@pytest.fixture
def config() -> dict[str, Any]:
    return stages.read()


def test_the_file_is_what_follows_from_the_registry(config: dict[str, Any], tmp_path: Path) -> None:
    assert stages.derived(config) == config, "run `python -m infra.stages`"
    written = tmp_path / "config.json"
    stages.write(config, written)
    assert written.read_text("utf-8") == stages.FILE.read_text("utf-8")


def test_every_task_has_its_time_memory_and_role_in_every_stage(config: dict[str, Any]) -> None:
    assert set(config["stages"]) == {"dev", "prod"}
    for task in tasks.declared():
        if task.image:
            continue
        size = config["lambda_functions"][task.name]
        assert (size["lambda_timeout"], size["lambda_memory_size"]) == (task.timeout, task.memory)
        for stage, settings in config["stages"].items():
            assert settings["lambda_functions"][task.name]["iam_role_arn"].endswith(f"-{stage}-{task.name}")


@pytest.mark.parametrize("stage", ["dev", "prod"])
def test_every_role_that_chalice_is_told_of_is_made_by_the_stack(config: dict[str, Any], stage: str) -> None:
    settings = config["stages"][stage]
    told = {settings["iam_role_arn"], *(f["iam_role_arn"] for f in settings["lambda_functions"].values())}
    resources = template.build(stage, variables={})["Resources"].values()
    made = {r["Properties"]["RoleName"] for r in resources if r["Type"] == "AWS::IAM::Role"}
    assert {arn.rpartition("/")[2] for arn in told} <= made


def test_chalice_makes_no_roles_and_holds_no_secrets(config: dict[str, Any]) -> None:
    assert config["manage_iam_role"] is False
    for stage in config["stages"]:
        for name, value in stages.variables(config, stage).items():
            is_secret = any(word in name for word in ("TOKEN", "SECRET", "PASSWORD", "PRIVATE"))
            assert not is_secret or value.startswith(("ssm:", "secretsmanager:")), name


def test_production_is_declared_as_such(config: dict[str, Any]) -> None:
    assert stages.variables(config, "prod")["ENVIRONMENT"] == "production"
    assert stages.variables(config, "dev")["ENVIRONMENT"] == "development"


def test_a_pinned_stage_carries_its_account_layers_and_buckets(config: dict[str, Any]) -> None:
    layer = f"arn:aws:lambda:us-east-1:{ACCOUNT}:layer:subnet-functions-dev-chain:3"
    pin = Pin(ACCOUNT, "aws", {"chain": layer})
    dev = stages.derived(config, {"dev": pin})["stages"]["dev"]
    assert dev["iam_role_arn"] == f"arn:aws:iam::{ACCOUNT}:role/subnet-functions-dev-api"
    assert dev["lambda_functions"]["chain-tick"]["layers"] == [layer]
    assert "layers" not in dev["lambda_functions"]["leoma-tick"]
    variables = dev["environment_variables"]
    assert variables["AWS_ACCOUNT_ID"] == ACCOUNT
    assert variables["LEOMA_SAMPLES_BUCKET"] == f"subnet-functions-dev-leoma-samples-{ACCOUNT}"


def test_pinning_one_stage_leaves_the_others_alone(config: dict[str, Any]) -> None:
    assert stages.derived(config, {"dev": Pin(ACCOUNT)})["stages"]["prod"] == config["stages"]["prod"]


def test_a_pin_is_read_back_from_the_file(config: dict[str, Any]) -> None:
    pin = Pin(ACCOUNT, "aws-cn", {"chain": "arn"})
    assert stages.pin_of(stages.derived(config, {"dev": pin}), "dev") == pin


def test_a_bucket_name_that_the_operator_chose_stays(config: dict[str, Any]) -> None:
    config["stages"]["dev"]["environment_variables"]["LEOMA_SAMPLES_BUCKET"] = "my-own-samples"
    dev = stages.derived(config, {"dev": Pin(ACCOUNT)})["stages"]["dev"]
    assert dev["environment_variables"]["LEOMA_SAMPLES_BUCKET"] == "my-own-samples"


@pytest.mark.parametrize(
    ("mounts", "expected"),
    [("leoma=/", ["leoma"]), ("claims=/", ["pool"]), ("prism=/prism,leoma=/leoma", ["prism", "leoma"])],
)
def test_a_stage_holds_what_it_mounts(config: dict[str, Any], mounts: str, expected: list[str]) -> None:
    config["stages"]["dev"]["environment_variables"]["MOUNTS"] = mounts
    assert stages.systems(config, "dev") == expected
    assert stages.systems(config, "prod") == ["prism", "pool", "experts", "bitrecs", "leoma"]


@pytest.mark.parametrize("mount", ["prism=/", "pool=/pool", "experts=/x", "bitrecs=/", "leoma=/leoma", "claims=/"])
def test_a_stage_with_one_system_is_told_of_its_functions_and_roles_alone(
    config: dict[str, Any], configure: Callable[..., None], mount: str
) -> None:
    """Chalice would ask for roles that the stack did not make, and AWS would refuse the function."""
    config["stages"]["dev"]["environment_variables"]["MOUNTS"] = mount
    dev = stages.derived(config)["stages"]["dev"]
    resources = template.build("dev", systems=stages.systems(config, "dev"), variables={})["Resources"].values()
    made = {r["Properties"]["RoleName"] for r in resources if r["Type"] == "AWS::IAM::Role"}
    assert {function["iam_role_arn"].rpartition("/")[2] for function in dev["lambda_functions"].values()} <= made
    configure(MOUNTS=mount, AWS_CHALICE_CLI_MODE="true")
    assert {function.name for function in app.build().pure_lambda_functions} == set(dev["lambda_functions"])


def test_the_file_has_one_line_per_function() -> None:
    lines = stages.FILE.read_text("utf-8").splitlines()
    for task in tasks.declared():
        assert sum(f'"{task.name}": {{' in line for line in lines) == (0 if task.image else 3)
    json.loads(stages.FILE.read_text("utf-8"))
