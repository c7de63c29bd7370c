"""Whatever a project holds, reading it ends in a project or in a reason."""

from __future__ import annotations

import random

from chalicelib.prism import archive, components, inspection, project, similarity
from chalicelib.prism.archive import Rejected
from tests.harness.scale import scaled
from tests.prism.world import MODEL, model, packed, recipe, two_parts

SNIPPETS = [
    "(",
    ")",
    "[",
    "]",
    "{",
    "}",
    ":",
    "\\",
    "\n",
    "\t",
    "'",
    '"""',
    "\x00",
    "\ufeff",
    "\u202e",
    "é",
    "lambda",
    "async ",
    "yield ",
    "await ",
    "match x:\n case _: pass\n",
    "class A(",
    "def f(*a, **k): ",
    "@x\n",
    "f'{'",
    "0x",
    "1e999",
    "9" * 5000,
    "import os\n",
    "from . import x\n",
    "-" * 3000,
    "(" * 300,
    "a." * 3000 + "b",
    "if 1:\n " * 120,
    "# comment",
    ";",
    "\r",
    "\x1a",
]
MANIFEST = "kind: full\narchitecture:\n  entrypoint: model.py\n  files: [train.py]\ntraining:\n  entrypoint: train.py\n"
YAML = [
    "&a ",
    "*a",
    "!!python/name:os.system ",
    "[" * 50,
    "{" * 50,
    "- ",
    "? ",
    ": ",
    "|",
    ">",
    "%YAML 9.9\n",
    "---\n",
    "\t",
    "<<: ",
    "2026-99-99",
    "0o777",
    "~",
    "!!binary x",
    "!!int x",
    "!!timestamp x",
    "'",
    '"',
    "\x00",
    "1" * 5000,
]


def read(filename: str, code: str) -> None:
    """The whole of review but the comparison with others."""
    found = project.read(archive.sources(filename, code, archive.Limits()))
    inspection.screen(found)
    taken = similarity.take(found)
    assert similarity.unpack(similarity.pack(taken)) == taken
    inspection.check(found)
    components.of(found)


def mutated(text: str, snippets: list[str], dice: random.Random) -> str:
    for _ in range(dice.randint(1, 3)):
        first, last = sorted(dice.randrange(len(text) + 1) for _ in range(2))
        kept = text[min(last, first + 40) :] if dice.random() < 0.4 else text[first:]
        text = text[:first] + dice.choice(snippets) + kept
    return text


def test_any_source_is_read_or_refused_with_a_reason() -> None:
    dice = random.Random(11)
    refused = []
    for _ in range(scaled(400)):
        code = mutated(dice.choice([MODEL, model(1), recipe(1)]), SNIPPETS, dice)
        try:
            read("model.py", code)
        except Rejected as rejection:
            refused.append(str(rejection))
        except (RecursionError, MemoryError):
            refused.append("too deep")
    assert refused
    assert all(0 < len(reason) <= 2000 for reason in refused)


def test_any_manifest_is_read_or_refused_with_a_reason() -> None:
    dice = random.Random(12)
    refused = []
    for _ in range(scaled(300)):
        files = {"prism.yaml": mutated(MANIFEST, YAML, dice), "model.py": MODEL, "train.py": recipe(1)}
        try:
            project.read(archive.unpack("project.zip", packed(files), archive.Limits()))
        except Rejected as rejection:
            refused.append(str(rejection))
    assert refused
    assert all(0 < len(reason) <= 2000 for reason in refused)


def test_a_good_project_passes() -> None:
    body = two_parts(MODEL, recipe(1))
    read(str(body["filename"]), str(body["code"]))
