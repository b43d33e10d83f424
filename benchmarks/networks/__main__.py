"""Whole networks beside other engines: tesa's forms and each peer that is installed, in turn, after all were compared.

    python -m benchmarks.networks [--networks mobilenet_v1,bert_base] [--precision float32,int8]
        [--sparsity dense,70,1x4-90] [--batch 1,8] [--threads 1,2] [--peers onnxruntime,openvino,torch]
        [--folder DIR] [--json FILE] [--plot FILE]

Models are made by code from a seed, with the sizes of the papers: nothing is downloaded. They are pruned by magnitude
(70: per cent of single weights; 1x4-70: of blocks of one output and four inputs; 16x1, 4x4, ...), then quantized by
onnxruntime's own quantizer, static where it can, else dynamic. Every result is compared with onnxruntime, which runs
the file without optimization: a wrong one of tesa is an error, and how far peers are off is printed. Files and
compiled libraries stay in the folder, so that a second run begins at once.
"""

from __future__ import annotations

import argparse
import json
import signal
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from benchmarks.networks.catalogue import NETWORKS, network
from benchmarks.networks.contest import Spec
from benchmarks.networks.engines import ENGINES, environment
from benchmarks.networks.files import PRECISIONS
from benchmarks.networks.pruning import parse_sparsity
from benchmarks.networks.report import draw, layer_table, tables, timed
from benchmarks.tables import append
from tesa.base.version import versions
from tesa.errors import UsageError


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmark; 1 if a result of tesa is wrong or missing."""
    options = _parser().parse_args(arguments)
    if options.read:
        contests = [json.loads(line) for line in options.read.read_text(encoding="utf-8").splitlines()]
    else:
        try:
            contests = _run(options)
        except UsageError as error:
            print(f"error: {error}", file=sys.stderr)
            return 2
    print("\n" + tables(contests))
    if options.plot:
        draw(contests, options.plot)
    return int(any(e["why"] for contest in contests for e in contest["entries"] if e["engine"] == "tesa"))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        "python -m benchmarks.networks", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--networks", default=",".join(NETWORKS), help=f"of {', '.join(NETWORKS)} (default: all)")
    add("--precision", default="float32,int8", help=f"of {', '.join(PRECISIONS)} (default: the first two)")
    add(
        "--sparsity",
        default="dense,70,90,1x4-70,1x4-90",
        help="dense, 70, 1x4-90, ... (default: dense,70,90,1x4-70,1x4-90)",
    )
    add("--batch", default="1", help="comma-separated (default: 1)")
    add("--threads", default="1", help="comma-separated (default: 1)")
    add("--peers", default=",".join(ENGINES), help="those of them that are installed; none: tesa alone")
    add("--folder", type=Path, help="keeps models and compiled libraries (default: a temporary one)")
    add("--rounds", type=int, default=20, help="turns of each contestant (default: 20)")
    add("--slice-ms", type=float, default=10.0, help="how long a turn takes at least (default: 10)")
    add("--no-measure", action="store_true", help="compile by estimates, for a quick look")
    add("--tiny", action="store_true", help="small forms of the networks, to try the benchmark itself")
    add("--reuse", action="store_true", help="take libraries of the folder that an earlier tesa compiled")
    add("--profile", action="store_true", help="the time of each operator, too")
    add("--seed", type=int, default=0, help="of weights and inputs (default: 0)")
    add("--isa", default="", help="the most that OpenVINO and PyTorch may use: AVX512_CORE_VNNI keeps them off AMX")
    add("--lock", default="", metavar="FILE", help="time while holding this lock, where several benchmarks share a CPU")
    add("--json", type=Path, help="append a line for each contest to this file")
    add("--plot", type=Path, help="draw the times (.png, .svg or .pdf)")
    add("--read", type=Path, help="measure nothing: print and draw what an earlier --json has")
    return parser


def _run(options: argparse.Namespace) -> list[dict[str, Any]]:
    with tempfile.TemporaryDirectory() as name:
        folder = options.folder or Path(name)
        folder.mkdir(parents=True, exist_ok=True)
        contests = []
        for spec in _specs(options, folder):
            contest = contested(spec, folder)
            contest["versions"] = {**versions(), **_installed()}
            contests.append(contest)
            _print(contest)
            if options.json:
                append(options.json, [contest], "benchmarks.networks")
        return contests


def _specs(options: argparse.Namespace, folder: Path) -> list[Spec]:
    """The entries to run, all of them checked first."""
    peers = [name for name in options.peers.split(",") if name not in ("", "none")]
    for name in peers:
        if name not in ENGINES:
            raise UsageError(f"unknown peer {name!r}; there are: {', '.join(ENGINES)}")
    missing = [name for name in peers if ENGINES[name].version is None]
    if missing:
        print(f"not installed: {', '.join(missing)} (pip install {' '.join(missing)})")
    precisions, sparsities = options.precision.split(","), options.sparsity.split(",")
    for precision in precisions:
        if precision not in PRECISIONS:
            raise UsageError(f"unknown precision {precision!r}; there are: {', '.join(PRECISIONS)}")
    names = [parse_sparsity(text).name for text in sparsities]
    return [
        Spec(
            network(name).name, batch, threads, precisions, names, [p for p in peers if p not in missing], str(folder),
            options.rounds, options.slice_ms, not options.no_measure, options.tiny, options.seed, options.reuse,
            options.profile, options.lock,
            options.isa,
        )
        for name in options.networks.split(",")
        for batch in map(int, options.batch.split(","))
        for threads in map(int, options.threads.split(","))
    ]  # fmt: skip


def contested(spec: Spec, folder: Path) -> dict[str, Any]:
    """Run one contest in a process of its own. A peer that ends the process is left out, and the contest runs again."""
    with tempfile.TemporaryDirectory() as name:
        given, found, now = (Path(name) / part for part in ("spec.json", "result.json", "now"))
        given.write_text(json.dumps(asdict(spec)), encoding="utf-8")
        command = [sys.executable, "-m", "benchmarks.networks.contest", *map(str, (given, found, now))]
        code = subprocess.run(command, env=environment(spec.threads, folder / "torch", spec.isa)).returncode
        if code == 0:
            return dict(json.loads(found.read_text(encoding="utf-8")))
        peer = now.read_text(encoding="utf-8") if now.exists() else ""
        if peer not in spec.peers:
            raise UsageError(f"the contest of {spec.network} ended with status {code}; what it printed stands above")
        said = signal.Signals(-code).name if code < 0 else f"status {code}"
        result = contested(replace(spec, peers=[p for p in spec.peers if p != peer]), folder)
        entry = {"engine": peer, "precision": "any", "sparsity": spec.sparsities[0], "min_ms": None, "median_ms": None}
        entry |= {"error": None, "why": f"it ends its process with {said}", "compile_s": None, "bytes": None}
        result["entries"].append({**entry, "layers": []})
        return result


def _installed() -> dict[str, str]:
    return {name: engine.version for name, engine in ENGINES.items() if engine.version is not None}


def _print(contest: dict[str, Any]) -> None:
    """One contest as soon as it is over."""
    print("\n" + tables([contest]), flush=True)
    for entry in timed(contest, "tesa"):
        if entry["layers"]:
            print(f"\n{entry['precision']} {entry['sparsity']}\n\n{layer_table(entry)}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
