"""Compiles the pruned model that ships with tesa and prints what was gained: `make demo`."""

import argparse
import os
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from tesa.base.onnxruntime import onnxruntime_call, onnxruntime_session
from tesa.base.progress import Progress, shown
from tesa.compiler import compile_model
from tesa.errors import TesaError
from tesa.models import digits_images, digits_labels, digits_path
from tesa.runtime import Model, load
from tesa.runtime.bench import Times, interleave

DENSE = ("dense",)
"""The kernels that compute with the zeros: what the same network costs without sparsity."""


def main() -> int:
    """Compile, check and time digits; 0 if the compiled model is as accurate as the original and faster."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("-o", "--output", default="", help="keep the compiled model here (a .so file)")
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, shown(sys.stderr) as progress:
        output = Path(options.output or Path(folder) / "digits.so")
        sparse, dense, seconds = _compile(output, Path(folder), options.threads, progress)
        accuracy = _accuracies(sparse)
        times = _times(sparse, dense, options.threads)
    _report(sparse, accuracy, times, seconds, options.threads)
    if options.output:
        print(f"\nwritten: {output} and {output.with_suffix('.json')}; next: tesa explain {output} block5.pointwise")
    return 0 if accuracy["tesa"] >= accuracy["onnxruntime"] and times[0].median_ms < times[1].median_ms else 1


def _compile(output: Path, folder: Path, threads: int, progress: Progress) -> tuple[Model, Model, float]:
    print("compiling digits", file=sys.stderr)
    start = time.perf_counter()
    compile_model(digits_path(), output=output, threads=threads, progress=progress)
    seconds = time.perf_counter() - start
    print("compiling it once more with its zeros kept, to compare", file=sys.stderr)
    dense = folder / "dense.so"
    compile_model(digits_path(), output=dense, threads=threads, families=DENSE, progress=progress)
    return load(output), load(dense), seconds


def _accuracies(model: Model) -> dict[str, float]:
    """Share of the held-out images that each engine names correctly."""
    images, labels = digits_images(), digits_labels()
    session = onnxruntime_session(digits_path())
    peer = [session.run(None, {"image": image[None]})[0].argmax() for image in images]
    ours = [model({"image": image[None]})["logits"].argmax() for image in images]
    return {"onnxruntime": float(np.mean(peer == labels)), "tesa": float(np.mean(ours == labels))}


def _times(sparse: Model, dense: Model, threads: int) -> list[Times]:
    feeds = {"image": digits_images()[:1]}
    ours, theirs = sparse.prepare(feeds), dense.prepare(feeds)
    calls = {
        "tesa": lambda: sparse.execute(ours),
        "tesa, zeros kept": lambda: dense.execute(theirs),
        "onnxruntime": onnxruntime_call(digits_path(), feeds, threads),
    }
    return interleave(calls, 100)


def _report(model: Model, accuracy: dict[str, float], times: list[Times], seconds: float, threads: int) -> None:
    images = len(digits_labels())
    layers = [layer for layer in model.plan.layers if layer.parts]
    pruned = sum(layer.sparsity > 0.5 for layer in layers)
    print(f"\ndigits: {len(layers)} weight layers, {pruned} of them pruned to 90 %, compiled in {seconds:.0f} s")
    print(
        f"accuracy on {images} held-out images: onnxruntime {accuracy['onnxruntime']:.2%}, tesa {accuracy['tesa']:.2%}"
    )
    print(f"\none image, {threads} thread(s)      median ms   min ms   against tesa")
    for row in times:
        ratio = row.median_ms / times[0].median_ms
        print(f"  {row.name:<22} {row.median_ms:9.3f} {row.min_ms:8.3f}   {ratio:6.2f}x")


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    try:
        sys.exit(main())
    except TesaError as error:
        print(f"tesa: error: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
