"""The choices for a layer: a pattern with its share of zeros, and a precision."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from tesa.attributes.impose import Imposed
from tesa.errors import UsageError

FLOAT = 32
DEFAULT = ("0.5", "0.7", "0.8", "0.9", "0.95", "0.3:block=16x1", "0.5:block=16x1", "0.7:block=16x1")


@dataclass(frozen=True)
class Choice:
    """A pattern, None for dense, and the bits of the layer: 32, or 8 for codes.

    >>> str(Choice.parse("0.7:block=16x1@8")), str(Choice.parse("dense"))
    ('0.7:block=16x1@8', 'dense')
    """

    imposed: Imposed | None = None
    bits: int = FLOAT

    @staticmethod
    def parse(text: str) -> Choice:
        """Read "0.9", "0.3:block=16x1", "2:4", "dense", each with "@8" behind it for codes of 8 bits."""
        pattern, at, bits = text.partition("@")
        if at and bits not in ("8", "32"):
            raise UsageError(f"cannot read the choice {text!r}: behind @ stands 8 or 32, the bits of the layer")
        imposed = None if pattern.strip() in ("dense", "0") else Imposed.parse(pattern)
        return Choice(imposed, int(bits) if at else FLOAT)

    @property
    def sparsity(self) -> float:
        """The share of zeros."""
        return 0.0 if self.imposed is None else self.imposed.sparsity

    @property
    def channels(self) -> bool:
        """True where what goes from this layer makes others smaller."""
        return self.imposed is not None and self.imposed.imposition.propagates

    def __str__(self) -> str:
        name = "dense" if self.imposed is None else str(self.imposed)
        return name if self.bits == FLOAT else f"{name}@{self.bits}"


DENSE = Choice()

Config = Mapping[str, Choice]
"""A choice for each layer that is explored, by its name."""


def parsed(levels: Sequence[str], bits: Sequence[int]) -> tuple[Choice, ...]:
    """The choices for every layer: dense and each level, in each precision. UsageError for one that is none."""
    for number in bits:
        if number not in (8, FLOAT):
            raise UsageError(f"a layer is explored in 8 bits and in {FLOAT}, not in {number}")
    plain = list(dict.fromkeys([DENSE, *(Choice.parse(text) for text in levels)]))
    found = [Choice(one.imposed, number) for number in bits for one in plain if one.bits == FLOAT]
    return tuple(dict.fromkeys([DENSE, *found, *(one for one in plain if one.bits != FLOAT)]))


def key_of(config: Config) -> str:
    """16 hexadecimal digits that identify a configuration."""
    text = json.dumps({name: str(choice) for name, choice in sorted(config.items()) if choice != DENSE})
    return hashlib.sha256(text.encode()).hexdigest()[:16]
