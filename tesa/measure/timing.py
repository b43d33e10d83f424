"""Loads linked kernels, compares them with NumPy and times them in turns. Runs inside the measuring process."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median
from time import perf_counter_ns
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tesa.measure.cold_cache import OTHER_BYTES as OTHER_BYTES
from tesa.measure.cold_cache import host_caches, other_bytes
from tesa.measure.reference import Inputs, Reference, reference
from tesa.schedules.types import FloatArray, Problem

SLICE_MS = 4.0
"""How long one candidate runs before the next has its turn."""

_CALLS = 25  # of one candidate in its turn, at most
_FIRST_ROUNDS = 3
_ROUNDS = 20
_HOPELESS = 1.5  # times the best median, after the first rounds
_GUARD = 64  # elements on each side of a result that a kernel must leave alone


@dataclass(frozen=True)
class Timing:
    """Milliseconds for one call: median and least of the rounds, and the distance between their quartiles."""

    median_ms: float
    min_ms: float
    iqr_ms: float
    repeats: int

    @staticmethod
    def of(samples: Sequence[float]) -> Timing:
        """The summary of one sample in milliseconds for each round."""
        low, high = np.percentile(samples, [25, 75])
        return Timing(float(median(samples)), float(min(samples)), float(high - low), len(samples))


UNTIMED = Timing(0.0, 0.0, 0.0, 0)
"""Stands for a kernel that is right and was not timed."""


@dataclass(frozen=True)
class Failure:
    """Why there is no time. kind: "build", "link", "load", "call", "wrong", "crash" or "timeout".

    code: of a kernel that cannot be built, the digest of what was emitted.
    """

    kind: str
    message: str
    code: str = ""


@dataclass(frozen=True)
class Linked:
    """A kernel in a library: library[symbol](X, *constants, bias if any, residual if any, Y)."""

    path: str
    symbol: str
    constants: tuple[NDArray[Any], ...]


class Slot:
    """A file that says which candidate runs now, for the process that outlives a crash of this one."""

    def __init__(self, path: str) -> None:
        self._handle = os.open(path, os.O_RDWR | os.O_CREAT)

    def set(self, index: int) -> None:
        """Candidate index runs from now on; -1: none."""
        os.pwrite(self._handle, index.to_bytes(8, "little", signed=True), 0)

    def close(self) -> None:
        """No candidate runs any more."""
        self.set(-1)
        os.close(self._handle)

    @staticmethod
    def read(path: str) -> int:
        """The index that was set last, -1 if none."""
        with open(path, "rb") as file:
            data = file.read(8)
        return int.from_bytes(data, "little", signed=True) if data else -1


def run(
    problem: Problem, weight: FloatArray, kernels: Sequence[Linked], inputs: Inputs, budget_ms: float, slot: str
) -> list[Timing | Failure]:
    """Check every kernel, then time those that are right in turns (UNTIMED if there is no budget).

    The results are in the order of the kernels.
    """
    _check_threads(problem.threads)
    here = Slot(slot)
    wanted = reference(problem, weight, inputs)
    results: list[Timing | Failure | None] = []
    ready: list[tuple[int, _Loaded]] = []
    for index, kernel in enumerate(kernels):
        here.set(index)
        loaded = _load(kernel)
        failure = loaded if isinstance(loaded, Failure) else check(loaded, problem, inputs, wanted)
        results.append(failure)
        if failure is None and not isinstance(loaded, Failure):
            ready.append((index, loaded))
    if budget_ms > 0:
        if problem.threads > 1:
            _leave_the_workers_cores()
        for index, timing in _times(ready, inputs, problem, budget_ms, here).items():
            results[index] = timing
    else:
        for index, _ in ready:
            results[index] = UNTIMED
    here.close()
    return [result for result in results if result is not None]


def _leave_the_workers_cores() -> None:
    """Keep this thread off the cores that TVM has bound its workers to: beside one, it would take half of its time."""
    if not hasattr(os, "sched_getaffinity"):
        return
    others = [int(name) for name in os.listdir("/proc/self/task") if int(name) != os.getpid()]
    bound = [os.sched_getaffinity(thread) for thread in others]
    free = os.sched_getaffinity(0) - {core for cores in bound if len(cores) == 1 for core in cores}
    if free:
        os.sched_setaffinity(0, free)


def time_one(library: Any, symbol: str, arguments: Sequence[Any], budget_ms: float) -> Timing:
    """The time of library[symbol](*arguments), a module of tvm.runtime, in this process, within about budget_ms."""
    timer = _Timer(library, symbol, arguments)
    first = timer()
    rounds = max(_FIRST_ROUNDS, min(_ROUNDS, int(budget_ms / max(first * timer.number, 1e-6))))
    return Timing.of([first, *(timer() for _ in range(rounds - 1))])


@dataclass(frozen=True)
class _Loaded:
    kernel: Linked
    library: Any

    def tensors(self, inputs: Inputs, alignment: int) -> list[Any]:
        """The arguments in front of Y: in TVM's own aligned memory, but for an X that is not aligned."""
        import tvm

        rest = (*self.kernel.constants, *inputs.extra)
        return [placed(inputs.x, alignment), *(tvm.runtime.tensor(array) for array in rest)]


def _load(kernel: Linked) -> _Loaded | Failure:
    import tvm

    try:
        library = tvm.runtime.load_module(kernel.path)
        library.get_function(kernel.symbol)
    except Exception as error:
        return Failure("load", _first_line(error))
    return _Loaded(kernel, library)


def check(loaded: _Loaded, problem: Problem, inputs: Inputs, wanted: Reference) -> Failure | None:
    """What is wrong with the kernel's result, or None.

    Y is filled with bytes of ones before (not-a-number, or -1), stands between guards, and has only the alignment of a
    NumPy array.
    """
    import tvm_ffi

    dtype, size = np.dtype(problem.output.dtype), int(np.prod(problem.y_shape))
    room = np.full(size * dtype.itemsize + 8 * _GUARD + 64, 0xFF, np.uint8)
    start = 4 * _GUARD + -room.ctypes.data % 64 + 16  # 16 bytes behind a multiple of 64
    end = start + size * dtype.itemsize
    y = room[start:end].view(dtype).reshape(problem.y_shape)
    arguments = [tvm_ffi.from_dlpack(_sixteen(array)) for array in (inputs.x, *loaded.kernel.constants, *inputs.extra)]
    try:
        loaded.library[loaded.kernel.symbol](*arguments, tvm_ffi.from_dlpack(y))
    except Exception as error:
        return Failure("call", _first_line(error))
    if not (room[:start] == 0xFF).all() or not (room[end:] == 0xFF).all():
        return Failure("wrong", "writes outside of its result")
    error_found = wanted.error(y)
    if error_found > wanted.tolerance:
        missing = int(np.isnan(y).sum() - np.isnan(wanted.y).sum())
        unwritten = f", {missing} of {size} elements are not numbers" if missing else ""
        return Failure("wrong", f"largest error {error_found:.3g}, tolerance {wanted.tolerance:.3g}{unwritten}")
    return None


def _times(
    ready: Sequence[tuple[int, _Loaded]], inputs: Inputs, problem: Problem, budget_ms: float, slot: Slot
) -> dict[int, Timing]:
    import tvm

    calls: dict[int, _InPlace] = {}
    size = other_bytes(problem.weight_bytes, problem.n * problem.batch, *host_caches())
    other = np.ones(size // 4, np.float32)
    for index, loaded in ready:
        slot.set(index)
        y = tvm.runtime.empty(problem.y_shape, problem.output.dtype)
        arguments = (*loaded.tensors(inputs, problem.alignment), y)
        calls[index] = _InPlace(loaded.library, loaded.kernel.symbol, arguments, other)
    live, samples = list(calls), {index: list[float]() for index in calls}
    rounds = _FIRST_ROUNDS
    done = 0
    while done < rounds:
        for index in live if done % 2 == 0 else reversed(live):
            slot.set(index)
            samples[index].append(calls[index]())
        done += 1
        if done == _FIRST_ROUNDS and live:
            middle = {index: median(samples[index]) for index in live}
            best = min(middle.values())
            live = [index for index in live if middle[index] <= _HOPELESS * best]
            longest = max((middle[index] + calls[index].between_ms) * calls[index].number for index in live)
            rounds = max(_FIRST_ROUNDS, min(_ROUNDS, int(budget_ms / longest)))
    return {index: Timing.of(samples[index]) for index in calls}


class _InPlace:
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
        self.number = max(least, min(_CALLS, int(SLICE_MS / max(once + self.between_ms, 1e-3))))

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


class _Timer:
    """Calls a kernel for about a slice and gives the milliseconds of one call; the loop is TVM's, in C++."""

    def __init__(self, library: Any, symbol: str, arguments: Sequence[Any]) -> None:
        self._library, self._symbol, self._arguments = library, symbol, arguments
        once = min(self._run(1), self._run(1))
        self.number = max(1, min(100_000, int(SLICE_MS / max(once, 1e-6))))
        self._evaluator = self._make(self.number)

    def __call__(self) -> float:
        return float(self._evaluator(*self._arguments).results[0]) * 1e3

    def _make(self, number: int) -> Any:
        import tvm

        return self._library.time_evaluator(self._symbol, tvm.cpu(), number=number, repeat=1)

    def _run(self, number: int) -> float:
        return float(self._make(number)(*self._arguments).results[0]) * 1e3


def placed(array: NDArray[Any], alignment: int) -> Any:
    """A copy of the array as a tensor, aligned to 64 bytes, or to 16 and not to 32 where alignment is less."""
    import tvm
    import tvm_ffi

    return tvm.runtime.tensor(array) if alignment >= 64 else tvm_ffi.from_dlpack(_sixteen(array))


def _sixteen(array: NDArray[Any]) -> NDArray[Any]:
    """A copy that is aligned to 16 bytes and not to 32, as arrays of NumPy may be."""
    room = np.empty(array.nbytes + 64, np.uint8)
    start = (16 - room.ctypes.data) % 64
    copy = room[start : start + array.nbytes].view(array.dtype).reshape(array.shape)
    copy[...] = array
    return copy


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
