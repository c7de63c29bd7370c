"""Which principal signed a request, as API Gateway finds out: AWS Signature Version 4 with the laptop's credentials."""

from __future__ import annotations

import hmac
import re
import time
from collections.abc import Mapping
from datetime import UTC, datetime

PRINCIPAL = "arn:aws:iam::000000000000:root"
_ACCESS_KEY, _SECRET_KEY = "test", "test"
_SERVICE = "execute-api"
_WINDOW_SECONDS = 300
_AUTHORIZATION = re.compile(
    r"AWS4-HMAC-SHA256 Credential=(?P<key>[^/,\s]+)/(?P<day>\d{8})/(?P<region>[a-z0-9-]+)/(?P<service>[a-z0-9-]+)/"
    r"aws4_request, ?SignedHeaders=(?P<headers>[a-z0-9;-]+), ?Signature=(?P<signature>[0-9a-f]{64})"
)


def principal(method: str, target: str, headers: Mapping[str, str], body: bytes) -> str | None:
    """The account's root where the signature is one of its credentials, young, and over host and time."""
    named = {name.lower(): value for name, value in headers.items()}
    found = _AUTHORIZATION.fullmatch(named.get("authorization", ""))
    stamp = named.get("x-amz-date", "")
    if not found or found["key"] != _ACCESS_KEY or found["service"] != _SERVICE or not _is_young(stamp, found["day"]):
        return None
    signed = found["headers"].split(";")
    if not {"host", "x-amz-date"} <= set(signed) <= set(named):
        return None
    given = {name: named[name] for name in signed}
    wanted = _signature(method, f"http://{named['host']}{target}", given, body, stamp, found["region"])
    return PRINCIPAL if hmac.compare_digest(wanted, found["signature"]) else None


def _is_young(stamp: str, day: str) -> bool:
    try:
        at = datetime.strptime(stamp, "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC).timestamp()
    except ValueError:
        return False
    return stamp.startswith(day) and abs(time.time() - at) <= _WINDOW_SECONDS


def _signature(  # noqa: PLR0917 - the parts that are signed
    method: str, url: str, headers: Mapping[str, str], body: bytes, stamp: str, region: str
) -> str:
    from botocore.auth import SigV4Auth  # noqa: PLC0415 - only operators' requests need it
    from botocore.awsrequest import AWSRequest  # noqa: PLC0415
    from botocore.credentials import Credentials  # noqa: PLC0415

    request = AWSRequest(method=method, url=url, data=body, headers=dict(headers))
    request.context["timestamp"] = stamp
    signer = SigV4Auth(Credentials(_ACCESS_KEY, _SECRET_KEY), _SERVICE, region)
    canonical = signer.canonical_request(request)
    return str(signer.signature(signer.string_to_sign(request, canonical), request))
