"""n:m: as many non-zeros in each group of m neighbours (the 2:4 of NVIDIA's tensor cores)."""

import numpy as np

from tesa.attributes.patterns.registry import Imposition, Sizes, Structure, pattern
from tesa.attributes.zeros import Mask, Zeros
from tesa.schedules.types import FloatArray

N_OF_M = [(1, 2), (1, 4), (2, 4), (1, 8), (2, 8), (4, 8)]
"""The ratios that are looked for."""

_FULL = 0.95  # of the groups that have n non-zeros; the others may have fewer


def _keep(size: FloatArray, sparsity: float, sizes: Sizes) -> Mask:
    """The n largest of each m neighbours along k; a shorter rest at the end keeps its n largest."""
    del sparsity
    n, m = sizes
    rows, k = size.shape
    padded = np.full((rows, -(-k // m) * m), -1, np.float32)
    padded[:, :k] = size
    groups = padded.reshape(rows, -1, m)
    order = np.argsort(-groups, axis=2, kind="stable")
    keep = np.zeros(groups.shape, bool)
    np.put_along_axis(keep, order[:, :, :n], True, axis=2)
    return keep.reshape(rows, -1)[:, :k]


def _check(sizes: Sizes) -> str:
    n, m = sizes
    return "" if 0 < n <= m else f"{n}:{m} keeps {n} of {m} elements; n is from 1 to m"


@pattern(
    "n:m",
    counted=True,
    describe=lambda found: "{}:{}".format(*found.sizes),
    imposition=Imposition(
        "N:M",
        _keep,
        "0.5:2:4",
        check=_check,
        share=lambda sizes: 1 - sizes[0] / sizes[1],
        grain=lambda sizes: (1, sizes[1]),
        steps=lambda sizes: [(n, sizes[1]) for n in range(sizes[1] - 1, 0, -1)],
    ),
)
def n_of_m(zeros: Zeros) -> Structure | None:
    """n non-zeros in each m neighbours along k (the 2:4 of NVIDIA's tensor cores). 5 % of the groups may have fewer."""
    k = zeros.shape[1]
    for n, m in N_OF_M:
        if k % m:
            continue
        totals = zeros.groups(m)
        if totals[n] and not totals[n + 1 :].any() and totals[n] / (zeros.live_rows * k // m) >= _FULL:
            return {"n_m": (n, m)}
    return None
