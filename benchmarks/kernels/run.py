"""One case: tesa's kernel and all peers, checked against NumPy, then timed in turn."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

import tesa
from benchmarks.kernels.cases import Array, Case, activations, step, weight
from benchmarks.kernels.peers import PEERS, Prepared
from tesa.build.objects import BuildError, build_objects, write_objects
from tesa.build.product import Product
from tesa.decompose import is_composite
from tesa.measure.local import measure
from tesa.measure.peak import Peak, peak, read_rate
from tesa.measure.timing import Timing
from tesa.runtime.bench import Times, interleave
from tesa.schedules.registry import find
from tesa.targets.target import parse_target


class WrongResultError(Exception):
    """A kernel computed something else than NumPy."""


@dataclass(frozen=True)
class Session:
    """The settings that all cases of a run share."""

    threads: int
    rounds: int
    seed: int
    limits: Peak
    folder: tempfile.TemporaryDirectory[str]
    missing: tuple[str, ...]


def start(threads: int, rounds: int, seed: int | None) -> Session:
    """Measure the machine's limits and see which peers are there."""
    chosen = int(np.random.default_rng().integers(1 << 31)) if seed is None else seed
    limits = peak(parse_target(None))
    missing = tuple(peer.name for peer in PEERS if not peer.installed)
    print(f"seed {chosen}, {threads} thread(s); limits of one thread: {limits.gflops:.0f} GFLOP/s, "
          f"{limits.int8_gops:.0f} GOP/s int8, {limits.gbytes:.1f} GB/s")  # fmt: skip
    if missing:
        print(f"not installed: {', '.join(missing)}")
    return Session(threads, rounds, chosen, limits, tempfile.TemporaryDirectory(), missing)


def run(case: Case, session: Session) -> dict[str, Any]:
    """A row of results. WrongResultError if anything computes something else than NumPy."""
    rng = np.random.default_rng([session.seed, *case.name.encode()])
    w, x = weight(case, rng), activations(case, rng)
    expected = _reference(case, w, x)
    kernel = _kernel(case, w, session)
    y = _unwritten(case, expected)
    ready: dict[str, Prepared] = {"tesa": ((lambda: kernel(x, out=y)), lambda: y)}
    for peer in PEERS:
        prepared = peer.prepare(case, w, x, session.threads) if peer.installed else None
        if prepared is not None:
            ready[peer.name] = prepared
    for name, (call, result) in ready.items():
        call()
        _check(case, name, result(), expected)
    times = {t.name: t for t in interleave({name: call for name, (call, _) in ready.items()}, session.rounds)}
    part = kernel.plan.parts[0]
    row = _row(case, session, times, float(np.count_nonzero(w)) / w.size, f"{part.family} {dict(part.config)}")
    # a decomposition has several kernels, each with copies of its own: not taken apart; codes are read as they lie
    split = is_composite(part.family) or case.codes
    row["inner_ms"] = None if split else max(row["tesa_ms"] - layout_ms(kernel, part, row["tesa_ms"]), 0.0)
    if case.op == "linear" and case.n <= 16:
        row["bandwidth_fraction"] = _bandwidth(w, row["tesa_ms"])
        if row["limit_fraction"] is not None and row["bandwidth_fraction"] > row["limit_fraction"]:
            row["limit_fraction"], row["limit"] = row["bandwidth_fraction"], "bandwidth"
    return row


def layout_ms(kernel: Any, part: Any, whole_ms: float) -> float:
    """The time that the kernel spends on changes of layout (packed tiles, padded copies), and on being called.

    A second kernel of the same form has few rows, of 1s in all columns that the first one reads: the same copies.
    From t = C + few w and T = C + m w follows C, the part that does not depend on the rows. The work of a row, w, is
    more in the few full rows than in the sparse ones: C is an upper bound.
    """
    problem, weight = kernel.problem, kernel.weight
    if problem.op == "depthwise" or part.family == "vector" or (part.family == "sliced" and problem.n == 1):
        return 0.0  # X is read where it lies
    lanes = kernel.target.core.lanes
    few = {"rowlanes": part.config.get("panel", 1) * lanes, "sliced": lanes}.get(part.family, 1)
    if few >= problem.m:
        return 0.0
    # the shape of Y is (m, n), or (1, m, height, width)
    shape = tuple(few if i == (len(problem.y_shape) > 2) else size for i, size in enumerate(problem.y_shape))
    short = replace(problem, m=few, y_shape=shape)
    live = np.repeat((weight != 0).any(axis=0)[None], few, axis=0).astype(np.float32)
    code = find(part.family).emit(short, live, kernel.target.core, part.config, "few_rows")
    with tempfile.TemporaryDirectory() as folder:
        try:
            objects = write_objects(build_objects("few_rows", code, kernel.target), Path(folder))
        except BuildError as error:
            raise WrongResultError(f"the kernel of {few} rows cannot be built: {error}") from error
        (timing,) = measure(short, live, [Product("few_rows", objects, code.constants)])
    if not isinstance(timing, Timing):
        raise WrongResultError(f"the kernel of {few} rows: {timing.message}")
    return max((problem.m * timing.median_ms - few * whole_ms) / (problem.m - few), 0.0)


def _bandwidth(w: Array, tesa_ms: float) -> float:
    """The time of reading what must be read, at this machine's rate, over the time that it took: the values of the
    non-zeros, and where any is zero a bit for each element that says so."""
    nonzeros = int(np.count_nonzero(w))
    size = 4 * nonzeros + (w.size // 8 if nonzeros < w.size else 0)
    return size / read_rate(parse_target(None), size) / 1e6 / tesa_ms


def _unwritten(case: Case, expected: Array) -> Array:
    """Y before the call: what is not written is noticed."""
    if case.codes:
        return np.where(expected < 128, 255, 0).astype(np.uint8)
    wrong, kind = (-(2**31), np.int32) if case.dtype == "int8" else (np.nan, np.float32)
    return np.full(expected.shape, wrong, kind)


def _kernel(case: Case, w: Array, session: Session) -> Any:
    log = Path(session.folder.name)
    if case.codes:
        return tesa.kernel(
            w, n=case.n, dtype="int8", layout="features_last", scale=1.0, output="uint8", y_scale=step(case),
            y_zero=128, threads=session.threads, log=log,
        )  # fmt: skip
    if case.op == "linear":
        return tesa.kernel(w, n=case.n, dtype=case.dtype, threads=session.threads, log=log)
    size = (case.size, case.size)
    return tesa.kernel(
        w, op=case.op, size=size, stride=case.stride, padding=case.kernel // 2, threads=session.threads, log=log
    )


def _reference(case: Case, w: Array, x: Array) -> Array:
    wide = np.int64 if case.dtype == "int8" else np.float64
    if case.codes:
        sums = x.astype(np.int32) @ w.T.astype(np.int32)
        return np.asarray(np.clip(np.rint(sums / step(case)) + 128, 0, 255).astype(np.uint8))
    if case.op == "linear":
        return np.asarray(w.astype(wide) @ x.astype(wide))
    import onnx.reference

    from benchmarks.kernels.onnx_models import model_of

    return np.asarray(onnx.reference.ReferenceEvaluator(model_of(case, w)).run(None, {"X": x})[0])


def _check(case: Case, name: str, got: Array, expected: Array) -> None:
    scale = max(1.0, float(np.abs(expected).max(initial=0)))
    error = float(np.abs(got.astype(np.float64).reshape(expected.shape) - expected).max(initial=0)) / scale
    if case.codes:  # a tie may be rounded to either side
        error = 0.0 if np.abs(got.astype(np.int64) - expected).max(initial=0) <= 1 else 1.0
    exact = case.dtype == "int8" and got.dtype.kind == "i"
    if not error <= (0.0 if exact else 2e-5):
        raise WrongResultError(
            f"{case.group} {case.name}: {name} differs from NumPy by {error:.1e} of the largest value"
        )


def _row(case: Case, session: Session, times: dict[str, Times], density: float, chosen: str) -> dict[str, Any]:
    ours = times.pop("tesa")
    best = min(times.values(), key=lambda t: t.median_ms, default=None)
    effective = case.flops * density / ours.median_ms / 1e6
    limit = session.limits.int8_gops if case.dtype == "int8" else session.limits.gflops
    return {
        "group": case.group, "case": case.name, "pattern": case.pattern, "threads": session.threads,
        "dtype": case.dtype, "sparsity": round(case.sparsity, 4), "seed": session.seed, "tesa_ms": ours.median_ms,
        "tesa_min_ms": ours.min_ms, "kernel": chosen, "peers": {t.name: t.median_ms for t in times.values()},
        "peers_min": {t.name: t.min_ms for t in times.values()}, "best_peer": best.name if best else None,
        "ratio": best.median_ms / ours.median_ms if best else None,
        "ratio_min": min(t.min_ms for t in times.values()) / ours.min_ms if best else None,
        "dense_gflops": case.flops / ours.median_ms / 1e6, "effective_gflops": effective,
        "limit_fraction": effective / limit / session.threads if limit else None,
        "limit": "dot" if case.dtype == "int8" else "fma",
    }  # fmt: skip
