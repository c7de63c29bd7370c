"""Rows 47 to 59 and 98 of the conformance table, and what review makes of copies."""

from __future__ import annotations

import base64
import random
from typing import Any

import pytest

from chalicelib.prism import project as projects
from chalicelib.prism import similarity, store, store_review, tasks_review
from tests.prism.machine import Machines
from tests.prism.world import (
    ALICE,
    BOB,
    CAROL,
    MODEL,
    NOW,
    Configure,
    Freeze,
    Prism,
    model,
    packed,
    project,
    recipe,
    two_parts,
)

LONG = "".join(f"k{number}: {number}\n" for number in range(7000))
LONG_WINDED = "x = [" + "".join(random.Random(1).choices(("a,", "b,"), k=100_000)) + "]\n"
RECIPE = "def get_recipe(ctx):\n    return {}\n"
BUILD = "def build_model(ctx):\n    return None\n"


@pytest.mark.parametrize(
    ("code", "error"),
    [
        ("import os\n" + MODEL, "forbidden imports: os"),
        ("import os, sys\nimport json\n" + MODEL, "forbidden imports: json, os, sys"),
        ("from os import path\n" + MODEL, "forbidden imports: os"),
        (BUILD, "missing functions: get_recipe"),
        ("x = 1\n", "missing functions: build_model, get_recipe"),
        ("async " + BUILD + RECIPE, "missing functions: build_model"),
        (MODEL + "\nprint(1)\n", "top-level code may only define imports, constants, classes, and functions"),
        (MODEL + "\nx = len('a')\n", "top-level code may only define imports, constants, classes, and functions"),
        (MODEL + "\n# eval(\n", "submission violates Prism safety rules"),
        (MODEL + "\n# requests\n", "submission violates Prism safety rules"),
        (MODEL + "\n# /ETC/passwd\n", "submission violates Prism safety rules"),
        (MODEL.replace("build_model(ctx)", "build_model(*a)"), "build_model may not use *args or **kwargs"),
        (MODEL + "\ndef infer(**k):\n    pass\n", "infer may not use *args or **kwargs"),
        (MODEL + "\ndef f():\n    compile('x')\n", "forbidden call: compile"),
        (MODEL + "\ndef f(x):\n    return x.__class__\n", "forbidden attribute: __class__"),
        (MODEL + "\ndef f(x):\n    return getattr(x, '__class__')\n", "forbidden call: getattr with a dunder name"),
        (MODEL + "\ndef f(x):\n    return torch.hub.load(x)\n", "forbidden attribute: torch.hub"),
        (MODEL + "\ndef f(x):\n    return torch.load(x)\n", "forbidden attribute: torch.load"),
        ("from torch.utils import cpp_extension\n" + MODEL, "forbidden attribute: torch.utils.cpp_extension"),
        ("def (:\n", "invalid syntax"),
        ("(" * 5000 + ")" * 5000, "too many nested parentheses"),
        ("x = " + "-" * 50_000 + "1\n", "cannot be parsed"),
        ("x = " + "9" * 5000 + "\n", "limit"),
        ("x = 0x" + "f" * 5000 + "\n", "model.py: a number has too many digits"),
        ("x = 1\x00\n", "null bytes"),
        ("a" + ".b" * 30_000 + "\n", "cannot be parsed"),
        ("x = 1\n" * 33_333, "missing functions: build_model, get_recipe"),
        ("   ", "submission contains no Python source"),
    ],
)
def test_source_that_review_refuses_says_why(prism: Prism, code: str, error: str) -> None:
    found = prism.processed({"code": code})
    assert found["status"] == "rejected"
    assert error in found["error"]
    assert found["final_score"] is None


def test_a_docstring_future_imports_and_own_modules_are_fine(prism: Prism) -> None:
    files = {
        "model.py": '"""What it is."""\nfrom __future__ import annotations\nfrom parts import x\n' + MODEL,
        "parts.py": "def x():\n    return 1\n",
    }
    assert prism.processed(project(files))["status"] == "completed"


def test_a_file_named_like_a_module_opens_no_door(prism: Prism) -> None:
    found = prism.processed(project({"model.py": "import os\n" + MODEL, "os.py": "x = 1\n"}))
    assert (found["status"], found["error"]) == ("rejected", "project/os.py may not be named like the module os")


def archive(*, filename: str = "project.zip", raw: bytes = b"", code: str = "") -> dict[str, Any]:
    return {"code": code or base64.b64encode(raw).decode(), "filename": filename}


@pytest.mark.parametrize(
    ("body", "error"),
    [
        (archive(code="not base64!"), "zip source project.zip must be base64 encoded"),
        (archive(raw=b"PK not a zip"), "zip source project.zip is not a valid zip archive"),
        (project({"a.so": b"x"}), "zip source project.zip contains unsupported file: a.so"),
        (project({"LICENSE": "x", "m.py": MODEL}), "zip source project.zip contains unsupported file: LICENSE"),
        (project({"inner.zip": packed({"m.py": "x"})}), "contains unsupported file: inner.zip"),
        (project({f"f{n}.py": "" for n in range(201)}), "zip source project.zip exceeds 200 files"),
        (project({f"m{n}.txt": "x" * 16_000 for n in range(126)}), "zip source project.zip exceeds 2000000 bytes"),
        (project({"m.py": LONG_WINDED}), "the source holds more than 200000 words, signs and lines"),
        (project({"m.py": "#" * 50_000}), "zip source project.zip exceeds 2000000 bytes"),
        (project({"../../x.py": MODEL}), "unsafe source path"),
        (project({"model.py": MODEL, "help.PY": "import os\n"}), "forbidden imports: os"),
        (project({"model.py": MODEL, "help.Py": "x = eval('1')\n"}), "submission violates Prism safety rules"),
        (project({"model.py": MODEL, "model.PY": MODEL}), "unsafe source path: model.PY appears twice"),
        (project({"README.md": "x"}), "Prism project contains no Python source"),
        (project({"prism.yaml": "kind: weird", "model.py": MODEL}), "unsupported Prism project kind: weird"),
        (project({"prism.yaml": "[1]", "model.py": MODEL}), "prism.yaml must contain a mapping"),
        (project({"prism.yaml": "training: x", "model.py": MODEL}), "training section must be a mapping"),
        (project({"prism.yaml": "kind: training_for_arch", "model.py": MODEL}), "requires architecture_id"),
        (
            project({"prism.yaml": "architecture: {entrypoint: no.py}", "model.py": MODEL}),
            "not found: no.py",
        ),
        (
            project({"prism.yaml": "architecture: {entrypoint: README.md}", "README.md": "x", "model.py": MODEL}),
            "Prism project entrypoint is no Python file: project/README.md",
        ),
        (project({"prism.yaml": "x: !!bool maybe", "model.py": MODEL}), "not valid YAML"),
        (project({"prism.yaml": 'x: !!int ""', "model.py": MODEL}), "not valid YAML"),
        (project({"prism.yaml": "x: !!timestamp y", "model.py": MODEL}), "not valid YAML"),
        (project({"prism.yaml": 'architecture_id: "\\uD800"', "model.py": MODEL}), "text that is no Unicode"),
        (project({"prism.yaml": 'kind: "\\uD800"', "model.py": MODEL}), "text that is no Unicode"),
        (project({"prism.yaml": "kind: 0x" + "f" * 5000, "model.py": MODEL}), "too many digits"),
        (project({"prism.yaml": "a: &a [1]\nb: *a", "model.py": MODEL}), "prism.yaml may not use aliases"),
        (project({"prism.yaml": "[" * 5000, "model.py": MODEL}), "nested deeper than 20 levels"),
        (project({"prism.yaml": "x: !!python/object/apply:os.system [ls]", "model.py": MODEL}), "not valid YAML"),
        (
            project({"prism.yaml": LONG, "model.py": MODEL}),
            "prism.yaml exceeds 64000 bytes",
        ),
    ],
)
def test_projects_that_review_refuses(prism: Prism, body: dict[str, Any], error: str) -> None:
    found = prism.processed(body)
    assert found["status"] == "rejected"
    assert error in found["error"]


@pytest.mark.parametrize("named", ["model.PY", "./model.py", "/model.PY"])
def test_python_is_python_in_any_spelling_and_found_in_any(prism: Prism, named: str) -> None:
    manifest = f"architecture: {{entrypoint: {named}}}\n"
    files = {"a/prism.yaml": manifest, "b/MODEL.txt": "", "b/model.PY": "from parts import x\n" + MODEL}
    found = prism.processed(project(files | {"parts.Py": "def x():\n    return 1\n"}))
    assert (found["status"], found["error"]) == ("completed", None)


def test_a_second_archive_in_the_metadata_is_ignored(prism: Prism) -> None:
    hidden = {"archive_base64": base64.b64encode(packed({"x.so": "x"})).decode()}
    assert prism.processed({"code": MODEL, "metadata": hidden})["status"] == "completed"


def test_the_shallowest_manifest_counts(prism: Prism) -> None:
    files = {"deep/er/prism.yaml": "kind: weird", "prism.yaml": "kind: full", "model.py": MODEL}
    assert prism.processed(project(files))["status"] == "completed"


def test_a_second_miner_s_identical_upload_is_a_copy(prism: Prism) -> None:
    body = project({"model.py": model(1)})
    assert prism.processed(body)["status"] == "completed"
    copy = prism.processed(body, BOB)
    assert copy["status"] == "rejected"
    assert "static similarity review" in copy["error"]


def test_repacked_renamed_and_reformatted_copies_are_copies(prism: Prism) -> None:
    prism.processed({"code": model(1)})
    commented = "# mine\n" + model(1).replace("\n\n", "\n\n\n")
    assert prism.processed({"code": commented}, BOB)["error"] == "static similarity review"
    zipped = project({"src/model.py": model(1), "README.md": "hello"})
    assert prism.processed(zipped, CAROL)["error"] == "static similarity review"
    nearly = model(1).replace("learning_rate", "weight_decay")
    assert prism.processed({"code": nearly}, BOB)["error"] == "static similarity review"


def test_the_first_submitted_is_the_original_whoever_is_processed_first(prism: Prism, freeze: Freeze) -> None:
    original = prism.submitted({"code": model(1)})
    freeze(NOW + 1)
    copy = prism.submitted({"code": "# copy\n" + model(1)}, BOB)
    first = prism.next(BOB.hotkey)  # Bob validates, and may not get his own copy
    assert first["submission_id"] == original
    assert prism.next(ALICE.hotkey) is None
    assert prism.status(copy)["error"] == "static similarity review"
    assert prism.result(first["id"], q_arch=0.5).status == 200
    assert prism.status(original)["status"] == "completed"


def test_a_copy_processed_before_its_original_was_ever_read_is_a_copy(prism: Prism, freeze: Freeze) -> None:
    """Alice validates, and may not get her own; so Bob's copy is looked at first."""
    original = prism.submitted({"code": model(1)})
    freeze(NOW + 1)
    copy = prism.submitted({"code": "# copy\n" + model(1)}, BOB)
    assert prism.next(ALICE.hotkey) is None
    assert prism.status(copy)["error"] == "static similarity review"
    assert prism.status(original)["status"] == "pending"
    assert prism.next("v1")["submission_id"] == original


def test_an_earlier_one_that_kills_its_reader_is_read_for_others_once_each(prism: Prism, freeze: Freeze) -> None:
    original = store.get(prism.submitted({"code": model(1)}))
    assert store_review.may_read(original.place, "a")
    assert store_review.may_read(original.place, "b")
    assert not store_review.may_read(original.place, "a")
    assert store_review.unread_before("9") == []
    late = store.get(prism.submitted({"code": model(2)}))
    assert store_review.may_read(late.place, "a")
    freeze(NOW + 100)
    assert not store_review.may_read(late.place, "b")


def test_later_ones_in_the_index_never_count(prism: Prism, freeze: Freeze) -> None:
    first = store.get(prism.submitted())
    freeze(NOW + 1)
    second, third = store.get(prism.submitted(signer=BOB)), store.get(prism.submitted(signer=CAROL))
    everybody = {"key": [store.member(one) for one in (first, second, third)]}
    assert tasks_review._earlier_members(second, everybody) == {"key": [store.member(first)]}


def test_what_was_read_is_read_no_more(prism: Prism) -> None:
    bad, good = prism.submitted({"code": "import os"}), prism.submitted({"code": model(1)}, BOB)
    assert len(store_review.unread_before("9")) == 2
    assert [prism.process(), prism.process()] == [bad, good]
    assert store_review.unread_before("9") == []


def test_a_copy_processed_before_its_original_does_not_hurt_it(prism: Prism, freeze: Freeze) -> None:
    """The original went back to the queue while the copy was waiting."""
    original = prism.submitted({"code": model(1)})
    freeze(NOW + 1)
    prism.submitted({"code": "# copy\n" + model(1)}, BOB)
    lease = prism.next("v1")
    copy_lease = prism.next("v2")
    assert copy_lease is None  # rejected: the original is known although nobody finished it
    prism.assignment(lease["id"], "reject", {"reason": "busy"})
    assert prism.process() == original
    assert prism.status(original)["status"] == "completed"


def test_an_author_may_improve_and_retry_but_not_repeat(prism: Prism, machines: Machines) -> None:
    machines.evaluate = lambda _event: {"error": "Prism container evaluation timed out"}
    assert prism.processed({"code": model(1)})["error"] == "Prism container evaluation timed out"
    machines.evaluate = Machines().evaluate
    assert prism.processed({"code": model(1)})["status"] == "completed"
    assert prism.processed({"code": model(1)})["error"] == "static similarity review"
    changed = model(1).replace("0.0005", "0.0004")
    assert prism.processed({"code": changed})["status"] == "completed"


def test_a_training_project_is_compared_by_its_training_alone(prism: Prism) -> None:
    first = prism.processed(two_parts(model(1), recipe(1)))
    family = prism.get("/v1/architectures")[0]["id"]
    better = two_parts(model(1), recipe(2), kind="training_for_arch", family=family)
    copied = two_parts(model(1), recipe(1) + "# mine", kind="training_for_arch", family=family)
    assert first["status"] == prism.processed(better, BOB)["status"] == "completed"
    assert prism.processed(copied, CAROL)["error"] == "static similarity review"


def test_with_the_stage_off_identical_code_completes(prism: Prism, configure: Configure) -> None:
    configure(PRISM_PLAGIARISM_ENABLED="0")
    found = [prism.processed({"code": MODEL}, miner)["status"] for miner in (ALICE, BOB, CAROL)]
    assert found == ["completed"] * 3


def test_a_near_duplicate_entrypoint_of_somebody_earlier_costs_four_fifths(prism: Prism, configure: Configure) -> None:
    configure(PRISM_PLAGIARISM_ENABLED="0", PRISM_COMPONENT_REWARDS_ENABLED="0")
    victim = prism.submitted({"code": model(1)})
    copy = prism.submitted({"code": model(1)}, BOB)
    assert [prism.process(), prism.process()] == [victim, copy]
    assert prism.status(victim)["final_score"] == pytest.approx(0.77 + 0.05, abs=1e-9)
    assert prism.status(copy)["final_score"] == pytest.approx(0.77 * 0.2, abs=0.001)


def test_diversity_pays_for_distance_to_others(prism: Prism, configure: Configure) -> None:
    configure(PRISM_COMPONENT_REWARDS_ENABLED="0")
    scores = [prism.processed({"code": model(n)}, miner)["final_score"] for n, miner in enumerate((ALICE, BOB, CAROL))]
    assert scores[0] == pytest.approx(0.82, abs=1e-9)
    assert all(0.77 < score < 0.82 for score in scores[1:])


def test_review_is_finished_when_it_is_repeated(prism: Prism, machines: Machines) -> None:
    machines.at_once = False
    submission_id = prism.submitted({"code": model(1)})
    prism.process()
    before = store.get_reviewed(submission_id).review
    machines.run(f"{submission_id}-1")
    assert before
    assert store.get_reviewed(submission_id).review == before


def test_an_index_entry_keeps_its_earliest_members(cloud: None) -> None:
    for number in range(30):
        store_review.enter(["K"], f"{number:03d}#id#hotkey")
    assert len(store_review.members(["K"])["K"]) == store_review.MEMBERS_PER_KEY
    assert store_review.members(["K"])["K"][0] == "000#id#hotkey"


def test_sketches_estimate_what_sets_share() -> None:
    mine, theirs = frozenset(range(0, 6000, 3)), frozenset(range(0, 9000, 3))
    spread = {value: similarity._hash(str(value)) for value in mine | theirs}
    sketches = [similarity.sketch(frozenset(spread[value] for value in found)) for found in (mine, theirs)]
    exact = similarity.jaccard(mine, theirs)
    assert similarity.likeness(*sketches) == pytest.approx(exact, abs=0.2)
    assert similarity.likeness(sketches[0], sketches[0]) == 1.0


def test_prints_survive_their_packing() -> None:
    taken = similarity.take(projects.read({"project/model.py": MODEL, "project/train.py": recipe(3)}))
    assert similarity.unpack(similarity.pack(taken)) == taken
    assert similarity.minhash(frozenset(), 4) == [similarity._EMPTY] * 4
