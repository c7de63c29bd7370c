"""Values behave as frozen dataclasses do, whoever makes the first one."""

from __future__ import annotations

import dataclasses
from functools import cached_property

import pytest

from chalicelib.kernel.values import fields, frozen
from tests.harness.race import all_at_once


@frozen
class Point:
    x: int
    y: int = 0
    tags: tuple[str, ...] = dataclasses.field(default_factory=tuple)

    @cached_property
    def total(self) -> int:
        return self.x + self.y


@frozen
class Named(Point):
    name: str = "n"


def test_a_value_is_a_frozen_dataclass() -> None:
    point = Point(1, y=2)
    assert (point, hash(point), repr(point)) == (Point(1, 2), hash(Point(1, 2)), "Point(x=1, y=2, tags=())")
    assert (dataclasses.replace(point, x=5), dataclasses.asdict(point)) == (Point(5, 2), {"x": 1, "y": 2, "tags": ()})
    assert point.total == 3
    with pytest.raises(dataclasses.FrozenInstanceError):
        point.x = 2  # type: ignore[misc] # that is the test
    with pytest.raises(TypeError, match="unexpected keyword"):
        Point(1, z=2)  # type: ignore[call-arg] # that is the test


def test_a_subclass_takes_over_the_fields_even_when_it_is_met_first() -> None:
    @frozen
    class Base:
        a: int

    @frozen
    class Derived(Base):
        b: int = 2

        @property
        def sum(self) -> int:
            return self.a + self.b

    assert (Derived(1).sum, Base(1), Named(1, name="p").name) == (3, Base(1), "p")


def test_a_first_instance_is_made_by_many_at_once() -> None:
    @frozen
    class Fresh:
        a: int
        b: str = "b"

    made = all_at_once([lambda: Fresh(1)] * 30)
    assert set(made) == {Fresh(1)}


def test_checks_after_the_start_still_run() -> None:
    @frozen
    class Checked:
        a: int

        def __post_init__(self) -> None:
            if self.a < 0:
                raise ValueError("negative")

    with pytest.raises(ValueError, match="negative"):
        Checked(-1)


def test_the_fields_of_a_class_are_known_before_its_first_instance() -> None:
    @frozen
    class Unmet:
        a: int
        b: int = 2

    assert [field.name for field in fields(Unmet)] == ["a", "b"]
    assert Unmet(1).b == 2


def test_a_field_may_have_any_name() -> None:
    @frozen
    class Odd:
        kind: str
        cls: int = 1

    assert dataclasses.replace(Odd(kind="a"), kind="b", cls=2) == Odd(kind="b", cls=2)
