"""What propagation gains and what it costs: `python -m benchmarks.propagation` or `make bench-propagation`.

gains: MLP, MobileNet-v1 and BERT-base, pruned by 50, 70 and 90 % in four ways: the zeros of each weight as given,
after propagation and with known constants folded into biases (SparTA's figure 16). cost: time and memory of import and
propagation of MobileNet-v1, ResNet-50 and BERT-base, on one core, each in a process of its own. speed: MobileNet-v1,
coarsely pruned by 60 %, compiled without propagation, with it, and compacted, timed in turns.

Prints tables in Markdown and appends JSON lines to benchmarks/results/propagation.jsonl.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from benchmarks import zoo
from benchmarks.compaction import compaction_speed, speed_text
from benchmarks.prune import PRUNERS, masked
from benchmarks.tables import append, markdown

RATIOS = (0.5, 0.7, 0.9)
RESULTS = Path(__file__).parent / "results" / "propagation.jsonl"
ROOT = Path(__file__).parent.parent
LIMITS = {"seconds": 10.0, "bytes": 2e9}  # of CPU time on one core, of resident memory at the peak
FULL: Mapping[str, Callable[[], Any]] = zoo.MODELS
QUICK: Mapping[str, Callable[[], Any]] = {
    "mlp": lambda: zoo.mlp((64, 96, 96, 10)),
    "mobilenet_v1": lambda: zoo.mobilenet_v1(0.25, 64),
    "resnet50": lambda: zoo.resnet50(64, width=16),
    "bert_base": lambda: zoo.bert_base(2, 96, 4, 16, vocabulary=100),
}
Record = dict[str, Any]


def main() -> int:
    """Run the parts that were asked for; 1 if a limit or a check does not hold."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--parts", default="gains,cost", help="comma-separated: gains, cost, speed")
    parser.add_argument("--quick", action="store_true", help="small versions of the networks; nothing is recorded")
    parser.add_argument("--plot", type=Path, metavar="DIR", help="write a picture for each network there")
    parser.add_argument("--json", type=Path, help=f"append the results to this file (default: {RESULTS.name})")
    parser.add_argument("--rounds", type=int, default=100, help="of the part speed")
    parser.add_argument("--child", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child is not None:
        print(json.dumps(measure(options.child)))
        return 0
    models, parts = QUICK if options.quick else FULL, options.parts.split(",")
    records: list[Record] = []
    if "gains" in parts:
        for name in ("mlp", "mobilenet_v1", "bert_base"):
            found = list(gains(name, models[name]()))
            records += found
            print(layer_table(name, found))
            if options.plot is not None:
                plot_gains(name, found, options.plot / f"{name}.png")
        print(total_table(records))
    if "cost" in parts:
        found = [cost(name, models[name]()) for name in ("mobilenet_v1", "resnet50", "bert_base")]
        records += found
        print(cost_table(found))
    if "speed" in parts:
        records.append(compaction_speed(models["mobilenet_v1"](), options.rounds))
        print(speed_text(records[-1]))
    target = options.json or (None if options.quick else RESULTS)
    if target is not None:
        append(target, records, "benchmarks.propagation")
    return 0 if all(record.get("ok", True) for record in records) else 1


def gains(name: str, model: Any) -> Iterator[Record]:
    """Sparsity by layer for each way and ratio of pruning."""
    from tesa.frontend import import_onnx
    from tesa.propagate import propagate
    from tesa.report.propagation import propagation_table

    for kind, prune in PRUNERS.items():
        for ratio in RATIOS:
            table = propagation_table(propagate(import_onnx(model, masks=prune(model, ratio))))
            layers = [
                {
                    "layer": row.layer,
                    "size": int(np.prod(row.weight or (0,))),
                    "before": round(row.zeros.before, 5),
                    "after": round(row.zeros.after, 5),
                    "folded": round(row.folded, 5),
                    "input": round(row.input.after, 5) if row.input else 0.0,
                    "output": round(row.output.after, 5),
                }
                for row in table.layers
                if row.zeros is not None and row.folded is not None
            ]
            yield {"part": "gains", "model": name, "pruning": kind, "ratio": ratio, "layers": layers}


def layer_table(name: str, records: Sequence[Record]) -> str:
    """A row for each layer of a model, a column for each pruning: per cent of zeros before > after > folded."""
    head = [f"{r['pruning']} {r['ratio']:.0%}" for r in records]
    rows = [
        [
            layers[0]["layer"],
            *(" > ".join(f"{100 * layer[k]:.1f}" for k in ("before", "after", "folded")) for layer in layers),
        ]
        for layers in zip(*(r["layers"] for r in records), strict=True)
    ]
    return f"\n{name}: zeros in % as given > after propagation > with constants folded\n\n" + markdown(
        ["layer", *head], rows
    )


def total_table(records: Sequence[Record]) -> str:
    """A row for each model and pruning: all weights together."""
    rows = []
    for record in records:
        layers, size = record["layers"], sum(layer["size"] for layer in record["layers"])
        shares = [sum(layer[k] * layer["size"] for layer in layers) / size for k in ("before", "after", "folded")]
        more = sum(layer["folded"] > layer["before"] + 1e-4 for layer in layers)
        cells = [f"{100 * share:.1f}" for share in shares]
        rows.append([record["model"], record["pruning"], f"{record['ratio']:.0%}", *cells, f"{more} of {len(layers)}"])
    head = ["model", "pruning", "ratio", "zeros given, %", "propagated", "constants folded", "layers that gain"]
    return "\nAll weights together\n\n" + markdown(head, rows)


def plot_gains(name: str, records: Sequence[Record], path: Path) -> None:
    """A panel for each pruning: the zeros of each layer before, after, and with constants folded."""
    from tesa.report.plots import new_figure, save_figure

    kinds = list(dict.fromkeys(r["pruning"] for r in records))
    figure = new_figure(4.5 * len(RATIOS), 2.2 * len(kinds) + 0.6)
    panels = figure.subplots(len(kinds), len(RATIOS), sharex=True, sharey=True, squeeze=False)
    for record, axes in zip(records, panels.flat, strict=True):
        places = range(len(record["layers"]))
        for key, color in (("folded", "C8"), ("after", "C1"), ("before", "C0")):
            heights = [100 * layer[key] for layer in record["layers"]]
            axes.bar(places, heights, width=1.0, color=color, label=key)
        axes.set_title(f"{record['pruning']}, {record['ratio']:.0%}", fontsize=9)
        axes.set_ylim(0, 100)
    for axes in panels[-1]:
        axes.set_xlabel("layer, in running order")
    for row in panels:
        row[0].set_ylabel("zero or dead, %")
    figure.suptitle(f"{name}: zeros of each weight as given, after propagation, with constants folded", fontsize=11)
    panels[0][-1].legend(fontsize=7, loc="lower right")
    path.parent.mkdir(parents=True, exist_ok=True)
    save_figure(figure, path)


def cost(name: str, model: Any) -> Record:
    """Time and memory of import and propagation in a process of its own, for coarse and for fine-grained masks."""
    record: Record = {"part": "cost", "model": name, "ok": True}
    with tempfile.TemporaryDirectory() as folder:
        for kind in ("coarse", "fine"):
            path = Path(folder) / f"{kind}.onnx"
            onnx.save(masked(model, PRUNERS[kind](model, 0.7)), path)
            command = [sys.executable, "-m", "benchmarks.propagation", "--child", str(path)]
            paths = os.pathsep.join(filter(None, (os.environ.get("PYTHONPATH"), str(ROOT))))
            alone = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "TVM_NUM_THREADS"), "1")
            env = {**os.environ, **alone, "PYTHONPATH": paths}
            done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env=env)
            record[kind] = found = json.loads(done.stdout.splitlines()[-1])
            record["ok"] &= found["propagate_cpu_s"] < LIMITS["seconds"] and found["propagate_bytes"] < LIMITS["bytes"]
    return record


def measure(path: Path) -> Record:
    """Import and propagate one file on one core; peaks of resident memory are those of the process so far."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, [min(os.sched_getaffinity(0))])
    from tesa.frontend import import_onnx
    from tesa.propagate import propagate

    clock = [_now()]
    imported = import_onnx(path)
    clock.append(_now())
    peak = _peak()
    model = propagate(imported)
    clock.append(_now())
    (import_s, import_cpu_s), (propagate_s, propagate_cpu_s) = (
        [round(b - a, 3) for a, b in zip(*pair, strict=True)] for pair in itertools.pairwise(clock)
    )
    return {
        "import_s": import_s,
        "import_cpu_s": import_cpu_s,
        "import_bytes": peak,
        "propagate_s": propagate_s,
        "propagate_cpu_s": propagate_cpu_s,
        "propagate_bytes": _peak(),
        "file_bytes": path.stat().st_size,
        "operators": len(model.network.nodes),
        "steps": model.steps,
    }


def _now() -> tuple[float, float]:
    return time.perf_counter(), time.process_time()


def _peak() -> int:
    """Bytes of this process at its peak. On Linux getrusage would also count the process that started this one."""
    status = Path("/proc/self/status")
    if status.is_file():
        line = next(row for row in status.read_text().splitlines() if row.startswith("VmHWM:"))
        return int(line.split()[1]) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def cost_table(records: Sequence[Record]) -> str:
    """A row for each model and pruning."""
    rows = []
    for record in records:
        for kind in ("coarse", "fine"):
            r = record[kind]
            sizes = [f"{r[k] / 1e6:.0f}" for k in ("file_bytes", "import_bytes", "propagate_bytes")]
            times = [f"{r[f'{what}_s']:.2f} / {r[f'{what}_cpu_s']:.2f}" for what in ("import", "propagate")]
            rows.append([record["model"], f"{kind} 70%", str(r["operators"]), str(r["steps"]), *times, *sizes])
    head = ["model", "pruning", "operators", "visits", "import, s", "propagate, s", "file, MB", "peak after import, MB",
            "peak after propagate, MB"]  # fmt: skip
    return "\nOn one core, seconds of the clock / of the CPU\n\n" + markdown(head, rows)


if __name__ == "__main__":
    sys.exit(main())
