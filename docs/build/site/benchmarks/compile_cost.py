"""What compiling costs: `python -m benchmarks.compile_cost [--models mobilenet_v1,bert_base] [--sparsity 0.9]`.

Each network of benchmarks.zoo is pruned (fine-grained, by magnitude) and compiled by `tesa compile` with an empty cache
and an empty log, so that everything is generated, measured and linked. Prints the seconds, the peak memory of all its
processes together (proportional set size, sampled) and the size of the library.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import onnx
import psutil

from benchmarks import prune, zoo


def main() -> int:
    """Compile each model; 1 if one fails."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", default="mobilenet_v1,bert_base", help="comma-separated names of benchmarks.zoo")
    parser.add_argument("--sparsity", type=float, default=0.9)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--json", type=Path, help="append a line for each model to this file")
    options = parser.parse_args()
    for name in options.models.split(","):
        row = cost(name, options.sparsity, options.threads)
        if row is None:
            return 1
        print(f"{name} at {options.sparsity:.0%}: compiled in {row['seconds']:.0f} s, {row['peak_gb']:.2f} GB at the "
              f"peak, library of {row['library_mb']:.1f} MB", flush=True)  # fmt: skip
        if options.json:
            with options.json.open("a", encoding="utf-8") as stream:
                stream.write(json.dumps(row) + "\n")
    return 0


def cost(name: str, sparsity: float, threads: int) -> dict[str, Any] | None:
    """Compile one model; None, with the output on standard error, if that fails."""
    with tempfile.TemporaryDirectory() as folder:
        path, output = Path(folder) / f"{name}.onnx", Path(folder) / "model.so"
        model = getattr(zoo, name)()
        onnx.save(prune.masked(model, prune.fine(model, sparsity)), path)
        command = [sys.executable, "-m", "tesa", "compile", str(path), "-o", str(output), "--log", f"{folder}/log"]
        command += ["--threads", str(threads), "-q"]
        start = time.perf_counter()
        with tempfile.TemporaryFile("w+") as errors:
            process = subprocess.Popen(
                command,
                stdout=subprocess.DEVNULL,
                stderr=errors,
                env={**os.environ, "TESA_CACHE_DIR": f"{folder}/cache"},
            )
            peak = _peak(process)
            seconds = time.perf_counter() - start
            if process.returncode:
                errors.seek(0)
                print(errors.read(), file=sys.stderr)
                return None
        size = output.stat().st_size
    return {
        "model": name, "sparsity": sparsity, "threads": threads, "seconds": seconds, "peak_gb": peak / 1e9,
        "library_mb": size / 1e6,
    }  # fmt: skip


def _peak(process: subprocess.Popen[bytes]) -> int:
    """The most bytes that a process and its children held at once, until it ends."""
    peak = 0
    ended = threading.Event()

    def watch() -> None:
        nonlocal peak
        root = psutil.Process(process.pid)
        while not ended.wait(0.25):
            peak = max(peak, sum(_held(child) for child in [root, *_children(root)]))

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    process.wait()
    ended.set()
    thread.join()
    return peak


def _children(root: psutil.Process) -> list[psutil.Process]:
    try:
        return list(root.children(recursive=True))
    except psutil.NoSuchProcess:
        return []


def _held(process: psutil.Process) -> int:
    try:
        return int(process.memory_full_info().pss)
    except (psutil.NoSuchProcess, psutil.AccessDenied, psutil.ZombieProcess):
        return 0


if __name__ == "__main__":
    sys.exit(main())
