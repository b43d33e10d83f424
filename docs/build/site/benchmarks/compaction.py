"""How much faster a coarsely pruned network runs with propagation, and compacted, than from the zeros as given."""

from __future__ import annotations

import sys
import tempfile
import time
from functools import partial
from pathlib import Path
from typing import Any

import onnx

from benchmarks import zoo
from benchmarks.prune import coarse, masked
from benchmarks.tables import markdown

Record = dict[str, Any]


def compaction_speed(model: Any, rounds: int = 100, ratio: float = 0.6, threads: int = 1) -> Record:
    """Compile a coarsely pruned model from the zeros as given, with propagation, and compacted; check and time them.

    The three run in turns, on the same input, after each was compared with onnxruntime on the pruned file.
    """
    import tesa
    from tesa.base.progress import shown
    from tesa.runtime import load, verify
    from tesa.runtime.bench import interleave

    ways: dict[str, dict[str, Any]] = {
        "as given": {"propagation": False}, "propagated": {"compact": False}, "compacted": {},
    }  # fmt: skip
    pruned, feeds = masked(model, coarse(model, ratio)), zoo.feeds(model)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        path = folder / "pruned.onnx"
        onnx.save(pruned, path)
        seconds, calls, checks = {}, {}, {}
        for i, (way, options) in enumerate(ways.items()):
            start = time.perf_counter()
            with shown(sys.stderr) as progress:
                tesa.compile(path, output=folder / f"{i}.so", threads=threads, progress=progress, **options)
            seconds[way] = time.perf_counter() - start
            built = load(folder / f"{i}.so")
            checks[way] = verify(built, path, feeds=feeds)
            calls[way] = partial(built.execute, built.prepare(feeds))
        times = {row.name: vars(row) for row in interleave(calls, rounds)}
    return {
        "part": "speed",
        "model": "mobilenet_v1",
        "pruning": "coarse",
        "ratio": ratio,
        "threads": threads,
        "ok": all(check.ok for check in checks.values()),
        "max_error": {way: max(item.max_abs for item in check.outputs) for way, check in checks.items()},
        "compile_s": seconds,
        "times": times,
    }


def speed_text(record: Record) -> str:
    """The times of the part speed, each against the zeros as given."""
    base = record["times"]["as given"]["median_ms"]
    rows = [
        [
            way,
            f"{t['median_ms']:.3f}",
            f"{t['min_ms']:.3f}",
            f"{base / t['median_ms']:.2f}x",
            f"{record['compile_s'][way]:.0f}",
        ]
        for way, t in record["times"].items()
    ]
    verdict = "correct" if record["ok"] else "WRONG"
    head = f"\n{record['model']}, coarse {record['ratio']:.0%}, {record['threads']} thread(s): {verdict}\n\n"
    return head + markdown(["compiled", "median, ms", "min, ms", "speed-up", "compile, s"], rows)
