"""The policy for what an artifact says: names, models, product numbers, templates; the first rule broken is the answer.

Templates are cut into tokens and never rendered.
"""

from __future__ import annotations

import importlib
import re
from collections.abc import Iterator

from chalicelib.kernel.errors import Malformed

from .contracts import Artifact, PolicyLimits
from .similarity import without

_MAX_REASON = 200
_NAME = re.compile(r"[a-zA-Z0-9 ]{1,30}")
_MAX_NAME = 30
_TOKEN = re.compile(r"\w+|[^\w\s]")
_CHARACTERS_PER_TOKEN = 4
PROVIDERS = frozenset(
    {
        "OLLAMA_LOCAL", "OPEN_ROUTER", "CHAT_GPT", "VLLM", "GEMINI", "GROK", "CLAUDE", "CHUTES", "CEREBRAS", "GROQ",
        "NVIDIA", "PERPLEXITY",
    }
)  # fmt: skip
VARIABLES = frozenset(
    ("current_date", "product_catalog", "sku", "sku_info", "num_recs", "persona", "cart_json", "order_json")
)
_ONCE = ("product_catalog", "order_json", "cart_json")
_CONSTANT_NAMES = frozenset({"true", "false", "none", "True", "False", "None"})
_CONSTANTS = frozenset({"string", "integer", "float"})
_SILENT = frozenset({"data", "whitespace", "comment", "comment_begin", "comment_end"})
# A parser recurses with its input: only templates with fewer unusual tokens than this are parsed for a better message.
_PARSED_TOKENS = 40
_EXPRESSION = re.compile(r"\{\{[-+]?\s*(\w+)\s*[-+]?\}\}")

_SKU_TOKEN = re.compile(r"[A-Za-z0-9_]+(?:[.\-][A-Za-z0-9_]+)*")
_SKU_JOINTS = str.maketrans("", "", "._-")
_NOT_A_SKU = re.compile(r"[0-9]{1,4}[A-Za-z]+|[A-Za-z]+[0-9]")
_SHORTEST_SKU = 5
_LISTED_SKUS = 20


def check_policy(artifact: Artifact, raw: str, limits: PolicyLimits) -> None:
    """The template policy in its order; the first rule broken is the answer."""
    for broken in _broken_rules(artifact, raw, limits):
        raise Malformed(broken, code="artifact_policy")


def _broken_rules(artifact: Artifact, raw: str, limits: PolicyLimits) -> Iterator[str]:
    yield from _identity_rules(artifact)
    for field, limit, message in (
        ("system_prompt_template", limits.system_tokens, "exceeds maximum token count"),
        ("user_prompt_template", limits.prompt_tokens, "must not exceed maximum token count"),
    ):
        if count_tokens(getattr(artifact, field), limits.token_counter) > limit:
            yield f"{field} {message}"
    if artifact.status != "screening_1":
        yield "status must be 'screening_1' upon submission"
    yield from _model_rules(artifact, limits.allowed_providers)
    if limits.sku_check:
        for template in (artifact.system_prompt_template, artifact.user_prompt_template):
            if found := find_skus(template):
                yield (
                    f"Found {len(found)} potential hardcoded SKUs in the prompt templates. "
                    f"Hardcoded SKUs are not allowed in the templates. {found[:_LISTED_SKUS]}"
                )
    yield from _template_rules(artifact, raw)


def _identity_rules(artifact: Artifact) -> Iterator[str]:
    if not 0 < len(artifact.name) <= _MAX_NAME:
        yield "name must not be empty and must not exceed 30 characters"
    if not _NAME.fullmatch(artifact.name):
        yield "name must be 1-30 alphanumeric characters only (letters and numbers, no special characters)"
    if artifact.version_num != 1:
        yield "version_num must be 1"
    for field in ("provider", "model", "system_prompt_template", "user_prompt_template"):
        if not getattr(artifact, field).strip():
            yield f"{field} must not be empty"


def _model_rules(artifact: Artifact, allowed: tuple[str, ...]) -> Iterator[str]:
    provider = artifact.provider.upper()
    if provider not in PROVIDERS:
        yield f"provider '{artifact.provider[:60]}' is not a supported LLM provider"
    if provider not in allowed:
        supported = ", ".join(sorted(allowed))
        yield f"provider '{provider}' is currently not supported. Supported providers are: {supported}"
    if ":free" in artifact.model.lower():
        yield "Free models are not supported"


def count_tokens(text: str, counter: str) -> float:
    """`approx` counts words and punctuation, or a quarter of the characters where that is more."""
    if counter == "o200k":
        tiktoken = importlib.import_module("tiktoken")  # only where the operator put it, and its table, into the layer
        return len(tiktoken.get_encoding("o200k_base").encode(text, disallowed_special=()))
    return max(sum(1 for _ in _TOKEN.finditer(text)), len(text) / _CHARACTERS_PER_TOKEN)


def find_skus(template: str) -> list[str]:
    """Words that look like a product number: long enough, with a digit, and no measure or numbered word."""
    found = []
    for match in _SKU_TOKEN.finditer(without(template, "{{", "}}")):
        joined = match[0].translate(_SKU_JOINTS)
        has_digit = any("0" <= letter <= "9" for letter in joined)
        if len(joined) >= _SHORTEST_SKU and has_digit and not _NOT_A_SKU.fullmatch(joined):
            found.append(match[0])
    return found


def _template_rules(artifact: Artifact, raw: str) -> Iterator[str]:
    fields = ("system_prompt_template", "user_prompt_template")
    scanned = {}
    for field in fields:
        reason, names = _scan(getattr(artifact, field))
        if reason:
            yield f"{field} {reason}"
        scanned[field] = names
    used = [name for names in scanned.values() for name in names]
    if not used:
        yield "No valid template variables found in either prompt template"
    for field, names in scanned.items():
        if unknown := sorted(set(names) - VARIABLES):
            listed = ", ".join(name[:40] for name in unknown[:_LISTED_SKUS])
            yield f"{field} contains invalid variable(s): {listed}. Allowed variables are: {sorted(VARIABLES)}"
    if repeated := [*_repeated(used, "TEMPLATE", ""), *_repeated(_EXPRESSION.findall(raw), "the RAW TEMPLATE", ".")]:
        yield "\n".join(repeated) + f" Used variables: {{{', '.join(repr(name) for name in sorted(set(used)))}}}"


def _repeated(names: list[str], where: str, end: str) -> Iterator[str]:
    for name in _ONCE:
        if (times := names.count(name)) > 1:
            yield f"Variable '{name}' appears {times} times in {where} but may only appear 1 time(s){end}"


def _scan(template: str) -> tuple[str, list[str]]:
    """What is wrong with a template, and the variables it names; it is cut into tokens, never rendered."""
    import jinja2  # noqa: PLC0415 - few requests carry a template

    environment = jinja2.Environment()  # noqa: S701 - nothing is ever rendered
    names: list[str] = []
    unusual = 0
    inside: list[tuple[str, str]] | None = None
    try:
        for _, kind, value in environment.lexer.tokeniter(template, None):
            if kind == "variable_begin":
                inside = []
            elif kind == "variable_end" and inside is not None:
                unusual += _take_expression(inside, names)
                inside = None
            elif inside is not None:
                if kind != "whitespace":
                    inside.append((kind, value))
            elif kind not in _SILENT:
                unusual += 1
        unusual += max(1, len(inside)) if inside is not None else 0
        if unusual:
            if unusual <= _PARSED_TOKENS:
                environment.parse(template)
            return "contains forbidden Jinja syntax (only {{variable}} allowed)", names
    except jinja2.TemplateSyntaxError as error:
        return f"is not a valid Jinja2 template: {(error.message or '')[:_MAX_REASON]}", names
    return "", names


def _take_expression(tokens: list[tuple[str, str]], names: list[str]) -> int:
    """One plain name or constant is usual; anything else counts its tokens."""
    if len(tokens) != 1:
        return max(1, len(tokens))
    ((kind, value),) = tokens
    if kind == "name" and value not in _CONSTANT_NAMES:
        names.append(value)
    return 0 if kind in _CONSTANTS or kind == "name" else 1
