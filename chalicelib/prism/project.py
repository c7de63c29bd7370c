"""What a project is made of: its manifest, its entrypoints, the files of its architecture and of its training.

The part of the speciality after `archive`: files in, components out.
"""

from __future__ import annotations

import posixpath
from typing import Any

from chalicelib.kernel.text import is_unicode
from chalicelib.kernel.values import frozen

from .archive import Rejected, importable
from .contracts import ARCHITECTURE_ONLY, FULL, TRAINING_FOR_ARCH

MAX_MANIFEST_BYTES = 64_000
MAX_DEPTH = 20
_MANIFESTS = {"prism.yaml", "prism.yml"}
_KINDS = {FULL, ARCHITECTURE_ONLY, TRAINING_FOR_ARCH}
_MAX_ID = 128
# What PyYAML's constructors throw at a tag whose text is not of its kind, such as `!!bool maybe` or `!!int ""`.
_CONSTRUCTION_FAULTS = (ValueError, TypeError, LookupError, AttributeError, ArithmeticError, RecursionError)


@frozen
class Project:
    """The files of a project and which of them are what."""

    files: dict[str, str]
    kind: str
    architecture_id: str | None
    entrypoint: str
    architecture: tuple[str, ...]
    training: tuple[str, ...]

    @property
    def python_files(self) -> dict[str, str]:
        return {path: text for path, text in self.files.items() if path.endswith(".py")}

    def component(self, paths: tuple[str, ...]) -> dict[str, str]:
        return {path: self.files[path] for path in sorted(set(paths))}


def read(files: dict[str, str]) -> Project:
    """The project behind the files; the shallowest manifest counts, and it is parsed here once for all."""
    if not any(path.endswith(".py") for path in files):
        raise Rejected("Prism project contains no Python source")
    manifests = [path for path in files if posixpath.basename(path) in _MANIFESTS]
    if not manifests:
        return _without_manifest(files)
    path = min(manifests, key=lambda path: (path.count("/"), path))
    return _with_manifest(files, _parse(files[path]), posixpath.dirname(path))


def _without_manifest(files: dict[str, str]) -> Project:
    primary = _primary(sorted(path for path in files if path.endswith(".py")))
    return _checked(Project(files, FULL, None, primary, (primary,), (primary,)))


def _primary(paths: list[str]) -> str:
    """`model.py`, else `agent.py`, else the first Python file."""
    for wanted in ("model.py", "agent.py"):
        for path in paths:
            if path.endswith(wanted):
                return path
    return paths[0]


def _with_manifest(files: dict[str, str], manifest: dict[str, Any], folder: str) -> Project:
    kind = manifest.get("kind") or FULL
    if not isinstance(kind, str) or kind not in _KINDS:
        raise Rejected(f"unsupported Prism project kind: {_text(kind)[:100]}")
    architecture_id = manifest.get("architecture_id")
    if architecture_id is not None:
        architecture_id = _text(architecture_id)[:_MAX_ID] or None
    if kind == TRAINING_FOR_ARCH and not architecture_id:
        raise Rejected("training_for_arch requires architecture_id")
    architecture, training = _section(manifest, "architecture"), _section(manifest, "training")
    entrypoint = _find(files, _text(architecture.get("entrypoint") or "model.py"), folder)
    training_entrypoint = _text(training.get("entrypoint") or "")
    trained = _find(files, training_entrypoint, folder) if training_entrypoint else entrypoint
    return _checked(
        Project(
            files,
            kind,
            architecture_id,
            entrypoint,
            (entrypoint, *_listed(files, architecture, folder)),
            (trained, *_listed(files, training, folder)),
        )
    )


def _checked(project: Project) -> Project:
    if project.entrypoint not in project.python_files:
        raise Rejected(f"Prism project entrypoint is no Python file: {project.entrypoint}")
    if not project.files[project.entrypoint].strip():
        raise Rejected("submission contains no Python source")
    return project


def _text(value: Any) -> str:
    """What a manifest says, as text; Python itself refuses to write very long numbers out."""
    try:
        return str(value)
    except ValueError:
        raise Rejected("prism.yaml holds a number of too many digits") from None


def _section(manifest: dict[str, Any], name: str) -> dict[str, Any]:
    section = manifest.get(name)
    if section is None:
        return {}
    if not isinstance(section, dict):
        raise Rejected(f"{name} section must be a mapping")
    return section


def _listed(files: dict[str, str], section: dict[str, Any], folder: str) -> list[str]:
    listed = section.get("files") or []
    if isinstance(listed, str):
        listed = [listed]
    if not isinstance(listed, list):
        raise Rejected("files must be a path or a list of paths")
    return [_find(files, _text(path), folder) for path in listed]


def _find(files: dict[str, str], path: str, folder: str) -> str:
    """Exactly, then below the manifest's folder, then as the end of any path."""
    wanted = importable(path)
    for candidate in (wanted, posixpath.join(folder, wanted)):
        if candidate in files:
            return candidate
    ending = "/" + wanted.removeprefix("./").lstrip("/")
    for candidate in sorted(files):
        if candidate.endswith(ending):
            return candidate
    raise Rejected(f"Prism project entrypoint not found: {path[:200]}")


def _parse(text: str) -> dict[str, Any]:
    import yaml  # noqa: PLC0415 - only projects with a manifest need it

    if len(text.encode("utf-8", "replace")) > MAX_MANIFEST_BYTES:
        raise Rejected(f"prism.yaml exceeds {MAX_MANIFEST_BYTES} bytes")

    class Loader(yaml.SafeLoader):
        """Neither aliases, which multiply, nor depth, which overflows, nor half characters, which no store takes."""

        depth = 0

        def compose_node(self, parent: Any, index: Any) -> Any:
            if self.check_event(yaml.AliasEvent):
                raise Rejected("prism.yaml may not use aliases")
            self.depth += 1
            if self.depth > MAX_DEPTH:
                raise Rejected(f"prism.yaml is nested deeper than {MAX_DEPTH} levels")
            node = super().compose_node(parent, index)
            if isinstance(node, yaml.ScalarNode) and not is_unicode(node.value):
                raise Rejected("prism.yaml holds text that is no Unicode")
            self.depth -= 1
            return node

    try:
        manifest = yaml.load(text, Loader)  # noqa: S506 - a SafeLoader with less
    except (yaml.YAMLError, *_CONSTRUCTION_FAULTS) as error:
        raise Rejected(f"prism.yaml is not valid YAML: {str(error).splitlines()[0][:200]}") from None
    if not isinstance(manifest, dict):
        raise Rejected("prism.yaml must contain a mapping")
    return manifest
