"""What tuning gains over the untuned default: `python -m benchmarks.tuning`.

MobileNet-v1 with random weights, each prunable layer pruned by magnitude to 70 and to 90 %, is tuned with 64 trials a
layer. After that, for every layer, the kernel that tuning found and those of WAYS, of a compile without a log, are
exported as libraries, compared with NumPy, and timed in turns in a fresh process: none has an advantage from when it
was measured during tuning. Calls are timed as in a model: X was written just now, weights and code were used long ago.

Prints a table for each sparsity, and appends JSON lines to benchmarks/results/tuning.jsonl. Ends with 1 if the
geometric mean over what a compile does by itself, "measured", is below 1.10, or a layer is slower than that by more
than the noise (2 %).
"""

from __future__ import annotations

import argparse
import json
import math
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import onnx

from benchmarks import zoo
from benchmarks.prune import fine, masked
from benchmarks.tables import append, markdown
from tesa.build.package import ENTRY, package
from tesa.choose.competitors import competitors
from tesa.choose.pick import pick
from tesa.choose.predict import table_for
from tesa.costs.table import CostTable
from tesa.decompose.candidates import Option
from tesa.layers.layer import Layer
from tesa.measure.cold_cache import OTHER_BYTES
from tesa.measure.reference import Inputs, reference
from tesa.measure.tensors import placed
from tesa.records.log import Log
from tesa.schedules.types import config_key
from tesa.targets.target import Target, host_cpu, parse_target
from tesa.tune.choose import choose
from tesa.tune.status import TunedLayer

RESULTS = Path(__file__).parent / "results" / "tuning.jsonl"
GOAL, NOISE = 1.10, 0.02
SLICE_MS = 4.0
WAYS = {
    "estimate": "nothing is measured (--no-measure), and there is no cost table of the device",
    "cost table": "nothing is measured, the device's cost table chooses",
    "measured": "what a compile does by itself: a short list is measured",
}
"""How a compile chooses that finds nothing in the log, and what tuning is compared with."""

Record = dict[str, Any]


def main() -> int:
    """Tune, measure again, report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sparsity", default="0.7,0.9", help="comma-separated")
    parser.add_argument("--trials", type=int, default=64)
    parser.add_argument("--mode", default="model")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--rounds", type=int, default=60, help="turns of the last measurement")
    parser.add_argument("--log", type=Path, help="folder of the tuning log (default: a new one)")
    parser.add_argument("--quick", action="store_true", help="a quarter of the channels; nothing is recorded")
    parser.add_argument("--child", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child is not None:
        print(json.dumps(interleaved(json.loads(options.child.read_text()), options.rounds)))
        return 0
    good = True
    with tempfile.TemporaryDirectory() as name:
        for sparsity in (float(text) for text in options.sparsity.split(",")):
            record = run(sparsity, options, Path(name))
            good = report(record) and good
            if not options.quick:
                append(RESULTS, [record], "benchmarks.tuning")
    return 0 if good else 1


def run(sparsity: float, options: Any, folder: Path) -> Record:
    """Tune one network and measure its layers again."""
    from tesa.layers.network import to_network
    from tesa.report.tune import shown_status
    from tesa.tune.model import tune_model

    model = zoo.mobilenet_v1(0.25, 64) if options.quick else zoo.mobilenet_v1()
    path = folder / f"mobilenet-{sparsity}.onnx"
    onnx.save(masked(model, fine(model, sparsity)), path)
    start = time.perf_counter()
    with shown_status(sys.stderr) as (_, watch):
        tuned = tune_model(
            path, trials=options.trials, mode=options.mode, seed=options.seed, log=options.log or folder, watch=watch
        )
    seconds = time.perf_counter() - start
    works = {work.name: work for work in to_network(path).layers}
    rows = [again(works[layer.name], layer, options.rounds, folder) for layer in tuned.layers if layer.best]
    return {
        "model": "mobilenet_v1",
        "sparsity": sparsity,
        "trials": options.trials,
        "mode": options.mode,
        "seed": options.seed,
        "target": tuned.target,
        "tuning_s": seconds,
        "measured": tuned.measured,
        "layers": rows,
    }


def again(work: Layer, layer: TunedLayer, rounds: int, folder: Path) -> Record:
    """The tuned kernel of a layer and those of WAYS, side by side."""
    assert layer.default is not None  # it is among what was measured, as the best is
    assert layer.best is not None
    target = parse_target("x86")
    table = table_for(target, work.problem.threads)
    chosen = {
        "estimate": unmeasured(work, target, None), "cost table": unmeasured(work, target, table),
        "measured": layer.default, "tuned": layer.best,
    }  # fmt: skip
    different = {config_key(*option): option for option in chosen.values()}
    job = {
        "libraries": [str(export(work, target, option, folder)) for option in different.values()],
        "arrays": str(folder / "arrays.npz"),
    }
    inputs = Inputs.random(work.problem)
    wanted = reference(work.problem, work.weight, inputs)
    extra = {} if inputs.residual is None else {"residual": inputs.residual}
    np.savez(job["arrays"], x=inputs.x, y=wanted.y, tolerance=wanted.tolerance, **extra)
    order = folder / "job.json"
    order.write_text(json.dumps(job))
    command = [sys.executable, "-m", "benchmarks.tuning", "--child", str(order), "--rounds", str(rounds)]
    found = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout)
    times = dict(zip(different, found, strict=True))
    best = times[config_key(*layer.best)]
    return {
        "layer": layer.name, "layers": layer.layers, "candidates": layer.total, "trials": layer.trials,
        "kernels": {way: list(option) for way, option in chosen.items()},
        "ms": {way: times[config_key(*option)] for way, option in chosen.items()},
        "gain": {way: times[config_key(*chosen[way])] / best for way in WAYS},
    }  # fmt: skip


def unmeasured(work: Layer, target: Target, table: CostTable | None) -> Option:
    """The kernel that a compile takes if it may not measure."""
    found = competitors(work, target, Log(), cpus=(host_cpu(),), table=table)
    decision = pick(found.options, {}, found.predicted, found.dense)
    assert decision is not None  # nothing has failed
    return decision.family, decision.config


def export(work: Layer, target: Target, option: Option, folder: Path) -> Path:
    """One kernel of a layer as a library of its own."""
    inputs = Inputs.random(work.problem)
    (chosen,) = choose([work], target, options=[option], measure=False, folder=folder)
    product = chosen.product
    path = folder / f"{product.symbol}.so"
    names = ("X", *(["residual"] if work.problem.epilogue.residual else []), "Y")
    constants = [array for array in (inputs.scale, inputs.bias) if array is not None]
    package(path, product.objects, product.symbol, (*product.constants, *constants), names)
    return path


def interleaved(job: Record, rounds: int) -> list[float]:
    """The median milliseconds of each library, called in turns; each is compared with NumPy first."""
    import tvm_ffi

    arrays = np.load(job["arrays"])
    inputs = [np.ascontiguousarray(arrays[name]) for name in ("x", "residual") if name in arrays.files]
    wanted, other = arrays["y"], np.ones(OTHER_BYTES // 4, np.float32)
    # as in a model, where arrays begin at a cache line
    tensors = [placed(array, 64) for array in (*inputs, np.zeros(wanted.shape, np.float32))]
    x, calls = np.from_dlpack(tensors[0]), []
    for path in job["libraries"]:
        entry = tvm_ffi.load_module(path)[ENTRY]
        entry(*tensors)
        if not np.abs(tensors[-1].numpy() - wanted).max() <= float(arrays["tolerance"]):
            raise SystemExit(f"{path}: wrong numbers")
        calls.append((lambda entry=entry: entry(*tensors), list[float]()))

    def once(call: Any) -> float:
        other.sum()
        x.sum()
        start = time.perf_counter_ns()
        call()
        return (time.perf_counter_ns() - start) / 1e6

    number = [max(3, min(25, int(SLICE_MS / max(min(once(call) for _ in range(3)), 1e-3)))) for call, _ in calls]
    for turn in range(rounds):
        for place in range(len(calls)) if turn % 2 == 0 else reversed(range(len(calls))):
            call, samples = calls[place]
            samples.append(median(once(call) for _ in range(number[place])))
    return [median(samples) for _, samples in calls]


def report(record: Record) -> bool:
    """Print the table; whether the figures are reached."""
    rows = [
        [
            f"{row['layer']}" + (f" (x{row['layers']})" if row["layers"] > 1 else ""),
            f"{row['trials']}/{row['candidates']}",
            _option(row["kernels"]["tuned"]),
            f"{row['ms']['tuned']:.4f}",
            *(f"{row['gain'][way]:.2f}x" for way in WAYS),
        ]
        for row in record["layers"]
    ]
    print(
        f"\nMobileNet-v1, {record['sparsity']:.0%} pruned, {record['trials']} trials a layer, {record['target']}, ",
        end="",
    )
    print(f"{record['measured']} measurements in {record['tuning_s'] / 60:.0f} min\n")
    print(markdown(["layer", "measured", "tuned", "ms", *(f"over {way}" for way in WAYS)], rows))
    print(f"\nover {len(rows)} layers, a layer counting once for each time that it is there:\n")
    for way, meaning in WAYS.items():
        gains = [row["gain"][way] for row in record["layers"] for _ in range(row["layers"])]
        slower = [row["layer"] for row in record["layers"] if row["gain"][way] < 1 - NOISE]
        print(f"- {way} ({meaning}): geometric mean {_mean(gains):.3f}x", end="")
        print(f"; slower by more than {NOISE:.0%}: {', '.join(slower) or 'none'}")
    own = [row["gain"]["measured"] for row in record["layers"] for _ in range(row["layers"])]
    return _mean(own) >= GOAL and min(own) >= 1 - NOISE


def _option(option: Sequence[Any]) -> str:
    return f"{option[0]} " + " ".join(f"{key}={value}" for key, value in option[1].items())


def _mean(gains: Sequence[float]) -> float:
    return math.exp(sum(math.log(gain) for gain in gains) / len(gains)) if gains else 0.0


if __name__ == "__main__":
    sys.exit(main())
