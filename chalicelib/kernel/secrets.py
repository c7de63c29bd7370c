"""Secrets: a variable names one, `ssm:NAME` or `secretsmanager:NAME`; its value never stands in a configuration."""

from __future__ import annotations

from . import aws
from .errors import Unavailable

FRESH_SECONDS = 300
_PARAMETER = "ssm:"
_SECRET = "secretsmanager:"  # noqa: S105 - a prefix


def is_name(text: str) -> bool:
    return text.startswith((_PARAMETER, _SECRET))


def fetch(name: str) -> str | None:
    """The value as it is now, None where there is no such secret."""
    from botocore.exceptions import BotoCoreError, ClientError  # noqa: PLC0415 - loaded with the first client

    try:
        return _parameter(name.removeprefix(_PARAMETER)) if name.startswith(_PARAMETER) else _secret(name)
    except ClientError as error:
        if error.response["Error"]["Code"] in {"ParameterNotFound", "ResourceNotFoundException"}:
            return None
        reason = error.response["Error"]["Code"]
    except BotoCoreError as error:
        reason = type(error).__name__
    told = f"A setting cannot be read ({reason}); try again shortly"
    raise Unavailable(told, code="setting_unreadable", retry_after=5)


def _parameter(name: str) -> str:
    found = aws.client("ssm").get_parameter(Name=name, WithDecryption=True)
    return str(found["Parameter"]["Value"])


def _secret(name: str) -> str:
    found = aws.client("secretsmanager").get_secret_value(SecretId=name.removeprefix(_SECRET))
    return str(found["SecretString"])
