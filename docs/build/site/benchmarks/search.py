"""How many trials a guided search needs: `python -m benchmarks.search`.

Every candidate of some layers of MobileNet-v1, pruned by 70 and 90 %, is measured once (`--measure`, exhaustively, each
compared with NumPy first) and stored in benchmarks/results/search.jsonl. The modes of search then run on the stored
times: all meet the same numbers, nobody waits, and the machine's noise is the same for all. A job that measures anew
meets other noise; what is counted here is how a mode orders the candidates.

For each layer and seed: how many trials the mode needs to reach what random search has reached after `--trials` of
them, or something at most 1 % slower. "guided, other layers known": the model has seen the times of the other layers,
as in a job where these were tuned before. Prints a table, and draws the best time so far over the trials (--plot).
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.tables import append, markdown
from tesa.decompose.candidates import Option
from tesa.layers.layer import Layer
from tesa.schedules.types import Epilogue, Problem, Window
from tesa.targets.target import parse_target
from tesa.tune.search import Experience, Lessons, Scene, Space, Table, find_mode, tabulate

RESULTS = Path(__file__).parent / "results" / "search.jsonl"
LAYERS = (
    (64, 32, 112, 0.9), (128, 64, 56, 0.9), (128, 128, 56, 0.7), (256, 256, 28, 0.9), (512, 512, 14, 0.7),
    (512, 512, 14, 0.9), (1024, 512, 7, 0.7), (1024, 1024, 7, 0.9),
)  # fmt: skip
"""Outputs, inputs, size of the image, sparsity: the 1x1 convolutions of MobileNet-v1."""

WAYS = ("random", "model", "model, other layers known")
NEAR = 1.01
Wide = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Stored:
    """A layer with the times of all its candidates in milliseconds, infinite where one failed."""

    name: str
    space: Space
    estimates: Wide
    times: Wide
    table: Table


def main() -> int:
    """Measure or replay; 1 if the guided search needs more than half of random's trials."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--measure", action="store_true", help="measure all candidates anew (some minutes)")
    parser.add_argument("--target", default="x86")
    parser.add_argument("--trials", type=int, default=64, help="of random search, whose result is to be reached")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--batch", type=int, default=8, help="candidates between two looks at the results")
    parser.add_argument("--plot", type=Path, metavar="FILE", help="draw the best time so far there (.png, .svg, .pdf)")
    parser.add_argument("--data", type=Path, default=RESULTS, help=f"the stored times (default: {RESULTS.name})")
    options = parser.parse_args()
    if options.measure:
        options.data.unlink(missing_ok=True)
        for shape in LAYERS:
            append(options.data, [measure(shape, options.target)], "benchmarks.search")
    layers = [stored(json.loads(line)) for line in options.data.read_text().splitlines()]
    curves = {layer.name: _curves(layer, layers, options) for layer in layers}
    ratio = report(layers, curves, options.trials)
    if options.plot is not None:
        plot(layers, curves, options.plot)
    return 0 if ratio >= 2 else 1


def layer_of(shape: tuple[int, int, int, float]) -> Layer:
    """A 1x1 convolution with bias and ReLU and a random weight, the same every time."""
    m, k, size, sparsity = shape
    rng = np.random.default_rng([m, k, size, round(100 * sparsity)])
    weight = (rng.standard_normal((m, k)) * (rng.random((m, k)) >= sparsity)).astype(np.float32)
    epilogue, window = Epilogue(bias=True, activation="relu"), Window(size, size, (1, 1))
    problem = Problem("conv2d", m, k, size * size, (1, k, size, size), (1, m, size, size), 1, window, epilogue)
    return Layer(f"{m}x{k}x{size * size}, {sparsity:.0%}", problem, weight)


def measure(shape: tuple[int, int, int, float], target: str) -> dict[str, Any]:
    """All candidates of a layer, as a record."""
    from tesa.measure.local import LocalRunner
    from tesa.records.log import Log, Task
    from tesa.tune.budget import Budget
    from tesa.tune.builders import LocalBuilder
    from tesa.tune.job import JobOptions, tune_layers

    work, where, log = layer_of(shape), parse_target(target), Log()
    plan = JobOptions(Budget(), mode="exhaustive", batch=24)
    with LocalBuilder() as builder:
        tune_layers([work], where, log=log, builder=builder, runner=LocalRunner(), options=plan)
    rows = log.records(Task.of(work.problem, work.weight), where.name)
    times = [[row.family, dict(row.config), row.median_ms] for row in rows]
    print(f"{work.name}: {len(times)} candidates", file=sys.stderr)
    return {"shape": list(shape), "target": where.name, "times": times}


def stored(record: Mapping[str, Any]) -> Stored:
    """A layer out of its record."""
    from tesa.decompose.candidates import predict

    m, k, size, sparsity = record["shape"]
    work, target = layer_of((m, k, size, sparsity)), parse_target(record["target"])
    options: list[Option] = [(name, config) for name, config, _ in record["times"]]
    times = np.array([math.inf if ms is None else ms for *_, ms in record["times"]])
    predicted = predict(options, work.problem, work.weight, target)
    space = Space(options)
    estimates = np.array([predicted[key] for key in space.keys])
    table = tabulate(work.problem, work.weight, target.core, options, estimates.tolist())
    return Stored(work.name, space, estimates, times, table)


def replay(layer: Stored, mode: str, experience: Experience, seed: int, trials: int, batch: int) -> list[float]:
    """The best time after each trial."""
    times, best = np.full(len(layer.space), np.nan), list[float]()
    while len(best) < min(trials, len(layer.space)):
        scene = Scene(
            layer.space, layer.estimates, times, ~np.isnan(times), lambda: layer.table, experience, seed
        )  # fmt: skip
        rng = np.random.default_rng([seed, len(best)])
        for index in find_mode(mode).propose(scene, min(batch, trials - len(best)), rng):
            times[index] = layer.times[index]
            best.append(min([times[index], *best[-1:]]))
    return best


def _curves(layer: Stored, layers: Sequence[Stored], options: Any) -> dict[str, list[list[float]]]:
    """By way, the curve of each seed."""
    known = Experience()
    for other in layers:
        if other is not layer:
            known.learn(other.name, Lessons.of(other.table, other.estimates, other.times))
    others = {"random": ("random", Experience()), "model": ("model", Experience()), WAYS[2]: ("model", known)}
    return {
        way: [replay(layer, mode, taught, seed, options.trials, options.batch) for seed in range(options.seeds)]
        for way, (mode, taught) in others.items()
    }


def needed(curves: Mapping[str, Sequence[Sequence[float]]]) -> dict[str, float]:
    """By way, the median over the seeds of the trials until the goal; infinite where half of the seeds miss it."""
    goals = [curve[-1] * NEAR for curve in curves["random"]]
    return {
        way: float(np.median([_first(curve, goal) for curve, goal in zip(found, goals, strict=True)]))
        for way, found in curves.items()
    }


def _first(curve: Sequence[float], goal: float) -> float:
    return next((float(i) for i, time in enumerate(curve, 1) if time <= goal), math.inf)


def report(layers: Sequence[Stored], curves: Mapping[str, Any], trials: int) -> float:
    """Print the table; the median over the layers of random's trials for each trial of the guided search."""
    rows, ratios = [], []
    for layer in layers:
        count = needed(curves[layer.name])
        ratios.append(count["random"] / count["model"])
        last = [float(np.median([curve[-1] for curve in curves[layer.name][way]])) for way in WAYS]
        rows.append(
            [
                layer.name,
                str(len(layer.space)),
                *(f"{count[way]:.0f}" for way in WAYS),
                f"{ratios[-1]:.1f}x",
                *(f"{time / layer.times.min():.3f}" for time in last),
            ]
        )
    ways = ("random", "guided", "guided, taught")
    head = ["layer", "candidates", *(f"trials: {way}" for way in ways), "random / guided"]
    print(markdown([*head, *(f"best of {trials}: {way}" for way in ways)], rows))
    middle = float(np.median(ratios))
    print(f"\nmedian over the layers: random search needs {middle:.1f} times the trials of the guided one")
    return middle


def plot(layers: Sequence[Stored], curves: Mapping[str, Any], path: Path) -> None:
    """The best time so far over the fastest candidate's: the median of the seeds, the geometric mean of the layers."""
    from tesa.report.plots import check_plot_path, new_figure, save_figure

    check_plot_path(path)
    figure = new_figure(7, 4)
    axes = figure.add_subplot()
    for way in WAYS:
        lines = []
        for layer in layers:
            runs = np.array(curves[layer.name][way])
            line = np.median(runs, axis=0) / layer.times.min()
            lines.append(np.pad(line, (0, max(len(c) for r in curves.values() for c in r[way]) - len(line)), "edge"))
        with np.errstate(divide="ignore"):
            mean = np.exp(np.mean(np.log(lines), axis=0))
        axes.plot(np.arange(1, len(mean) + 1), np.where(np.isfinite(mean), mean, np.nan), label=way)
    axes.set_xlabel("trials of a layer")
    axes.set_ylabel("best so far / fastest candidate")
    axes.grid(alpha=0.3)
    axes.legend()
    save_figure(figure, path)


if __name__ == "__main__":
    sys.exit(main())
