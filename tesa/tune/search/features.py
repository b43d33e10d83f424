"""The numbers that the cost model sees of a candidate: of the task, the pattern, the configuration and the code."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tesa.attributes.zeros import Zeros, zeros_of
from tesa.decompose.candidates import Option
from tesa.schedules.gpus import Gpu
from tesa.schedules.registry import find
from tesa.schedules.types import Config, Core, FloatArray, Problem

Numbers = dict[str, float]
Wide = NDArray[np.float64]

BLOCKS = ((1, 4), (1, 16), (4, 1), (8, 1), (16, 1), (4, 4), (8, 8), (16, 16), (32, 32))
"""Shapes of blocks whose live share tells how a pattern is clustered."""


@dataclass(frozen=True, eq=False)
class Table:
    """Rows of features. values is (rows, columns), NaN where a row has no such feature."""

    columns: tuple[str, ...]
    values: Wide

    @staticmethod
    def of(rows: Sequence[Mapping[str, float]]) -> Table:
        """The columns are all names that any row has, sorted."""
        columns = tuple(sorted({name for row in rows for name in row}))
        values = [[row.get(name, np.nan) for name in columns] for row in rows]
        return Table(columns, np.array(values, np.float64).reshape(len(rows), len(columns)))

    def take(self, rows: NDArray[np.int64]) -> Table:
        """Only these rows."""
        return Table(self.columns, self.values[rows])

    def under(self, columns: Sequence[str]) -> Wide:
        """The values under other columns: what is not here is NaN."""
        place = {name: i for i, name in enumerate(self.columns)}
        values = np.full((len(self.values), len(columns)), np.nan)
        for i, name in enumerate(columns):
            if name in place:
                values[:, i] = self.values[:, place[name]]
        return values


def tabulate(
    problem: Problem, weight: FloatArray, core: Core | Gpu, options: Sequence[Option], predicted: Sequence[float]
) -> Table:
    """A row for each option of a layer, weight (m, k). predicted: its estimated milliseconds.

    >>> import tesa.schedules.cpu
    >>> problem = Problem("linear", 8, 12, 16, (1, 12, 16), (1, 8, 16))
    >>> weight, core = np.eye(8, 12, dtype=np.float32), Core("avx2", 8, 16)
    >>> table = tabulate(problem, weight, core, [("dense", {"rows": 3, "vectors": 2, "pack": 0})], [0.5])
    >>> dict(zip(table.columns, table.values[0].tolist()))["rows used"]  # of 9 rows in 3 panels, 8 are there
    0.8888888888888888
    """
    common = {**of_task(problem, core), **of_pattern(weight)}
    least = min(predicted, default=1.0)
    rows = []
    for (name, config), estimate in zip(options, predicted, strict=True):
        code = {"estimate": _log(estimate), "estimate to best": _log(estimate / max(least, 1e-12))}
        size = find(name, core.kind).size
        if size is not None:
            code["instructions"] = _log(1 + size(problem, weight, core, config))
        rows.append({**common, **of_config(problem, core, name, config), **code})
    return Table.of(rows)


def of_task(problem: Problem, core: Core | Gpu) -> Numbers:
    """Sizes as logarithms, and flags."""
    window = problem.window
    epilogue = problem.epilogue
    return {
        "m": _log(problem.m),
        "k": _log(problem.k),
        "n": _log(problem.n),
        "batch": float(problem.batch),
        "threads": float(problem.threads),
        "lanes": float(core.lanes),
        "depthwise": float(problem.op == "depthwise"),
        "pointwise": float(problem.pointwise),
        "taps": 1.0 if window is None else float(window.kernel[0] * window.kernel[1]),
        "stride": 1.0 if window is None else float(window.stride[1]),
        "int8": float(problem.dtype == "int8"),
        "16 bits": float(problem.storage != "float32"),
        "residual": float(epilogue.residual),
        "activation": float(epilogue.activation is not None),
        "n in vectors": float(problem.n % core.lanes == 0),
    }


def of_pattern(weight: FloatArray | Zeros) -> Numbers:
    """Density, how the non-zeros of a weight (m, k) are clustered, and how even its rows and columns are."""
    zeros = zeros_of(weight)
    rows, total = zeros.per_row, zeros.nonzeros
    mean = total / max(len(rows), 1)
    facts = {
        "density": total / max(zeros.size, 1),
        "non-zeros": _log(1 + total),
        "row mean": _log(1 + mean),
        "row spread": float(rows.std() / mean) if mean else 0.0,
        "row most": _log(1 + float(rows.max(initial=0))),
        "live columns": zeros.live_columns / max(zeros.shape[1], 1),
        "live rows": zeros.live_rows / max(zeros.shape[0], 1),
    }
    return {**facts, **{f"live {r}x{c}": zeros.live_share(r, c) for r, c in BLOCKS}}


def of_config(problem: Problem, core: Core | Gpu, name: str, config: Config) -> Numbers:
    """The family, its numbers, and what they come to on this layer: how well panels and tiles fit."""
    facts = {f"is {name}": 1.0}
    for key, value in config.items():
        facts[key] = _log(1 + max(value, 0))
        last = key.rpartition(".")[2]
        if value > 0 and last in ("rows", "kblock"):
            facts[f"{key} used"] = _used(problem.m if last == "rows" else problem.k, value)
        elif value > 0 and last == "vectors":
            facts[f"{key} used"] = _used(problem.n, value * core.lanes)
            facts[f"{key} tile"] = _log(value * core.lanes * problem.k)
    return facts


def _used(length: int, step: int) -> float:
    """The share of whole steps that a length fills."""
    return length / (-(-length // step) * step) if length else 1.0


def _log(value: float) -> float:
    return float(np.log2(max(value, 1e-12)))
