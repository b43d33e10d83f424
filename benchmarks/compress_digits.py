"""The digits networks pruned in every pattern, rearranged or not, repaired or not, with codes of 8 bits on top.

    python -m benchmarks.digits_networks -o work/digits      # trains them: needs torch
    python -m benchmarks.compress_digits work/digits -o benchmarks/results/compress_digits.md

Calibrated on 256 training images. Accuracy is that on the 360 held-out images: one of them is 0.28 %. Milliseconds are
those of the cost table of TARGET, of all layers with weights, one image. Seconds are those of the processor, for one
repair. Two pictures are put beside the table: accuracy against zeros, and against time.
"""

from __future__ import annotations

import argparse
import re
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from benchmarks.digits_networks import images
from benchmarks.train_digits import split_data
from tesa.base.files import write_text
from tesa.base.onnxruntime import onnxruntime_session
from tesa.compress import prune
from tesa.compress.quantize import quantize
from tesa.explore.latency import Predictor
from tesa.targets.target import parse_target

SAMPLES = 256
TARGET = "x86:znver5"


@dataclass(frozen=True)
class Row:
    """One way to prune: the pattern with its share, and further options of tesa.compress.prune."""

    title: str
    pattern: str
    options: dict[str, Any]

    @property
    def curve(self) -> str:
        """The line of a picture that it is a point of."""
        kind = self.pattern.partition(":")[2] or ("2:4" if ":" in self.pattern else "unstructured")
        return kind + (", rearranged" if "rearrange" in self.options else "")


def _rows(pattern: str, shares: Sequence[int], **options: Any) -> tuple[Row, ...]:
    title = pattern.replace("block=", "")
    more = "".join(f", {'rearranged' if key == 'rearrange' else value}" for key, value in options.items())
    return tuple(Row(f"{title} {s} %{more}".strip(), f"0.{s // 10}" + (f":{pattern}" if pattern else ""), dict(options))
                 for s in shares)  # fmt: skip


ROWS = (
    *_rows("", (50, 70, 80, 90)),
    Row("2:4", "2:4", {}),
    *_rows("16x1", (30, 50, 70)),
    *_rows("16x1", (30, 50, 70), rearrange="network"),
    *_rows("16x1", (30, 70), importance="scale-free"),
    *_rows("16x1", (30, 70), importance="scale-free", rearrange="network"),
    Row("16x1 30 %, taps of 4 at 30 %", "0.3:16x1", {"depthwise": "0.3:taps=4"}),
    *_rows("4x4", (30, 50)),
    *_rows("4x4", (30, 50), rearrange="network"),
)


@dataclass(frozen=True)
class Found:
    """Accuracies in percent, of each seed: by masks alone, repaired, with codes of 8 bits on top. ms: of the first."""

    masks: tuple[float, ...]
    repaired: tuple[float, ...]
    codes: tuple[float, ...]
    seconds: float
    ms: float


def accuracy(model: Any, pictures: Any, labels: Any) -> float:
    """The share of the pictures that a model gets right, in percent."""
    logits = onnxruntime_session(model.SerializeToString()).run(None, {"image": pictures})[0]
    return float(100 * np.mean(logits.argmax(1) == labels))


class Bench:
    """The networks of some seeds, the data, and the table of times."""

    def __init__(self, folder: Path, seeds: Sequence[int]) -> None:
        train, test, _, self.labels = split_data()
        self.pictures = images(test)
        chosen = np.random.default_rng(0).permutation(len(train))[:SAMPLES]
        self.data = {"image": images(train[chosen])}
        self.folder, self.seeds = folder, tuple(seeds)
        self.predictor = Predictor(parse_target(TARGET), 1, None, {"n": 1})

    def network(self, seed: int, kind: str) -> Any:
        """A network that was trained, None where it was not."""
        path = self.folder / f"{seed}_{kind}.onnx"
        return onnx.load(path) if path.exists() else None

    def score(self, model: Any) -> float:
        """The accuracy of a model."""
        return accuracy(model, self.pictures, self.labels)

    def coded(self, model: Any) -> float:
        """The accuracy of a model with codes of 8 bits."""
        return self.score(quantize(model, data=self.data).proto)

    def given(self, kind: str) -> Found:
        """A network as it was trained, of all seeds."""
        models = [model for seed in self.seeds if (model := self.network(seed, kind)) is not None]
        scores = tuple(map(self.score, models))
        return Found((), scores, tuple(map(self.coded, models)), 0.0, self.predictor.model(models[0]))

    def pruned(self, row: Row) -> Found:
        """The dense network pruned, of all seeds."""
        masks, repaired, codes, seconds = [], [], [], []
        ms = 0.0
        for seed in self.seeds:
            dense = self.network(seed, "dense")
            masks.append(self.score(prune(dense, row.pattern, data=self.data, reconstruct=False, **row.options).proto))
            start = time.process_time()
            model = prune(dense, row.pattern, data=self.data, **row.options).proto
            seconds.append(time.process_time() - start)
            repaired.append(self.score(model))
            codes.append(self.coded(model))
            ms = ms or self.predictor.model(model)
        return Found(tuple(masks), tuple(repaired), tuple(codes), min(seconds), ms)


def line(title: str, found: Found, dense: Found) -> str:
    """A row of the table."""

    def told(scores: Sequence[float]) -> str:
        return ", ".join(f"{score:.2f}" for score in scores)

    seconds = f"{found.seconds:.1f}" if found.seconds else ""
    faster = f"{dense.ms / found.ms:.2f}x"
    return f"| {title} | {told(found.masks)} | {told(found.repaired)} | {told(found.codes)} | {faster} | {seconds} |"


def plot(found: Sequence[tuple[Row, Found]], dense: Found, path: Path) -> None:
    """Accuracy against zeros and against time: a line for each pattern, dashed by masks alone; a dot for each seed."""
    from tesa.report.plots import new_figure, save_figure

    figure = new_figure(11, 4.5)
    axes = figure.subplots(1, 2, sharey=True)
    curves = [row.curve for row, _ in found if "importance" not in row.options and "depthwise" not in row.options]
    for number, curve in enumerate(dict.fromkeys(curves)):
        points = [(row, one) for row, one in found if row.curve == curve and "importance" not in row.options
                  and "depthwise" not in row.options]  # fmt: skip
        shares = [50.0 if row.pattern == "2:4" else 100 * float(row.pattern.partition(":")[0]) for row, _ in points]
        times = [one.ms / dense.ms for _, one in points]
        for axis, places in zip(axes, (shares, times), strict=True):
            style: dict[str, Any] = {"color": f"C{number}", "marker": "o", "markersize": 4}
            axis.plot(places, [np.mean(one.repaired) for _, one in points], label=curve, **style)
            axis.plot(places, [np.mean(one.masks) for _, one in points], linestyle=":", alpha=0.5, **style)
    for axis, label in zip(axes, ("zeros in the 1x1 convolutions, %", "expected time / dense"), strict=True):
        axis.axhline(float(np.mean(dense.repaired)), color="grey", linewidth=0.8)
        axis.set_xlabel(label)
        axis.grid(alpha=0.3)
    axes[0].set_ylabel("held-out accuracy, % (dotted: masks alone)")
    axes[0].legend(fontsize=8)
    save_figure(figure, path)


def main() -> None:
    """Read the command line, prune and write."""
    parser = argparse.ArgumentParser(description="Accuracy of the digits networks, pruned in every pattern.")
    parser.add_argument("folder", type=Path, help="what benchmarks.digits_networks wrote")
    parser.add_argument("-o", "--output", type=Path, help="the table, in Markdown; a picture (.png) is put beside it")
    parser.add_argument("--rows", type=int, nargs="*", help="numbers of the rows, all by default")
    arguments = parser.parse_args()
    names = (re.fullmatch(r"(\d+)_dense", path.stem) for path in arguments.folder.glob("*_dense.onnx"))
    bench = Bench(arguments.folder, sorted(int(match[1]) for match in names if match))
    dense = bench.given("dense")
    lines = ["| pruned | masks alone | repaired | 8 bits on top | faster | s |", "|---|---|---|---|---|---|"]
    lines.append(line("dense", dense, dense))
    lines.append(line("90 % after 20 gradual epochs", bench.given("gradual90"), dense))
    print("\n".join(lines), flush=True)
    found = []
    for row in ROWS if arguments.rows is None else [ROWS[i] for i in arguments.rows]:
        found.append((row, bench.pruned(row)))
        lines.append(line(row.title, found[-1][1], dense))
        print(lines[-1], flush=True)
        if arguments.output is not None:  # after each, so that a run that is stopped leaves what it has
            write_text(arguments.output, "\n".join(lines) + "\n")
            plot(found, dense, arguments.output.with_suffix(".png"))


if __name__ == "__main__":
    main()
