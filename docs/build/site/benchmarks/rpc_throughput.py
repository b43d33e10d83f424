"""How many more candidates several devices measure than one, where building is not the limit.

    python -m benchmarks.rpc_throughput --servers 4 --delay 1.0

All servers are processes of this machine, which has fewer cores than there are servers. So each is made a slow device:
its server waits --delay seconds at the start of every session, one for each candidate. What is measured is therefore
tesa's own share: whether it keeps all devices busy. The kernels are built before the clock starts.
"""

from __future__ import annotations

import argparse
import importlib
import json
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
import psutil

from tesa.build.objects import build_objects, write_objects
from tesa.build.product import Product
from tesa.measure.failure import Failure
from tesa.measure.remote import RpcRunner
from tesa.measure.remote.tracker import Tracker, TrackerLost
from tesa.schedules.registry import find
from tesa.schedules.types import FloatArray, Problem
from tesa.targets.target import parse_target

_READY_S = 120.0

_TRACKER = (
    "import sys; from tvm.rpc.tracker import PopenTrackerServerState; port = int(sys.argv[1]); "
    "PopenTrackerServerState('127.0.0.1', port, port + 1)"
)
_SERVER = "import sys, time; from tesa.measure.remote import server; server.main(sys.argv[2:], lambda: time.sleep({}))"


def throughput(servers: int, delay_s: float, candidates: int) -> dict[str, Any]:
    """Candidates a minute with one server and with several, and the ratio."""
    problem, weight = _layer()
    with tempfile.TemporaryDirectory(prefix="tesa-") as name:
        kernels = _built(problem, weight, Path(name), candidates)
        rates = {}
        for count in (1, servers):
            with _devices(count, delay_s) as port:
                rates[count] = _rate(port, problem, weight, kernels)
    return {
        "part": "rpc_throughput",
        "servers": servers,
        "delay_s": delay_s,
        "candidates": len(kernels),
        "per_minute": {str(count): rate for count, rate in rates.items()},
        "ratio": rates[servers] / rates[1],
    }


def _layer() -> tuple[Problem, FloatArray]:
    problem = Problem("linear", 64, 64, 128, (1, 64, 128), (1, 64, 128))
    rng = np.random.default_rng(0)
    weight = rng.standard_normal((64, 64)) * (rng.random((64, 64)) > 0.8)
    return problem, weight.astype(np.float32)


def _built(problem: Problem, weight: FloatArray, folder: Path, count: int) -> list[Product]:
    """That many kernels: the first configurations of the indexed form, over and over."""
    importlib.import_module("tesa.schedules.cpu")  # registers the families
    target, family = parse_target("x86"), find("indexed")
    configs = family.space(problem, weight, target.core)[:8]
    made = []
    for index, config in enumerate(configs):
        symbol = f"tesa_candidate{index}"
        code = family.emit(problem, weight, target.core, config, symbol)
        made.append(Product(symbol, write_objects(build_objects(symbol, code, target), folder), code.constants))
    return [made[index % len(made)] for index in range(count)]


def _rate(port: int, problem: Problem, weight: FloatArray, kernels: list[Product]) -> float:
    """Candidates a minute; the first, for which processes start and devices are checked, do not count."""
    runner = RpcRunner("127.0.0.1", port, "slow")
    try:
        runner.run(problem, weight, kernels[:8], budget_ms=0)
        start = time.perf_counter()
        results = runner.run(problem, weight, kernels, budget_ms=5)
        seconds = time.perf_counter() - start
    finally:
        runner.close()
    failed = [result for result in results if isinstance(result, Failure)]
    if failed:
        raise SystemExit(f"{len(failed)} candidates failed, the first: {failed[0]}")
    return 60 * len(kernels) / seconds


@contextmanager
def _devices(count: int, delay_s: float) -> Iterator[int]:
    """The port of a tracker with that many slow servers."""
    port = _free_port()
    started = [_start(["-c", _TRACKER, str(port)])]
    try:
        for _ in range(count):
            own = _free_port()
            place = ["--host", "127.0.0.1", "--port", str(own), "--port-end", str(own + 1)]
            words = ["-c", _SERVER.format(delay_s), "-", *place, "--tracker", f"127.0.0.1:{port}", "--key", "slow"]
            started.append(_start(words))
        _await(port, count)
        yield port
    finally:
        for process in started:
            _end(process)


def _start(words: list[str]) -> psutil.Popen:
    quiet = subprocess.DEVNULL
    return psutil.Popen([sys.executable, *words], stdin=quiet, stdout=quiet, stderr=quiet)


def _end(process: psutil.Popen) -> None:
    with suppress(psutil.NoSuchProcess):
        for member in [*process.children(recursive=True), process]:
            with suppress(psutil.NoSuchProcess):
                member.kill()
    process.wait(10)


def _await(port: int, count: int) -> None:
    deadline = time.monotonic() + _READY_S
    tracker = Tracker("127.0.0.1", port)
    while time.monotonic() < deadline:
        with suppress(TrackerLost):
            if tracker.listing().free.get("slow") == count:
                tracker.close()
                return
        time.sleep(0.2)
    raise SystemExit(f"{count} servers did not start within {_READY_S:g} s")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def main() -> None:
    """Print both rates and the ratio; --json prints the record."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--servers", type=int, default=4)
    parser.add_argument("--delay", type=float, default=1.0, help="seconds that each session waits (default: 1)")
    parser.add_argument("--candidates", type=int, default=32)
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    record = throughput(args.servers, args.delay, args.candidates)
    if args.json:
        print(json.dumps(record, indent=1))
        return
    for count, rate in record["per_minute"].items():
        print(f"{count} server{'s' if count != '1' else ''}: {rate:.1f} candidates a minute")
    print(f"ratio: {record['ratio']:.2f}")


if __name__ == "__main__":
    main()
