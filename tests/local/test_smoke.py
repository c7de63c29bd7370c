"""What is asked of a deployment holds for the laptop."""

from __future__ import annotations

from infra import smoke
from tests.harness.laptop import Laptop


def test_the_laptop_passes_the_smoke_test_of_a_deployment(laptop: Laptop) -> None:
    smoke.check(laptop.url)
