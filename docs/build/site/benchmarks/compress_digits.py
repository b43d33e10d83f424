"""The digits networks pruned in every pattern, rearranged or not, repaired or not: accuracy on the held-out images.

    python -m benchmarks.digits_networks -o work/digits      # trains them: needs torch
    python -m benchmarks.compress_digits work/digits -o benchmarks/results/compress_digits.md

Calibrated on 256 training images. One of the 360 held-out images is 0.28 %.
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

SAMPLES = 256


@dataclass(frozen=True)
class Row:
    """One way to prune: the pattern with its share, and further options of tesa.compress.prune."""

    title: str
    pattern: str
    options: dict[str, Any]


ROWS = (
    Row("50 %", "0.5", {}),
    Row("70 %", "0.7", {}),
    Row("80 %", "0.8", {}),
    Row("90 %", "0.9", {}),
    Row("2:4", "2:4", {}),
    Row("16x1 30 %", "0.3:16x1", {}),
    Row("16x1 30 %, scale-free", "0.3:16x1", {"importance": "scale-free"}),
    Row("16x1 30 %, scale-free, rearranged", "0.3:16x1", {"importance": "scale-free", "rearrange": "network"}),
    Row("16x1 70 %", "0.7:16x1", {}),
    Row("16x1 70 %, rearranged", "0.7:16x1", {"rearrange": "network"}),
    Row("16x1 70 %, scale-free", "0.7:16x1", {"importance": "scale-free"}),
    Row("16x1 70 %, scale-free, rearranged", "0.7:16x1", {"importance": "scale-free", "rearrange": "network"}),
    Row("16x1 30 %, taps of 4 at 30 %", "0.3:16x1", {"depthwise": "0.3:taps=4"}),
    Row("4x4 30 %", "0.3:4x4", {}),
    Row("4x4 30 %, rearranged", "0.3:4x4", {"rearrange": "network"}),
)


def accuracy(model: Any, pictures: Any, labels: Any) -> float:
    """The share of the pictures that a model gets right, in percent."""
    logits = onnxruntime_session(model.SerializeToString()).run(None, {"image": pictures})[0]
    return float(100 * np.mean(logits.argmax(1) == labels))


def table(folder: Path, seeds: Sequence[int]) -> str:
    """The table, in Markdown."""
    train, test, _, labels = split_data()
    pictures = images(test)
    chosen = np.random.default_rng(0).permutation(len(train))[:SAMPLES]
    data = {"image": images(train[chosen])}
    lines = ["| pruned | " + " | ".join(f"seed {seed}: masks, repaired, s" for seed in seeds) + " |"]
    lines.append("|---|" + "---|" * len(seeds))
    dense = [f"{accuracy(onnx.load(folder / f'{seed}_dense.onnx'), pictures, labels):.2f}" for seed in seeds]
    lines.append("| dense | " + " | ".join(dense) + " |")
    for row in ROWS:
        cells = []
        for seed in seeds:
            path = folder / f"{seed}_dense.onnx"
            masks = prune(path, row.pattern, data=data, reconstruct=False, **row.options)
            start = time.perf_counter()
            repaired = prune(path, row.pattern, data=data, **row.options)
            seconds = time.perf_counter() - start
            scores = [accuracy(one.proto, pictures, labels) for one in (masks, repaired)]
            cells.append(f"{scores[0]:.2f}, {scores[1]:.2f}, {seconds:.1f}")
        lines.append(f"| {row.title} | " + " | ".join(cells) + " |")
        print(lines[-1], flush=True)
    tuned = [folder / f"{seed}_gradual90.onnx" for seed in seeds]
    cells = [f"{accuracy(onnx.load(path), pictures, labels):.2f}" if path.exists() else "" for path in tuned]
    lines.append("| 90 % after 20 gradual epochs | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def main() -> None:
    """Read the command line, prune and write."""
    parser = argparse.ArgumentParser(description="Accuracy of the digits networks, pruned in every pattern.")
    parser.add_argument("folder", type=Path, help="what benchmarks.digits_networks wrote")
    parser.add_argument("-o", "--output", type=Path, help="the table, in Markdown")
    arguments = parser.parse_args()
    found = (re.fullmatch(r"(\d+)_dense", path.stem) for path in arguments.folder.glob("*_dense.onnx"))
    text = table(arguments.folder, sorted(int(match[1]) for match in found if match))
    print(text)
    if arguments.output is not None:
        write_text(arguments.output, text)


if __name__ == "__main__":
    main()
