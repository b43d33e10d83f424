"""Loads linked kernels, compares them with NumPy and times them in turns. Runs inside the measuring process."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from time import perf_counter_ns
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tesa.measure.cold_cache import OTHER_BYTES, host_caches, other_bytes
from tesa.measure.failure import Failure, FailureKind
from tesa.measure.heartbeat import Heartbeat
from tesa.measure.reference import Inputs, Reference, reference
from tesa.measure.tensors import placed, unaligned
from tesa.measure.timing import FIRST_ROUNDS, UNTIMED, Timing, calls_per_slice, rounds_within
from tesa.schedules.types import FloatArray, Problem

_HOPELESS = 1.5  # times the best median, after the first rounds
_GUARD = 64  # elements on each side of a result that a kernel must leave alone


@dataclass(frozen=True)
class Linked:
    """A kernel in a library: library[symbol](X, *constants, bias if any, residual if any, Y)."""

    path: str
    symbol: str
    constants: tuple[NDArray[Any], ...]


def run(
    problem: Problem, weight: FloatArray, kernels: Sequence[Linked], inputs: Inputs, budget_ms: float, heartbeat: str
) -> list[Timing | Failure]:
    """Check every kernel, then time those that are right in turns (UNTIMED if there is no budget).

    The results are in the order of the kernels. heartbeat: a file that tells which kernel runs.
    """
    _check_threads(problem.threads)
    here = Heartbeat(heartbeat)
    wanted = reference(problem, weight, inputs)
    results: list[Timing | Failure] = []
    ready: dict[int, _Loaded] = {}
    for index, kernel in enumerate(kernels):
        here.beat(index)
        loaded = _checked(kernel, problem, inputs, wanted)
        results.append(loaded if isinstance(loaded, Failure) else UNTIMED)
        if isinstance(loaded, _Loaded):
            ready[index] = loaded
    if budget_ms > 0:
        if problem.threads > 1:
            _leave_the_workers_cores()
        for index, timing in _times(ready, inputs, problem, budget_ms, here).items():
            results[index] = timing
    here.close()
    return results


def _leave_the_workers_cores() -> None:
    """Keep this thread off the cores that TVM has bound its workers to: beside one, it would take half of its time."""
    if not hasattr(os, "sched_getaffinity"):
        return
    others = [int(name) for name in os.listdir("/proc/self/task") if int(name) != os.getpid()]
    bound = [os.sched_getaffinity(thread) for thread in others]
    free = os.sched_getaffinity(0) - {core for cores in bound if len(cores) == 1 for core in cores}
    if free:
        os.sched_setaffinity(0, free)


@dataclass(frozen=True)
class _Loaded:
    kernel: Linked
    library: Any

    def tensors(self, inputs: Inputs, alignment: int) -> list[Any]:
        """The arguments in front of Y: in TVM's own aligned memory, but for an X that is not aligned."""
        import tvm

        rest = (*self.kernel.constants, *inputs.extra)
        return [placed(inputs.x, alignment), *(tvm.runtime.tensor(array) for array in rest)]


def _checked(kernel: Linked, problem: Problem, inputs: Inputs, wanted: Reference) -> _Loaded | Failure:
    """The kernel in memory, once its result is the right one."""
    import tvm

    try:
        library = tvm.runtime.load_module(kernel.path)
        library.get_function(kernel.symbol)
    except Exception as error:
        return Failure(FailureKind.LOAD, _first_line(error))
    loaded = _Loaded(kernel, library)
    return _check(loaded, problem, inputs, wanted) or loaded


def _check(loaded: _Loaded, problem: Problem, inputs: Inputs, wanted: Reference) -> Failure | None:
    """The failure of a kernel whose result is not the right one.

    Y is filled with bytes of ones before (not-a-number, or -1), stands between guards, and has only the alignment of a
    NumPy array.
    """
    import tvm_ffi

    dtype, size = np.dtype(problem.output.dtype), int(np.prod(problem.y_shape))
    room = np.full(size * dtype.itemsize + 8 * _GUARD + 64, 0xFF, np.uint8)
    start = 4 * _GUARD + -room.ctypes.data % 64 + 16  # 16 bytes behind a multiple of 64
    end = start + size * dtype.itemsize
    y = room[start:end].view(dtype).reshape(problem.y_shape)
    arguments = [tvm_ffi.from_dlpack(unaligned(array)) for array in (inputs.x, *loaded.kernel.constants, *inputs.extra)]
    try:
        loaded.library[loaded.kernel.symbol](*arguments, tvm_ffi.from_dlpack(y))
    except Exception as error:
        return Failure(FailureKind.CALL, _first_line(error))
    if not (room[:start] == 0xFF).all() or not (room[end:] == 0xFF).all():
        return Failure(FailureKind.WRONG, "writes outside of its result")
    wrong = wanted.difference(y)
    return Failure(FailureKind.WRONG, wrong) if wrong else None


def _times(
    ready: Mapping[int, _Loaded], inputs: Inputs, problem: Problem, budget_ms: float, here: Heartbeat
) -> dict[int, Timing]:
    """The time of each kernel, by its index. They take turns, so that all see the same changes of the machine."""
    import tvm

    calls: dict[int, _ColdTimer] = {}
    size = other_bytes(problem.weight_bytes, problem.n * problem.batch, *host_caches())
    other = np.ones(size // 4, np.float32)
    for index, loaded in ready.items():
        here.beat(index)
        y = tvm.runtime.empty(problem.y_shape, problem.output.dtype)
        arguments = (*loaded.tensors(inputs, problem.alignment), y)
        calls[index] = _ColdTimer(loaded.library, loaded.kernel.symbol, arguments, other)
    live, samples = list(calls), {index: list[float]() for index in calls}
    rounds = FIRST_ROUNDS
    done = 0
    while done < rounds:
        for index in live if done % 2 == 0 else reversed(live):
            here.beat(index)
            samples[index].append(calls[index]())
        done += 1
        if done == FIRST_ROUNDS and live:
            middle = {index: median(samples[index]) for index in live}
            best = min(middle.values())
            live = [index for index in live if middle[index] <= _HOPELESS * best]
            longest = max((middle[index] + calls[index].between_ms) * calls[index].number for index in live)
            rounds = rounds_within(budget_ms, longest)
    return {index: Timing.of(samples[index]) for index in calls}


class _ColdTimer:
    """Times calls as they happen in a model: X was written just now, weights and code were last used an inference ago.

    Between two calls the caches are filled with something else and X is read again. Called in a tight loop instead, a
    kernel of much code or many weights looks faster than it ever is in a network. other: what the caches are filled
    with; where that takes long, one call makes a slice.
    """

    def __init__(self, library: Any, symbol: str, arguments: Sequence[Any], other: NDArray[Any]) -> None:
        self._call = library.get_function(symbol)
        self._arguments = arguments
        self._x = arguments[0].numpy()
        self._other = other
        self.number = 1
        start = perf_counter_ns()
        once = min(self(), self(), self())
        self.between_ms = (perf_counter_ns() - start) / 3e6 - once
        least = 1 if other.nbytes > OTHER_BYTES else 3
        self.number = calls_per_slice(once + self.between_ms, least)

    def __call__(self) -> float:
        """The median milliseconds of a slice of calls."""
        samples = []
        for _ in range(self.number):
            self._other.sum()
            self._x.sum()
            start = perf_counter_ns()
            self._call(*self._arguments)
            samples.append((perf_counter_ns() - start) / 1e6)
        return median(samples)


def _check_threads(threads: int) -> None:
    """A pool of another size would give the times of another kernel."""
    if threads == 1:  # kernels for one thread do not touch the pool, and asking would start it
        return
    import tvm  # noqa: F401  (loads the runtime that has the pool)
    import tvm_ffi

    tvm_ffi.get_global_func("runtime.config_threadpool")(1, threads)
    found = int(tvm_ffi.get_global_func("runtime.NumThreads")())
    if found != threads:
        raise RuntimeError(f"the thread pool has {found} threads, not {threads}; set TVM_NUM_THREADS={threads}")


def _first_line(error: Exception) -> str:
    return f"{type(error).__name__}: {str(error).strip().splitlines()[0] if str(error).strip() else 'no message'}"
