"""Puts a model version together in storage: plan, one object after the other, verify, switch the pointer.

Each step leaves a note of what it made and can be repeated: a publication that was killed goes on where it stopped.
Readers see nothing of it before the pointer moves.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from chalicelib.kernel import clock, codec, multipart
from chalicelib.kernel.blobs import Bucket, ObjectChanged
from chalicelib.kernel.errors import Conflict, Malformed, NotFound
from chalicelib.kernel.settings import KernelSettings
from chalicelib.kernel.values import frozen
from chalicelib.kernel.wire import Item

from . import slices, store, tensors
from .contracts import ExpertsSettings
from .slices import Assignment, Placed, Range, Segment
from .tasks_composing import SCRATCH, SMALL, Advance, Source, compose, ignore, put_block, put_full
from .tensors import BrokenFile

_INDEX = "model.safetensors.index.json"
_LARGEST_INDEX = 64 * 1024 * 1024
_FIRST_READ = 256 * 1024
_SPARE_VERSION_SECONDS = 2
_VERSION_NAME = re.compile(r"[!-~]{1,100}")  # it travels in headers
_BUCKET_NAME = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")
_LARGEST_BLOCK = 2**63
_LONGEST_BASE = 200


@frozen
class Version:
    """What a version's objects say of it."""

    version_id: str
    model_version: str
    block_number: int


@frozen
class Plan:
    """A publication: what it takes from where and what it makes of it. Equal plans have equal ids."""

    version_id: str
    model_version: str
    block_number: int
    base_model: str
    sources: tuple[Source, ...]
    tensors: tuple[Placed, ...]
    groups: dict[str, dict[str, list[int]]]

    @property
    def assignment(self) -> Assignment:
        return {
            int(group): {int(layer): tuple(experts) for layer, experts in layers.items()}
            for group, layers in self.groups.items()
        }

    @property
    def folder(self) -> str:
        return f"models/{self.version_id}"


def sources_of(uri: str) -> list[Source]:
    """The safetensors files that an `s3://bucket/key` names: one object, or all shards below a prefix."""
    bucket_name, _, key = uri.removeprefix("s3://").partition("/")
    if not _BUCKET_NAME.fullmatch(bucket_name):
        raise NotFound(f"{uri} names no bucket", code="model_not_found")
    bucket = Bucket(bucket_name)
    if key.endswith(".safetensors"):
        return [_source(bucket, key)]
    prefix = key.rstrip("/") + "/" if key else ""
    index = bucket.head(f"{prefix}{_INDEX}")
    if index:
        return _shards(bucket, prefix, index["ContentLength"])
    keys = [entry["Key"] for entry in bucket.list(prefix) if entry["Key"].endswith(".safetensors")]
    if len(keys) != 1:
        raise NotFound(f"{uri} holds {len(keys)} safetensors files and no {_INDEX}", code="model_not_found")
    return [_source(bucket, keys[0])]


def _shards(bucket: Bucket, prefix: str, size: int) -> list[Source]:
    if size > _LARGEST_INDEX:
        raise Malformed(f"{_INDEX} has {size} bytes", code="bad_index")
    names = sorted(set(_index(bucket, prefix)["weight_map"].values()))
    if not all("/" not in name and name.endswith(".safetensors") for name in names):
        raise Malformed(f"{_INDEX} names something that is no shard beside it", code="bad_index")
    return [_source(bucket, prefix + name) for name in names]


def _index(bucket: Bucket, prefix: str) -> dict[str, Any]:
    try:
        found: dict[str, Any] = json.loads(bucket.get(f"{prefix}{_INDEX}") or b"")
        weights = found["weight_map"]
    except (ValueError, KeyError, TypeError, RecursionError):
        weights = None
    if not isinstance(weights, dict) or not all(isinstance(name, str) for name in weights.values()):
        raise Malformed(f"{_INDEX} has no weight_map", code="bad_index")
    return found


def _source(bucket: Bucket, key: str) -> Source:
    found = bucket.head(key)
    if found is None:
        raise NotFound(f"there is no s3://{bucket.name}/{key}", code="model_not_found")
    return Source(bucket.name, key, found["ETag"], found["ContentLength"])


def placed(sources: Sequence[Source]) -> list[Placed]:
    """Every tensor of the sources; a name counts once."""
    found: dict[str, Placed] = {}
    for number, source in enumerate(sources):
        try:
            length = tensors.header_length(source.read(0, min(8, source.size)), source.size)
            listed = tensors.directory(source.read(8, 8 + length), source.size)
        except BrokenFile as error:
            raise BrokenFile(f"{source.key}: {error}") from None
        for tensor in listed.tensors:
            if tensor.name in found:
                raise BrokenFile(f"{source.key}: {tensor.name[:100]!r} is in another shard too")
            begin, end = listed.data_offset + tensor.begin, listed.data_offset + tensor.end
            found[tensor.name] = Placed(tensor.name, tensor.dtype, tensor.shape, number, begin, end)
    return list(found.values())


def check_index(uri: str, found: Sequence[Placed], sources: Sequence[Source]) -> None:
    """An index is believed for nothing: every tensor that it names stands where it says, and no other exists."""
    name, _, key = uri.removeprefix("s3://").partition("/")
    prefix = key.rstrip("/") + "/" if key else ""
    bucket = Bucket(name)
    if key.endswith(".safetensors") or not bucket.head(f"{prefix}{_INDEX}"):
        return
    index = _index(bucket, prefix)
    weights = index["weight_map"]
    stands = {tensor.name: sources[tensor.source].key.rpartition("/")[2] for tensor in found}
    if weights != stands:
        wrong = sorted(name for name in {*stands, *weights} if stands.get(name) != weights.get(name))
        raise BrokenFile(f"{_INDEX} and the shards disagree about {wrong[0][:100]!r}")
    metadata = index.get("metadata")
    total = metadata.get("total_size") if isinstance(metadata, dict) else None
    if total is not None and total != sum(tensor.end - tensor.begin for tensor in found):
        raise BrokenFile(f"{_INDEX} says total_size {total}, the shards hold another size")


def plan(uri: str, assignment: Any, *, model_version: str, block_number: int, base_model: str = "") -> Plan:
    """Read every header and decide everything; nothing is written but the plan itself and the list of groups."""
    _check_names(model_version, block_number, base_model)
    groups = slices.parse_assignment(assignment)
    sources = sources_of(uri)
    found = placed(sources)
    check_index(uri, found, sources)
    slices.partition(found, groups)
    plain = {str(g): {str(layer): list(ids) for layer, ids in layers.items()} for g, layers in groups.items()}
    identity = {
        "model_version": model_version, "block_number": block_number, "base_model": base_model, "groups": plain,
        "sources": [asdict(source) for source in sources], "align": ExpertsSettings.current().envelope_align,
    }  # fmt: skip
    version_id = f"{block_number}-{hashlib.sha256(codec.canonical(identity)).hexdigest()[:12]}"
    made = Plan(version_id, model_version, block_number, base_model, tuple(sources), tuple(found), plain)
    _check_order(made)
    store.models().put(f"{made.folder}/plan.json", codec.encode(asdict(made)), content_type="application/json")
    store.note_assignment(groups)
    return made


def _check_names(model_version: str, block_number: int, base_model: str) -> None:
    """What every reader of the version is told, and what no later version could ever be above."""
    if not _VERSION_NAME.fullmatch(model_version):
        raise Malformed("A version's name is 1 to 100 printable ASCII characters without spaces", code="bad_version")
    if not 0 <= block_number < _LARGEST_BLOCK:
        raise Malformed("The version's block is out of range", code="bad_version")
    if len(base_model) > _LONGEST_BASE or not base_model.isprintable():
        raise Malformed(f"The base model's name is at most {_LONGEST_BASE} printable characters", code="bad_version")


def _check_order(made: Plan) -> None:
    served = store.current()
    if served and served["version_id"] != made.version_id and served["block_number"] >= made.block_number:
        text = f"version {served['model_version']} of block {served['block_number']} is served"
        raise Conflict(f"{text}; a new one needs a higher block", code="block_not_higher")


def load_plan(version_id: str) -> Plan:
    raw = store.models().get(f"models/{version_id}/plan.json")
    if raw is None:
        raise NotFound(f"there is no plan for {version_id}", code="plan_not_found")
    found = json.loads(raw)
    found["sources"] = tuple(Source(**source) for source in found["sources"])
    found["tensors"] = tuple(Placed(**tensor | {"shape": tuple(tensor["shape"])}) for tensor in found["tensors"])
    return Plan(**found)


def objects(made: Plan) -> list[str]:
    """What has to be built before the pointer can move; `shared` comes first, slices with shared tensors hold it."""
    blocks = slices.partition(made.tensors, made.assignment)
    return [slices.SHARED, *(name for name in blocks if name != slices.SHARED), slices.FULL]


def build(made: Plan, name: str, advance: Advance = ignore) -> Item:
    """One block with its slices, or the full model; what was built before is only looked at."""
    done = store.progress(made.version_id, name)
    if done and all(_stands(part) for part in done["objects"]):
        advance(sum(part["bytes"] for part in done["objects"]))
        return done
    found = _full(made, advance) if name == slices.FULL else _block_and_wires(made, name, advance)
    store.note_progress(made.version_id, name, found)
    return found


def _stands(part: Item) -> bool:
    found = store.models().head(part["key"])
    return found is not None and found["ContentLength"] == part["bytes"]


def _block_and_wires(made: Plan, name: str, advance: Advance) -> Item:
    blocks = slices.partition(made.tensors, made.assignment)
    pieces = blocks.get(name, [])
    block = _block(made, name, pieces, advance)
    facts: Item = {"block": block, "objects": [block], "wires": {}}
    if name == slices.REST:
        return facts
    version = Version(made.version_id, made.model_version, made.block_number)
    facts["wires"] = {name: put_wire(version, name, block, len(pieces), advance)}
    together = [*pieces, *blocks.get(slices.SHARED, [])]
    if name != slices.SHARED and wants_shared(sum(piece.end - piece.begin for piece in together)):
        both = f"{name}+shared"
        facts["wires"][both] = put_wire(version, both, _block(made, both, together, advance), len(together), advance)
    facts["objects"] = [block, *facts["wires"].values()]
    return facts


def _block(made: Plan, name: str, pieces: list[Placed], advance: Advance) -> Item:
    ordered = slices.in_output_order(pieces)
    metadata = file_metadata(made.model_version, made.block_number, made.base_model, name)
    key = f"{made.folder}/blocks/{name}.safetensors"
    return put_block(key, slices.segments(ordered, metadata), made.sources, name, advance)


def wants_shared(total: int) -> bool:
    """Slices that hold the shared tensors too are made where they are asked for, or where they cost next to nothing."""
    return ExpertsSettings.current().slice_content == "experts+shared" or total <= SMALL


def file_metadata(model_version: str, block_number: int, base_model: str, name: str) -> dict[str, str]:
    """The `__metadata__` of a file of this version."""
    found = {
        "model_version": model_version,
        "block_number": str(block_number),
        "base_model": base_model,
        "format": "pt",
    }
    if name.startswith("group_"):
        found["expert_group"] = name.removeprefix("group_").removesuffix("+shared")
    return found


def put_wire(version: Version, name: str, block: Item, count: int, advance: Advance = ignore) -> Item:
    """What is delivered of a block: its envelope in front of its bytes."""
    settings = ExpertsSettings.current()
    group_name, _, more = name.partition("+")
    content = name if name == slices.SHARED else f"experts+{more}" if more else "experts"
    fields = {
        "expert_group": -1 if name == slices.SHARED else int(group_name.removeprefix("group_")),
        "block_number": version.block_number,
        "model_version": version.model_version,
        "content_hash": f"sha256:{block['sha256']}",
        "netuid": KernelSettings.current().experts_netuid,
        "payload_bytes": block["bytes"],
        "tensor_count": count,
        "content": content,
        "format": "safetensors",
        "envelope": 1,
    }
    head = slices.envelope(fields, settings.envelope_align)
    key = f"models/{version.version_id}/wire/{name}.bin"
    source = Source(store.models().name, block["key"], block["etag"], block["bytes"])
    segments: list[Segment] = [head, Range(0, 0, block["bytes"])]
    metadata = {field.replace("_", "-"): str(fields[field]) for field in list(fields)[:4]}
    compose(key, segments, [source], metadata=metadata)
    advance(len(head))
    return {
        "key": key, "bytes": slices.length(segments), "payload_bytes": block["bytes"], "tensors": count,
        "content_hash": fields["content_hash"], "content": content,
    }  # fmt: skip


def _full(made: Plan, advance: Advance) -> Item:
    pieces = slices.in_output_order(made.tensors)
    metadata = file_metadata(made.model_version, made.block_number, made.base_model, slices.FULL)
    full = put_full(f"{made.folder}/full.safetensors", slices.segments(pieces, metadata), made.sources, advance)
    return {"full": full, "objects": [full]}


def finish(made: Plan) -> Item:
    """Check that everything stands, then let readers see it."""
    known = store.all_progress(made.version_id)
    built = {name: known.get(name) or build(made, name) for name in objects(made)}
    manifest = {
        "version_id": made.version_id,
        "model_version": made.model_version,
        "block_number": made.block_number,
        "base_model": made.base_model,
        "groups": sorted(made.assignment),
        "blocks": {name: facts["block"] for name, facts in built.items() if name != slices.FULL},
        "wires": {key: wire for facts in built.values() for key, wire in facts.get("wires", {}).items()},
        "full": built[slices.FULL]["full"],
        "momentum": {},
    }
    served = store.current()
    if served and served["version_id"] == made.version_id:
        return manifest
    _check_order(made)
    verify(manifest)
    publish(manifest, base=served["version_id"] if served else None)
    return manifest


def publish(manifest: Item, *, base: str | None) -> None:
    """Write the manifest beside the objects and move the pointer."""
    key = f"models/{manifest['version_id']}/manifest.json"
    store.models().put(key, codec.encode(manifest), content_type="application/json")
    try:
        store.flip(manifest, base=base)
    except store.Overtaken:
        raise Conflict("another version was published in the meantime", code="overtaken") from None
    folder = f"models/{manifest['version_id']}/"
    for prefix in (folder, f"{SCRATCH}/{folder}"):
        multipart.abort_below(store.models(), prefix)
    store.models().delete_below(f"{SCRATCH}/{folder}")


def verify(manifest: Item) -> None:
    """Every object has its size, and the blocks hold exactly the tensors of the full model, each byte once."""
    parts = [*manifest["blocks"].values(), *manifest["wires"].values(), manifest["full"]]
    listed = {entry["Key"]: entry["Size"] for entry in store.models().list(f"models/{manifest['version_id']}/")}
    for part in parts:
        if listed.get(part["key"]) != part["bytes"] and not _stands(part):
            raise ObjectChanged(f"{part['key']} is missing or has another size")
    full = directory_of(manifest["full"])
    blocks = [directory_of(block) for block in manifest["blocks"].values()]
    if sum(t.size for b in blocks for t in b.tensors) != sum(t.size for t in full.tensors):
        raise BrokenFile("the blocks do not add up to the full model")


def directory_of(part: Item) -> tensors.Directory:
    """The directory of a stored safetensors file."""
    start = store.models().get(part["key"], first=0, last=min(_FIRST_READ, part["bytes"]) - 1) or b""
    length = tensors.header_length(start[:8], part["bytes"])
    if len(start) < 8 + length:
        start = store.models().get(part["key"], first=0, last=7 + length) or b""
    return tensors.directory(start[8 : 8 + length], part["bytes"])


def retire_old_versions() -> list[str]:
    """Remove what no kept version refers to; a version whose URLs may still be read stays."""
    settings = ExpertsSettings.current()
    known = store.versions()
    oldest = clock.now() - _SPARE_VERSION_SECONDS * settings.full_presign_ttl_s
    for version in known[: -settings.keep_versions]:
        newer = [other["published_at"] for other in known if other["published_at"] > version["published_at"]]
        if newer and min(newer) < oldest:
            store.retire(version["sk"])
    kept = {key for version in store.versions() for key in _keys(version)}
    return [version_id for version_id in store.retiring() if _emptied(version_id, kept)]


def _emptied(version_id: str, kept: set[str]) -> bool:
    """Whether nothing of a version is left; what a later version took over goes when that one does."""
    objects = [entry["Key"] for entry in store.models().list(f"models/{version_id}/")]
    for key in objects:
        if key not in kept:
            store.models().delete(key)
    if kept.intersection(objects):
        return False
    store.note_retired(version_id)
    return True


def _keys(version: Item) -> set[str]:
    parts = [*version["blocks"].values(), *version["wires"].values(), *version["momentum"].values(), version["full"]]
    return {part["key"] for part in parts}
