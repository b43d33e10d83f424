"""The pruned model and what became of each layer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tesa.base.display import Displayed
from tesa.compact.saved import save
from tesa.compress.rearrange.gains import Arranged


@dataclass(frozen=True)
class PrunedLayer:
    """A layer that was pruned. shape: m x k of its matrix; sparsity: the share of zeros that it has now.

    kept: the share of the sum of magnitudes that is left. error: of its output on the calibration data, the mean square
    of the difference over the variance, by the mask alone and as it is written; None without data. note: what else is
    to be known, as a fallback that was taken.
    """

    name: str
    tensor: str
    op: str
    shape: tuple[int, int]
    pattern: str
    sparsity: float
    kept: float
    error_masked: float | None = None
    error: float | None = None
    note: str = ""


@dataclass(frozen=True, eq=False)
class Pruned(Displayed):
    """A pruned model. proto: the ONNX model; masks: by initializer, False where pruned; left: layers that stay dense,
    each with the reason; warnings: what a user has to know; arranged: what rearranging gained, where asked for.

    output_error: of the model's outputs on the calibration data, relative to those of the dense one; dense_score,
    score: what the metric makes of both.
    """

    proto: Any
    layers: tuple[PrunedLayer, ...]
    left: tuple[tuple[str, str], ...]
    masks: Mapping[str, NDArray[np.bool_]]
    warnings: tuple[str, ...] = ()
    external: bool = False
    options: Mapping[str, Any] = field(default_factory=dict)
    arranged: Arranged | None = None
    output_error: float | None = None
    dense_score: float | None = None
    score: float | None = None

    @property
    def sparsity(self) -> float:
        """The share of zeros of all pruned layers together."""
        total = sum(row.shape[0] * row.shape[1] for row in self.layers)
        return sum(row.sparsity * row.shape[0] * row.shape[1] for row in self.layers) / total if total else 0.0

    @property
    def kept(self) -> float:
        """The mean share of magnitude that the layers keep, each weighted by its size."""
        total = sum(row.shape[0] * row.shape[1] for row in self.layers)
        return sum(row.kept * row.shape[0] * row.shape[1] for row in self.layers) / total if total else 1.0

    def save(self, path: str | Path) -> Path | None:
        """Write the model, whole or not at all; its weights into path.data as well where the given file had such data,
        or where it is too large for one file. Returns that second file, if any. The model can be saved once."""
        return save(self.proto, Path(path), external=self.external)

    def to_json(self) -> dict[str, Any]:
        """Plain data for json.dump."""
        return {
            **self.options,
            "sparsity": self.sparsity,
            "kept": self.kept,
            "output_error": self.output_error,
            "dense_score": self.dense_score,
            "score": self.score,
            "rearranged": None if self.arranged is None else self.arranged.to_json(),
            "layers": [asdict(row) for row in self.layers],
            "left": [{"name": name, "reason": why} for name, why in self.left],
            "warnings": list(self.warnings),
        }
