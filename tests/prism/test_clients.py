"""What miners, the platform, validators and the website send, replayed."""

from __future__ import annotations

from pathlib import Path

from tests.harness.conversation import replay

from .world import Freeze, Prism

CONVERSATION = Path(__file__).parent / "conversation.yaml"


def test_real_clients_are_understood(prism: Prism, freeze: Freeze) -> None:
    assert replay(prism.client, freeze, CONVERSATION, {}) > 20
