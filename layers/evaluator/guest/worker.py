"""Inside the sandbox: builds and trains the project's model, answers with logits. Nothing it says is a score."""

import collections
import importlib.util
import json
import os
import struct
import sys
from pathlib import Path
from typing import Any

INSIDE, OUTSIDE = int(sys.argv[1]), int(sys.argv[2])
SITE, PROJECT = sys.argv[3], sys.argv[4]
GUEST = str(Path(__file__).resolve().parent)
HEADER = struct.Struct(">II")
HOOKS = ("configure_optimizer", "inference_logits", "infer", "compute_loss", "train_step")
RATE_CEILING = 3e-4
ROWS_AT_ONCE = 8
os.set_inheritable(INSIDE, False)
os.set_inheritable(OUTSIDE, False)
sys.path[:] = [path for path in sys.path if path != GUEST] + [SITE, GUEST]

import torch  # noqa: E402 - its place is known from here on
from prism_challenge.evaluator.interface import PrismBatch, PrismContext, TrainingRecipe  # noqa: E402


def read(size: int) -> bytes:
    content = bytearray()
    while len(content) < size:
        chunk = os.read(INSIDE, size - len(content))
        if not chunk:
            sys.exit(0)
        content += chunk
    return bytes(content)


def answer(told: dict[str, Any], blob: bytes = b"") -> None:
    header = json.dumps(told).encode()
    view = memoryview(HEADER.pack(len(header), len(blob)) + header + blob)
    while view:
        view = view[os.write(OUTSIDE, view) :]


def count_parameters(model: torch.nn.Module) -> int:
    """Every distinct parameter once, through what the objects hold rather than what their methods say."""
    seen: dict[int, int] = {}
    pending = collections.deque([model])
    visited = set()
    while pending:
        module = pending.popleft()
        if id(module) in visited:
            continue
        visited.add(id(module))
        held = object.__getattribute__(module, "__dict__")
        for parameter in held["_parameters"].values():
            if parameter is not None:
                seen[id(parameter)] = torch.Tensor.numel(parameter)
        pending.extend(child for child in held["_modules"].values() if child is not None)
    return sum(seen.values())


class Run:
    """One project, from building to the last answer."""

    def __init__(self, question: dict[str, Any]) -> None:
        torch.set_num_threads(question["threads"])
        self.ctx = PrismContext(**question["context"])
        torch.manual_seed(self.ctx.seed)
        self.module = load(question["entrypoint"])
        self.used: set[str] = set()
        self.model = self.module.build_model(self.ctx)
        if not isinstance(self.model, torch.nn.Module):
            raise TypeError("build_model must return a torch.nn.Module")
        self.recipe = TrainingRecipe.of(self.module.get_recipe(self.ctx))
        self.optimizer = None

    def hook(self, name: str) -> Any:
        found = getattr(self.module, name, None)
        if found is not None:
            self.used.add(name)
        return found

    def logits(self, batch: PrismBatch) -> torch.Tensor:
        for name in ("inference_logits", "infer"):
            infer = self.hook(name)
            if infer:
                return infer(self.model, batch, self.ctx)
        return self.model(batch.tokens)

    def last_logits(self, rows: int, blob: bytes) -> bytes:
        tokens = tensor(rows, blob)
        self.model.eval()
        parts = []
        with torch.no_grad():
            for first in range(0, rows, ROWS_AT_ONCE):
                chunk = tokens[first : first + ROWS_AT_ONCE]
                found = self.logits(PrismBatch(chunk, torch.zeros_like(chunk), {"split": "held_out"}))
                parts.append(found[:, -1, : self.ctx.vocab_size].float().contiguous())
        return torch.cat(parts).numpy().tobytes() if has_numpy() else to_bytes(torch.cat(parts))

    def train(self, rows: int, blob: bytes) -> None:
        tokens = tensor(rows, blob)
        batch = PrismBatch(tokens[:, :-1], tokens[:, 1:], {"split": "train"})
        self.model.train()
        if self.optimizer is None:
            self.optimizer = self.make_optimizer()
        step = self.hook("train_step")
        if step:
            step(self.model, batch, self.optimizer, self.ctx)
            return
        self.optimizer.zero_grad(set_to_none=True)
        loss = self.loss(batch)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self.optimizer.step()

    def make_optimizer(self) -> Any:
        configure = self.hook("configure_optimizer")
        made = configure(self.model, self.recipe, self.ctx) if configure else None
        if made is not None:
            return made
        rate = min(self.recipe.learning_rate, RATE_CEILING)
        return torch.optim.AdamW(self.model.parameters(), lr=rate, weight_decay=self.recipe.weight_decay)

    def loss(self, batch: PrismBatch) -> torch.Tensor:
        compute = self.hook("compute_loss")
        if compute:
            return compute(self.model, batch, self.ctx)
        found = self.logits(batch)
        return torch.nn.functional.cross_entropy(found.flatten(0, 1), batch.targets.flatten())


def load(entrypoint: str) -> Any:
    """The entrypoint as a module; its project's folders come last, so that nothing can be shadowed."""
    folders = {PROJECT}
    for folder, _, names in os.walk(PROJECT):
        if any(name.endswith(".py") for name in names):
            folders.add(folder)
    sys.path.extend(sorted(folders))
    name = Path(entrypoint).stem
    spec = importlib.util.spec_from_file_location(name, Path(PROJECT) / entrypoint)
    module = importlib.util.module_from_spec(spec)
    sys.modules.setdefault(name, module)
    spec.loader.exec_module(module)
    return module


def tensor(rows: int, blob: bytes) -> torch.Tensor:
    return torch.frombuffer(bytearray(blob), dtype=torch.int32).reshape(rows, -1).long()


def has_numpy() -> bool:
    return importlib.util.find_spec("numpy") is not None


def to_bytes(values: torch.Tensor) -> bytes:
    return bytes(values.flatten().view(torch.uint8).tolist())


def main() -> None:
    run = None
    while True:
        size, blob_size = HEADER.unpack(read(HEADER.size))
        question, blob = json.loads(read(size)), read(blob_size)
        if question["do"] == "build":
            run = Run(question)
            answer(
                {
                    "parameters": count_parameters(run.model),
                    "learning_rate": run.recipe.learning_rate,
                    "batch_size": run.recipe.batch_size,
                    "hooks": [name for name in HOOKS if hasattr(run.module, name)],
                }
            )
        elif question["do"] == "logits":
            answer({}, run.last_logits(question["rows"], blob))
        elif question["do"] == "train":
            run.train(question["rows"], blob)
            answer({})
        else:
            answer({"used": sorted(run.used)})
            return


main()
