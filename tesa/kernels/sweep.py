"""Times of one shape of layer over patterns, sparsities and kernel families: when does leaving out zeros pay?"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tesa.attributes.impose import Imposed, impose
from tesa.base import display
from tesa.base.frames import frame
from tesa.base.keywords import helpful
from tesa.base.numbers import whole
from tesa.base.progress import Progress, automatic, telling
from tesa.base.scratch import Scratch
from tesa.choose.plan import Candidate
from tesa.errors import UsageError
from tesa.kernels.request import request
from tesa.layers.layer import Layer
from tesa.records.log import Log
from tesa.schedules.types import Config, Problem
from tesa.tune.choose import choose


@dataclass(frozen=True)
class SweptForm:
    """The fastest configuration of a family for one weight of a sweep. ms: of one call."""

    family: str
    config: Config
    ms: float


@dataclass(frozen=True)
class SweepPoint:
    """One weight of a sweep. dense_ms: of the fastest kernel that computes with the zeros; forms: fastest first."""

    pattern: str
    sparsity: float
    dense_ms: float
    forms: tuple[SweptForm, ...]

    @property
    def best(self) -> SweptForm:
        """The fastest form."""
        return self.forms[0]

    @property
    def speedup(self) -> float:
        """Time of the dense kernel over that of the fastest form."""
        return self.dense_ms / self.best.ms


@dataclass(frozen=True)
class Sweep(display.Displayed):
    """The points of a sweep by pattern, each from few zeros to many. It is a sequence of SweepPoint."""

    problem: Problem
    target: str
    points: tuple[SweepPoint, ...]

    def __iter__(self) -> Iterator[SweepPoint]:
        return iter(self.points)

    def __len__(self) -> int:
        return len(self.points)

    def __getitem__(self, index: int) -> SweepPoint:
        return self.points[index]

    @property
    def patterns(self) -> tuple[str, ...]:
        """The patterns in the order in which they were asked for."""
        return tuple(dict.fromkeys(point.pattern for point in self.points))

    def of(self, pattern: str) -> tuple[SweepPoint, ...]:
        """The points of one pattern."""
        return tuple(point for point in self.points if point.pattern == pattern)

    def break_even(self, pattern: str) -> float | None:
        """The sparsity from which on a pattern is faster than dense: on a line between the points around it.

        None where it never is; the least sparsity of the sweep where it always is.
        """
        points, last = self.of(pattern), None
        for point in points:
            if point.speedup > 1.0:
                if last is None:
                    return point.sparsity
                share = (1.0 - last.speedup) / (point.speedup - last.speedup)
                return last.sparsity + share * (point.sparsity - last.sparsity)
            last = point
        return None

    def to_pandas(self) -> Any:
        """A pandas.DataFrame of one row for each point and family. UsageError without pandas."""
        return frame([
            {"pattern": point.pattern, "sparsity": point.sparsity, "family": form.family, "config": dict(form.config),
             "ms": form.ms, "dense_ms": point.dense_ms, "speedup": point.dense_ms / form.ms}
            for point in self.points for form in point.forms
        ])  # fmt: skip

    def plot(self, path: str | Path | None = None) -> Any:
        """The speed-up over dense against sparsity, a line for each pattern, and where it crosses one.

        path: where to write it (.png, .svg, .pdf). UsageError without matplotlib.
        """
        return display.picture(self, path=path)


@helpful("tesa.sweep")
def sweep(
    shape: Sequence[int],
    n: int | None = None,
    *,
    sparsity: Sequence[float] = (0.5, 0.7, 0.8, 0.9, 0.95),
    patterns: Sequence[str] = ("unstructured",),
    forms: Sequence[str] | None = None,
    seed: int = 0,
    log: str | Path | Log | None = None,
    jobs: int | None = None,
    progress: Progress | None = automatic,
    **options: Any,
) -> Sweep:
    """Measure kernels of one shape over a grid of patterns and sparsities, each beside its dense self.

    shape: of the weight, (m, k) or (out, in, height, width). sparsity: shares of zeros; patterns: as `tesa analyze
    --impose` spells them ("unstructured", "block=4x4", "2:4", "channel"), a pattern that allows one share has one
    point. forms: kernel families that compete, by default all; dense always does. Weights are random numbers of a seed.
    log: folder of records: what it knows is not measured again, so that a sweep goes on where it was stopped. n and
    options: see tesa.kernel.

    All candidates of a point are compared with NumPy and then timed in turn, so that their ratios hold on a busy
    machine, too. Raises UsageError for an unknown pattern or family, and what tesa.kernel raises.

    >>> found = sweep((64, 64), n=64, sparsity=[0.5, 0.9], forms=["indexed"])
    >>> [round(point.sparsity, 1) for point in found], {form.family for form in found[1].forms} >= {"indexed"}
    ([0.5, 0.9], True)
    """
    shape = tuple(whole("shape", side) for side in shape)
    if len(shape) < 2:
        raise UsageError(f"shape is that of a weight, (m, k) or (out, in, height, width), got {shape}")
    wanted = [one for pattern in patterns for one in _levels(pattern, sparsity)]
    if not wanted:
        raise UsageError("there is nothing to sweep over: name at least one pattern and one sparsity")
    rng = np.random.default_rng(seed)
    full = rng.standard_normal((shape[0], int(np.prod(shape[1:])))).astype(np.float32)
    if options.get("dtype", "float32") != "float32":
        full = np.clip(np.rint(40 * full), -127, 127)
    asked = [request(impose(full, one).reshape(shape), n, **options) for one in wanted]
    target = asked[0].target
    layers = [Layer(str(one), each.problem, each.weight) for one, each in zip(wanted, asked, strict=True)]
    names = None if forms is None else list(dict.fromkeys([*forms, "dense"]))
    with telling(progress) as show, Scratch() as folder:
        chosen = choose(layers, target, log=log, jobs=jobs, families=names, progress=show, folder=Path(folder))
    points = [_point(one, kernel.part.candidates) for one, kernel in zip(wanted, chosen, strict=True)]
    return Sweep(asked[0].problem, target.name, tuple(points))


def _levels(pattern: str, sparsity: Sequence[float]) -> list[Imposed]:
    """A pattern at each share of zeros, the fewest first; at its own share where it allows one only."""
    try:
        return [Imposed.parse(pattern)]  # "2:4", which says its share
    except UsageError:
        return [Imposed.parse(f"{float(share)}:{pattern}") for share in sorted(sparsity)]


def _point(imposed: Imposed, rows: Sequence[Candidate]) -> SweepPoint:
    timed = sorted((row for row in rows if row.measured_ms), key=lambda row: row.measured_ms or 0.0)
    dense = [row.measured_ms for row in timed if row.dense and row.measured_ms]
    if not timed or not dense:
        raise UsageError(f"{imposed}: nothing was measured: this machine cannot run code for that target")
    best: dict[str, SweptForm] = {}
    for row in timed:
        best.setdefault(row.family, SweptForm(row.family, row.config, row.measured_ms or 0.0))
    return SweepPoint(imposed.text, imposed.sparsity, min(dense), tuple(best.values()))
