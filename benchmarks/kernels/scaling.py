"""How two threads gain over one: `python -m benchmarks.kernels.scaling [--match TEXT]`.

Only tesa's kernels, each number of threads in a process of its own: the waiting threads of other libraries would take
the cores. For each case of groups a, c, d and f that takes more than a millisecond: the choice of `tesa.kernel` for one
and for two threads, checked against NumPy and timed as candidates are.
"""

from __future__ import annotations

import argparse
import sys
import tempfile

import numpy as np

import tesa
from benchmarks.kernels.cases import Case, cases, weight


def main() -> int:
    """Print the milliseconds and the ratio of each case."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--groups", default="acdf")
    parser.add_argument("--match", default="", help="only cases whose name contains this")
    options = parser.parse_args()
    gains = []
    for case in cases(options.groups):
        if options.match in case.name:
            one, two = (_milliseconds(case, threads) for threads in (1, 2))
            if one > 1:
                gains.append(one / two)
                print(f"{case.group} {case.name:34} {one:8.3f} {two:8.3f} ms  {one / two:.2f}x", flush=True)
    if gains:
        mean = np.exp(np.mean(np.log(gains)))
        print(f"{len(gains)} cases over a millisecond: mean {mean:.2f}x, least {min(gains):.2f}x")
    return 0


def _milliseconds(case: Case, threads: int) -> float:
    w = weight(case, np.random.default_rng(0))
    with tempfile.TemporaryDirectory() as log:
        if case.op == "linear":
            kernel = tesa.kernel(w, n=case.n, dtype=case.dtype, threads=threads, log=log)
        else:
            kernel = tesa.kernel(w, op=case.op, size=(case.size,) * 2, padding=1, threads=threads, log=log)
    part = kernel.plan.parts[0]
    times = [c.measured_ms for c in part.candidates if (c.family, dict(c.config)) == (part.family, dict(part.config))]
    return float(times[0] or 0.0)


if __name__ == "__main__":
    sys.exit(main())
