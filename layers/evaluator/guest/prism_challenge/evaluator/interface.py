"""What a project may import: the context it builds for, the batch it trains on, the recipe it declares."""

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class PrismContext:
    """Sizes and limits that a model is built for."""

    vocab_size: int = 4096
    sequence_length: int = 128
    max_layers: int = 96
    max_parameters: int = 150_000_000
    seed: int = 1337


@dataclass(frozen=True)
class PrismBatch:
    """Tokens, and for each the one that follows; on held-out contexts the targets are not told."""

    tokens: Any
    targets: Any
    metadata: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class TrainingRecipe:
    """How a project wants to be trained."""

    learning_rate: float = 3e-4
    batch_size: int = 4
    optimizer: str = "adamw"
    scheduler: str = "cosine"
    weight_decay: float = 0.01
    metadata: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def of(cls, given: Any) -> "TrainingRecipe":
        """A recipe, or a mapping with its fields; unknown ones are left aside."""
        values = given if isinstance(given, dict) else vars(given)
        known = {name: values[name] for name in cls.__dataclass_fields__ if name in values}
        recipe = cls(**known)
        rate, size, decay = float(recipe.learning_rate), int(recipe.batch_size), float(recipe.weight_decay)
        return cls(rate, size, str(recipe.optimizer), str(recipe.scheduler), decay)
