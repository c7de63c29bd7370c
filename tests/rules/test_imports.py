"""Who may import whom: decisions import nothing that acts, AWS and Chalice stay at the edge, systems stand alone."""

from __future__ import annotations

import importlib
import subprocess
import sys

import pytest
from pydantic import BaseModel

from tests.rules.source import ROOT, SYSTEMS, Import, Module, module, modules

AWS = {"boto3", "botocore", "s3transfer", "localstack_client"}
AWS_MODULES = {"aws", "blobs", "connections", "dynamodb", "flows", "s3", "secrets", "short_road", "tables"}
CHALICE_MODULES = {"app.py", "chalicelib/kernel/http.py"}
HEAVY = {"torch", "numpy", "substrateinterface", "scalecodec", "safetensors", "sklearn", "scipy", "pandas"}
ACTS = {"os", "time", "random", "secrets", "socket", "subprocess", "threading", "asyncio", "urllib", "http", "uuid"}
ACTS |= {"tempfile", "shutil", "pathlib", "io"}
CONTRACT_LIBRARIES = {"pydantic", "pydantic_core", "typing_extensions"}
CONTRACT_KERNEL = {"errors", "keys", "settings", "values"}
STORE_KERNEL = {"blobs", "chain", "clock", "codec", "errors", "limits", "single_use", "tables", "tokens", "values"}
STORE_KERNEL |= {"wire"}
STANDARD_FILES = ("contracts", "domain", "store", "routes", "tasks")
# The one library that a speciality's subject needs; those that are no part of the API bundle only inside functions.
SUBJECT_LIBRARIES = {
    "pool": {"Crypto"},
    "bitrecs": {"yaml", "jinja2", "tiktoken", "numpy"},
    "experts": {"awscrt"},
    "leoma": {"numpy"},
    "prism": {"yaml"},
}
# What the API function may load before its first request; boto3 and its like wait until they are needed.
LOADED_BY_APP = {
    "chalice", "pydantic", "pydantic_core", "annotated_types", "typing_extensions", "typing_inspection", "sr25519",
}  # fmt: skip


def owner(found: Module) -> str:
    """The system or kernel that a file of chalicelib belongs to."""
    return found.path.relative_to(ROOT / "chalicelib").parts[0]


def kind(found: Module) -> str:
    """The standard file that this one is, or is a part of: `store_claims.py` is bound by what `store.py` may."""
    return found.path.stem.partition("_")[0] or found.path.stem


def own_kind(found: Module, entry: Import) -> str | None:
    """The kind of the file of the same system that is imported."""
    parts = entry.module.split(".")
    is_own = parts[:2] == ["chalicelib", owner(found)] and len(parts) > 2
    return parts[2].partition("_")[0] if is_own else None


def system_files(*names: str) -> list[Module]:
    return [found for found in modules(*(f"chalicelib/{s}" for s in SYSTEMS)) if kind(found) in names]


def pure_files() -> list[Module]:
    everything = modules(*(f"chalicelib/{system}" for system in SYSTEMS))
    acting = {"__init__", "contracts", "store", "routes", "tasks"}
    return [found for found in everything if kind(found) not in acting]


def refused(found: Module, entry: Import, why: str) -> str:
    return f"{found.name}:{entry.line} imports {entry.module}: {why}"


def kernel_part(entry: Import) -> str | None:
    parts = entry.module.split(".")
    return parts[2] if parts[:2] == ["chalicelib", "kernel"] and len(parts) > 2 else None


def test_no_system_imports_another_and_the_kernel_imports_none() -> None:
    wrong = []
    for found in modules("chalicelib"):
        for entry in found.imports:
            parts = entry.module.split(".")
            if parts[0] == "chalicelib" and len(parts) > 1 and parts[1] in SYSTEMS and parts[1] != owner(found):
                wrong.append(refused(found, entry, "systems talk through HTTP, the kernel knows none"))
    assert wrong == []


def test_aws_is_spoken_to_by_the_kernel_s_aws_modules_only() -> None:
    wrong = [
        refused(found, entry, f"only the kernel's {sorted(AWS_MODULES)} may")
        for found in modules("chalicelib")
        for entry in found.imports
        if entry.root in AWS and not (owner(found) == "kernel" and found.path.stem in AWS_MODULES)
    ]
    assert wrong == []


def test_chalice_is_known_to_the_edge_only() -> None:
    wrong = [
        refused(found, entry, "only app.py, the kernel's http module, routes.py and tasks.py may")
        for found in (*modules("chalicelib"), module("app.py"))
        for entry in found.imports
        if entry.root == "chalice" and found.name not in CHALICE_MODULES and kind(found) not in {"routes", "tasks"}
    ]
    assert wrong == []


def test_what_is_deployed_imports_nothing_of_the_laptop_or_the_tools() -> None:
    wrong = [
        refused(found, entry, "local, infra, subnetctl, tests and bench are not deployed")
        for found in (*modules("chalicelib"), module("app.py"))
        for entry in found.imports
        if entry.root in {"local", "infra", "subnetctl", "tests", "bench"}
    ]
    assert wrong == []


def test_heavy_libraries_are_imported_inside_functions() -> None:
    wrong = [
        refused(found, entry, "a heavy library belongs inside the function of the task that needs it")
        for found in modules("chalicelib")
        for entry in found.imports
        if entry.root in HEAVY and not entry.lazy
    ]
    assert wrong == []


def test_decisions_and_specialities_import_contracts_errors_and_what_cannot_act() -> None:
    wrong = []
    for found in pure_files():
        system = owner(found)
        for entry in found.imports:
            own = own_kind(found, entry) not in {None, "store", "routes", "tasks"}
            library = entry.root in SUBJECT_LIBRARIES[system]
            standard = entry.is_standard and entry.root not in ACTS
            if not (own or library or standard or kernel_part(entry) in {"errors", "text", "values"}):
                wrong.append(refused(found, entry, "a decision is a function of the values it is handed"))
    assert wrong == []


def test_contracts_validate_and_nothing_else() -> None:
    wrong = [
        refused(found, entry, "contracts know pydantic, keys, settings and the standard library")
        for found in system_files("contracts")
        for entry in found.imports
        if not (
            (entry.is_standard and entry.root not in ACTS)
            or entry.root in CONTRACT_LIBRARIES
            or kernel_part(entry) in CONTRACT_KERNEL
            or own_kind(found, entry) == "contracts"
        )
    ]
    assert wrong == []


def test_stores_import_their_contracts_and_the_kernel_s_tables_and_blobs() -> None:
    wrong = [
        refused(found, entry, f"a store knows its contracts and the kernel's {sorted(STORE_KERNEL)}")
        for found in system_files("store")
        for entry in found.imports
        if not (
            entry.is_standard or own_kind(found, entry) in {"contracts", "store"} or kernel_part(entry) in STORE_KERNEL
        )
    ]
    assert wrong == []


def test_tasks_do_not_import_routes() -> None:
    wrong = [
        refused(found, entry, "a worker has no HTTP surface")
        for found in system_files("tasks")
        for entry in found.imports
        if own_kind(found, entry) == "routes"
    ]
    assert wrong == []


def test_app_knows_routes_tasks_and_the_kernel() -> None:
    wrong = [
        refused(module("app.py"), entry, "app.py mounts and registers, nothing else")
        for entry in module("app.py").imports
        if entry.root == "chalicelib"
        and kernel_part(entry) is None
        and entry.module.split(".")[-1] not in {"routes", "tasks"}
    ]
    assert wrong == []


@pytest.mark.parametrize("system", SYSTEMS)
def test_a_system_that_serves_routes_has_the_same_files_as_the_others(system: str) -> None:
    missing = [name for name in STANDARD_FILES if not (ROOT / f"chalicelib/{system}/{name}.py").exists()]
    assert missing == []


def test_importing_the_app_loads_no_heavy_or_lazy_library() -> None:
    """In a process of its own, since this one has loaded everything."""
    program = (
        "import sys, app\n"
        "files = {name: getattr(found, '__file__', None) or '' for name, found in list(sys.modules.items())}\n"
        "print(*sorted({name.partition('.')[0] for name, file in files.items() if 'site-packages' in file}))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, env={"ENV_FILE": ""}, capture_output=True, text=True, check=True
    )
    assert set(done.stdout.split()) - {"_distutils_hack"} <= LOADED_BY_APP


def test_contracts_build_their_validators_when_they_are_first_used() -> None:
    """Building one takes about a millisecond, and a cold start needs none of them."""
    importlib.import_module("app")
    pending, eager = list(BaseModel.__subclasses__()), []
    while pending:
        model = pending.pop()
        pending += model.__subclasses__()
        if model.__module__.startswith("chalicelib.") and not model.model_config.get("defer_build"):
            eager.append(f"{model.__module__}.{model.__name__}")
    assert eager == []


def test_values_generate_their_methods_when_they_are_first_used() -> None:
    """`frozen` of kernel.values stands for a frozen dataclass; those of the laptop and the tools may be eager."""
    eager = [found.name for found in modules("chalicelib") if "@dataclass(frozen=True)" in found.text]
    assert eager == []
