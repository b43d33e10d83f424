"""Checks and times one kernel of a GPU, in the process that this is called in."""

from __future__ import annotations

import ctypes
import json
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tesa.build.package import ENTRY
from tesa.measure.failure import Failure, FailureKind
from tesa.measure.reference import Inputs, reference
from tesa.measure.timing import UNTIMED, Timing, rounds_within
from tesa.schedules.types import FloatArray, Problem

NAME = "kernel"
"""Of the functions of a library that holds a candidate."""

PACKED = ENTRY
"""Of its packed function."""

FEW, MOST = 3, 2000
"""Calls of one sample."""

_SAMPLE_MS = 4.0


def run(path: str, problem: Problem, weight: FloatArray, budget_ms: float, device: int = 0) -> Timing | Failure:
    """The time of a call of the kernel in a library, after its result was compared with NumPy's.

    budget_ms: for all calls; 0 only compares. A sample is the mean of several calls, by the driver's events.
    """
    library = ctypes.CDLL(path)
    run_host = getattr(library, f"{NAME}_run_host")
    describe, error = getattr(library, f"{NAME}_description"), getattr(library, f"{NAME}_error")
    describe.restype = error.restype = ctypes.c_char_p
    inputs = Inputs.random(problem)
    given = [inputs.x, *([inputs.residual] if inputs.residual is not None else [])]
    (port,) = json.loads(describe())["outputs"]
    y = np.empty(port["shape"], port["dtype"])

    def call(calls: int) -> float:
        milliseconds = ctypes.c_float()
        timed = ctypes.byref(milliseconds) if calls > 1 else None
        code = run_host(ctypes.c_int(device), _pointers(given), _pointers([y]), ctypes.c_int(calls), timed)
        if code:
            raise RuntimeError(error().decode(errors="replace"))
        return float(milliseconds.value)

    try:
        call(1)
        wrong = reference(problem, weight, inputs).difference(y)
        if wrong:
            return Failure(FailureKind.WRONG, wrong)
        return UNTIMED if budget_ms <= 0 else _timed(call, budget_ms)
    except RuntimeError as fault:
        return Failure(FailureKind.CRASH, str(fault))


def _timed(call: Any, budget_ms: float) -> Timing:
    first = call(FEW + 1)
    calls = int(min(max(_SAMPLE_MS / max(first, 1e-3), 1), MOST))
    return Timing.of([call(calls + 1) for _ in range(rounds_within(budget_ms, first * calls))])


def _pointers(arrays: Sequence[NDArray[Any]]) -> Any:
    return (ctypes.c_void_p * len(arrays))(*(array.ctypes.data for array in arrays))
