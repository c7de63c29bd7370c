"""Makes the next version out of a round's winners: one step of the outer optimiser, streamed chunk by chunk.

The block of a group is hashed while it is written. Everything else is put together by storage, and the pointer moves
last; a version that was published in between wins.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator, Sequence

from chalicelib.kernel import codec, multipart
from chalicelib.kernel.errors import Conflict
from chalicelib.kernel.values import frozen
from chalicelib.kernel.wire import Item

from . import domain, slices, store, tasks_evaluation, tasks_publishing, tensors
from .checkpoints import Piece
from .contracts import ExpertsSettings
from .slices import Placed, Range, Segment
from .tasks_composing import Source, put_block, put_full
from .tasks_evaluation import base_piece, block_source
from .tasks_publishing import Version, directory_of
from .tensors import Directory, Tensor

FLOAT_BYTES = 4


class NotFinite(RuntimeError):
    """The step leads to numbers that are none: the whole merge is dropped."""


@frozen
class Step:
    """One group's merge: its base, what is merged into it, and the momentum of earlier merges."""

    name: str
    block: Item
    checkpoints: list[tuple[Source, dict[str, Piece]]]
    momentum: Item | None


def merge(owed: Item) -> str:
    """Carry out an owed merge; answers how it ended: a model version, `overtaken`, `dropped`."""
    base = store.current()
    assert base is not None  # a round had winners, so there was a model
    merged = base.get("merged_cycle", "")
    if merged == owed["sk"]:
        return _told(owed, base["model_version"])
    if merged > owed["sk"]:
        return "overtaken"
    version = _version(owed, base)
    try:
        manifest = build(owed, base, version)
    except NotFinite:
        return "dropped"
    tasks_publishing.verify(manifest)
    try:
        tasks_publishing.publish(manifest, base=base["version_id"])
    except Conflict:
        return "overtaken"
    return _told(owed, version.model_version)


def _told(owed: Item, model_version: str) -> str:
    """Let the winners see where their work went; a killed merge comes here again."""
    for submission_ids in owed["winners"].values():
        for submission_id in submission_ids:
            store.note_merge(submission_id, model_version)
    return model_version


def _version(owed: Item, base: Item) -> Version:
    block = max(owed["block"], base["block_number"] + 1)
    identity = codec.canonical([base["version_id"], block, owed["winners"]])
    version_id = f"{block}-{hashlib.sha256(identity).hexdigest()[:12]}"
    return Version(version_id, domain.next_name(base["model_version"]), block)


def build(owed: Item, base: Item, version: Version) -> Item:
    """Every object of the new version; what an earlier attempt made is taken over."""
    stepped: dict[str, Item] = {}
    for group, submission_ids in sorted(owed["winners"].items()):
        name = f"group_{group}"
        done = store.progress(version.version_id, name)
        if done is None:
            done = stepped_block(_step(base, name, group, submission_ids), version, base["base_model"])
            store.note_progress(version.version_id, name, done)
        stepped[name] = done
    blocks = base["blocks"] | {name: made["block"] for name, made in stepped.items()}
    momentum = base["momentum"] | {name: made["momentum"] for name, made in stepped.items()}
    return {
        "version_id": version.version_id,
        "model_version": version.model_version,
        "block_number": version.block_number,
        "base_model": base["base_model"],
        "groups": base["groups"],
        "blocks": blocks,
        "wires": _wires(base, version, blocks),
        "full": _full(base, version, {name: blocks[name] for name in stepped}),
        "momentum": momentum,
        "merged_cycle": owed["sk"],
    }


def _step(base: Item, name: str, group: str, submission_ids: Sequence[str]) -> Step:
    found = []
    for submission_id in submission_ids:
        item = store.submission(submission_id)
        assert item["group"] == int(group)  # a round ranks each group by itself
        found.append((tasks_evaluation.raw_source(item), tasks_evaluation.checkpoint_index(submission_id)))
    return Step(name, base["blocks"][name], found, base["momentum"].get(name))


def stepped_block(step: Step, version: Version, base_model: str) -> Item:
    """The group's new block and its momentum, both written front to back."""
    directory = directory_of(step.block)
    metadata = tasks_publishing.file_metadata(version.model_version, version.block_number, base_model, step.name)
    folder = f"models/{version.version_id}"
    keys = f"{folder}/blocks/{step.name}.safetensors", f"{folder}/momentum/{step.name}.f32"
    writers = [multipart.Writer(store.models(), key) for key in keys]
    digest = hashlib.sha256()
    try:
        head = tensors.header(directory.tensors, metadata)
        digest.update(head)
        writers[0].write(head)
        for moved, velocity in _moved(step, directory):
            digest.update(moved)
            writers[0].write(moved)
            writers[1].write(velocity)
        etags = [writer.close() for writer in writers]
    except BaseException:
        for writer in writers:
            writer.abort()
        raise
    block = {"key": keys[0], "etag": etags[0], "bytes": writers[0].size, "sha256": digest.hexdigest()}
    return {"block": block, "momentum": {"key": keys[1], "etag": etags[1], "bytes": writers[1].size}}


def _moved(step: Step, directory: Directory) -> Iterator[list[bytes]]:
    """The new bytes and the new momentum, chunk by chunk in the order of the block."""
    settings = ExpertsSettings.current()
    base = block_source(step.block)
    position = 0
    with tasks_evaluation.calculator() as numbers:
        for tensor in directory.tensors:
            sides = [(base, base_piece(directory, tensor))]
            sides += [(source, index[tensor.name]) for source, index in step.checkpoints]
            size = math.prod(tensor.shape) * FLOAT_BYTES
            if step.momentum:
                sides.append((block_source(step.momentum), Piece("F32", tensor.shape, ((position, position + size),))))
            position += size
            fields = {
                "op": "step", "dtypes": [piece.dtype for _, piece in sides], "lr": settings.outer_lr,
                "momentum": settings.outer_momentum, "nesterov": settings.nesterov,
                "has_momentum": step.momentum is not None,
            }  # fmt: skip
            for blobs in tasks_evaluation.chunks(tensor, sides):
                told, made = numbers.ask(fields, blobs)
                if not told["finite"]:
                    raise NotFinite(tensor.name)
                yield made


def _wires(base: Item, version: Version, blocks: dict[str, Item]) -> dict[str, Item]:
    """Every slice gets the new version's envelope; bytes that did not change keep their hash."""
    found = {}
    for name, wire in base["wires"].items():
        block = blocks.get(name)
        if block is None:
            block = _together(name, base, version, blocks)
        found[name] = tasks_publishing.put_wire(version, name, block, wire["tensors"])
    return found


def _together(name: str, base: Item, version: Version, blocks: dict[str, Item]) -> Item:
    """A group's block with the shared tensors behind it."""
    group = name.removesuffix("+shared")
    parts = [blocks[group], blocks[slices.SHARED]]
    pieces = [
        _placed(tensor, number, directory)
        for number, directory in enumerate(directory_of(part) for part in parts)
        for tensor in directory.tensors
    ]
    metadata = tasks_publishing.file_metadata(version.model_version, version.block_number, base["base_model"], name)
    key = f"models/{version.version_id}/blocks/{name}.safetensors"
    segments = slices.segments(slices.in_output_order(pieces), metadata)
    return put_block(key, segments, [block_source(part) for part in parts], name, lambda _: None)


def _placed(tensor: Tensor, source: int, directory: Directory) -> Placed:
    at = directory.data_offset
    return Placed(tensor.name, tensor.dtype, tensor.shape, source, at + tensor.begin, at + tensor.end)


def _full(base: Item, version: Version, changed: dict[str, Item]) -> Item:
    """The old full model with the changed experts in their places."""
    old = directory_of(base["full"])
    sources = [block_source(base["full"])]
    experts: dict[str, Placed] = {}
    for block in changed.values():
        directory = directory_of(block)
        sources.append(block_source(block))
        experts |= {tensor.name: _placed(tensor, len(sources) - 1, directory) for tensor in directory.tensors}
    ranges: list[Range] = []
    for tensor in old.tensors:
        for piece, _expert in slices.pieces([_placed(tensor, 0, old)]):
            new = experts.get(piece.name, piece)
            ranges.append(Range(new.source, new.begin, new.end))
    metadata = old.metadata | tasks_publishing.file_metadata(
        version.model_version, version.block_number, base["base_model"], slices.FULL
    )
    segments: list[Segment] = [tensors.header(old.tensors, metadata), *slices.merged(ranges)]
    return put_full(f"models/{version.version_id}/full.safetensors", segments, sources, lambda _: None)
