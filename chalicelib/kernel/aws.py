"""The one AWS session of a process: clients are made on first use, with our own bounded retries on top."""

from __future__ import annotations

import functools
import os
import threading
from typing import Any

from .sigv4 import Signer

REGION = "us-east-1"
_CONNECT_SECONDS = 2
_READ_SECONDS = 6  # four tries end before API Gateway stops waiting
_TASK_SECONDS = 905  # a task may run for fifteen minutes

_MAKING = threading.Lock()


@functools.cache
def _session() -> Any:
    from botocore.session import get_session  # noqa: PLC0415 - a quarter of a second that a cold health check never pays

    return get_session()


@functools.cache
def client(service: str, read_seconds: float | None = None) -> Any:
    """A low-level client; thread-safe, shared by the whole process; `read_seconds` where an answer must be quick."""
    with _MAKING:  # a session makes one client at a time
        return _client(service, read_seconds)


def _client(service: str, read_seconds: float | None) -> Any:
    from botocore.config import Config  # noqa: PLC0415

    config = Config(
        connect_timeout=_CONNECT_SECONDS,
        read_timeout=read_seconds or (_TASK_SECONDS if service == "lambda" else _READ_SECONDS),
        retries={"mode": "standard", "total_max_attempts": 1},
        max_pool_connections=50,
        signature_version="s3v4" if service == "s3" else None,
        request_checksum_calculation="when_required",
        s3={"addressing_style": "path" if endpoint("s3") else "virtual"} if service == "s3" else None,
        inject_host_prefix=not endpoint(service),
    )
    made = _session().create_client(service, region_name=_region(), endpoint_url=endpoint(service), config=config)
    if service not in {"dynamodb", "s3"} or not _session().get_credentials():
        return made
    from . import dynamodb, s3, short_road  # noqa: PLC0415 - what they import has come with the session

    road = dynamodb.DataCalls if service == "dynamodb" else s3.ObjectCalls
    return short_road.shortened(made, road, signer)


def signer(service: str) -> Signer:
    """Who signs now: the credentials of a role change every few hours."""
    held = _session().get_credentials().get_frozen_credentials()
    return Signer(held.access_key, held.secret_key, held.token, _region(), service)


def _region() -> str:
    return os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION") or REGION


def endpoint(service: str) -> str | None:
    """Where an emulator answers: the given URL, or LocalStack's when `LOCALSTACK=1`; nothing is ever probed."""
    given = os.environ.get("AWS_ENDPOINT_URL")
    if given:
        return given
    if os.environ.get("LOCALSTACK", "").lower() in {"1", "true"}:
        from localstack_client.config import get_service_endpoint  # noqa: PLC0415

        return str(get_service_endpoint(service))
    return None


def forget_clients() -> None:
    """After the endpoint or the credentials changed."""
    client.cache_clear()
    _session.cache_clear()


if "AWS_LAMBDA_FUNCTION_NAME" in os.environ and "AWS_ENDPOINT_URL" not in os.environ:
    # A Lambda starts up on a full core for free: pay for the import there, not in the first request.
    client("dynamodb")
