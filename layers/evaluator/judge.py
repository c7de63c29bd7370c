"""Measures a project from outside: the guest trains and answers with logits, the losses are computed here.

The guest never sees what it is scored on: it gets contexts, the tokens that follow them stay in this process. So
nothing that it prints, patches or returns can be worth more than predicting well.
"""

from __future__ import annotations

import base64
import binascii
import json
import math
import zlib
from array import array
from collections.abc import Mapping, Sequence
from typing import Any

from .language import SEED, VOCABULARY, Language
from .sandbox import Guest, Limits, RunFailed

HELD_OUT = 64
MAX_BATCH = 2
DEFAULT_BATCH = 4
HOOKS = ("configure_optimizer", "inference_logits", "infer", "compute_loss", "train_step")
_UNIFORM_LOSS = math.log(VOCABULARY)
_LOWEST_RATE, _HIGHEST_RATE = 1e-5, 3e-3
_MAX_PROJECT_BYTES = 16 * 1024 * 1024
_PREFIX = "Prism container evaluation "
_MAX_ERROR = 2000


def evaluate(submission_id: str, project: str, run: Mapping[str, Any]) -> dict[str, Any]:
    """Metrics, or the reason why there are none."""
    try:
        return {"metrics": _measure(submission_id, _unpacked(project), run)}
    except RunFailed as failure:
        return {"error": (_PREFIX + str(failure))[:_MAX_ERROR]}


def _unpacked(project: str) -> dict[str, Any]:
    try:
        stream = zlib.decompressobj()
        raw = stream.decompress(base64.b64decode(project), _MAX_PROJECT_BYTES)
        found: dict[str, Any] = json.loads(raw)
    except (ValueError, binascii.Error, zlib.error):
        raise RunFailed("failed: the project could not be unpacked") from None
    return found


def _measure(submission_id: str, project: Mapping[str, Any], run: Mapping[str, Any]) -> dict[str, float]:
    length = int(run["sequence_length"])
    language = Language(submission_id)
    held_out = language.sequences(HELD_OUT, length + 1)
    training = language.sequences(MAX_BATCH * int(run["steps"]), length + 1)
    with Guest(project["files"], Limits.of(run)) as guest:
        built = _build(guest, project["entrypoint"], run)
        batch = min(max(int(built.get("batch_size", DEFAULT_BATCH)), 1), MAX_BATCH)
        first = _loss(guest, held_out)
        for step in range(int(run["steps"])):
            chosen = training[step * batch : (step + 1) * batch]
            guest.ask({"do": "train", "rows": batch}, b"".join(row.tobytes() for row in chosen))
        last = _loss(guest, held_out)
        trained = _loss(guest, training[:HELD_OUT])
        used = guest.ask({"do": "end"})[0].get("used", [])
    return _metrics(built, used, first=first, last=last, trained=trained)


def _build(guest: Guest, entrypoint: str, run: Mapping[str, Any]) -> dict[str, Any]:
    context = {
        "vocab_size": VOCABULARY,
        "sequence_length": int(run["sequence_length"]),
        "max_layers": int(run["max_layers"]),
        "max_parameters": int(run["max_parameters"]),
        "seed": SEED,
    }
    built, _ = guest.ask({"do": "build", "entrypoint": entrypoint, "context": context, "threads": int(run["threads"])})
    count = built.get("parameters")
    if not isinstance(count, int) or not 1 <= count <= int(run["max_parameters"]):
        raise RunFailed(f"failed: the model has {count} parameters; 1 to {run['max_parameters']} are allowed")
    if not _is_number(built.get("learning_rate")) or not isinstance(built.get("batch_size"), int):
        raise RunFailed("failed: get_recipe must give a learning_rate and a batch_size")
    return built


def _loss(guest: Guest, sequences: Sequence[array[int]]) -> float:
    """Mean cross-entropy of the token after each context; the guest gets the contexts alone."""
    contexts = b"".join(row[:-1].tobytes() for row in sequences)
    _, blob = guest.ask({"do": "logits", "rows": len(sequences)}, contexts, answer=len(sequences) * VOCABULARY * 4)
    logits = array("f")
    logits.frombytes(blob)
    losses = [
        _cross_entropy(logits[row * VOCABULARY : (row + 1) * VOCABULARY], tokens[-1])
        for row, tokens in enumerate(sequences)
    ]
    return math.fsum(losses) / len(losses)


def _cross_entropy(logits: array[float], target: int) -> float:
    largest = max(logits)
    total = math.fsum(math.exp(value - largest) for value in logits) if math.isfinite(largest) else math.nan
    loss = largest + math.log(total) - logits[target] if total > 0 else math.nan
    if not math.isfinite(loss):
        raise RunFailed("failed: the model returned logits that are not finite")
    return loss


def _metrics(
    built: Mapping[str, Any], used: Sequence[str], *, first: float, last: float, trained: float
) -> dict[str, float]:
    """The scoring of section 7. A start worse than knowing nothing earns nothing for becoming as good as that."""
    start = min(first, _UNIFORM_LOSS)
    quality = _clamp((start - last) / start) if start > 0 else 0.0
    efficiency = 1 / (1 + math.log10(built["parameters"]))
    sensible = _LOWEST_RATE <= built["learning_rate"] <= _HIGHEST_RATE
    present = built.get("hooks", [])
    return {
        "q_arch": _clamp(0.82 * quality + 0.18 * efficiency),
        "q_recipe": 1.0 if sensible else 0.5,
        "initial_loss": first,
        "final_loss": last,
        "train_loss": trained,
        "eval_loss": last,
        "val_loss": last,
        "parameter_count": float(built["parameters"]),
        **{f"hook.{name}.present": float(name in present) for name in HOOKS},
        **{f"hook.{name}.used": float(name in used) for name in HOOKS},
    }


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def _clamp(value: float) -> float:
    return min(max(value, 0.0), 1.0)
