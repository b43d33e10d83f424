"""The gain of rearranging: how much of the scores each layer keeps."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class Gain:
    """The share of its scores that a layer keeps: as it was, rearranged, and without any pattern."""

    name: str
    before: float
    after: float
    unstructured: float


@dataclass(frozen=True, eq=False)
class Arranged:
    """gains: by layer. moved: how many orbits changed. gathers: inputs and outputs that are put into order."""

    gains: tuple[Gain, ...]
    moved: int
    gathers: tuple[str, ...]

    @property
    def gain(self) -> float:
        """The gain over all layers, as a share of what was kept before."""
        before, after = (sum(getattr(row, key) for row in self.gains) for key in ("before", "after"))
        return after / before - 1 if before else 0.0

    @property
    def gap(self) -> float:
        """The share of the way to pruning without a pattern."""
        before, after, best = (
            sum(getattr(row, key) for row in self.gains) for key in ("before", "after", "unstructured")
        )
        return (after - before) / (best - before) if best > before else 0.0

    def to_json(self) -> dict[str, Any]:
        """Plain data for json.dump."""
        return {
            "gain": self.gain, "gap_closed": self.gap, "orbits_moved": self.moved, "gathers": list(self.gathers),
            "layers": [asdict(row) for row in self.gains],
        }  # fmt: skip
