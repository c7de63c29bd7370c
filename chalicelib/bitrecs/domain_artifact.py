"""Artifacts: YAML from strangers, read event by event under hard limits, then field by field.

The reader keeps its own stack, so depth is a number and never the interpreter's. Every refusal names the field.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from chalicelib.kernel.errors import Malformed
from chalicelib.kernel.text import is_unicode

from .contracts import Artifact

MAX_DEPTH = 8
MAX_NODES = 5_000
MAX_FEWSHOTS = 64
MAX_FEWSHOT_CHARACTERS = 8_192
MAX_LIST = 64
MAX_MODEL_CHARACTERS = 200  # it stands in every list
_MAX_REASON = 200
_MAX_NAME = 40
_NULLS = {"", "~", "null", "Null", "NULL"}
_ROLES = ("user", "assistant", "system")
_NUMBER = re.compile(r"[-+]?([0-9]{1,15}(\.[0-9]{0,20})?|\.[0-9]{1,20})([eE][-+]?[0-9]{1,2})?")
_WHOLE = re.compile(r"[-+]?[0-9]{1,12}")


class BadYaml(ValueError):
    """The text is not the YAML that we take; the message says where and why."""


def parse(text: str) -> Artifact:
    """The artifact of a YAML text; what breaks the schema is `Artifact YAML is invalid: <path>: <reason>`."""
    try:
        return _artifact(read_yaml(text))
    except BadYaml as error:
        reason = str(error)[:_MAX_REASON]
        raise Malformed(f"Artifact YAML is invalid: {reason}", code="artifact_invalid") from None


def read_yaml(text: str) -> dict[str, Any]:
    """Maps, lists, strings and nulls; no anchors, aliases, tags, merge keys, duplicate keys, second documents."""
    import yaml  # noqa: PLC0415 - few requests carry YAML

    builder = _Builder()
    try:
        for event in yaml.parse(text, Loader=yaml.BaseLoader):
            builder.take(event)
    except yaml.MarkedYAMLError as error:
        line = f"line {error.problem_mark.line + 1}: " if error.problem_mark else ""
        raise BadYaml(f"{line}{error.problem or error.context}") from None
    except yaml.YAMLError:
        raise BadYaml("a character that YAML does not allow") from None
    except (ValueError, OverflowError) as error:
        # PyYAML itself stumbles over escapes beyond Unicode and over endless version numbers.
        raise error if isinstance(error, BadYaml) else BadYaml("an escape or number out of range") from None
    if not isinstance(builder.root, dict):
        raise BadYaml("the top level must be a map")
    return builder.root


class _Builder:
    """Builds the tree from events and refuses at the first event that breaks a limit."""

    def __init__(self) -> None:
        self.root: Any = None
        self._open: list[dict[str, Any] | list[Any]] = []
        self._keys: list[str | None] = []
        self._paths: list[str] = []
        self._nodes = 0
        self._documents = 0

    def take(self, event: Any) -> None:
        kind = type(event).__name__
        if kind == "DocumentStartEvent":
            self._documents += 1
            self._check(self._documents == 1, "more than one document")
        elif kind == "AliasEvent":
            self._check(False, "aliases are not allowed")
        elif kind in {"MappingEndEvent", "SequenceEndEvent"}:
            for stack in (self._open, self._keys, self._paths):
                stack.pop()
        elif kind in {"ScalarEvent", "MappingStartEvent", "SequenceStartEvent"}:
            self._take_node(event, kind)

    def _take_node(self, event: Any, kind: str) -> None:
        self._nodes += 1
        self._check(self._nodes <= MAX_NODES, f"more than {MAX_NODES} nodes")
        self._check(event.anchor is None, "anchors are not allowed")
        self._check(event.tag is None, "tags are not allowed")
        if kind == "ScalarEvent":
            self._take_scalar(event)
            return
        self._check(not self._awaits_key(), "a key must be plain text")
        self._check(len(self._open) < MAX_DEPTH, f"nested deeper than {MAX_DEPTH} levels")
        container: dict[str, Any] | list[Any] = {} if kind == "MappingStartEvent" else []
        self._paths.append(self._path())
        self._place(container)
        self._open.append(container)
        self._keys.append(None)

    def _take_scalar(self, event: Any) -> None:
        text = event.value
        self._check(is_unicode(text), "not valid Unicode")
        if not self._awaits_key():
            self._place(None if event.style is None and text in _NULLS else text)
            return
        self._check(text != "<<" or event.style is not None, "merge keys are not allowed")
        self._check(text not in self._open[-1], f"the key {text[:_MAX_NAME]!r} appears twice")
        self._keys[-1] = text

    def _awaits_key(self) -> bool:
        return bool(self._open) and isinstance(self._open[-1], dict) and self._keys[-1] is None

    def _place(self, value: Any) -> None:
        if not self._open:
            self.root = value
            return
        parent = self._open[-1]
        if isinstance(parent, dict):
            parent[str(self._keys[-1])] = value
            self._keys[-1] = None
        else:
            parent.append(value)

    def _check(self, holds: bool, reason: str) -> None:
        if not holds:
            path = self._path()
            raise BadYaml(f"{path}: {reason}" if path else reason)

    def _path(self) -> str:
        """Where the next node goes."""
        if not self._open:
            return ""
        parent, path, key = self._open[-1], self._paths[-1], self._keys[-1]
        if isinstance(parent, list):
            return f"{path}[{len(parent)}]"
        return ".".join(part for part in (path, (key or "")[:_MAX_NAME]) if part)


def _artifact(data: dict[str, Any]) -> Artifact:
    texts = {
        name: _text(data, name)
        for name in ("name", "status", "miner_hotkey", "provider", "model", "system_prompt_template",
                     "user_prompt_template")
    }  # fmt: skip
    if len(texts["model"]) > MAX_MODEL_CHARACTERS:
        raise BadYaml(f"model: is longer than {MAX_MODEL_CHARACTERS} characters")
    return Artifact(
        **texts,
        version_num=_whole(_required(data, "version_num"), "version_num"),
        sampling_params=_sampling(data),
        fewshot_examples=_fewshots(data.get("fewshot_examples")),
        eval_scores=_scores(data.get("eval_scores")),
        has_agent_id=data.get("agent_id") is not None,
    )


def _required(data: dict[str, Any], name: str, path: str = "") -> Any:
    if data.get(name) is None and not (name in data and path == "" and name in _MAY_BE_EMPTY):
        raise BadYaml(f"{path}{name}: is required")
    return data.get(name)


# An empty plain scalar is YAML's null; these fields have a message of their own for being empty.
_MAY_BE_EMPTY = frozenset({"name", "provider", "model", "system_prompt_template", "user_prompt_template"})


def _text(data: dict[str, Any], name: str) -> str:
    value = _required(data, name)
    if value is None:
        return ""
    if not isinstance(value, str):
        raise BadYaml(f"{name}: must be text")
    return value


def _whole(value: Any, path: str) -> int:
    if not isinstance(value, str) or not _WHOLE.fullmatch(value):
        raise BadYaml(f"{path}: must be a whole number")
    return int(value)


def _number(value: Any, path: str, lowest: float | None = None, highest: float | None = None) -> float:
    number = float(value) if isinstance(value, str) and _NUMBER.fullmatch(value) else None
    if number is None:
        raise BadYaml(f"{path}: must be a number")
    if (lowest is not None and number < lowest) or (highest is not None and number > highest):
        raise BadYaml(f"{path}: must be from {lowest:g} to {highest:g}")
    return number


def _sampling(data: dict[str, Any]) -> dict[str, Any]:
    given = _required(data, "sampling_params")
    if not isinstance(given, dict):
        raise BadYaml("sampling_params: must be a map")
    temperature = _required(given, "temperature", "sampling_params.")
    found: dict[str, Any] = {"temperature": _number(temperature, "sampling_params.temperature", 0, 2)}
    optional: dict[str, Callable[[Any, str], Any]] = {
        "top_p": lambda value, path: _number(value, path, 0, 1),
        "max_tokens": _positive,
        "stop_sequences": _list_of_text,
    }
    for name, read in optional.items():
        if given.get(name) is not None:
            found[name] = read(given[name], f"sampling_params.{name}")
    return found


def _positive(value: Any, path: str) -> int:
    number = _whole(value, path)
    if number <= 0:
        raise BadYaml(f"{path}: must be greater than 0")
    return number


def _list_of_text(value: Any, path: str) -> list[str]:
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        raise BadYaml(f"{path}: must be a list of texts")
    if len(value) > MAX_LIST:
        raise BadYaml(f"{path}: holds more than {MAX_LIST} entries")
    return value


def _fewshots(value: Any) -> list[dict[str, str]]:
    if value is None:
        return []
    if not isinstance(value, list):
        raise BadYaml("fewshot_examples: must be a list")
    if len(value) > MAX_FEWSHOTS:
        raise BadYaml(f"fewshot_examples: holds more than {MAX_FEWSHOTS} examples")
    return [_fewshot(example, f"fewshot_examples[{number}]") for number, example in enumerate(value)]


def _fewshot(example: Any, path: str) -> dict[str, str]:
    if not isinstance(example, dict):
        raise BadYaml(f"{path}: must be a map with role and content")
    role, content = example.get("role"), example.get("content")
    if role not in _ROLES:
        raise BadYaml(f"{path}.role: must be one of {', '.join(_ROLES)}")
    if not isinstance(content, str):
        raise BadYaml(f"{path}.content: must be text")
    if len(content) > MAX_FEWSHOT_CHARACTERS:
        raise BadYaml(f"{path}.content: is longer than {MAX_FEWSHOT_CHARACTERS} characters")
    return {"role": role, "content": content}


def _scores(value: Any) -> dict[str, float]:
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise BadYaml("eval_scores: must be a map of numbers")
    if len(value) > MAX_LIST:
        raise BadYaml(f"eval_scores: holds more than {MAX_LIST} entries")
    return {name: _number(score, f"eval_scores.{name[:_MAX_NAME]}") for name, score in value.items()}
