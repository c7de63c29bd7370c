"""What a publication costs our process beside reading and hashing its slices: processor, bytes sent, memory.

The model lies in the bucket of the embedded cloud; each publication runs in a process of its own, which is what counts.
"""

from __future__ import annotations

import functools
import hashlib
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from botocore.session import get_session

from bench.interface import ROOT, Figures, benchmark
from chalicelib.experts import store, tasks_composing, tasks_publishing, tensors
from chalicelib.experts.tensors import Tensor
from chalicelib.kernel import aws, multipart, settings
from infra import template
from local import bootstrap, cloud
from local.folder import StateFolder

_MIB = 1024 * 1024
_LAYERS, _EXPERTS = 4, 8
_ASSIGNMENT = {
    "0": {str(layer): [[0, 1], [1, 4], [2, 6], [3, 7]] for layer in range(_LAYERS)},
    "1": {str(layer): [[0, 0], [1, 2], [2, 3], [3, 5]] for layer in range(_LAYERS)},
}
# Hidden size, width and vocabulary: experts of 7.5 and of 18 MiB.
_SHAPES = {"quarter": (1024, 1280, 4096), "gigabyte": (2048, 1536, 65536)}
_LARGEST_RESIDENT = 200.0
_CHECKED = ("group_0", "group_1", "shared")


def _model(hidden: int, width: int, vocabulary: int) -> tuple[bytes, int]:
    """The header of a bfloat16 model and the size of all its data."""
    shapes: dict[str, tuple[int, ...]] = {"model.embed_tokens.weight": (vocabulary, hidden)}
    for layer in range(_LAYERS):
        for expert in range(_EXPERTS):
            at = f"model.layers.{layer}.mlp.experts.{expert}"
            shapes |= {f"{at}.{half}_proj.weight": (width, hidden) for half in ("gate", "up")}
            shapes[f"{at}.down_proj.weight"] = (hidden, width)
        shapes[f"model.layers.{layer}.self_attn.q_proj.weight"] = (4 * hidden, hidden)
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
            for resource_ in template.build("local", variables={})["Resources"].values():
                properties = resource_.get("Properties", {})
                if resource_["Type"] == "AWS::S3::Bucket" and "experts" in str(properties["BucketName"]):
                    aws.client("s3").create_bucket(Bucket=properties["BucketName"])
                if resource_["Type"] == "AWS::DynamoDB::Table" and properties["TableName"] == store.table.name:
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


def _upload(name: str) -> int:
    """A model of random bytes, in the bucket before anything is measured."""
    head, size = _model(*_SHAPES[name])
    writer = multipart.Writer(store.models(), f"{name}.safetensors", part_bytes=64 * _MIB)
    writer.write(head)
    for begin in range(0, size, _MIB):
        writer.write(os.urandom(min(_MIB, size - begin)))
    writer.close()
    return len(head) + size


def _count_sent() -> list[int]:
    """The sizes of all bodies that go out from now on; made here, the clients are not made while it is measured."""
    found: list[int] = []
    for client in (aws.client("s3"), aws.client("s3", 600.0)):
        client.meta.events.register(
            "provide-client-params.s3.*", lambda params, **_: found.append(len(params.get("Body", b"")))
        )
    return found


def _publish(name: str, version: str, block: int) -> tuple[float, dict[str, Any]]:
    """Seconds of our processor, and what was made."""
    started = time.process_time()
    uri = f"s3://{store.models().name}/{name}.safetensors"
    made = tasks_publishing.finish(tasks_publishing.plan(uri, _ASSIGNMENT, model_version=version, block_number=block))
    return time.process_time() - started, made


def _hashing(manifest: dict[str, Any]) -> float:
    """The bare pass by botocore: read the slices, hash them, nothing else; the hashes are those that were published."""
    client = get_session().create_client("s3", endpoint_url=aws.endpoint("s3"), region_name=aws.REGION)
    client.head_bucket(Bucket=store.models().name)
    started = time.process_time()
    for name in _CHECKED:
        block = manifest["blocks"][name]
        digest = hashlib.sha256()
        for chunk in client.get_object(Bucket=store.models().name, Key=block["key"])["Body"].iter_chunks(_MIB):
            digest.update(chunk)
        assert digest.hexdigest() == block["sha256"]
    return time.process_time() - started


def _identical(name: str, manifest: dict[str, Any]) -> bool:
    """Whether every tensor of every slice has the bytes that it has in the model."""
    (whole,) = tasks_publishing.sources_of(f"s3://{store.models().name}/{name}.safetensors")
    stands = {tensor.name: tensor for tensor in tasks_publishing.placed([whole])}
    for block in (manifest["blocks"][name] for name in _CHECKED):
        source = tasks_composing.Source(store.models().name, block["key"], block["etag"], block["bytes"])
        for tensor in tasks_publishing.placed([source]):
            origin = stands.pop(tensor.name)
            if source.read(tensor.begin, tensor.end) != whole.read(origin.begin, origin.end):
                return False
    return not stands


def measure(name: str, block: int) -> dict[str, Any]:
    """One publication in this process, after one that loads what the first of a process loads."""
    _publish("quarter", f"warm_{block}", block)
    sent = _count_sent()
    seconds, manifest = _publish(name, f"step_{block}", block + 1)
    told = {"seconds": seconds, "sent": sum(sent), "peak": _peak(), "hashing": _hashing(manifest)}
    return told | {"identical": _identical(name, manifest)}


def _peak() -> float:
    """Megabytes at the highest; `getrusage` would count the process that started this one."""
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) / 1024


@functools.cache
def _measured() -> dict[tuple[str, str], Any]:
    """Both sizes, hashed by storage and by us; every number of the benchmarks below."""
    found: dict[tuple[str, str], Any] = {}
    with _cloud():
        for name in _SHAPES:
            found[name, "bytes"] = _upload(name)
        for number, (name, way) in enumerate((name, way) for name in _SHAPES for way in ("auto", "stream")):
            code = f"import json; from bench.experts_publication import measure; print(json.dumps(measure({name!r}, "
            done = subprocess.run(
                [sys.executable, "-c", f"{code}{1 + 2 * number})))"], cwd=ROOT, check=True, capture_output=True,
                text=True, env=os.environ | {"EXPERTS_SLICE_HASH_WAY": way},
            )  # fmt: skip
            found[name, way] = json.loads(done.stdout)
            assert found[name, way].pop("identical")
    return found


@benchmark("experts.publication.cpu", unit="s", at_most=1.1)
def cpu() -> Figures:
    """A whole publication of 1 GB, hashed by storage, against reading and hashing its slices once."""
    found = _measured()["gigabyte", "auto"]
    return Figures(found["seconds"], found["hashing"], "storage tells the hashes; its own time is not counted")


@benchmark("experts.publication.cpu_reading", unit="s", at_most=1.1)
def cpu_reading() -> Figures:
    """The same where storage cannot hash, so that we read and hash every slice."""
    found = _measured()["gigabyte", "stream"]
    return Figures(found["seconds"], found["hashing"], "every slice is read and hashed by our process")


@benchmark("experts.publication.sent", unit="B", at_most=0.002)
def sent() -> Figures:
    """Bytes that pass through our process on their way into storage, against the model's."""
    found = _measured()
    note = "the model lies in the bucket; reading for the hash is counted apart"
    return Figures(float(found["gigabyte", "stream"]["sent"]), float(found["gigabyte", "bytes"]), note)


@benchmark("experts.publication.memory", unit="MB", at_most=1)
def memory() -> Figures:
    """The most that our process held, at a quarter of a gigabyte and at a whole one."""
    peaks = {size: max(_measured()[size, way]["peak"] for way in ("auto", "stream")) for size in _SHAPES}
    note = ", ".join(f"{size}: {peak:.0f} MB" for size, peak in peaks.items())
    return Figures(max(peaks.values()), _LARGEST_RESIDENT, note)
