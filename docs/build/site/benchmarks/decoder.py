"""Tokens per second of a decoder of GPT-2's sizes: each token goes back in, with a cache of keys and values.

    python -m benchmarks.decoder [--zeros 0.9] [--precision int8] [--past 127] [--layers 12] [--tokens 64] [--threads 1]

The network is that of benchmarks.networks.sequences, its weights random, pruned by magnitude and, for int8, quantized
dynamically. A step is one token: its logits choose the next one (the most likely), its keys and values enter the cache,
and the oldest ones leave it, so that every step is of the same size; to move the cache, which an application that keeps
it in a ring need not do, is not timed. tesa and onnxruntime run the same file and the same loop, one after the other;
the logits of the first step are compared before anything is timed.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from benchmarks.networks.catalogue import feeds
from benchmarks.networks.pruning import Sparsity, pruned
from benchmarks.networks.quantizing import quantized
from benchmarks.networks.sequences import gpt2
from benchmarks.tables import markdown

Array = NDArray[Any]
Step = Callable[[Mapping[str, Array]], Mapping[str, Array]]

TOLERANCE = 0.05
"""Of the largest logit: between two ways to round dynamically quantized activations in every layer."""


def model_of(zeros: float, precision: str, *, seed: int = 0, **sizes: Any) -> Any:
    """The decoder step as a ModelProto. zeros: the share of its weights that is pruned; precision: float32 or int8.

    sizes: of benchmarks.networks.sequences.gpt2: layers, hidden, heads, past, vocabulary.

    >>> step = model_of(0.9, "int8", layers=1, hidden=32, heads=2, past=7, vocabulary=40)
    >>> [port.name for port in step.graph.output]
    ['logits', 'present.0.key', 'present.0.value']
    """
    model = pruned(gpt2(seed=seed, **sizes), Sparsity(share=zeros))
    return quantized(model, "dynamic", [feeds(model, seed)]) if precision == "int8" else model


def tokens_per_second(step: Step, inputs: Mapping[str, Array], tokens: int) -> tuple[float, list[int]]:
    """Run the loop: the rate of its median step, and the tokens that were chosen. inputs: of the first step."""
    current, chosen, times = dict(inputs), [], []
    for _ in range(tokens):
        start = time.perf_counter()
        found = step(current)
        token = int(np.argmax(found["logits"]))
        times.append(time.perf_counter() - start)
        current["input_ids"] = np.full_like(inputs["input_ids"], token)
        for name in inputs:
            if name.startswith("past."):
                current[name] = np.ascontiguousarray(found[name.replace("past.", "present.", 1)][:, :, 1:])
        chosen.append(token)
    return 1 / float(np.median(times)), chosen


def tesa_step(path: Path, folder: Path, threads: int, measure: bool = True) -> Step:
    """The compiled model. measure: choose kernels by measured times, which takes minutes."""
    from tesa.compiler import compile_model
    from tesa.runtime import load

    library = folder / f"{path.stem}.so"
    compile_model(path, output=library, threads=threads, measure=measure)
    model = load(library)
    return lambda inputs: model(dict(inputs))


def onnxruntime_step(path: Path, threads: int) -> Step:
    """onnxruntime, with all its optimizations."""
    from tesa.base.onnxruntime import onnxruntime_session

    session = onnxruntime_session(path, threads)
    names = [port.name for port in session.get_outputs()]
    return lambda inputs: dict(zip(names, session.run(names, dict(inputs)), strict=True))


def compared(path: Path, threads: int, tokens: int, measure: bool = True) -> dict[str, float]:
    """Tokens per second of each engine on a model's file. RuntimeError where the logits of the first step differ."""
    inputs = feeds(onnx.load(path))
    with tempfile.TemporaryDirectory() as folder:
        ours, theirs = tesa_step(path, Path(folder), threads, measure), onnxruntime_step(path, threads)
        mine, wanted = ours(inputs)["logits"], theirs(inputs)["logits"]
        difference = float(np.abs(mine - wanted).max() / np.abs(wanted).max())
        if difference > TOLERANCE:
            raise RuntimeError(f"{path.name}: logits differ by {difference:.3f} of the largest one")
        return {name: tokens_per_second(step, inputs, tokens)[0] for name, step in
                (("tesa", ours), ("onnxruntime", theirs))}  # fmt: skip


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--zeros", type=float, nargs="+", default=[0.9])
    parser.add_argument("--precision", nargs="+", choices=("float32", "int8"), default=["int8"])
    parser.add_argument("--tokens", type=int, default=64)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--estimate", action="store_true", help="choose kernels by what is expected of them")
    sizes = {"layers": 12, "hidden": 768, "heads": 12, "past": 127, "vocabulary": 50257}
    for name, size in sizes.items():
        parser.add_argument(f"--{name}", type=int, default=size)
    given = parser.parse_args(arguments)
    rows = []
    for precision in given.precision:
        for zeros in given.zeros:
            with tempfile.TemporaryDirectory() as folder:
                path = Path(folder) / f"gpt2-{precision}.onnx"
                onnx.save(model_of(zeros, precision, **{name: getattr(given, name) for name in sizes}), path)
                rates = compared(path, given.threads, given.tokens, not given.estimate)
            said = [f"{rate:.1f}" for rate in rates.values()]
            rows.append([precision, f"{zeros:.0%}", *said, f"{rates['tesa'] / rates['onnxruntime']:.2f}"])
    print(markdown(["precision", "zeros", "tesa, tokens/s", "onnxruntime, tokens/s", "ratio"], rows))


if __name__ == "__main__":
    main()
