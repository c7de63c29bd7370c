"""Review's cost against history: the same project reviewed after 100 and after 10,000 earlier ones."""

from __future__ import annotations

import dataclasses
import statistics
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from bench.interface import Figures, benchmark
from chalicelib.kernel import blobs, tables
from chalicelib.kernel.wire import Item
from chalicelib.prism import domain, similarity, store, store_review, tasks_review
from chalicelib.prism import project as projects
from chalicelib.prism.contracts import COMPLETED, RUNNING, Submission

FEW, MANY = 100, 10_000
_BUDGET_MS = 150.0
_ROUNDS = 15
_KEYS = {"W": 11, "T": 11, "E": 8}
_NOBODY = Submission("", "", 0, "model.py", "", "", "{}", COMPLETED, 0.0)


class Memory:
    """Tables and buckets as dictionaries: what is measured is review, not an emulator."""

    def __init__(self) -> None:
        self.items: dict[tuple[str, str], Item] = {}
        self.objects: dict[str, bytes] = {}

    def get_many(self, wanted: Sequence[tuple[Any, str, str]], **_: Any) -> list[Item | None]:
        return [self.items.get((pk, sk)) for _, pk, sk in wanted]

    def transact(self, writes: Sequence[tuple[str, str]], **_: Any) -> None:
        for key, name in writes:
            item = self.items.setdefault((f"IX#{key}", "-"), {"pk": f"IX#{key}", "sk": "-", "members": set()})
            item["members"].add(name)

    def put(self, item: Item, **_: Any) -> None:
        self.items[item["pk"], item["sk"]] = item


@contextmanager
def _in_memory() -> Iterator[Memory]:
    memory = Memory()
    replaced: list[tuple[Any, str, Any]] = [
        (store_review, "get_many", memory.get_many),
        (store_review, "transact", memory.transact),
        (store_review, "entering", lambda key, name: (key, name)),
        (store_review, "unread_before", lambda _place: []),
        (store_review, "forget_unread", lambda _place: None),
        (tables.Table, "put", lambda _self, item, **_: memory.put(item)),
        (blobs.Bucket, "get", lambda _self, key, **_: memory.objects.get(key)),
        (blobs.Bucket, "put", lambda _self, key, body, **_: memory.objects.update({key: body})),
        (store, "code", lambda key: memory.objects[key].decode()),
        (store, "get", lambda submission_id: dataclasses.replace(_NOBODY, id=submission_id)),
    ]
    real = [(owner, name, vars(owner)[name]) for owner, name, _ in replaced]
    try:
        for owner, name, stand_in in replaced:
            setattr(owner, name, stand_in)
        yield memory
    finally:
        for owner, name, original in real:
            setattr(owner, name, original)


def _model(seed: int) -> str:
    """Some 200 lines that resemble each other as strangers' models do."""
    layers = "".join(
        f"        self.layer{number} = torch.nn.Linear({8 + seed % 7}, {8 + seed % 7})\n"
        f"        self.norm{number}_{seed} = torch.nn.LayerNorm({8 + seed % 7})\n"
        for number in range(40)
    )
    steps = "".join(f"        x = self.norm{number}_{seed}(self.layer{number}(x) + x)\n" for number in range(40))
    return (
        f"import torch\n\nclass Net{seed}(torch.nn.Module):\n    def __init__(self, v):\n"
        f"        super().__init__()\n        self.table = torch.nn.Embedding(v, {8 + seed % 7})\n{layers}\n"
        f"    def forward(self, x):\n        x = self.table(x)\n{steps}        return x\n\n"
        f"def build_model(ctx):\n    return Net{seed}(ctx.vocab_size)\n\n"
        'def get_recipe(ctx):\n    return {"learning_rate": 0.0005}\n'
    )


def _submission(memory: Memory, seed: int) -> Submission:
    code = _model(seed)
    digest = domain.code_hash(code)
    memory.objects[f"code/{digest}"] = code.encode()
    return Submission(
        id=f"{seed:08d}-0000", hotkey=f"miner-{seed % 300}", epoch_id=1, filename="model.py", code_key=f"code/{digest}",
        code_hash=digest, metadata="{}", status=RUNNING, created_at=1_780_000_000 + seed,
    )  # fmt: skip


def _milliseconds(memory: Memory, first: int) -> float:
    taken = []
    for seed in range(first, first + _ROUNDS):
        submission = _submission(memory, seed)
        started = time.process_time()
        tasks_review._inspect(submission)  # noqa: SLF001 - the step itself, without the claim around it
        taken.append((time.process_time() - started) * 1000)
    return statistics.median(taken)


def _fill(memory: Memory, first: int, last: int) -> None:
    """Each earlier one under as many keys as review writes; every fiftieth is real, found and compared exactly."""
    for seed in range(first, last):
        if seed % 50:
            keys = [f"{name}{band}#{seed}" for name, bands in _KEYS.items() for band in range(bands)]
            store_review.enter(keys, f"{seed:017d}#{seed:08d}-0000#miner-{seed % 300}")
            continue
        submission = _submission(memory, seed)
        taken = similarity.take(projects.read({"model.py": _model(seed)}))
        store_review.keep_print(submission.id, similarity.pack(taken))
        store_review.enter(similarity.keys_to_write(taken), store.member(submission))


@benchmark("prism review, 10,000 earlier against 100", unit="ms", at_most=2)
def review_is_flat() -> Figures:
    with _in_memory() as memory:
        _fill(memory, 0, FEW)
        few = _milliseconds(memory, FEW)
        _fill(memory, FEW + _ROUNDS, MANY)
        many = _milliseconds(memory, MANY)
    return Figures(
        many, few, note="CPU; store and bucket in memory, the calls are counted in tests/prism/test_budgets.py"
    )


@benchmark("prism review with 10,000 earlier", unit="ms", at_most=1)
def review_is_quick() -> Figures:
    with _in_memory() as memory:
        _fill(memory, 0, MANY)
        return Figures(_milliseconds(memory, MANY), _BUDGET_MS, note="the peer is the budget")
