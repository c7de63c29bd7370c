"""Measures a checkpoint of the tiny mixture of experts, in a process of its own: one frame in, one frame out.

float32, one thread, deterministic kernels: equal inputs give equal losses to the last bit. Tensors arrive as bytes that
were checked before; nothing of a stranger's is executed.
"""

from __future__ import annotations

import json
import random
import re
import sys
from typing import Any, BinaryIO

import torch
from torch import Tensor
from torch.nn import functional

VOCABULARY, HEADS, TOP = 256, 4, 2
SEQUENCES, LENGTH = 8, 128
_DTYPES = {"F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}
_LARGEST_HIDDEN, _MOST_LAYERS = 512, 64
_SUBJECTS = ("the miner", "a validator", "the router", "one expert", "the block", "a subnet", "the chain", "an owner")
_VERBS = ("reads", "writes", "checks", "merges", "hashes", "signs", "weighs", "stores")
_OBJECTS = ("a slice", "the gate", "two tensors", "a proof", "the queue", "old weights", "a new version", "every layer")
_ENDS = (". ", "; ", ", and then ", ", because ")

Weights = dict[str, Tensor]


class Refused(Exception):
    """This model has another geometry."""


def safetensors(raw: bytes) -> Weights:
    """The tensors of a file that was checked before, as float32."""
    start = 8 + int.from_bytes(raw[:8], "little")
    entries = json.loads(raw[8:start])
    entries.pop("__metadata__", None)
    found = {}
    for name, entry in entries.items():
        begin, end = entry["data_offsets"]
        found[name] = tensor(raw[start + begin : start + end], entry["dtype"], entry["shape"])
    return found


def tensor(raw: bytes, dtype: str, shape: list[int]) -> Tensor:
    if dtype not in _DTYPES or not raw:
        raise Refused(f"a tensor of dtype {dtype}")
    return torch.frombuffer(bytearray(raw), dtype=_DTYPES[dtype]).reshape(shape).to(torch.float32)


def geometry(weights: Weights) -> tuple[int, int, int]:
    """Layers, experts and hidden size; every tensor that the proxy needs is there in its shape, and no other."""
    embedding = weights.get("model.embed_tokens.weight")
    if embedding is None or embedding.dim() != 2 or embedding.shape[0] != VOCABULARY:  # noqa: PLR2004 - a matrix
        raise Refused("the proxy's model has a vocabulary of 256 bytes")
    hidden = embedding.shape[1]
    numbers = [int(found[1]) for name in weights if (found := re.match(r"model\.layers\.(\d+)\.", name))]
    layers = 1 + max(numbers, default=-1)
    gate = weights.get("model.layers.0.mlp.gate.weight")
    up = weights.get("model.layers.0.mlp.experts.0.up_proj.weight")
    if gate is None or up is None or hidden > _LARGEST_HIDDEN or hidden % HEADS or not 0 < layers <= _MOST_LAYERS:
        raise Refused("the proxy measures the tiny mixture of experts only")
    wanted = shapes(layers, gate.shape[0], hidden, up.shape[0])
    given = {name: tuple(value.shape) for name, value in weights.items() if name != "lm_head.weight"}
    if given != wanted or gate.shape[0] < TOP:
        raise Refused("the proxy measures the tiny mixture of experts only")
    return layers, gate.shape[0], hidden


def shapes(layers: int, experts: int, hidden: int, width: int) -> dict[str, tuple[int, ...]]:
    """What the tiny mixture of experts is made of."""
    found: dict[str, tuple[int, ...]] = {"model.embed_tokens.weight": (VOCABULARY, hidden)}
    found["model.norm.weight"] = (hidden,)
    for layer in range(layers):
        at = f"model.layers.{layer}"
        found |= {f"{at}.{norm}_layernorm.weight": (hidden,) for norm in ("input", "post_attention")}
        found |= {f"{at}.self_attn.{letter}_proj.weight": (hidden, hidden) for letter in "qkvo"}
        found[f"{at}.mlp.gate.weight"] = (experts, hidden)
        for expert in range(experts):
            found |= {f"{at}.mlp.experts.{expert}.{half}_proj.weight": (width, hidden) for half in ("gate", "up")}
            found[f"{at}.mlp.experts.{expert}.down_proj.weight"] = (hidden, width)
    return found


def forward(weights: Weights, sizes: tuple[int, int, int], tokens: Tensor) -> Tensor:
    """Logits of every position."""
    layers, experts, hidden = sizes
    state = weights["model.embed_tokens.weight"][tokens] + positions(tokens.shape[1], hidden)
    for layer in range(layers):
        at = f"model.layers.{layer}"
        state = state + attention(weights, at, normed(state, weights[f"{at}.input_layernorm.weight"]))
        inner = normed(state, weights[f"{at}.post_attention_layernorm.weight"])
        state = state + mixture(weights, at, experts, inner.reshape(-1, hidden)).reshape(state.shape)
    head = weights.get("lm_head.weight", weights["model.embed_tokens.weight"])
    return normed(state, weights["model.norm.weight"]) @ head.T


def positions(length: int, hidden: int) -> Tensor:
    angles = torch.arange(length)[:, None] / 10_000 ** (torch.arange(0, hidden, 2) / hidden)
    return torch.cat((angles.sin(), angles.cos()), dim=1) * 0.1


def normed(state: Tensor, weight: Tensor) -> Tensor:
    return state * torch.rsqrt(state.square().mean(-1, keepdim=True) + 1e-6) * weight


def attention(weights: Weights, at: str, state: Tensor) -> Tensor:
    batch, length, hidden = state.shape
    query, key, value = (
        (state @ weights[f"{at}.self_attn.{letter}_proj.weight"].T)
        .reshape(batch, length, HEADS, hidden // HEADS)
        .transpose(1, 2)
        for letter in "qkv"
    )
    scores = query @ key.transpose(-1, -2) / (hidden // HEADS) ** 0.5
    past = torch.ones(length, length, dtype=torch.bool).tril()
    mixed = scores.masked_fill(~past, float("-inf")).softmax(-1) @ value
    return mixed.transpose(1, 2).reshape(batch, length, hidden) @ weights[f"{at}.self_attn.o_proj.weight"].T


def mixture(weights: Weights, at: str, experts: int, state: Tensor) -> Tensor:
    """Each token through its two best experts."""
    shares, chosen = (state @ weights[f"{at}.mlp.gate.weight"].T).softmax(-1).topk(TOP, dim=-1)
    shares = shares / shares.sum(-1, keepdim=True)
    out = torch.zeros_like(state)
    for expert in range(experts):
        name = f"{at}.mlp.experts.{expert}"
        rows, places = (chosen == expert).nonzero(as_tuple=True)
        inside = state[rows]
        gate = functional.silu(inside @ weights[f"{name}.gate_proj.weight"].T)
        made = (gate * (inside @ weights[f"{name}.up_proj.weight"].T)) @ weights[f"{name}.down_proj.weight"].T
        out.index_put_((rows,), made * shares[rows, places][:, None], accumulate=True)
    return out


def batches(seed: str, count: int) -> list[Tensor]:
    """Held-out text that the round's seed picks: nobody has it before the round."""
    source = random.Random(seed)  # noqa: S311 - reproducible is what it has to be
    found = []
    for _ in range(count):
        rows = []
        for _ in range(SEQUENCES):
            text = ""
            while len(text) <= LENGTH:
                words = (source.choice(_SUBJECTS), source.choice(_VERBS), source.choice(_OBJECTS))
                text += " ".join(words) + source.choice(_ENDS)
            rows.append(list(text.encode()[: LENGTH + 1]))
        found.append(torch.tensor(rows))
    return found


def measured(weights: Weights, sizes: tuple[int, int, int], data: list[Tensor]) -> dict[str, Any]:
    """The mean loss over the batches whose loss is finite; none is infinite."""
    total, finite = 0.0, 0
    for tokens in data:
        logits = forward(weights, sizes, tokens[:, :-1])
        loss = float(functional.cross_entropy(logits.reshape(-1, VOCABULARY), tokens[:, 1:].reshape(-1)))
        if loss == loss and abs(loss) != float("inf"):  # noqa: PLR0124 - the test for NaN
            total, finite = total + loss, finite + 1
    return {"val_loss": total / finite if finite else 1e30, "finite_batches": finite, "batches": len(data)}


def answer(request: dict[str, Any], blobs: list[bytes]) -> dict[str, Any]:
    """Losses of the base and of the base with the checkpoint in it."""
    base = safetensors(blobs[0])
    sizes = geometry(base)
    changed = {
        name: tensor(raw, dtype, shape) for (name, dtype, shape), raw in zip(request["tensors"], blobs[1:], strict=True)
    }
    data = batches(request["seed"], request["batches"])
    return {"baseline": measured(base, sizes, data), "candidate": measured(base | changed, sizes, data)}


def main(source: BinaryIO, sink: BinaryIO) -> None:
    """Answer one frame."""
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(mode=True)
    request = json.loads(source.read(int.from_bytes(source.read(4), "little")))
    blobs = [source.read(size) for size in request["sizes"]]
    try:
        with torch.no_grad():
            told = answer(request, blobs)
    except Refused as refusal:
        told = {"refused": str(refusal)}
    raw = json.dumps(told | {"sizes": []}).encode()
    sink.write(len(raw).to_bytes(4, "little") + raw)
    sink.flush()


if __name__ == "__main__":
    main(sys.stdin.buffer, sys.stdout.buffer)
