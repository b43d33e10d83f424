"""The skinny family of GPUs against NumPy, through OpenCL."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tesa.schedules.gpu.skinny import LANES, NUMBERED, tiles_of
from tesa.schedules.registry import find
from tesa.schedules.types import Epilogue
from tesa.targets.cuda import GPUS
from tests.gpu import opencl
from tests.gpu.families import GPU, prepare, run, sparse
from tests.gpu.problems import ALL, CODES, HALF, SUMS, linear


def config(warps: int = 4, rows: int = 1, bits: int = 32) -> dict[str, int]:
    return {"warps": warps, "rows": rows, "bits": bits}


def test_tiles_hold_the_weight() -> None:
    for bits in (8, 16, 32, NUMBERED):
        weight = sparse(5, 700, 0.3, seed=bits)
        made = tiles_of(weight, bits)
        found = np.zeros((5 * made.across, LANES * bits), np.float32)
        for tile, (at, count, steps) in enumerate(made.heads.reshape(-1, 3).tolist()):
            for step in range(steps):
                for lane in range(made.counts[count + step]):
                    if bits == NUMBERED:
                        bit = int(made.words[at + lane])
                    else:
                        word = int(made.words[tile * LANES + lane])
                        bit = [b for b in range(bits) if word >> b & 1][step]
                    found[tile, bit * 32 + int(made.residues[tile * LANES + lane])] = made.values[at + lane]
                at += int(made.counts[count + step])
        np.testing.assert_array_equal(found.reshape(5, -1)[:, :700], weight)


def test_one_to_many_columns() -> None:
    opencl.require_opencl()
    cases = [
        prepare("skinny", linear(m, k, n, batch, epilogue=ALL), sparse(m, k, density, seed=m), chosen)
        for m, k, n, batch, density, chosen in (
            (9, 2100, 1, 1, 0.1, config()),
            (17, 1024, 1, 2, 0.5, config(4, 2)),
            (5, 90, 3, 1, 0.2, config(2, 4, 16)),
            (6, 600, 8, 1, 0.3, config(4, 1, 8)),
            (3, 40, 32, 1, 1.0, config(2, 1, 8)),
            (4, 64, 1, 1, 0.0, config()),
            (4, 9000, 2, 1, 0.05, config(8, 1, 32)),
            (5, 9000, 1, 2, 0.1, config(4, 2, NUMBERED)),
        )
    ]
    run(cases)


def test_int8() -> None:
    opencl.require_opencl()
    weight = sparse(10, 500, 0.4, dtype="int8")
    last = replace(linear(10, 500, 3, **CODES), layout="features_last", x_zero=7, x_shape=(3, 500), y_shape=(3, 10))
    exact = linear(10, 500, 2, **SUMS)
    # NumPy's side has features first
    case = prepare("skinny", replace(last, layout="features_first", x_shape=(1, 500, 3), y_shape=(1, 10, 3)), weight)
    turned = prepare("skinny", last, weight, config(4, 2, 16))
    turned.given["x"] = np.ascontiguousarray(case.given["x"][0].T)
    turned.given["residual"] = np.ascontiguousarray(case.given["residual"][0].T)
    turned.given |= {name: case.given[name] for name in ("bias", "scale")}
    assert case.wanted is not None
    turned.wanted = case.wanted[0].T
    run([case, turned, prepare("skinny", exact, weight)])


@pytest.mark.slow
def test_every_configuration_fits_in_shared_memory() -> None:
    family = find("skinny", "gpu")
    for n in (1, 2, 5, 16, 32):
        problem, weight = linear(64, 9000, n), sparse(64, 9000, 0.1)
        offered = family.space(problem, weight, GPU)
        assert offered, n
        for chosen in offered:
            family.emit(problem, weight, GPU, chosen, "k")
    with pytest.raises(ValueError, match="shared memory for 2 columns"):
        family.emit(linear(64, 9000, 2), sparse(64, 9000, 0.1), GPU, config(bits=NUMBERED), "k")


def test_no_two_threads_race(tmp_path: Path) -> None:
    problem = linear(5, 100, 3, epilogue=Epilogue(bias=True))
    run([prepare("skinny", problem, sparse(5, 100, 0.3), config(2, 2, 8))], "grind", tmp_path)


def test_float16(tmp_path: Path) -> None:
    opencl.require_intel()
    problem = linear(7, 1500, 1, epilogue=ALL, residual=HALF["output"], **HALF)
    run([prepare("skinny", problem, sparse(7, 1500, 0.2), config(4, 1))], "intel", tmp_path)


def test_bytes_of_a_place() -> None:
    """The figures of the family's head."""
    for density, bits, bytes_of_a_place in ((0.5, 32, 1.18), (0.2, 32, 0.58), (0.1, 32, 0.375), (0.1, NUMBERED, 0.31)):
        problem = linear(64, 4096, 1, **HALF)
        code = find("skinny", "gpu").emit(problem, sparse(64, 4096, density), GPUS["sm_90"], config(bits=bits), "k")
        sizes = sum(one.nbytes for one in code.constants)
        # a twentieth of the random values is 0
        assert sizes / (64 * 4096) <= bytes_of_a_place
