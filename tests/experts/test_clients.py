"""What miners and validators send with the clients that they have, replayed."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.experts import models
from tests.experts.conftest import START, World
from tests.harness.client import Reply
from tests.harness.conversation import replay

CONVERSATION = Path(__file__).parent / "conversation.yaml"


def slice_or_json(reply: Reply) -> Any:
    """A slice as a client checks it: its envelope, whether the hash holds, how many tensors follow."""
    if reply.header("Content-Type") != "application/octet-stream":
        return reply.json
    length = int.from_bytes(reply.body[:8], "little")
    envelope, payload = json.loads(reply.body[8 : 8 + length]), models.payload(reply.body)
    holds = envelope["content_hash"] == models.digest(payload) == reply.header("X-Content-Hash")
    return envelope | {"the hash holds": holds, "tensors": len(models.parts_of(payload))}


def test_real_clients_are_understood(world: World, tiny: models.Model, freeze: Callable[[float], None]) -> None:
    meanwhile = {
        "a model is published": lambda: world.publish(tiny),
        "slices are large": lambda: world.configure(EXPERTS_INLINE_MAX_BYTES="0"),
        "the submit phase ends": lambda: world.at(START + 26),
    }
    assert replay(world.client, freeze, CONVERSATION, meanwhile, slice_or_json) > 20
