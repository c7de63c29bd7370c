"""What is wrong, seen from here: the API, the two clocks, the stores, the chain copy, a hotkey's registration."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any
from urllib.error import URLError
from urllib.request import urlopen

from chalicelib.kernel import aws, chain
from chalicelib.kernel.settings import KernelSettings
from chalicelib.kernel.version import VERSION

_PATIENCE_SECONDS = 10
_SKEW_SECONDS = 60
_OLD_COPY_SECONDS = 600


@dataclass(frozen=True)
class Finding:
    """One thing looked at; `remedy` says what to do when it is not well."""

    what: str
    well: bool
    found: str
    remedy: str = ""


def examine(url: str, hotkey: str = "", *, cloud: bool = True) -> list[Finding]:
    """Everything that can be told from here; a look that fails is a finding, not an end. Without a cloud: the API."""
    looks: list[Callable[[], Iterator[Finding]]] = [lambda: _api(url)]
    if cloud:
        looks += [_stores, _chain]
    if cloud and hotkey:
        looks.append(lambda: _registration(hotkey))
    return [finding for look in looks for finding in look()]


def _api(url: str) -> Iterator[Finding]:
    try:
        sent = time.time()
        clock, mounts = _json(f"{url}/time"), _json(f"{url}/mounts.json")
        received = time.time()
    except (URLError, OSError, ValueError) as error:
        yield Finding("api", False, f"{url}: {error}", "start the server, or give its address with --url")
        return
    yield Finding("api", True, f"{url} serves {', '.join(mount['name'] for mount in mounts['mounts'])}")
    skew = clock["unix_ms"] / 1000 - (sent + received) / 2
    remedy = "set this machine's clock: signed requests carry its time"
    yield Finding("clock", abs(skew) <= _SKEW_SECONDS, f"the server is {skew:+.1f} s from here", remedy)
    same = mounts["version"] == VERSION
    yield Finding("version", same, f"server {mounts['version']}, here {VERSION}", "update the older of the two")


def _stores() -> Iterator[Finding]:
    from infra import template  # noqa: PLC0415 - loads all that is deployed

    resources = template.build(KernelSettings.current().stage)["Resources"].values()
    for resource in resources:
        properties = resource["Properties"]
        if resource["Type"] == "AWS::DynamoDB::Table":
            name = properties["TableName"]
            yield _present("table", name, _table_state)
        elif resource["Type"] == "AWS::S3::Bucket" and isinstance(properties["BucketName"], str):
            name = properties["BucketName"]
            yield _present("bucket", name, _bucket_state)


def _present(kind: str, name: str, state: Callable[[str], str]) -> Finding:
    from botocore.exceptions import BotoCoreError, ClientError  # noqa: PLC0415 - loaded with the first client

    try:
        found = state(name)
    except (BotoCoreError, ClientError) as error:
        return Finding(kind, False, f"{name}: {error}", "apply the template: `make run` here, `make deploy` on AWS")
    return Finding(kind, found in {"ACTIVE", "there"}, f"{name}: {found}", "wait until it is active")


def _table_state(name: str) -> str:
    return str(aws.client("dynamodb").describe_table(TableName=name)["Table"]["TableStatus"])


def _bucket_state(name: str) -> str:
    aws.client("s3").head_bucket(Bucket=name)
    return "there"


def _chain() -> Iterator[Finding]:
    head = chain.head()
    if head is None:
        yield Finding("chain", False, "never copied", "run `subnetctl chain sync` and read what it says")
        return
    age = time.time() - head.observed_at
    remedy = "run `subnetctl chain sync`: it says why the source gives nothing new"
    yield Finding("chain", age <= _OLD_COPY_SECONDS, f"block {head.block}, {age:.0f} s old", remedy)


def _registration(hotkey: str) -> Iterator[Finding]:
    for system in ("prism", "pool", "experts", "bitrecs", "leoma"):
        copy = chain.snapshot(system)
        neuron = copy.subnet.by_hotkey.get(hotkey) if copy else None
        found = f"uid {neuron.uid}, {neuron.stake_rao / 1e9:g} TAO" if neuron else "not registered"
        role = " with a validator permit" if neuron and neuron.validator_permit else ""
        yield Finding(system, neuron is not None, found + role, "register the hotkey on the subnet with btcli")


def _json(url: str) -> Any:
    with urlopen(url, timeout=_PATIENCE_SECONDS) as answer:  # noqa: S310 - the operator's own URL
        return json.load(answer)
