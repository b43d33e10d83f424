"""A kernel on a device: its arguments there, its result compared with NumPy, its time."""

from __future__ import annotations

import functools
from statistics import median
from time import perf_counter
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tesa.measure.cold_cache import OTHER_BYTES, other_bytes
from tesa.measure.remote.orders import Order, Workload
from tesa.measure.timing import SLICE_MS, Timing

_CALLS, _LEAST, _ROUNDS = 25, 3, 20  # as in tesa.measure.timing


class Candidate:
    """A kernel in the library that was sent, with its arguments on the device."""

    def __init__(self, session: Any, library: Any, order: Order, layer: Workload) -> None:
        import tvm

        self._library, self._layer, self._device = library, layer, session.cpu(0)
        self._symbol = order.symbol
        self._kernel = library.get_function(order.symbol)  # says which symbol is missing
        self._helpers = (
            {name: library.get_function(f"tesa_{name}") for name in ("caches", "check", "time", "leave_workers")}
            if order.helpers
            else {}
        )
        arrays = (layer.x, *order.constants, *layer.extra)
        y = tvm.runtime.empty(layer.y_shape, layer.y_dtype, device=self._device)
        self._arguments = [*(tvm.runtime.tensor(array, device=self._device) for array in arrays), y]

    def compare(self) -> str:
        """What is wrong with the result; nothing if it is right."""
        if not self._helpers:
            self._kernel(*self._arguments)
        elif self._helpers["check"](*self._arguments):
            return "writes outside of its result"
        y, wanted = self._arguments[-1].numpy(), self._layer.wanted
        if wanted is None:
            return ""
        error = wanted.error(y)
        if error <= wanted.tolerance:
            return ""
        missing = int(np.isnan(y).sum() - np.isnan(wanted.y).sum())
        unwritten = f", {missing} of {y.size} elements are not numbers" if missing else ""
        return f"largest error {error:.3g}, tolerance {wanted.tolerance:.3g}{unwritten}"

    def time(self, budget_ms: float) -> Timing:
        """Slices of calls as tesa.measure.timing makes them, all in one call of the device."""
        if self._helpers and self._layer.threads > 1:
            self._helpers["leave_workers"]()
        start = perf_counter()
        once = float(self._calls(_LEAST).min())
        each, least = once, _LEAST
        if self._helpers and self._other_bytes > OTHER_BYTES:  # emptying the caches takes longer than most kernels
            each, least = (perf_counter() - start) * 1e3 / _LEAST, 1
        number = max(least, min(_CALLS, int(SLICE_MS / max(each, 1e-3))))
        rounds = max(_LEAST, min(_ROUNDS, int(budget_ms / max(each * number, 1e-6))))
        samples = self._calls(number * rounds).reshape(rounds, number)
        return Timing.of([float(median(row)) for row in samples])

    def _calls(self, number: int) -> NDArray[np.float64]:
        """Milliseconds of each of a number of calls, with cold weights.

        A library without tesa's helpers is timed by TVM, which empties all caches of them.
        """
        import tvm

        if not self._helpers:
            flush = "cache_flush_cpu_non_first_arg"
            timer = self._library.time_evaluator(self._symbol, self._device, number=1, repeat=number, f_preproc=flush)
            return np.array(timer(*self._arguments).results) * 1e3
        times = tvm.runtime.empty((number,), "float64", device=self._device)
        self._helpers["time"](number, self._other, times, *self._arguments)
        found: NDArray[np.float64] = times.numpy() / 1e6
        return found

    @functools.cached_property
    def _other(self) -> Any:
        import tvm

        return tvm.runtime.empty((self._other_bytes // 4,), "float32", device=self._device)

    @functools.cached_property
    def _other_bytes(self) -> int:
        """What is read between two calls: it depends on the device's caches, which it is asked for."""
        import tvm

        caches = tvm.runtime.empty((2,), "int64", device=self._device)
        self._helpers["caches"](caches)
        second, last = caches.numpy().tolist()
        return other_bytes(self._layer.weight_bytes, self._layer.columns, second, last)
