"""The result of compaction: the smaller model, and what went and what stayed."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import onnx

Left = tuple[tuple[int, ...], ...]


NAMES = 1024
"""Bytes by which a file with fewer weights may be larger."""


@dataclass(frozen=True)
class Removal:
    """The shortening of one axis of a weight. tensor, axis: in the file; before, after: its lengths."""

    layer: str
    tensor: str
    axis: int
    before: int
    after: int

    def __str__(self) -> str:
        return f"{self.layer}: {self.tensor} axis {self.axis}: {self.before} -> {self.after}"


@dataclass(frozen=True, eq=False)
class Compacted:
    """The result of compaction. proto: the smaller model. removed: from which weights. kept: why indices had to stay.

    parameters: numbers in the weights, as tesa.frontend.given counts them; size: bytes of the file, external data
    included; before: of the file that was given. macs: multiply-accumulates of the convolutions and matrix products of
    a run.
    left: of each activation that is smaller, for each axis the indices that are left, () for all of them. Missing is a
    tensor of which more went than whole slices.
    """

    proto: onnx.ModelProto = field(repr=False)
    removed: tuple[Removal, ...]
    kept: tuple[str, ...]
    parameters_before: int
    parameters_after: int
    macs_before: int
    macs_after: int
    left: Mapping[str, Left] = field(default_factory=dict, repr=False)
    size_before: int = 0
    size_after: int = 0

    @property
    def smaller(self) -> bool:
        """True where something went and the file is smaller for it.

        A file of a few weights may have fewer of them and still some bytes more, for names and sizes that changed.
        """
        fewer = self.parameters_after < self.parameters_before
        return bool(self.removed) and self.size_after < self.size_before + (NAMES if fewer else 0)

    def __str__(self) -> str:
        return (
            f"{len(self.removed)} weights are smaller: {self.parameters_before} -> {self.parameters_after} parameters, "
            f"{self.macs_before} -> {self.macs_after} multiply-accumulates"
        )
