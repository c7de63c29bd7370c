"""The systems' tasks as Lambda functions of the local cloud: thin packages that import this very checkout."""

from __future__ import annotations

import io
import os
import sysconfig
import zipfile
from pathlib import Path
from typing import Any

from chalicelib.kernel import aws, flows
from chalicelib.kernel.jobs import Task
from chalicelib.kernel.settings import KernelSettings
from local.settings import ROOT, chain_source, knobs_that_are_set

_ROLE = "arn:aws:iam::000000000000:role/laptop"
_RUNTIME = "python3.11"


def deploy(tasks: list[Task]) -> None:
    """Make the cloud's functions exactly these, with the environment of this start."""
    client = aws.client("lambda")
    variables = environment()
    known = _deployed(client)
    for task in tasks:
        name = flows.function_name(task.name)
        described = {
            "FunctionName": name,
            "Handler": task.handler,
            "Timeout": task.timeout,
            "MemorySize": task.memory,
            "Environment": {"Variables": variables},
        }
        if name in known:
            client.update_function_configuration(**described)
        else:
            client.create_function(**described, Runtime=_RUNTIME, Role=_ROLE, Code={"ZipFile": package()})
    for name in known - {flows.function_name(task.name) for task in tasks}:
        client.delete_function(FunctionName=name)


def environment() -> dict[str, str]:
    """What a function sees: the knobs that are set here, the same `.env`, and this checkout to import from."""
    paths = [str(ROOT), sysconfig.get_path("purelib"), sysconfig.get_path("platlib")]
    return knobs_that_are_set() | {
        "STAGE": KernelSettings.current().stage,
        "CHAIN_SOURCE": chain_source(),
        "ENV_FILE": str(Path(os.environ.get("ENV_FILE", ".env")).absolute()),
        "PYTHONPATH": os.pathsep.join(dict.fromkeys(paths)),
    }


def package() -> bytes:
    """Lambda wants a package; all there is to say is where the code is."""
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        archive.writestr(zipfile.ZipInfo("README", (2020, 1, 1, 0, 0, 0)), "The code is found through PYTHONPATH.\n")
    return content.getvalue()


def _deployed(client: Any) -> set[str]:
    prefix = flows.function_name("")
    pages = client.get_paginator("list_functions").paginate()
    names = {function["FunctionName"] for page in pages for function in page["Functions"]}
    return {name for name in names if name.startswith(prefix)}
