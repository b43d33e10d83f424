"""SparTA's two mixed cases (figure 15 of Zheng et al., OSDI 2022): decompositions against single forms.

    python -m benchmarks.mixed                    1024 x 1024 x 1024, one thread
    python -m benchmarks.mixed --size 512 --threads 2 --rounds 200 --json results.jsonl

Case "precision": a weight of int8 codes in which 0, 1, 3 and 5 % of the elements are float32 outliers. X is uint8. The
single form that can compute it is float32: X is converted when the kernel runs, then dense, block or indexed.
Case "pattern": 70, 80 and 90 % of the 32x32 blocks are gone, and 1 % of all elements are scattered non-zeros. The
blocks alone are timed too: no decomposition can take less than they do.

Every contestant is chosen by measurement among its own configurations, exported as a library with its constants
inside, compared with NumPy, and then timed in turns with all the others.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import tesa.decompose  # noqa: F401  (registers the decompositions)
from tesa.build.package import ENTRY, package
from tesa.decompose.candidates import candidates
from tesa.errors import CheckFailed, UnsupportedError
from tesa.layers.layer import Layer
from tesa.measure.reference import Inputs, reference
from tesa.runtime.bench import Times, interleave
from tesa.schedules.types import Epilogue, FloatArray, Problem, config_key
from tesa.targets.target import Target, host_cpu, parse_target
from tesa.tune.choose import choose

SINGLE = ("dense", "block", "indexed", "unrolled")
OUTLIERS = (0.0, 0.01, 0.03, 0.05)
BLOCK_SPARSITIES = (0.7, 0.8, 0.9)
SCATTERED = 0.01
WANTED = 1.3
PART = "(blocks alone)"


@dataclass(frozen=True)
class Case:
    """A weight and who competes for it. contestants: label -> (form, which of its options).

    part: a share of the weight that any decomposition has to compute at least; its time bounds what can be gained.
    """

    name: str
    problem: Problem
    weight: FloatArray
    contestants: dict[str, tuple[str, Callable[[str], bool]]]
    single: tuple[str, ...]
    dense: str
    part: FloatArray | None = None


@dataclass(frozen=True)
class Row:
    """The result of a case. ratios: times faster the decomposition is; kernels: those that were chosen."""

    case: str
    decomposition_ms: float
    best_single: str
    over_single: float
    over_dense: float
    at_most: float | None
    times_ms: dict[str, float]
    kernels: dict[str, str]


def cases(size: int, threads: int, rng: np.random.Generator) -> Iterator[Case]:
    """All of them, one at a time."""
    m = k = n = size
    shapes = (m, k, n, (k, n), (m, n))
    for share in OUTLIERS:
        weight = rng.integers(-127, 128, (m, k)).astype(np.float32)
        out = rng.random((m, k)) < share
        weight[out] = 1000 * rng.standard_normal(int(out.sum()))
        problem = Problem("linear", *shapes, dtype="mixed", epilogue=Epilogue(scale=True), threads=threads)
        singles = {f"float32 {form}": ("widen", _uses(f"0.{form}.")) for form in ("dense", "block", "indexed")}
        contestants = {**singles, "fused": ("precision", _uses("fused.")), "in turn": ("precision", _uses("0."))}
        yield Case(f"int8 + {share:.0%} float32", problem, weight, contestants, tuple(singles), "float32 dense")
    for sparsity in BLOCK_SPARSITIES:
        tiles = rng.random((-(-m // 32), -(-k // 32))) >= sparsity
        blocks = np.kron(tiles, np.ones((32, 32), bool))[:m, :k]
        mask = blocks | (rng.random((m, k)) < SCATTERED)
        weight = np.where(mask, rng.standard_normal((m, k)), 0).astype(np.float32)
        problem = Problem("linear", *shapes, threads=threads)
        contestants = {form: (form, _uses("")) for form in SINGLE}
        contestants |= {"fused": ("cover", _uses("fused.")), "in turn": ("cover", _uses("0."))}
        name = f"{sparsity:.0%} 32x32 + {SCATTERED:.0%}"
        yield Case(name, problem, weight, contestants, SINGLE, "dense", np.where(blocks, weight, np.float32(0)))


def _uses(head: str) -> Callable[[str], bool]:
    return lambda key: not head or key.startswith(head)


def run(case: Case, target: Target, rounds: int, folder: Path) -> Row:
    """Times of all contestants. CheckFailed if one computes something else than NumPy."""
    inputs = Inputs.random(case.problem, 1)
    wanted = reference(case.problem, case.weight, inputs)
    calls: dict[str, Callable[[], object]] = {}
    kernels: dict[str, str] = {}
    for number, (label, (form, chosen)) in enumerate(case.contestants.items()):
        try:
            offered = candidates(case.problem, case.weight, target, [form])
        except UnsupportedError:
            continue
        options = [option for option in offered if option[0] == form and any(map(chosen, option[1]))]
        if not options:
            continue
        y = np.empty(case.problem.y_shape, np.float32)
        entry, kernels[label] = _export(case, target, options[:6], inputs, folder / f"{number}.so")
        calls[label] = partial(entry, inputs.x, y)
        calls[label]()
        if not wanted.error(y) <= wanted.tolerance:
            raise CheckFailed(f"{case.name}: {label} is off by {wanted.error(y):g}")
    if case.part is not None:
        alone = replace(case, weight=case.part)
        options = [option for option in candidates(case.problem, case.part, target, ["block"]) if option[0] == "block"]
        y = np.empty(case.problem.y_shape, np.float32)
        entry, kernels[PART] = _export(alone, target, options, inputs, folder / "part.so")
        calls[PART] = partial(entry, inputs.x, y)
    times = {t.name: t for t in interleave(calls, rounds)}
    return _row(case, times, kernels)


def _export(
    case: Case, target: Target, options: Sequence[Any], inputs: Inputs, path: Path
) -> tuple[Callable[[NDArray[Any], NDArray[Any]], object], str]:
    """The fastest of the options as a library's function (X, Y), and its name."""
    import tvm

    with tempfile.TemporaryDirectory() as scratch:
        task = Layer(case.name, case.problem, case.weight)
        (kernel,) = choose([task], target, options=options, folder=Path(scratch))
        product = kernel.product
        package(path, product.objects, product.symbol, (*product.constants, *inputs.extra), ("X", "Y"))
    return tvm.runtime.load_module(str(path))[ENTRY], config_key(kernel.part.family, kernel.part.config)


def _row(case: Case, times: dict[str, Times], kernels: dict[str, str]) -> Row:
    found = {label: t.median_ms for label, t in times.items()}
    single = min((label for label in case.single if label in found), key=lambda label: found[label])
    best = min(found[label] for label in found if label not in (*case.single, PART))
    return Row(
        case.name, best, single, found[single] / best, found[case.dense] / best,
        found[single] / found[PART] if PART in found else None,
        {label: round(time, 4) for label, time in found.items()}, kernels,
    )  # fmt: skip


def _print(row: Row) -> None:
    verdict = "" if row.over_single >= WANTED else f"   (asked: {WANTED}x)"
    verdict += "" if row.at_most is None else f", blocks alone would be {row.at_most:.2f}x"
    print(
        f"{row.case:24} {row.decomposition_ms:8.3f} ms   {row.over_single:5.2f}x of {row.best_single}, "
        f"{row.over_dense:5.2f}x of dense{verdict}"
    )
    for label, time in row.times_ms.items():
        print(f"    {label:18} {time:8.3f} ms   {row.kernels[label]}", flush=True)


def main() -> None:
    """Run all cases, or those named."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--size", type=int, default=1024, help="m = k = n (default: 1024)")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=50, help="turns of a few milliseconds each (default: 50)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", default="", help="cases whose name contains this")
    parser.add_argument("--json", type=Path, help="append the rows to this file")
    args = parser.parse_args()
    target = parse_target(None)
    print(f"{host_cpu()}, {target.name}, {args.threads} thread(s), {args.size}^3, seed {args.seed}")
    with tempfile.TemporaryDirectory() as folder:
        for number, case in enumerate(cases(args.size, args.threads, np.random.default_rng(args.seed))):
            if args.only in case.name:
                place = Path(folder) / str(number)
                place.mkdir()
                row = run(case, target, args.rounds, place)
                _print(row)
                if args.json is not None:
                    with args.json.open("a", encoding="utf-8") as file:
                        file.write(json.dumps({"cpu": host_cpu(), "threads": args.threads, **asdict(row)}) + "\n")


if __name__ == "__main__":
    main()
