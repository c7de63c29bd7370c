"""What counts as a copy: exact ones at once, near ones by distance, and an index that misses nobody."""

from __future__ import annotations

import base64
import random
from typing import Any

import pytest

from bench import bitrecs_similarity
from chalicelib.bitrecs import routes_intake, similarity, store, store_index, tasks, tasks_index
from chalicelib.kernel import flows
from chalicelib.kernel.errors import Unavailable
from tests.bitrecs.world import Configure, Miner, World, told, unlike

PROMPT = f"Recommend from {{{{product_catalog}}}} and say why. {unlike(600, 'prompt')}"
VARIABLE = "{{product_catalog}}"
PLAIN: dict[str, Any] = {"model": "m", "user_prompt_template": "Now for {{sku}}."}


def changed(words: int) -> str:
    """The prompt with so many of its words replaced."""
    parts = PROMPT.split()
    for number, at in enumerate(random.Random(1).sample(range(20, 600), words)):
        parts[at] = unlike(1, f"new {number}")
    return " ".join(parts)


def submitted(world: World, name: str, prompt: str) -> Miner:
    return world.miner(name, system_prompt_template=prompt, **PLAIN)


@pytest.mark.parametrize(
    "disguise",
    [
        str.upper,
        lambda text: text.replace(" ", "  \n"),
        lambda text: text.replace("e", "\u0435").replace("o", "\u03bf"),
        lambda text: text.replace("a", "a\u200b"),
        lambda text: f"<!-- my own work -->{text}{{# really #}}" if len(text) > 50 else text,
        lambda text: f"# note\n{text}\n# the end" if len(text) > 50 else text,
        lambda text: text.replace("{{product_catalog}} ", "{{-  product_catalog -}} "),
    ],
)  # S61
def test_a_disguised_copy_is_refused_with_the_specified_body(world: World, disguise: object) -> None:
    assert callable(disguise)
    agent_id = submitted(world, "a", PROMPT).submit().json["artifact_id"]

    reply = submitted(world, "b", disguise(PROMPT).replace(disguise(VARIABLE), VARIABLE)).submit()

    assert reply.status == 409
    assert reply.json | {"code": ""} == {
        "error": "Agent is too similar to existing agents",
        "detail": "Agent is too similar to existing agents",
        "message": "This agent appears to be a duplicate or very similar to existing submissions",
        "similar_agents": [{"agent_id": agent_id[:8], "similarity_score": "1.0000", "distance": "0.0000"}],
        "threshold": 0.0001,
        "code": "",
    }


def test_a_copy_with_two_words_changed_is_accepted_and_named(world: World) -> None:  # S62
    agent_id = submitted(world, "a", PROMPT).submit().json["artifact_id"]

    (similar,) = submitted(world, "b", changed(2)).submit().json["similar_results"]

    assert similar["agent_id"] == agent_id
    assert 0 < similar["distance"] < 0.05


def test_a_raised_distance_stops_small_edits(world: World, configure: Configure) -> None:
    configure(BITRECS_SIMILARITY_REJECT_DISTANCE="0.02")
    assert submitted(world, "a", PROMPT).submit().status == 201

    assert submitted(world, "b", changed(3)).submit().status == 409


@pytest.mark.parametrize(("mode", "told_as", "named"), [("off", "disabled", 0), ("report", "enabled", 1)])  # S64
def test_without_enforcement_a_copy_is_accepted(
    world: World, configure: Configure, mode: str, told_as: str, named: int
) -> None:
    configure(BITRECS_SIMILARITY_MODE=mode)
    assert submitted(world, "a", PROMPT).submit().status == 201

    reply = submitted(world, "b", PROMPT).submit()

    assert reply.status == 201
    assert (reply.json["similarity_check"], len(reply.json["similar_results"])) == (told_as, named)


def test_an_index_that_does_not_answer_closes_the_door_unless_told_otherwise(
    world: World, configure: Configure, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert submitted(world, "a", PROMPT).submit().status == 201

    def silent(*_: object, **__: object) -> None:
        raise Unavailable("no answer")

    monkeypatch.setattr(flows, "invoke", silent)
    monkeypatch.setattr(routes_intake, "_FEW_AGENTS", 0)
    miner = submitted(world, "b", changed(50))
    text = "Similarity check is temporarily unavailable. Please try again later."
    assert told(miner.submit()) == (503, text)
    configure(BITRECS_SIMILARITY_FAIL_OPEN="true")
    assert miner.submit().status == 201


def test_while_the_index_is_small_a_cold_container_stops_nobody(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = (submitted(world, name, prompt).submit() for name, prompt in (("a", PROMPT), ("b", changed(300))))
    tasks_index.compact()
    third = submitted(world, "c", unlike(500, "c") + "{{sku}}").submit()
    assert [reply.status for reply in (first, second, third)] == [201] * 3

    def silent(*_: object, **__: object) -> None:
        raise Unavailable("no answer")

    monkeypatch.setattr(flows, "invoke", silent)
    (similar,) = submitted(world, "d", changed(2)).submit().json["similar_results"]

    assert similar["agent_id"] == first.json["artifact_id"]


def near(prompt: str) -> list[str]:
    tasks_index.forget_loaded()
    parts = similarity.pieces("CHUTES", "m", prompt, "Now for {{sku}}.", [])
    answer = tasks_index.search({"vector": base64.b64encode(bytes(similarity.vector(parts))).decode()})
    return [agent for agent, _ in answer["near"]]


def test_vectors_are_found_before_during_and_after_they_move_into_the_index(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tasks_index, "SEGMENT_ROWS", 2)
    agents = [
        submitted(world, name, f"{unlike(200, name)} {{{{sku}}}}").submit().json["artifact_id"] for name in "abcde"
    ]
    prompts = [f"{unlike(200, name)} {{{{sku}}}}" for name in "abcde"]
    assert [near(prompt) for prompt in prompts] == [[agent] for agent in agents]

    assert tasks.compact({}, None) == {"absorbed": 5, "rebuilt": 0}

    assert store_index.waiting() == []
    assert [part["rows"] for part in store_index.manifest()["segments"]] == [2, 2, 1]
    assert [near(prompt) for prompt in prompts] == [[agent] for agent in agents]
    late = submitted(world, "f", f"{unlike(200, 'f')} {{{{sku}}}}").submit().json["artifact_id"]
    tasks.compact({}, None)
    assert [part["rows"] for part in store_index.manifest()["segments"]] == [2, 2, 2]
    assert near(f"{unlike(200, 'f')} {{{{sku}}}}") == [late]


def test_a_compaction_that_dies_half_way_neither_loses_nor_doubles(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    prompt = f"{unlike(200, 'a')} {{{{sku}}}}"
    agent_id = submitted(world, "a", prompt).submit().json["artifact_id"]

    def die(_keys: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(store_index, "forget", die)
        with pytest.raises(KeyboardInterrupt):
            tasks_index.compact()
    assert tasks_index.is_due()
    tasks_index.compact()

    assert near(prompt) == [agent_id]
    assert [part["rows"] for part in store_index.manifest()["segments"]] == [1]
    assert store_index.waiting() == []


def test_another_version_of_the_vectors_rebuilds_the_index_from_the_artifacts(
    world: World, configure: Configure
) -> None:
    prompt = f"{unlike(200, 'a')} {{{{sku}}}}"
    agent_id = submitted(world, "a", prompt).submit().json["artifact_id"]
    tasks_index.compact()

    configure(BITRECS_VECTOR_VERSION="2")
    with pytest.raises(tasks_index.IndexOutdated):
        near(prompt)
    assert tasks_index.compact()["rebuilt"] == 1

    assert near(prompt) == [agent_id]
    assert store_index.manifest()["version"] == 2
    assert store.first_with("0" * 64) is None


def test_the_search_is_exact(monkeypatch: pytest.MonkeyPatch) -> None:
    np = pytest.importorskip("numpy")
    rng = np.random.default_rng(7)
    base = rng.normal(size=(1, 1024))
    rows = np.concatenate([rng.normal(size=(400, 1024)), base + rng.normal(size=(400, 1024)) * rng.random((400, 1))])
    rows = (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)
    ids = [f"{number:036d}" for number in range(800)]
    index = similarity.Index()
    for first in range(0, 800, 300):
        index.add(ids[first : first + 300], rows[first : first + 300].tobytes())
    for at in (0, 400, 555, 799):
        distances = 1 - rows.astype(np.float64) @ rows[at].astype(np.float64)
        wanted = [ids[row] for row in np.argsort(distances, kind="stable") if distances[row] < 0.3][:5]

        found = index.nearest(rows[at].tobytes(), below=0.3, limit=5)

        assert [agent for agent, _ in found] == wanted


def test_most_disguises_of_a_copy_are_seen_and_strangers_are_no_copies() -> None:
    found = bitrecs_similarity.detection(10)

    assert found.share >= 0.95, found.seen
    assert found.false_share <= 0.01
