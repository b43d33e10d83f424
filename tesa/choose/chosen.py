"""The kernel that was chosen for a layer."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from tesa.choose.plan import Part


@dataclass(frozen=True)
class ChosenKernel:
    """The kernel of a layer: called as symbol(X, *constants, bias if any, residual if any, Y).

    objects: what has to be linked, main first. parts: one, or those of a decomposition, see tesa.choose.plan. digest:
    of the layer's weight.
    """

    layer: str
    parts: tuple[Part, ...]
    symbol: str
    constants: tuple[NDArray[Any], ...]
    objects: tuple[Path, ...]
    digest: str = ""

    @property
    def part(self) -> Part:
        """The first part: it has the candidates and the reason."""
        return self.parts[0]
