"""The operator's own AWS: clients with the credentials, region and endpoint that the AWS tools would use."""

from __future__ import annotations

import functools
import os
from dataclasses import dataclass
from typing import Any

from botocore.config import Config
from botocore.session import get_session

from chalicelib.kernel import aws


class NoRegion(RuntimeError):
    """Neither the environment nor the profile names a region."""

    def __init__(self) -> None:
        super().__init__("no region: set AWS_DEFAULT_REGION, or `region` in your AWS profile")


@dataclass(frozen=True)
class Place:
    """Where a deployment goes."""

    account: str
    region: str
    partition: str


@functools.cache
def client(service: str) -> Any:
    session = get_session()
    region = session.get_config_variable("region")
    if not region:
        raise NoRegion
    config = Config(retries={"mode": "standard", "max_attempts": 8}, user_agent_extra="subnet-functions-deploy")
    given = None if "AWS_ENDPOINT_URL" in os.environ else aws.endpoint(service)
    return session.create_client(service, region_name=region, endpoint_url=given, config=config)


def api_url(api_id: str, stage: str, public: str) -> str:
    """Where the API answers; an emulator serves it under its own address."""
    emulator = aws.endpoint("apigateway")
    return f"{emulator}/restapis/{api_id}/{stage}/_user_request_" if emulator else public


def place() -> Place:
    sts = client("sts")
    identity = sts.get_caller_identity()
    return Place(identity["Account"], sts.meta.region_name, identity["Arn"].split(":")[1])
