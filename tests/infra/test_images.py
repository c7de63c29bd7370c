"""Functions that run strangers' code live in an image, reach nobody and may do nothing."""

from __future__ import annotations

import base64
from typing import Any

import pytest

from infra import names, push, stages, tasks, template
from infra.template import Supplies

URI = "123456789012.dkr.ecr.us-east-1.amazonaws.com/subnet-functions-dev-evaluator"
TASKS = [task for task in tasks.declared() if task.image]


@pytest.fixture(scope="module")
def resources() -> dict[str, Any]:
    supplies = Supplies(images={"evaluator": f"{URI}@sha256:1"})
    return dict(template.build("dev", variables={}, supplies=supplies)["Resources"])


def test_there_are_such_functions() -> None:
    assert TASKS


@pytest.mark.parametrize("task", TASKS, ids=lambda task: task.name)
def test_it_runs_its_handler_in_the_image_where_no_route_leads_out(resources: dict[str, Any], task: Any) -> None:
    properties = resources[names.logical(task.name)]["Properties"]
    assert properties["Code"] == {"ImageUri": f"{URI}@sha256:1"}
    assert properties["ImageConfig"] == {"Command": [task.handler]}
    assert properties["VpcConfig"]["SecurityGroupIds"] == [{"Ref": "IsolatedGroup"}]
    kinds = {resource["Type"] for resource in resources.values()}
    assert not kinds & {"AWS::EC2::InternetGateway", "AWS::EC2::NatGateway", "AWS::EC2::Route", "AWS::EC2::VPCEndpoint"}
    (egress,) = resources["IsolatedGroup"]["Properties"]["SecurityGroupEgress"]
    assert egress["CidrIp"] == "127.0.0.1/32"


@pytest.mark.parametrize("task", TASKS, ids=lambda task: task.name)
def test_whoever_holds_its_credentials_may_do_nothing(resources: dict[str, Any], task: Any) -> None:
    role = resources[f"{names.logical(task.name)}Role"]["Properties"]
    (policy,) = role["Policies"]
    log, denied = policy["PolicyDocument"]["Statement"]
    assert {action.partition(":")[0] for action in log["Action"]} == {"logs"}
    assert (denied["Effect"], denied["Action"], denied["Resource"]) == ("Deny", ["*"], ["*"])
    (held,) = role["ManagedPolicyArns"]
    assert held["Fn::Sub"].endswith("AWSLambdaENIManagementAccess")


def test_without_an_image_there_is_a_repository_to_push_it_to_and_no_function() -> None:
    resources = template.build("dev", variables={})["Resources"]
    assert resources["EvaluatorRepository"]["Properties"]["ImageTagMutability"] == "IMMUTABLE"
    assert not [resource for resource in resources.values() if resource["Type"] == "AWS::Lambda::Function"]


def test_the_laptop_has_none_of_it() -> None:
    kinds = {resource["Type"] for resource in template.build("local", variables={})["Resources"].values()}
    assert not [kind for kind in kinds if kind.startswith(("AWS::EC2", "AWS::ECR"))]


class Registry:
    """As much of ECR as a push needs."""

    def describe_repositories(self, repositoryNames: list[str]) -> dict[str, Any]:  # noqa: N803 - AWS's name
        assert repositoryNames == ["subnet-functions-dev-evaluator"]
        return {"repositories": [{"repositoryUri": URI}]}

    def get_authorization_token(self) -> dict[str, Any]:
        return {"authorizationData": [{"authorizationToken": base64.b64encode(b"AWS:pass").decode()}]}

    def describe_images(self, **_: object) -> dict[str, Any]:
        return {"imageDetails": [{"imageDigest": "sha256:1"}]}


def test_a_pushed_image_is_remembered_by_its_digest() -> None:
    ran: list[tuple[str, ...]] = []
    given: list[bytes] = []

    def run(command: list[str], words: bytes) -> None:
        ran.append(tuple(command[:2]))
        given.append(words)

    uri = push.push("dev", "evaluator", run, Registry())
    assert ran == [("docker", "login"), ("docker", "build"), ("docker", "push")]
    assert given == [b"pass", b"", b""]
    config = push.remember(stages.read(), "dev", "evaluator", uri)
    assert config["stages"]["dev"]["images"] == {"evaluator": f"{URI}@sha256:1"}
    assert stages.derived(config)["stages"]["dev"]["images"] == {"evaluator": f"{URI}@sha256:1"}
