"""Value objects of which every request makes some."""

from dataclasses import dataclass, field
from typing import TypeVar, dataclass_transform

_C = TypeVar("_C")


@dataclass_transform(frozen_default=True, field_specifiers=(field,))
def value(cls: type[_C]) -> type[_C]:
    """`@dataclass(frozen=True, slots=True)`, of which mypy alone keeps `frozen`.

    The interpreter's own way to do so makes an object four times as dear (1.3 µs
    instead of 0.4 for five members), and a decision makes a dozen.
    """
    return dataclass(slots=True, unsafe_hash=True)(cls)
