"""What a publication costs our process beside hashing what it hashes, and how many bytes it sends."""

from __future__ import annotations

import hashlib
import os
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from bench.interface import Figures, benchmark
from chalicelib.experts import composing, publishing, store, tensors
from chalicelib.experts.tensors import Tensor
from chalicelib.kernel import aws, settings
from infra import template
from local import bootstrap, cloud
from local.folder import StateFolder

_MIB = 1024 * 1024
_LAYERS, _EXPERTS, _HIDDEN, _WIDTH = 4, 8, 1024, 1280
_ASSIGNMENT = {
    "0": {str(layer): [[0, 1], [1, 4], [2, 6], [3, 7]] for layer in range(_LAYERS)},
    "1": {str(layer): [[0, 0], [1, 2], [2, 3], [3, 5]] for layer in range(_LAYERS)},
}


def _model() -> tuple[bytes, int]:
    """240 MiB of bfloat16, experts of 7.5 MiB; the header and the size of all data."""
    shapes: dict[str, tuple[int, ...]] = {"model.embed_tokens.weight": (4096, _HIDDEN)}
    for layer in range(_LAYERS):
        for expert in range(_EXPERTS):
            at = f"model.layers.{layer}.mlp.experts.{expert}"
            shapes |= {f"{at}.{half}_proj.weight": (_WIDTH, _HIDDEN) for half in ("gate", "up")}
            shapes[f"{at}.down_proj.weight"] = (_HIDDEN, _WIDTH)
        shapes[f"model.layers.{layer}.self_attn.q_proj.weight"] = (4 * _HIDDEN, _HIDDEN)
    listed = [Tensor(name, "BF16", shape, 0, 2 * shape[0] * shape[1]) for name, shape in sorted(shapes.items())]
    return tensors.header(listed, {}), sum(tensor.size for tensor in listed)


@contextmanager
def _cloud() -> Iterator[None]:
    """The embedded cloud in a process of its own, so that its time is not ours."""
    bootstrap.ensure(bootstrap.CLOUD)
    kept = dict(os.environ)
    with tempfile.TemporaryDirectory() as name:
        folder = StateFolder(Path(name))
        embedded = cloud.EmbeddedCloud(folder)
        try:
            cloud.use_embedded(embedded.endpoint)
            settings.forget_all()
            for resource in template.build("local", variables={})["Resources"].values():
                properties = resource.get("Properties", {})
                if resource["Type"] == "AWS::S3::Bucket" and "experts" in str(properties["BucketName"]):
                    aws.client("s3").create_bucket(Bucket=properties["BucketName"])
                if resource["Type"] == "AWS::DynamoDB::Table" and properties["TableName"] == store.table.name:
                    _create(properties)
            yield
        finally:
            embedded.stop()
            folder.close()
            os.environ.clear()
            os.environ.update(kept)
            aws.forget_clients()


def _create(properties: dict[str, Any]) -> None:
    fields = ("TableName", "AttributeDefinitions", "KeySchema", "BillingMode", "GlobalSecondaryIndexes")
    aws.client("dynamodb").create_table(**{name: properties[name] for name in fields if name in properties})


def _upload() -> int:
    head, size = _model()
    block = os.urandom(_MIB)
    store.models().put("m.safetensors", head + (block * (size // _MIB + 1))[:size])
    return len(head) + size


def _publish(version: str, block: int) -> tuple[float, dict[str, Any], int]:
    """Seconds of our processor, what was made, and the bytes that were sent."""
    sent = 0

    def count(params: dict[str, Any], **_: Any) -> None:
        nonlocal sent
        body = params.get("Body")
        sent += len(body) if isinstance(body, bytes) else 0

    for client in (aws.client("s3"), aws.client("s3", 600.0)):
        client.meta.events.register("provide-client-params.s3.*", count, unique_id="bench")
    started = time.process_time()
    uri = f"s3://{store.models().name}/m.safetensors"
    made = publishing.finish(publishing.plan(uri, _ASSIGNMENT, model_version=version, block_number=block))
    return time.process_time() - started, made, sent


def _hashing(manifest: dict[str, Any]) -> float:
    """The bare pass: read what was hashed, hash it, nothing else."""
    started = time.process_time()
    for name in ("group_0", "group_1", "shared"):
        block = manifest["blocks"][name]
        source = composing.Source(store.models().name, block["key"], block["etag"], block["bytes"])
        digest = hashlib.sha256()
        for chunk in composing.streamed(source, 0, source.size):
            digest.update(chunk)
        assert digest.hexdigest() == block["sha256"]
    return time.process_time() - started


@benchmark("experts.publication.cpu", unit="s", at_most=1.1)
def cpu() -> Figures:
    """A whole publication against reading and hashing the same slices once."""
    with _cloud():
        _upload()
        _publish("warm", 1)
        ours, peers = [], []
        for number in range(3):
            seconds, manifest, _ = _publish(f"step_{number}", 2 + number)
            ours.append(seconds)
            peers.append(_hashing(manifest))
    return Figures(min(ours), min(peers), "the emulator's own time is not counted")


@benchmark("experts.publication.sent", unit="B", at_most=0.002)
def sent() -> Figures:
    """Bytes that pass through our process on their way into storage, against the model's."""
    with _cloud():
        total = _upload()
        _, _, passed = _publish("step_1", 1)
    return Figures(float(passed), float(total), "the model lies in the bucket; reading for the hash is counted apart")
