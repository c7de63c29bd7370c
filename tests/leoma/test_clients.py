"""The published clients' day, replayed, and what validators find in the bucket afterwards."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path

from chalicelib.kernel import keys
from chalicelib.kernel.blobs import Bucket
from chalicelib.leoma import tasks, tasks_fold
from tests.harness.client import Client
from tests.harness.conversation import replay

from .world import ADMIN, ALICE, NOW, publish, subnet, sync

CONVERSATION = Path(__file__).parent / "conversation.yaml"


def test_real_clients_are_understood(
    client: Client, freeze: Callable[[float], None], configure: Callable[..., None]
) -> None:
    freeze(NOW)
    configure(LEOMA_ADMIN_HOTKEYS=ADMIN.hotkey, LEOMA_SCORER_TASK_WINDOW="1")
    sync(subnet())

    def rank() -> None:
        tasks_fold.fold()
        tasks.rank({}, None)

    meanwhile = {"a task is published": lambda: publish(7), "results are written and ranks computed": rank}
    assert replay(client, freeze, CONVERSATION, meanwhile) > 20

    raw = Bucket("leoma-samples").get(f"7/evaluation_results/{ALICE.hotkey}.json")
    result = json.loads(raw or b"null")
    signed = [{name: value for name, value in entry.items() if value is not None} for entry in result["data"]]
    digest = hashlib.sha256(json.dumps(signed, sort_keys=True).encode()).digest()
    assert keys.verify(ALICE.public, digest, keys.signature_from_hex(result["signature"]))
