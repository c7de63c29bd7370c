"""A published slice is what the model holds."""

from __future__ import annotations

from tests.experts import models
from tests.experts.conftest import World


def test_a_published_slice_holds_exactly_its_experts(served: World, tiny: models.Model) -> None:
    reply = served.partial()

    found = models.parts_of(models.payload(reply.body))
    assert reply.status == 200
    assert set(found) == tiny.names("0")
    assert all(found[name] == tiny.parts[name] for name in found)
