"""The gain in kept magnitude of trained networks that are pruned in groups, once their channels are rearranged.

    python -m benchmarks.rearrange digits=work/digits/0_dense.onnx ocr=ch_PP-OCRv4_rec_infer.onnx minilm \
        -o benchmarks/results/rearrange.md

Models are given as NAME=PATH; `minilm` alone is the encoder of benchmarks.minilm_to_onnx; the
wheels rapidocr-onnxruntime and nudenet have networks of convolutions. Of each layer the share of its magnitude that is
kept counts alike. Told are the gains of sorting rows by their sums, of each layer with an order of its own (what row
panels store for free) and of the whole network, the share of the way to single elements that the network closes, and
seconds of the processor.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import Any

import numpy as np

from tesa.attributes.impose import Imposed
from tesa.base.files import write_text
from tesa.compress import prune
from tesa.compress.budget import keep
from tesa.compress.layers import find_layers
from tesa.compress.opened import opened
from tesa.compress.rearrange import Arranged

HEAD = (
    "| network | pattern | budget | kept | sorted rows | rows of each layer | network | gap closed | s |\n"
    "|---|---|---|---|---|---|---|---|---|\n"
)


def model_of(text: str) -> tuple[str, Any]:
    """(name, model) of an argument."""
    name, _, path = text.partition("=")
    if name == "minilm" and not path:
        from benchmarks.minilm_to_onnx import build_model, load_weights

        return name, build_model(load_weights(), 32)
    return (name, path) if path else (Path(text).stem, text)


def sorted_gain(model: Any, pattern: str, budget: str, names: set[str]) -> float:
    """The gain of putting the rows with the largest sums first, in each of these layers for itself."""
    work, imposed = opened(model), Imposed.parse(pattern)
    before = after = 0.0
    for layer in find_layers(work.view.graph, work.tensors).layers:
        if layer.name in names:
            scores = np.abs(layer.numbers(work.tensors)).astype(np.float64)
            turned = scores[np.argsort(-scores.sum(1), kind="stable")]
            shares = [float(one[keep(one, imposed, budget)].sum() / scores.sum()) for one in (scores, turned)]
            before, after = before + shares[0], after + shares[1]
    return after / before - 1


def arranged(model: Any, pattern: str, budget: str, how: str) -> tuple[Arranged, float]:
    """(what rearranging gains, seconds of the processor)."""
    start = time.process_time()
    found = prune(model, pattern, budget=budget, rearrange=how, infeasible="dense").arranged
    assert found is not None
    return found, time.process_time() - start


def row(name: str, model: Any, pattern: str, budget: str) -> str:
    """A row of the table."""
    whole, seconds = arranged(model, pattern, budget, "network")
    layers = "" if pattern.endswith("4x4") else f"{arranged(model, pattern, budget, 'layer')[0].gain:+.2%}"
    ordered = sorted_gain(model, pattern, budget, {gain.name for gain in whole.gains})
    kept = np.mean([gain.before for gain in whole.gains])
    return (
        f"| {name} | {pattern} | {budget} | {kept:.4f} | {ordered:+.2%} | {layers} | {whole.gain:+.2%} | "
        f"{whole.gap:.0%} | {seconds:.0f} |\n"
    )


def main() -> None:
    """Read the command line, rearrange and write."""
    parser = argparse.ArgumentParser(description="How much more is kept of networks that were rearranged.")
    parser.add_argument("models", nargs="+", help="NAME=PATH, or minilm")
    parser.add_argument("--patterns", nargs="+", default=["0.3:16x1", "0.3:4x4"])
    parser.add_argument("--budgets", nargs="+", default=["balanced", "global"])
    parser.add_argument("-o", "--output", type=Path, help="the table, in Markdown")
    arguments = parser.parse_args()
    text = HEAD
    print(HEAD, end="")
    for argument in arguments.models:
        name, model = model_of(argument)
        for pattern in arguments.patterns:
            for budget in arguments.budgets:
                line = row(name, model, pattern, budget)
                print(line, end="", flush=True)
                text += line
    if arguments.output is not None:
        write_text(arguments.output, text)


if __name__ == "__main__":
    main()
