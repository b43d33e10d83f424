"""TVM's operators as loops, where TVM's own way warns on standard error of every use, sound or not.

What stands here goes before TVM's own: it is registered at a higher level, for all passes that legalize. The loops
are the same but for a power, which is written as products, as far as it can be.
"""

from collections.abc import Callable
from functools import reduce
from operator import mul
from typing import Any

import tvm
from tvm import te, tirx

_LEVEL = 11  # TVM's own have 10
_LARGEST = 1 << 10  # exponent that is written as products


def _legalizes(name: str) -> Callable[[Any], Any]:
    """Decorator: function(bb, call) is the operator as loops, or None to leave it to TVM."""

    def register(function: Any) -> Any:
        theirs = tvm.ir.Op.get(name).get_attr("FLegalize")

        def legalize(bb: Any, call: Any) -> Any:
            ours = function(bb, call)
            return theirs(bb, call) if ours is None else ours

        tvm.ir.register_op_attr(name, "FLegalize", legalize, _LEVEL)
        return function

    return register


@_legalizes("relax.take")
def take(bb: Any, call: Any) -> Any:
    """take whose indices are known to be in their range."""
    if call.attrs.mode != "fast":
        return None
    data, indices, axis = call.args[0], call.args[1], call.attrs.axis
    if len(call.args) != 2 or not hasattr(indices.ty, "shape") or (axis is None and len(data.ty.shape) != 1):
        return None
    place = int(axis or 0) % len(data.ty.shape)
    return bb.call_te(_take, data, indices, place, primfunc_name_hint="take")


def _take(data: Any, indices: Any, place: int) -> Any:
    rank = len(indices.shape)

    def element(*axes: Any) -> Any:
        index = indices(*axes[place : place + rank])
        return data(*axes[:place], index, *axes[place + rank :])

    return te.compute([*data.shape[:place], *indices.shape, *data.shape[place + 1 :]], element, name="T_take")


@_legalizes("relax.power")
def power(bb: Any, call: Any) -> Any:
    """power with one number as the exponent, from 2 on."""
    exponent = call.args[1]
    if not isinstance(exponent, tvm.ir.GenericConst) or len(exponent.value.shape) or "float" not in str(exponent.ty):
        return None
    value = float(exponent.value.numpy())
    return bb.call_te(_power, call.args[0], value, primfunc_name_hint="power") if 2 <= value < _LARGEST else None


def _power(base: Any, exponent: float) -> Any:
    dtype = str(base.dtype)
    even = int(exponent) // 2 * 2

    def element(*axes: Any) -> Any:
        x = base(*axes)
        if exponent == 2:
            return x * x
        if exponent == 3:
            return x * x * x
        x = x.astype("float64")  # rounding errors of many products would be seen
        rest = exponent - even
        # behind an even power, what is left of the exponent decides about negative numbers as the whole of it does
        last = [] if rest == 0 else [x if rest == 1 else tirx.pow(x, tirx.const(rest, "float64"))]
        return reduce(mul, [_whole_power(x, even), *last]).astype(dtype)

    return te.compute(base.shape, element, name="T_power")


def _whole_power(x: Any, exponent: int) -> Any:
    """x to a whole power from 1 on, by squaring."""
    if exponent == 1:
        return x
    half = _whole_power(x, exponent // 2)
    return half * half * x if exponent % 2 else half * half
