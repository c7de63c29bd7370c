"""The artefact that goes to AWS: what is in it, how large it is, and that it stands on its own."""

from __future__ import annotations

import json
import subprocess
import zipfile
from importlib.metadata import Distribution, PathDistribution
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.utils import NormalizedName, canonicalize_name

from infra import gateway, names, stack, tasks
from layers import build as layers
from tests.infra.conftest import ROOT, Checkout, bare_python

MIB = 1024 * 1024
MOST_ZIPPED = 40 * MIB
MOST_UNPACKED = 150 * MIB
# What Lambda takes, all layers of a function together.
MOST_FOR_A_FUNCTION = 250 * MIB
MOST_TEMPLATE = 1_000_000


@pytest.fixture(scope="session")
def package(checkout: Checkout) -> Path:
    """The folder with `sam.json`, the code and the layer, as `python -m infra.package` leaves it."""
    checkout.run("infra.package", "--stage", "dev", "--out", "build/dev")
    return checkout.path / "build" / "dev"


@pytest.fixture(scope="session")
def sam(package: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((package / "sam.json").read_text("utf-8"))
    return found


@pytest.fixture(scope="session")
def unpacked(package: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Code and layer side by side, as a function sees them."""
    folder = tmp_path_factory.mktemp("function")
    for part in ("deployment", "layer-deployment"):
        with zipfile.ZipFile(package / f"{part}.zip") as packed:
            packed.extractall(folder / part)
    return folder


def site_of(folder: Path) -> Path:
    (found,) = folder.glob("python/lib/python*/site-packages")
    return found


def run_bare(program: str, *paths: Path) -> str:
    """Run a program in an interpreter that has the standard library and these folders, and nothing else."""
    prelude = f"import sys; sys.path[:0] = {[str(path) for path in paths]!r}\n"
    command = [bare_python(), "-I", "-S", "-c", prelude + program]
    done = subprocess.run(command, env={"AWS_DEFAULT_REGION": "us-east-1"}, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def required_of(distribution: Distribution) -> set[NormalizedName]:
    needed = (Requirement(text) for text in distribution.requires or [])
    return {canonicalize_name(r.name) for r in needed if r.marker is None or r.marker.evaluate({"extra": ""})}


def test_every_wheel_that_the_requirements_need_is_inside(unpacked: Path) -> None:
    """Chalice leaves a wheel out with no more than a warning when it does not like its tags."""
    found = [PathDistribution(path) for path in site_of(unpacked / "layer-deployment").glob("*.dist-info")]
    inside = {canonicalize_name(distribution.metadata["Name"]): distribution for distribution in found}
    wanted = {canonicalize_name(Requirement(line).name) for line in requirements("requirements.txt")}
    checked: set[NormalizedName] = set()
    while wanted - checked:
        name = min(wanted - checked)
        assert name in inside, f"{name} is missing from the bundle"
        wanted |= required_of(inside[name])
        checked.add(name)


def test_the_app_and_every_task_import_with_nothing_else_on_the_path(unpacked: Path) -> None:
    modules = sorted({task.handler.rpartition(".")[0] for task in tasks.of_chalice()})
    lazy = ["botocore.session", "nacl.signing", "sr25519", "Crypto.Hash.keccak", "yaml", "jinja2"]
    program = f"import importlib\nfor name in {['app', *modules, *lazy]!r}: importlib.import_module(name)\n"
    program += "import app; print(len(app.app.routes))"
    said = run_bare(program, unpacked / "deployment", site_of(unpacked / "layer-deployment"))
    assert int(said) > 20


def test_every_handler_is_where_the_template_says(unpacked: Path, sam: dict[str, Any]) -> None:
    handlers = {
        resource["Properties"]["Handler"]
        for resource in sam["Resources"].values()
        if resource["Type"] == "AWS::Serverless::Function"
    }
    assert handlers == {"app.app", *(task.handler for task in tasks.of_chalice())}
    program = "import importlib\n"
    program += f"for name in {sorted(handlers)!r}:\n    module, _, name = name.rpartition('.')\n"
    program += "    assert callable(getattr(importlib.import_module(module), name))\n"
    run_bare(program, unpacked / "deployment", site_of(unpacked / "layer-deployment"))


def test_sizes_leave_room(package: Path, sam: dict[str, Any]) -> None:
    for name, most in (("deployment", 2 * MIB), ("layer-deployment", MOST_ZIPPED)):
        assert (package / f"{name}.zip").stat().st_size < most
    with zipfile.ZipFile(package / "layer-deployment.zip") as packed:
        assert sum(entry.file_size for entry in packed.infolist()) < MOST_UNPACKED
    assert len(stack.body_of(sam)) < MOST_TEMPLATE


def test_nothing_of_the_laptop_is_shipped(package: Path) -> None:
    with zipfile.ZipFile(package / "deployment.zip") as packed:
        folders = {name.partition("/")[0] for name in packed.namelist()}
    assert folders == {"app.py", "chalice", "chalicelib"}


def test_the_template_holds_the_gateway_s_own_answers_and_throttles(sam: dict[str, Any]) -> None:
    properties = sam["Resources"]["RestAPI"]["Properties"]
    assert set(properties["GatewayResponses"]) == set(gateway.responses())
    unknown = properties["GatewayResponses"]["MISSING_AUTHENTICATION_TOKEN"]
    assert unknown["StatusCode"] == 404
    assert json.loads(unknown["ResponseTemplates"]["application/json"]) == {
        "detail": "Not Found",
        "code": "route_not_found",
    }
    assert unknown["ResponseParameters"]["Headers"]["Access-Control-Allow-Origin"] == "'*'"
    assert properties["MethodSettings"][0]["ThrottlingBurstLimit"] == gateway.BURST
    assert properties["BinaryMediaTypes"] == ["*/*"]


def test_functions_have_the_names_and_roles_of_the_stage(sam: dict[str, Any]) -> None:
    resources = sam["Resources"]
    assert resources["APIHandler"]["Properties"]["FunctionName"] == "subnet-functions-dev"
    for task in tasks.of_chalice():
        properties = resources[names.logical(task.name)]["Properties"]
        assert properties["FunctionName"] == f"subnet-functions-dev-{task.name}"
        assert properties["Role"] == {"Fn::GetAtt": [f"{names.logical(task.name)}Role", "Arn"]}
        assert (properties["Timeout"], properties["MemorySize"]) == (task.timeout, task.memory)
        assert properties["Environment"]["Variables"]["AWS_ACCOUNT_ID"] == {"Ref": "AWS::AccountId"}


@pytest.mark.parametrize("name", layers.names())
def test_a_layer_adds_its_libraries_to_the_bundle_and_nothing_twice(name: str, unpacked: Path, tmp_path: Path) -> None:
    packed = layers.build(name)
    with zipfile.ZipFile(packed) as layer:
        layer.extractall(tmp_path)
    bundle, site = site_of(unpacked / "layer-deployment"), site_of(tmp_path)
    assert not top_level(bundle) & top_level(site), "both are unpacked into one folder"
    imports = {"chain": "substrateinterface, scalecodec", "numeric": "numpy, safetensors.numpy"}[name]
    run_bare(f"import {imports}", unpacked / "deployment", site, bundle)
    unpacked_bytes = sum(path.stat().st_size for folder in (bundle, site) for path in folder.rglob("*"))
    assert unpacked_bytes < MOST_FOR_A_FUNCTION
    assert packed.stat().st_size < MOST_ZIPPED
    assert layers.build(name) == packed, "the same requirements make the same bytes"


def test_a_layer_that_a_task_asks_for_can_be_built() -> None:
    wanted = {layer for task in tasks.declared() for layer in task.layers}
    assert wanted <= set(layers.names())


def test_the_evaluator_s_image_holds_what_its_handlers_import() -> None:
    """No container is built here: the recipe is held against the repository."""
    recipe = (ROOT / "layers" / "evaluator" / "Dockerfile").read_text("utf-8")
    copied = [line.split()[1:-1] for line in recipe.splitlines() if line.startswith("COPY ")]
    assert all((ROOT / source).exists() for sources in copied for source in sources)
    assert {"requirements.txt", "layers/evaluator/requirements.txt", "chalicelib"} <= {s for c in copied for s in c}
    assert any(task.image == "evaluator" for task in tasks.declared())


def requirements(name: str) -> list[str]:
    lines = (ROOT / name).read_text("utf-8").splitlines()
    return [line for line in lines if line and not line.startswith("#")]


def top_level(site: Path) -> set[str]:
    return {path.name for path in site.iterdir() if path.suffix != ".pth" and path.name != "__pycache__"}
