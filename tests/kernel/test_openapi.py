"""The OpenAPI document and the pages of every mount: valid, complete, small, and from this host alone."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from functools import cache
from typing import Any

import pytest
from openapi_spec_validator import OpenAPIV31SpecValidator

import app as app_module
from chalicelib.kernel import openapi, pages, settings
from chalicelib.kernel.routing import Router
from tests.harness.client import Client
from tests.harness.cloud import empty_cloud

NAMES = tuple(app_module.ROUTERS)
WITH_ROUTES = [name for name, router in app_module.ROUTERS.items() if router.routes]
MOST_BYTES = 100_000
_LOADED = re.compile(r"""<(?:script|link|img|video|source)[^>]*?\b(?:src|href)\s*=\s*["']([^"']+)["']""")


@pytest.fixture(scope="module")
def client() -> Iterator[Client]:
    with pytest.MonkeyPatch.context() as patch, empty_cloud():
        patch.setenv("MOUNTS", ",".join(f"{name}=/{name}" for name in NAMES))
        settings.forget_all()
        yield Client(app_module.build())
    settings.forget_all()


@cache
def document(client: Client, name: str) -> dict[str, Any]:
    found: dict[str, Any] = client.get(f"/{name}/openapi.json").json
    return found


@pytest.mark.parametrize("name", NAMES)
def test_the_document_is_valid_openapi_3_1(client: Client, name: str) -> None:
    found = document(client, name)
    assert found["openapi"].startswith("3.1")
    assert found["servers"] == [{"url": f"/{name}"}]
    assert [error.message for error in OpenAPIV31SpecValidator(found).iter_errors()] == []


@pytest.mark.parametrize("name", NAMES)
def test_every_field_and_parameter_says_what_it_is(client: Client, name: str) -> None:
    found = document(client, name)
    fields = [
        f"{model}.{field}"
        for model, schema in found["components"]["schemas"].items()
        for field, shape in schema.get("properties", {}).items()
        if not shape.get("description")
    ]
    parameters = [
        f"{method} {path} {parameter['name']}"
        for path, methods in found["paths"].items()
        for method, operation in methods.items()
        for parameter in operation["parameters"]
        if not parameter["description"]
    ]
    assert fields + parameters == []


@pytest.mark.parametrize("name", NAMES)
def test_every_body_has_an_example_that_its_contract_takes(name: str) -> None:
    """A wrong kind of name in the glossary would be an example that nobody sees."""
    router: Router = app_module.ROUTERS[name]
    examples = openapi.glossary(router.system)["examples"]
    for contract in {route.body_contract for route in router.routes if route.listed and route.body_contract}:
        contract.model_validate(json.loads(examples[contract.__name__], strict=False))


def test_glossaries_explain_nothing_that_is_not_there() -> None:
    named: set[str] = set()
    for router in app_module.ROUTERS.values():
        found = openapi.document(router, "0", "/")
        schemas = found["components"]["schemas"]
        named |= {*schemas, *(field for schema in schemas.values() for field in schema.get("properties", {}))}
        named |= {
            parameter["name"]
            for methods in found["paths"].values()
            for operation in methods.values()
            for parameter in operation["parameters"]
        }
    words = [openapi.glossary(router.system) for router in app_module.ROUTERS.values()]
    assert {word for one in words for part in one.values() for word in part} <= named


@pytest.mark.parametrize("name", NAMES)
def test_every_listed_route_is_documented_with_its_parameters_and_nothing_else(client: Client, name: str) -> None:
    router: Router = app_module.ROUTERS[name]
    listed = {(route.path, route.method.lower()): route for route in router.routes if route.listed}
    operations = {
        (path, method): operation
        for path, methods in document(client, name)["paths"].items()
        for method, operation in methods.items()
    }
    assert set(operations) == set(listed)
    for key, operation in operations.items():
        named = {parameter["name"] for parameter in operation["parameters"] if parameter["in"] == "path"}
        assert named == set(re.findall(r"\{(\w+)\}", key[0])), key
        assert str(listed[key].status) in operation["responses"], key
        assert operation["summary"], key


@pytest.mark.parametrize("name", NAMES)
def test_operation_ids_are_unique(client: Client, name: str) -> None:
    ids = [
        operation["operationId"]
        for methods in document(client, name)["paths"].values()
        for operation in methods.values()
    ]
    assert len(ids) == len(set(ids))


@pytest.mark.parametrize("name", NAMES)
def test_what_a_contract_promises_is_what_the_document_says_of_answers(client: Client, name: str) -> None:
    """References resolve: a schema that is named is there."""
    found = document(client, name)
    wanted = set(re.findall(r"#/components/schemas/([\w.\[\]-]+)", str(found)))
    assert wanted <= set(found["components"]["schemas"])


@pytest.mark.parametrize("page", ["docs", "redoc", "dashboard"])
@pytest.mark.parametrize("name", WITH_ROUTES)
def test_a_page_is_small_and_loads_from_this_host_alone(client: Client, name: str, page: str) -> None:
    found = client.get(f"/{name}/{page}")
    text = found.body.decode()
    policy = found.header("Content-Security-Policy") or ""
    assert found.status == 200
    assert "unsafe-inline" not in policy
    assert "default-src 'none'" in policy
    assert re.search(r"<html[^>]+lang=", text)
    assert "<title>" in text
    assert 'name="viewport"' in text
    assert not re.search(r"<script(?![^>]*\bsrc=)|<style|\son\w+=|\sstyle=", text), "nothing inline"
    loaded = [link for link in _LOADED.findall(text) if not link.startswith("data:")]
    assert not [link for link in loaded if "//" in link]
    sizes = [len(client.get(f"/{name}/{link}").body) for link in loaded if link.startswith("assets/")]
    assert len(found.body) + sum(sizes) < MOST_BYTES


@pytest.mark.parametrize("path", ["/assets/site.css", "/leoma/assets/site.js", "/leoma/docs"])
def test_a_page_that_did_not_change_is_not_sent_again(client: Client, path: str) -> None:
    first = client.get(path)
    again = client.get(path, {"If-None-Match": first.header("ETag") or ""})
    assert (again.status, again.body) == (304, b"")
    assert client.get(path, {"If-None-Match": '"other"'}).status == 200


@pytest.mark.parametrize("name", ["..%2F..%2Fkernel%2Faws.py", "%2e%2e", ".hidden", "no.css", "../index.html", "%00"])
def test_only_files_of_the_site_are_ever_opened(client: Client, name: str) -> None:
    assert client.get(f"/leoma/assets/{name}").status in {400, 404}


def test_the_site_folder_holds_no_hidden_file_in_what_is_served() -> None:
    assert not [name for name in pages._files() if "/." in f"/{name}"]
