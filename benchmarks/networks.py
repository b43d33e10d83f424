"""Whole networks, side by side: `python -m benchmarks.networks` or `make bench`.

For each model and number of threads: tesa, the same network compiled dense by tesa, and onnxruntime on the same file,
interleaved in one run after their results were compared. Prints medians, minima and ratios, then every weight layer
against its dense self, and writes the same as JSON lines.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.minilm_to_onnx import SENTENCES, encode
from benchmarks.minilm_to_onnx import main as export_minilm
from tesa.base.onnxruntime import onnxruntime_call
from tesa.base.progress import shown
from tesa.compiler import compile_model
from tesa.models import digits_images, digits_path
from tesa.models.demo import DENSE
from tesa.runtime import Model, load, verify
from tesa.runtime.bench import LayerTime, interleave, profile_layers


def main() -> int:
    """Run the benchmark; 1 if a result is wrong."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", default="digits,minilm", help="comma-separated: digits, minilm")
    parser.add_argument("--threads", default="1,2", help="comma-separated numbers of threads")
    parser.add_argument("--rounds", type=int, default=100, help="interleaved rounds of a few milliseconds")
    parser.add_argument("--json", type=Path, help="append the results to this file as JSON lines")
    options = parser.parse_args()
    failed = 0
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for model in options.models.split(","):
            path, feeds = _model(model, folder)
            for threads in (int(t) for t in options.threads.split(",")):
                record = run(model, path, feeds, threads, options.rounds, folder)
                report(record)
                failed += not record["correct"]
                if options.json:
                    with options.json.open("a") as stream:
                        stream.write(json.dumps(record) + "\n")
    return 1 if failed else 0


def _model(name: str, folder: Path) -> tuple[Path, dict[str, Any]]:
    """The ONNX file of a model and one real input."""
    if name == "digits":
        return digits_path(), {"image": digits_images()[:1]}
    path = folder / "minilm.onnx"
    if not path.exists():
        export_minilm(["-o", str(path), "--sparsity", "0.8"])
    ids, mask = encode(SENTENCES[:1], 128)
    return path, {"input_ids": ids, "attention_mask": mask}


def run(name: str, path: Path, feeds: Mapping[str, Any], threads: int, rounds: int, folder: Path) -> dict[str, Any]:
    """Compile a model sparse and dense, check both, time both and onnxruntime."""
    models: dict[str, Model] = {}
    seconds = {}
    for label, forms in (("tesa", None), ("dense", DENSE)):
        output = folder / f"{name}-{label}-{threads}.so"
        start = time.perf_counter()
        with shown(sys.stderr) as progress:
            compile_model(path, output=output, threads=threads, families=forms, progress=progress)
        seconds[label] = time.perf_counter() - start
        models[label] = load(output)
    checks = {label: verify(model, path, feeds=feeds) for label, model in models.items()}
    prepared = {label: model.prepare(feeds) for label, model in models.items()}
    calls = {label: (lambda m=model, p=prepared[label]: m.execute(p)) for label, model in models.items()}
    times = interleave({**calls, "onnxruntime": onnxruntime_call(path, feeds, threads)}, rounds)
    sparse, dense = (_profile(models[label], prepared[label]) for label in ("tesa", "dense"))
    layers = [
        {
            "layer": layer.layer,
            "sparsity": layer.sparsity,
            "tesa_ms": sparse[layer.layer],
            "dense_ms": dense[layer.layer],
        }
        for layer in models["tesa"].plan.layers
        if layer.parts
    ]
    return {
        "model": name,
        "threads": threads,
        "target": models["tesa"].plan.target,
        "correct": all(check.ok for check in checks.values()),
        "max_error": max(item.max_abs for item in checks["tesa"].outputs),
        "compile_s": seconds,
        "times": [vars(row) for row in times],
        "layers": layers,
    }


def _profile(model: Model, prepared: Any) -> dict[str, float]:
    runs: list[tuple[LayerTime, ...]] = [profile_layers(model, prepared, 40) for _ in range(3)]
    return {rows[0].layer: float(np.min([row.median_ms for row in rows])) for rows in zip(*runs, strict=True)}


def report(record: Mapping[str, Any]) -> None:
    """Print one record."""
    times = {row["name"]: row for row in record["times"]}
    base = times["tesa"]["median_ms"]
    verdict = "correct" if record["correct"] else "WRONG"
    print(f"\n{record['model']}, {record['threads']} thread(s), {record['target']}: {verdict}, ", end="")
    print(f"largest error {record['max_error']:.1e}, compiled in {record['compile_s']['tesa']:.0f} s")
    for name, row in times.items():
        print(
            f"  {name:<12} median {row['median_ms']:8.3f} ms  min {row['min_ms']:8.3f}  {row['median_ms'] / base:5.2f}x"
        )
    ratios = sorted((row["dense_ms"] / row["tesa_ms"], row["layer"]) for row in record["layers"])
    print(f"  layers against their dense selves: slowest {ratios[0][0]:.2f}x ({ratios[0][1]}), ", end="")
    print(f"median {ratios[len(ratios) // 2][0]:.2f}x, best {ratios[-1][0]:.2f}x ({ratios[-1][1]})")


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    sys.exit(main())
