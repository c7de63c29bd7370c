"""What the operator's pages say exists: alarms with their runbooks, AWS commands, `make` targets, permissions."""

from __future__ import annotations

import fnmatch
import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from botocore.session import get_session

from infra import template
from local import bootstrap
from tests.docs.commands import commands
from tests.harness.laptop import ROOT

OPERATE = ROOT / "docs" / "operate.md"
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
RESOURCES = template.build("prod", variables={})["Resources"].values()
ALARMS = [r["Properties"] for r in RESOURCES if r["Type"] == "AWS::CloudWatch::Alarm"]
RUNBOOKS = set(re.findall(r"^### `(.+?)`$", OPERATE.read_text("utf-8"), re.MULTILINE))
# `aws logs tail` is a command of the tool itself, made of several operations.
CUSTOM = {("logs", "tail")}
# Where the tool gives a parameter another name, or adds one.
RENAMED = {"notification-endpoint": "endpoint"}
ADDED = {"overwrite"}


def runbook_of(alarm: dict[str, Any]) -> str:
    return str(alarm["AlarmDescription"]).rpartition(", ")[2]


def test_every_alarm_names_its_runbook_and_every_runbook_has_an_alarm() -> None:
    assert len(ALARMS) > 50
    assert {runbook_of(alarm) for alarm in ALARMS} == RUNBOOKS
    for alarm in ALARMS:
        assert alarm["AlarmName"].endswith(runbook_of(alarm).removeprefix("…")), alarm["AlarmName"]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_aws_commands_are_operations_with_their_parameters(page: Path) -> None:
    loader = get_session()
    for service, operation, *rest in commands(page, "aws"):
        if (service, operation) in CUSTOM:
            continue
        model = loader.get_service_model(service)
        known = {dashed(name): name for name in model.operation_names}
        assert operation in known, f"aws {service} has no {operation}"
        shape = model.operation_model(known[operation]).input_shape
        members = {dashed(name) for name in shape.members}
        given = {RENAMED.get(word[2:], word[2:]) for word in rest if word.startswith("--")}
        assert given <= {*members, *ADDED}, f"aws {service} {operation}: {given - members}"
        missing = {name for name in shape.required_members if dashed(name) not in given}
        assert not missing, f"aws {service} {operation} lacks {missing}"


def dashed(name: str) -> str:
    """As the command line writes a name: `OpenIDConnectProvider` is open-id-connect-provider."""
    return re.sub(r"([a-z0-9])([A-Z])", r"\1-\2", re.sub(r"([A-Z]+)([A-Z][a-z])", r"\1-\2", name)).lower()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_make_targets_exist(page: Path) -> None:
    for target, *rest in commands(page, "make"):
        assert target in bootstrap.COMMANDS, f"make {target}"
        assert all(re.match(r"(STAGE|ARGS)=", word) for word in rest), rest


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_between_pages_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\((?!https?:)([^)]+)\)", page.read_text("utf-8")):
        file, _, anchor = target.partition("#")
        other = (page.parent / file).resolve() if file else page
        assert other.exists(), f"{page.name}: {target}"
        if anchor:
            heads = re.findall(r"^#+ (.+)$", other.read_text("utf-8"), re.MULTILINE)
            assert anchor in {re.sub(r"[^\w -]", "", head.lower()).replace(" ", "-") for head in heads}, target


def test_the_deployer_may_make_everything_that_the_stack_holds() -> None:
    statements = json.loads((ROOT / "infra" / "deployer.json").read_text("utf-8"))["Statement"]
    allowed = [action for statement in statements for action in statement["Action"]]
    for resource in RESOURCES:
        _, service, kind = resource["Type"].split("::")
        needed = _MADE_BY[f"{service}::{kind}"]
        assert any(fnmatch.fnmatchcase(needed, pattern) for pattern in allowed), needed


_MADE_BY = {
    "CloudWatch::Alarm": "cloudwatch:PutMetricAlarm",
    "DynamoDB::Table": "dynamodb:CreateTable",
    "EC2::SecurityGroup": "ec2:CreateSecurityGroup",
    "EC2::Subnet": "ec2:CreateSubnet",
    "EC2::VPC": "ec2:CreateVpc",
    "ECR::Repository": "ecr:CreateRepository",
    "IAM::ManagedPolicy": "iam:CreatePolicy",
    "IAM::Role": "iam:CreateRole",
    "Lambda::EventSourceMapping": "lambda:CreateEventSourceMapping",
    "Lambda::Function": "lambda:CreateFunction",
    "Lambda::LayerVersion": "lambda:PublishLayerVersion",
    "Logs::LogGroup": "logs:CreateLogGroup",
    "S3::Bucket": "s3:CreateBucket",
    "S3::BucketPolicy": "s3:PutBucketPolicy",
    "SNS::Topic": "sns:CreateTopic",
    "SQS::Queue": "sqs:CreateQueue",
    "Scheduler::Schedule": "scheduler:CreateSchedule",
    "StepFunctions::StateMachine": "states:CreateStateMachine",
}


def test_the_deploying_workflow_stores_no_key_and_runs_what_exists() -> None:
    workflow = yaml.safe_load((ROOT / ".github" / "workflows" / "deploy.yml").read_text("utf-8"))
    job = workflow["jobs"]["deploy"]
    assert job["permissions"] == {"contents": "read", "id-token": "write"}
    assert "secrets." not in json.dumps(workflow, default=str)
    (credentials,) = (step for step in job["steps"] if "configure-aws-credentials" in step.get("uses", ""))
    assert set(credentials["with"]) == {"role-to-assume", "aws-region"}
    targets = [step["run"].split()[1] for step in job["steps"] if step.get("run", "").startswith("make ")]
    assert targets == ["plan", "deploy"]
    assert set(targets) <= set(bootstrap.COMMANDS)


def test_the_trust_policy_is_for_one_repository_and_environment() -> None:
    (text,) = re.findall(r"^```json\n(.*?)^```", OPERATE.read_text("utf-8"), re.MULTILINE | re.DOTALL)
    (statement,) = json.loads(text)["Statement"]
    assert statement["Action"] == "sts:AssumeRoleWithWebIdentity"
    assert {key.rpartition(":")[2] for key in statement["Condition"]["StringEquals"]} == {"aud", "sub"}
    assert "*" not in text
