"""The tasks that the systems declare: each is one Lambda function."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Task:
    name: str
    system: str
    timeout: int = 60
    memory: int = 512


def declared() -> list[Task]:
    return [
        Task("chain-sync", "chain"),
        *(Task(f"{system}-tick", system) for system in ("prism", "pool", "experts", "bitrecs", "leoma")),
    ]
