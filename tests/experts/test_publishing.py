"""Publication: slices cut by storage, crashes at every step, hostile headers, retirement."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import moto.s3.models
import pytest

from chalicelib.experts import slices, store, tasks_composing, tasks_publishing
from chalicelib.experts.tensors import BrokenFile
from chalicelib.kernel import aws, multipart
from chalicelib.kernel.errors import Conflict, Malformed, Refusal
from tests.experts import models
from tests.experts.conftest import World
from tests.experts.flows import call
from tests.harness.crash import Killed

MIB = 1024 * 1024


@pytest.fixture
def spent(monkeypatch: pytest.MonkeyPatch) -> dict[str, int]:
    """Bytes that our process sends to storage."""
    found = {"sent": 0}

    def count(params: dict[str, Any], **_: Any) -> None:
        body = params.get("Body")
        found["sent"] += len(body) if isinstance(body, bytes) else 0

    events = aws.client("s3").meta.events
    patient = aws.client("s3", 600.0).meta.events
    for registered in (events, patient):
        registered.register("provide-client-params.s3.*", count, unique_id="count-sent")
    return found


@pytest.fixture
def scaled(monkeypatch: pytest.MonkeyPatch) -> None:
    """All sizes a 64th, storage's smallest part too: what takes 6 MiB elsewhere takes 96 KiB here."""
    for owner, name in (
        (slices, "SMALLEST_PART"), (multipart, "SMALLEST_PART"), (moto.s3.models, "S3_UPLOAD_PART_MIN_SIZE"),
        (tasks_composing, "SMALL"), (tasks_publishing, "SMALL"),
    ):  # fmt: skip
        monkeypatch.setattr(owner, name, getattr(owner, name) // 64)


def big(*, stacked: bool = False, side: int = 128) -> models.Model:
    """Experts of 96 KiB each (three projections of 32 KiB), or slabs of 64 and 32 KiB where they are stacked."""
    return models.model(dtype="BF16", hidden=side, width=side, stacked=stacked)


def expert_parts(source: models.Model, group: str) -> dict[str, tuple[str, tuple[int, ...], bytes]]:
    """What a group's slice of a stacked model must hold."""
    found = {}
    for layer, pairs in models.ASSIGNMENT[group].items():
        for _, expert in pairs:
            for name in ("gate_up_proj", "down_proj"):
                dtype, shape, raw = source.parts[f"model.layers.{layer}.mlp.experts.{name}"]
                size = len(raw) // shape[0]
                piece = raw[expert * size : (expert + 1) * size]
                found[f"model.layers.{layer}.mlp.experts.{expert}.{name}"] = (dtype, shape[1:], piece)
    return found


def stored(part: dict[str, Any]) -> bytes:
    raw = store.models().get(part["key"])
    assert raw is not None
    assert len(raw) == part["bytes"]
    return raw


# ---- large experts


def test_large_experts_are_copied_by_storage_and_only_headers_are_sent(world: World, spent: dict[str, int]) -> None:
    source = big(side=1024)
    manifest = world.publish(source)
    sent = spent["sent"] - len(source.raw)

    for group in ("0", "1"):
        wire = stored(manifest["wires"][f"group_{group}"])
        payload = models.payload(wire)
        found = models.parts_of(payload)
        assert set(found) == source.names(group)
        assert all(found[name] == source.parts[name] for name in found)
        assert models.digest(payload) == manifest["wires"][f"group_{group}"]["content_hash"]
    assert models.parts_of(stored(manifest["full"])) == source.parts
    blocks = [models.parts_of(stored(block)) for block in manifest["blocks"].values()]
    assert {name: part for block in blocks for name, part in block.items()} == source.parts
    small = sum(len(raw) for name, (_, _, raw) in source.parts.items() if ".mlp.experts." not in name)
    assert sent - small < 100_000


def test_stacked_experts_come_apart_and_the_full_model_stays_stacked(world: World, scaled: None) -> None:
    source = big(stacked=True)
    manifest = world.publish(source)

    for group in ("0", "1"):
        payload = models.payload(stored(manifest["wires"][f"group_{group}"]))
        assert models.parts_of(payload) == expert_parts(source, group)
        assert models.digest(payload) == manifest["wires"][f"group_{group}"]["content_hash"]
    assert models.parts_of(stored(manifest["full"])) == source.parts


def test_reading_gives_the_same_hash_as_storage(world: World, scaled: None) -> None:
    source = big()
    by_storage = world.publish(source)
    world.configure(EXPERTS_SLICE_HASH_WAY="stream")
    by_reading = world.publish(source, version="step_2", block=1001)

    for name, block in by_reading["blocks"].items():
        assert models.digest(stored(block))[7:] == block["sha256"], name
    assert by_storage["blocks"]["group_0"]["bytes"] == by_reading["blocks"]["group_0"]["bytes"]


@pytest.mark.parametrize("dtype", ["F16", "BF16", "F32"])
@pytest.mark.parametrize("stacked", [False, True])
def test_any_form_and_float_is_published(world: World, dtype: str, stacked: bool) -> None:
    source = models.model(dtype=dtype, stacked=stacked)
    manifest = world.publish(source)

    found = models.parts_of(models.payload(stored(manifest["wires"]["group_0"])))
    assert found == (expert_parts(source, "0") if stacked else {name: source.parts[name] for name in source.names("0")})


# ---- shards


def sharded(source: models.Model, *, index: Callable[[dict[str, Any]], None] = lambda _: None) -> str:
    names = list(source.parts)
    halves = {"model-00001-of-00002.safetensors": names[::2], "model-00002-of-00002.safetensors": names[1::2]}
    weights = {name: shard for shard, held in halves.items() for name in held}
    total = sum(len(raw) for _, _, raw in source.parts.values())
    document: dict[str, Any] = {"metadata": {"total_size": total}, "weight_map": weights}
    index(document)
    for shard, held in halves.items():
        store.models().put(f"base/{shard}", models.file_of({name: source.parts[name] for name in held}))
    store.models().put("base/model.safetensors.index.json", json.dumps(document).encode())
    return f"s3://{store.models().name}/base/"


def publish_from(uri: str, *, block: int = 1000) -> dict[str, Any]:
    return tasks_publishing.finish(
        tasks_publishing.plan(uri, models.ASSIGNMENT, model_version="step_1", block_number=block)
    )


def test_a_sharded_model_is_one_model(world: World, tiny: models.Model) -> None:
    manifest = publish_from(sharded(tiny))

    assert models.parts_of(stored(manifest["full"])) == tiny.parts
    found = models.parts_of(models.payload(stored(manifest["wires"]["group_1"])))
    assert found == {name: tiny.parts[name] for name in tiny.names("1")}


def test_an_index_is_believed_for_nothing(world: World, tiny: models.Model) -> None:
    def moved(document: dict[str, Any]) -> None:
        document["weight_map"]["model.embed_tokens.weight"] = "model-00002-of-00002.safetensors"

    def invented(document: dict[str, Any]) -> None:
        document["weight_map"]["model.more.weight"] = "model-00001-of-00002.safetensors"

    def larger(document: dict[str, Any]) -> None:
        document["metadata"]["total_size"] += 1

    def outside(document: dict[str, Any]) -> None:
        document["weight_map"]["model.embed_tokens.weight"] = "../secret.safetensors"

    def absent(document: dict[str, Any]) -> None:
        del document["weight_map"]

    for lie in (moved, invented, larger, outside, absent):
        with pytest.raises((BrokenFile, Refusal)):
            publish_from(sharded(tiny, index=lie))
    assert store.current() is None


def test_shards_lie_beside_their_index(world: World, tiny: models.Model) -> None:
    def moved(document: dict[str, Any]) -> None:
        document["weight_map"] = dict.fromkeys(tiny.parts, "elsewhere/model.safetensors")

    store.models().put("base/elsewhere/model.safetensors", tiny.raw)
    with pytest.raises(Refusal, match="no shard beside it"):
        publish_from(sharded(tiny, index=moved))


def test_a_missing_model_is_said(world: World) -> None:
    for uri in (
        "s3://experts-models/none.safetensors",
        "s3://experts-models/none/",
        "s3://no-bucket-here/x.safetensors",
        "s3://",
        "s3://A B/x.safetensors",
    ):
        with pytest.raises((Refusal, RuntimeError), match=r"no s3|0 safetensors|NoSuchBucket|no bucket"):
            publish_from(uri)


# ---- assignments


@pytest.mark.parametrize(
    "assignment",
    [None, [], {}, {"0": {}}, {"0": []}, {"x": {"0": [[0, 0]]}}, {"0": {"0": []}}, {"0": {"0": [[0]]}},
     {"0": {"0": [[0, 1], [0, 2]]}}, {"0": {"0": [[0, 1], [1, 1]]}}, {"0": {"0": [[0, 1]]}, "1": {"0": [[0, 1]]}},
     {"0": {"0": [[0, -1]]}}, {"0": {"0": [[0, True]]}}, {"0": {"0": [[0, "1"]]}}, {"0": {"00": [[0, 1]]}},
     {"0": {"0": [[0, 99]]}}, {"0": {"9": [[0, 0]]}}, {"-1": {"0": [[0, 0]]}}],
)  # fmt: skip
def test_an_assignment_that_makes_no_sense_is_refused(world: World, tiny: models.Model, assignment: Any) -> None:
    store.models().put("m.safetensors", tiny.raw)

    with pytest.raises(BrokenFile):
        tasks_publishing.plan("s3://experts-models/m.safetensors", assignment, model_version="v", block_number=1)
    assert store.current() is None


@pytest.mark.parametrize(
    ("name", "block", "base"),
    [("", 1, ""), ("a\r\nX-Evil: 1", 1, ""), ("two words", 1, ""), ("ü", 1, ""), ("\udcff", 1, ""), ("v" * 101, 1, ""),
     ("v", -1, ""), ("v", 2**63, ""), ("v", 1, "\udcff"), ("v", 1, "b" * 201)],
)  # fmt: skip
def test_a_version_that_cannot_be_told_or_followed_is_refused(
    world: World, tiny: models.Model, name: str, block: int, base: str
) -> None:
    store.models().put("m.safetensors", tiny.raw)

    with pytest.raises(Malformed):
        tasks_publishing.plan(
            "s3://experts-models/m.safetensors", models.ASSIGNMENT, model_version=name, block_number=block,
            base_model=base,
        )  # fmt: skip


# ---- order and retries


def test_a_publication_is_idempotent_and_blocks_only_rise(world: World, tiny: models.Model) -> None:
    first = world.publish(tiny, block=1000)
    again = world.publish(tiny, block=1000)

    assert again["version_id"] == first["version_id"]
    for block in (999, 1000):
        with pytest.raises(Conflict, match="higher block"):
            world.publish(models.model(seed=9), version="step_2", block=block)
    assert (store.current() or {})["version_id"] == first["version_id"]
    assert len(store.versions()) == 1


STEPS = {
    "plan stored": (store, "note_assignment"),
    "part": (tasks_composing, "_put_part"),
    "graft": (tasks_composing, "_graft"),
    "block": (tasks_publishing, "put_block"),
    "wire": (tasks_publishing, "put_wire"),
    "full": (tasks_publishing, "put_full"),
    "note": (store, "note_progress"),
    "verify": (tasks_publishing, "verify"),
    "flip": (store, "flip"),
}


@pytest.mark.parametrize("place", STEPS)
@pytest.mark.parametrize("after", [False, True])
def test_a_publication_killed_anywhere_leaves_the_old_or_the_new_version_whole(
    served: World, scaled: None, monkeypatch: pytest.MonkeyPatch, place: str, after: bool
) -> None:
    served.configure(EXPERTS_COPY_THREADS="1")
    source = big()
    owner, name = STEPS[place]
    original = getattr(owner, name)
    left = 2 if place in {"part", "block", "wire", "note"} else 1

    def killed(*args: Any, **kwargs: Any) -> Any:
        nonlocal left
        left -= 1
        result = original(*args, **kwargs) if after or left else None
        if not left:
            raise Killed
        return result

    monkeypatch.setattr(owner, name, killed)
    with pytest.raises(Killed):
        served.publish(source, version="step_2", block=1010)
    monkeypatch.setattr(owner, name, original)
    whole(served)

    served.publish(source, version="step_2", block=1010)

    assert whole(served) == "step_2"
    assert open_uploads() == []


def whole(world: World) -> str:
    """The version that is served, after its bytes were looked at."""
    reply = world.partial()
    wire = stored((store.current() or {})["wires"]["group_0"])
    assert models.digest(models.payload(wire)) == reply.header("X-Content-Hash")
    return reply.header("X-Model-Version") or ""


def open_uploads() -> list[str]:
    listed = aws.client("s3").list_multipart_uploads(Bucket=store.models().name)
    return [entry["Key"] for entry in listed.get("Uploads", [])]


def test_what_was_built_before_a_crash_is_not_built_again(
    world: World, scaled: None, monkeypatch: pytest.MonkeyPatch, spent: dict[str, int]
) -> None:
    source = big()
    owner, name = STEPS["full"]
    original = getattr(owner, name)
    monkeypatch.setattr(owner, name, lambda *_: (_ for _ in ()).throw(Killed()))
    with pytest.raises(Killed):
        world.publish(source)
    monkeypatch.setattr(owner, name, original)
    before = spent["sent"]
    world.publish(source)

    assert spent["sent"] - before < len(source.raw) + 50_000


def test_what_killed_processes_left_open_is_given_up(world: World, tiny: models.Model) -> None:
    folder = f"models/{world.publish(tiny)['version_id']}"
    for key in (f"{folder}/full.safetensors", f"scratch/{folder}/full.safetensors-1", "models/other/full.safetensors"):
        multipart.begin(store.models(), key)
    store.table.delete("MODEL", "CURRENT")
    world.publish(tiny)

    assert open_uploads() == ["models/other/full.safetensors"]


def test_an_object_that_vanished_is_built_again(world: World, tiny: models.Model) -> None:
    manifest = world.publish(tiny)
    store.models().delete(manifest["wires"]["group_0"]["key"])
    store.table.delete("MODEL", "CURRENT")
    world.publish(tiny)

    assert world.partial().status == 200


def test_a_source_that_changes_meanwhile_is_never_mixed(world: World, tiny: models.Model) -> None:
    store.models().put("m.safetensors", tiny.raw)
    made = tasks_publishing.plan(
        "s3://experts-models/m.safetensors", models.ASSIGNMENT, model_version="v", block_number=5
    )
    store.models().put("m.safetensors", models.model(seed=4).raw)

    with pytest.raises(RuntimeError, match="replaced"):
        tasks_publishing.finish(made)
    assert store.current() is None


def test_storage_copies_exactly_the_version_that_was_planned(world: World, scaled: None) -> None:
    asked: list[dict[str, Any]] = []
    events = aws.client("s3", 600.0).meta.events
    name = "provide-client-params.s3.UploadPartCopy"
    events.register(name, lambda params, **_: asked.append(params), unique_id="copies")
    world.publish(big())

    planned = (store.models().head("uploads/step_1.safetensors") or {})["ETag"]
    found = [params["CopySourceIfMatch"] for params in asked if "uploads/" in str(params["CopySource"])]
    assert set(found) == {planned}
    assert all(params["CopySourceIfMatch"] for params in asked)


def test_blocks_that_do_not_add_up_are_never_served(world: World, tiny: models.Model) -> None:
    manifest = world.publish(tiny)
    manifest["blocks"].pop("rest")

    with pytest.raises(BrokenFile, match="add up"):
        tasks_publishing.verify(manifest)


def test_the_state_machine_does_the_same(world: World, tiny: models.Model) -> None:
    store.models().put("m.safetensors", tiny.raw)
    event = {"model": "s3://experts-models/m.safetensors", "assignment": models.ASSIGNMENT, "version": "v1", "block": 7}
    planned = call({"Fn::Sub": "${TaskExpertsPlan}"}, event)
    for name in planned["objects"]:
        call({"Fn::Sub": "${TaskExpertsBuild}"}, {"version_id": planned["version_id"], "object": name})
        call({"Fn::Sub": "${TaskExpertsBuild}"}, {"version_id": planned["version_id"], "object": name})
    call({"Fn::Sub": "${TaskExpertsFlip}"}, planned)

    assert (store.current() or {})["model_version"] == "v1"
