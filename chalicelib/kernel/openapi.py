"""OpenAPI 3.1 of one mount, made from the route table and the contracts."""

from __future__ import annotations

import functools
import json
import re
import tomllib
import types
import typing
from http import HTTPStatus
from pathlib import Path
from typing import Any

from pydantic import BaseModel, TypeAdapter
from pydantic.json_schema import GenerateJsonSchema, models_json_schema

from .routing import Route, Router

_REF = "#/components/schemas/{model}"
_NOT_A_WORD = re.compile(r"[^a-z0-9]+")
_VARIABLE = re.compile(r"\{(\w+)\}")
_CHALICELIB = Path(__file__).parent.parent
# What any route may answer besides its own refusals.
_ALWAYS = {
    429: "The gateway's throttle; `Retry-After` says for how long.",
    500: "A fault of ours; the log knows more under `X-Request-Id`.",
    503: "A store does not answer, or the operator has paused writing; the same request may succeed later.",
}
_INVALID = "Fields or parameters are missing or of the wrong kind; `detail` lists each with its place."
_KEPT = {"Cache-Control": "How long the answer may be kept.", "ETag": "Names it; send it back in `If-None-Match`."}
_UNCHANGED = "The answer that `If-None-Match` names is still the one."
_ERROR_SCHEMA = {
    "type": "object",
    "description": "Every refusal: what was wrong, and a stable code.",
    "properties": {
        "detail": {
            "description": "A sentence, or the list of problems found in the request.",
            "anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "object"}}],
        },
        "code": {"type": "string", "description": "Stable, machine-readable reason."},
    },
    "required": ["detail", "code"],
}


def document(router: Router, version: str, prefix: str) -> dict[str, Any]:
    """The whole document; paths are below the mount, which is the only server."""
    listed = [route for route in router.routes if route.listed]
    models = {model for route in listed for model in _models(route)}
    _, schemas = models_json_schema(
        [(model, mode) for model in sorted(models, key=lambda m: m.__name__) for mode in ("validation",)],
        ref_template=_REF,
        schema_generator=GenerateJsonSchema,
    )
    words = glossary(router.system)
    for name, schema in schemas.get("$defs", {}).items():
        _describe(name, schema, words)
    paths: dict[str, dict[str, Any]] = {}
    for route in listed:
        paths.setdefault(route.path, {})[route.method.lower()] = _operation(route, words)
    return {
        "openapi": "3.1.0",
        "info": {"title": router.title, "version": version, "description": router.description},
        "servers": [{"url": prefix}],
        "paths": paths,
        "components": {
            "schemas": {"Error": _ERROR_SCHEMA, **schemas.get("$defs", {})},
            "securitySchemes": _security_schemes(listed),
        },
    }


@functools.cache
def glossary(system: str) -> dict[str, dict[str, str]]:
    """What fields mean (`fields`) and what bodies look like (`examples`): the system's words before the common ones."""
    found: dict[str, dict[str, str]] = {"fields": {}, "examples": {}}
    for folder in ("kernel", system):
        file = _CHALICELIB / folder / "glossary.toml"
        for part, words in (tomllib.loads(file.read_text("utf-8")) if file.is_file() else {}).items():
            found[part] |= words
    return found


def _describe(name: str, schema: dict[str, Any], words: dict[str, dict[str, str]]) -> None:
    for field, shape in schema.get("properties", {}).items():
        if not shape.get("description") and (known := words["fields"].get(field)):
            shape["description"] = known
    if name in words["examples"]:
        schema["examples"] = [json.loads(words["examples"][name], strict=False)]


def _operation(route: Route, words: dict[str, dict[str, str]]) -> dict[str, Any]:
    summary, _, description = (route.handler.__doc__ or route.handler.__name__).strip().partition("\n")
    operation: dict[str, Any] = {
        "operationId": _NOT_A_WORD.sub("_", route.id.lower()).strip("_"),
        "summary": summary.strip(),
        "parameters": [*_path_parameters(route, words["fields"]), *_query_parameters(route, words["fields"])],
        "responses": _responses(route),
    }
    if description.strip():
        operation["description"] = " ".join(description.split())
    if route.body_contract:
        schema = _schema(route.body_contract)
        operation["requestBody"] = {"required": True, "content": {"application/json": {"schema": schema}}}
    if route.auth and route.auth.headers:
        needed: dict[str, list[str]] = {f"{route.auth.name}.{header}": [] for header in route.auth.headers}
        operation["security"] = [{}, needed] if route.auth.optional() else [needed]
    return operation


def _path_parameters(route: Route, words: dict[str, str]) -> list[dict[str, Any]]:
    shape = {"type": "string"}
    return [
        {"name": name, "in": "path", "required": True, "description": words.get(name, ""), "schema": shape}
        for name in _VARIABLE.findall(route.path)
    ]


def _query_parameters(route: Route, words: dict[str, str]) -> list[dict[str, Any]]:
    contract = route.query_contract
    if not contract:
        return []
    schema = contract.model_json_schema()
    required = set(schema.get("required", ()))
    return [
        {
            "name": name,
            "in": "query",
            "required": name in required,
            "description": shape.pop("description", "") or words.get(name, ""),
            "schema": shape,
        }
        for name, shape in schema["properties"].items()
    ]


def _responses(route: Route) -> dict[str, Any]:
    success: dict[str, Any] = {"description": HTTPStatus(route.status).phrase}
    returned = route.hints.get("return")
    if returned and _is_schema(returned):
        success["content"] = {route.content_type: {"schema": _schema(returned)}}
    elif route.content_type != "application/json":
        success["content"] = {route.content_type: {}}
    if route.fresh_for is not None:
        success["headers"] = {name: {"description": text, "schema": {"type": "string"}} for name, text in _KEPT.items()}
    refusals = _ALWAYS | dict(route.auth.refusals if route.auth else {}) | route.refusals
    if route.body_contract or route.query_contract:
        refusals.setdefault(422, _INVALID)
    if route.method in {"POST", "PUT", "PATCH"}:
        refusals.setdefault(413, "The body is too large.")
    if route.body_contract or route.query_contract:
        refusals.setdefault(422, "Not what the contract asks for.")
    error = {"application/json": {"schema": {"$ref": "#/components/schemas/Error"}}}
    documented = {str(status): {"description": text, "content": error} for status, text in sorted(refusals.items())}
    unchanged = {"304": {"description": _UNCHANGED}} if route.fresh_for is not None else {}
    return {str(route.status): success, **unchanged, **documented}


def _schema(kind: Any) -> dict[str, Any]:
    if isinstance(kind, type) and issubclass(kind, BaseModel):
        return {"$ref": _REF.format(model=kind.__name__)}
    schema = TypeAdapter(kind).json_schema(ref_template=_REF)
    schema.pop("$defs", None)
    return schema


def _is_schema(kind: Any) -> bool:
    return kind is not type(None) and getattr(kind, "__name__", "") != "Answer"


def _models(route: Route) -> set[type[BaseModel]]:
    found: set[type[BaseModel]] = set()
    pending = [route.body_contract, route.hints.get("return")]
    while pending:
        kind = pending.pop()
        if isinstance(kind, type) and not isinstance(kind, types.GenericAlias) and issubclass(kind, BaseModel):
            found.add(kind)
        pending.extend(typing.get_args(kind))
    return found


def _security_schemes(routes: list[Route]) -> dict[str, Any]:
    return {
        f"{route.auth.name}.{header}": {"type": "apiKey", "in": "header", "name": header, "description": text}
        for route in routes
        if route.auth
        for header, text in route.auth.headers.items()
    }
