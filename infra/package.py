"""The second way to deploy: one CloudFormation template for everything, evaluator image included.

`make package STAGE=dev` runs `chalice package --merge-template` into `build/dev` and uploads nothing; `--deploy` then
puts code and template into the artifact bucket and applies them.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from chalicelib.kernel import aws
from infra import cloud, fragments, gateway, names, stack, stages, supply, tasks, template
from infra.stack import Client
from infra.template import Supplies

_CODE = "CodeUri"
_LAYER_CODE = "ContentUri"


def extras(stage: str, config: dict[str, Any], supplies: Supplies) -> dict[str, Any]:
    """What is merged into Chalice's template: ours around it, and names, roles and answers inside it."""
    systems = stages.systems(config, stage)
    around = template.build(stage, systems=systems, variables=_operators_own(config, stage), supplies=supplies)
    environment = {"Environment": {"Variables": _stack_variables(around)}}
    inside: dict[str, Any] = {
        "APIHandler": _named(names.api_function(stage), "ApiRole", environment),
        "RestAPI": {"Properties": gateway.for_template()},
    }
    for task in tasks.of_chalice(systems):
        key = names.logical(task.name)
        inside[key] = _named(names.physical(stage, task.name), f"{key}Role", environment)
        _use_layers(inside[key], task.layers, supplies)
    for key, functions in _event_sources(systems).items():
        around["Resources"][key]["DependsOn"] = functions
    return {**around, "Resources": {**around["Resources"], **inside}}


def package(stage: str, out: Path, supplies: Supplies) -> dict[str, Any]:
    """Run `chalice package` with the extras; answers the template, code beside it in `out`."""
    out.mkdir(parents=True, exist_ok=True)
    merge = out / "extras.json"
    merge.write_text(json.dumps(extras(stage, stages.read(), supplies), indent=1), "utf-8")
    command = [str(Path(sys.executable).parent / "chalice"), "package", "--stage", stage]
    command += ["--merge-template", str(merge.resolve()), str(out.resolve())]
    environment = {"AWS_DEFAULT_REGION": aws.REGION, **os.environ}
    subprocess.run(command, cwd=supply.ROOT, env=environment, check=True, stdout=subprocess.DEVNULL)
    packaged: dict[str, Any] = json.loads((out / "sam.json").read_text("utf-8"))
    return packaged


def upload(client: Client, stage: str, packaged: dict[str, Any], out: Path) -> dict[str, Any]:
    """Put the code into the artifact bucket under names that follow its content; answers the template that says so."""
    bucket = stack.artifact_bucket(client, stage)
    uris: dict[str, str] = {}
    for resource in packaged["Resources"].values():
        for slot in (_CODE, _LAYER_CODE):
            file = resource.get("Properties", {}).get(slot)
            if isinstance(file, str) and not file.startswith("s3://"):
                uris.setdefault(file, _put(client, bucket, out / file))
                resource["Properties"][slot] = uris[file]
    return packaged


def deploy(client: Client, stage: str, out: Path) -> str:
    """Package, upload, apply; answers the API's URL."""
    images = stages.read()["stages"][stage].get("images", {})
    supplies = Supplies(supply.publish_layers(client, stage, stages.systems(stages.read(), stage)), images)
    packaged = upload(client, stage, package(stage, out, supplies), out)
    stack.apply(client, stage, packaged)
    outputs = stack.outputs(client("cloudformation"), stack.stack_name(stage))
    return cloud.api_url(outputs["RestAPIId"], stage, outputs["EndpointURL"])


def _named(function: str, role: str, environment: dict[str, Any]) -> dict[str, Any]:
    return {
        "Properties": {"FunctionName": function, "Role": {"Fn::GetAtt": [role, "Arn"]}, **environment},
        "DependsOn": [role.removesuffix("Role") + "Log"],
    }


def _use_layers(function: dict[str, Any], layers: tuple[str, ...], supplies: Supplies) -> None:
    own = [{"Ref": template.layer_key(layer)} for layer in layers if layer in supplies.layers]
    if own:
        function["Properties"]["Layers"] = [{"Ref": "ManagedLayer"}, *own]


def _event_sources(systems: list[str]) -> dict[str, list[str]]:
    """Their functions: they name them by ARN, which tells CloudFormation nothing about the order."""
    return {
        key: sorted(names.logical(name) for kind, name in fragments.references(resource) if kind == "task")
        for system in (fragments.CHAIN, *systems)
        for key, resource in fragments.load(system).resources.items()
        if resource["Type"] in template.NEEDS_FUNCTION
    }


def _operators_own(config: dict[str, Any], stage: str) -> dict[str, str]:
    """Bucket names that follow the account are left to the template, which knows the account it is applied in."""
    return {
        key: value
        for key, value in stages.variables(config, stage).items()
        if not value.startswith(names.physical(stage, ""))
    }


def _stack_variables(around: dict[str, Any]) -> dict[str, Any]:
    """The variables that `.chalice/config.json` pins to an account, from the stack itself."""
    buckets = {
        f"{system}_{resource['Metadata']['Knob']}".upper(): {"Ref": key}
        for system in names.SYSTEMS
        for key, resource in fragments.load(system).of_type("AWS::S3::Bucket").items()
        if key in around["Resources"]
    }
    return {"AWS_ACCOUNT_ID": {"Ref": "AWS::AccountId"}, **buckets}


def _put(client: Client, bucket: str, file: Path) -> str:
    content = file.read_bytes()
    key = f"code/{hashlib.sha256(content).hexdigest()[:32]}.zip"
    client("s3").put_object(Bucket=bucket, Key=key, Body=content)
    return f"s3://{bucket}/{key}"


def main() -> None:
    parser = argparse.ArgumentParser(prog="infra.package", description=__doc__)
    parser.add_argument("--stage", required=True)
    parser.add_argument("--out", type=Path, help="where the code and `sam.json` go; build/STAGE if not said")
    parser.add_argument("--deploy", action="store_true", help="upload and apply it too")
    given = parser.parse_args()
    out = given.out or supply.ROOT / "build" / given.stage
    if given.deploy:
        print(deploy(cloud.client, given.stage, out))
    else:
        package(given.stage, out, Supplies())
        print(out / "sam.json")


if __name__ == "__main__":
    main()
