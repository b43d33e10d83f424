"""A kernel on a device: its arguments there, its result compared with NumPy, its time."""

import functools
from statistics import median
from time import perf_counter
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tesa.base.told import Untruthful, whole
from tesa.measure.cold_cache import OTHER_BYTES, other_bytes
from tesa.measure.remote.messages import SessionRequest, Workload
from tesa.measure.timing import Timing, calls_per_slice, rounds_within

_LARGEST_CACHE = 1 << 34
_LEAST = 3  # calls of a slice, and calls that tell how long one takes


class DeviceKernel:
    """A kernel in the library that was sent, with its arguments on the device. device.c is in the library, too."""

    def __init__(self, session: Any, library: Any, request: SessionRequest, layer: Workload) -> None:
        import tvm

        self._layer, self._device = layer, session.cpu(0)
        library.get_function(request.symbol)  # says which symbol is missing
        self._helpers = {
            name: library.get_function(f"tesa_{name}") for name in ("caches", "check", "time", "leave_workers")
        }
        arrays = (layer.x, *request.constants, *layer.extra)
        y = tvm.runtime.empty(layer.y_shape, layer.y_dtype, device=self._device)
        self._arguments = [*(tvm.runtime.tensor(array, device=self._device) for array in arrays), y]

    def compare(self) -> str:
        """Run the kernel once and say what is wrong with its result; "" if it is right."""
        if self._helpers["check"](*self._arguments):
            return "writes outside of its result"
        return self._layer.wanted.difference(self._arguments[-1].numpy())

    def time(self, budget_ms: float) -> Timing:
        """Time slices of calls with cold caches, all in one call of the device."""
        if self._layer.threads > 1:
            self._helpers["leave_workers"]()
        start = perf_counter()
        once = float(self._calls(_LEAST).min())
        each, least = once, _LEAST
        if self._other_bytes > OTHER_BYTES:  # emptying the caches takes longer than most kernels
            each, least = (perf_counter() - start) * 1e3 / _LEAST, 1
        number = calls_per_slice(each, least)
        rounds = rounds_within(budget_ms, each * number)
        samples = self._calls(number * rounds).reshape(rounds, number)
        return Timing.of([float(median(row)) for row in samples])

    def _calls(self, number: int) -> NDArray[np.float64]:
        """Milliseconds of each of a number of calls, with cold weights; shape (number,)."""
        import tvm

        times = tvm.runtime.empty((number,), "float64", device=self._device)
        self._helpers["time"](number, self._other, times, *self._arguments)
        found: NDArray[np.float64] = times.numpy() / 1e6
        if not (np.isfinite(found).all() and (found >= 0).all() and found.any()):
            raise Untruthful("it tells times that no clock tells: negative ones, none at all, or no numbers")
        return found

    @functools.cached_property
    def _other(self) -> Any:
        import tvm

        return tvm.runtime.empty((self._other_bytes // 4,), "float32", device=self._device)

    @functools.cached_property
    def _other_bytes(self) -> int:
        """Bytes that are read between two calls: it depends on the device's caches, which it is asked for."""
        import tvm

        caches = tvm.runtime.empty((2,), "int64", device=self._device)
        self._helpers["caches"](caches)
        second, last = (whole(size, "the size of a cache", 0, _LARGEST_CACHE) for size in caches.numpy().tolist())
        return other_bytes(self._layer.weight_bytes, self._layer.columns, second, last)
