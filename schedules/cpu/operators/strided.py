"""Vector loads of every second element, as two whole loads and a shuffle instead of one load for each lane."""

from typing import Any

from tvm import ir, tirx

from tesa.schedules.cpu.operators.tree import const_int, rewrite, shuffle


def even_odd_loads(root: Any) -> Any:
    """x[ramp(b, 2, n)] becomes a shuffle of x[b : b + n] and x[b + n - 1 : b + 2 n - 1].

    The second load ends with the last element wanted, so nothing behind a buffer's end is touched.
    """

    def change(load: Any) -> Any:
        at = load.indices[-1]
        if not isinstance(at, tirx.Ramp) or const_int(at.stride) != 2 or len(load.indices) != 1:
            return load
        lanes = const_int(at.lanes)
        if lanes is None or lanes < 4:
            return load
        one = tirx.const(1, at.stride.ty.dtype)
        low = tirx.BufferLoad(load.source, [tirx.Ramp(at.base, one, lanes)])
        shifted = at.base + tirx.const(lanes - 1, at.stride.ty.dtype)
        high = tirx.BufferLoad(load.source, [tirx.Ramp(shifted, one, lanes)])
        picks = [2 * i if 2 * i < lanes else 2 * i + 1 for i in range(lanes)]
        return shuffle([low, high], picks)

    return rewrite(root, ir.TensorLoad, change)
