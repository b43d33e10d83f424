"""TVM's operators as loops, where TVM's own way warns on standard error of every use, or forgets infinity.

What stands here goes before TVM's own: it is registered at a higher level, for all passes that legalize. The loops
are the same but for a power, which is written as products, as far as it can be, and for the largest and the smallest
element, which begin at infinity and not at the largest finite number.
"""

from collections.abc import Callable
from functools import partial, reduce
from math import inf
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
    """power with one number as the exponent: a whole one, a half of one, or a quarter of one between -2 and 2."""
    base, exponent = call.args
    if not isinstance(exponent, tvm.ir.GenericConst) or "float" not in str(exponent.ty):
        return None
    numbers = exponent.value.numpy()
    if numbers.size != 1 or numbers.ndim > len(base.ty.shape):
        return None
    value = float(numbers.reshape(()))
    roots = (2 * value).is_integer() or (abs(value) < 2 and (4 * value).is_integer())
    written = abs(value) < _LARGEST and (value >= 2 or roots)
    return bb.call_te(_power, base, value, primfunc_name_hint="power") if written else None


def _power(base: Any, exponent: float) -> Any:
    return te.compute(base.shape, lambda *axes: _powered(base(*axes), exponent), name="T_power")


def _powered(x: Any, exponent: float) -> Any:
    """x to the power of a number that is whole, half of a whole one, or 2 or more."""
    dtype = str(x.ty.dtype)
    one = tirx.const(1, dtype)
    if exponent == 0:
        return one
    if exponent in (1, -1, 2, 3):
        return one / x if exponent == -1 else _whole_power(x, int(exponent))
    if abs(exponent) == 0.5:
        return _root(x) if exponent > 0 else one / _root(x)
    if abs(exponent) < 2 and (4 * exponent) % 2 == 1:  # 0.75 of local response normalization: roots, as vectors
        root = _root(x)
        made = tirx.sqrt(root) * (_whole_power(root, int(2 * abs(exponent))) if abs(exponent) > 0.5 else one)
        return made if exponent > 0 else one / made
    wide, size = x.astype("float64"), abs(exponent)  # rounding errors of many products would be seen
    even = int(size) // 2 * 2
    # behind an even power, what is left of the exponent decides about negative numbers as the whole of it does
    rest = size - even
    factors = [] if not even else [_whole_power(wide, even)]
    if rest in (1, 1.5):  # 1.5 of minus infinity is infinity, too
        factors.append(wide if rest == 1 else tirx.abs(wide))
    if rest in (0.5, 1.5):
        factors.append(_root(wide))
    elif rest not in (0, 1):
        factors.append(tirx.pow(wide, tirx.const(rest, "float64")))
    made = reduce(mul, factors)
    return (made if exponent > 0 else tirx.const(1, "float64") / made).astype(dtype)


def _root(x: Any) -> Any:
    """x to the power 1/2: unlike a square root, 0 of -0 and infinity of minus infinity."""
    dtype = str(x.ty.dtype)
    least, zero = tirx.min_value(dtype), tirx.const(0, dtype)
    return tirx.sqrt(tirx.Select(x < least, -x, tirx.Select(x == zero, zero, x)))


def _whole_power(x: Any, exponent: int) -> Any:
    """x to a whole power from 1 on, by squaring; x * x * x as it is."""
    if exponent in (1, 3):
        return x if exponent == 1 else x * x * x
    half = _whole_power(x, exponent // 2)
    return half * half * x if exponent % 2 else half * half


def _extreme(name: str, combine: Any, start: float) -> None:
    """Register relax.max or relax.min of reals with a start that no element is beyond, infinity too."""

    def legalize(bb: Any, call: Any) -> Any:
        data, attrs = call.args[0], call.attrs
        if not str(data.ty.dtype).startswith("float"):
            return None
        rank = len(data.ty.shape)
        axes = range(rank) if attrs.axis is None else [int(axis) % rank for axis in attrs.axis]
        options = {"keepdims": bool(attrs.keepdims), "combine": combine, "start": start}
        return bb.call_te(partial(_reduced, **options), data, sorted(axes), primfunc_name_hint=name)

    _legalizes(f"relax.{name}")(legalize)


def _reduced(data: Any, axes: list[int], *, keepdims: bool, combine: Any, start: float) -> Any:
    axes = [int(axis) for axis in axes]
    over = {axis: te.reduce_axis((0, data.shape[axis]), f"k{axis}") for axis in axes}
    reducer = te.comm_reducer(combine, lambda dtype: tirx.const(start, dtype), name="extreme")
    stay = [axis for axis in range(len(data.shape)) if axis not in over]

    def element(*places: Any) -> Any:
        left = [place for axis, place in enumerate(places) if not (keepdims and axis in over)]
        at = {**dict(zip(stay, left, strict=True)), **over}
        return reducer(data(*(at[axis] for axis in range(len(data.shape)))), axis=list(over.values()))

    shape = [1 if axis in over else data.shape[axis] for axis in range(len(data.shape)) if keepdims or axis not in over]
    return te.compute(shape, element, name="T_extreme")


_extreme("max", lambda a, b: tirx.max(a, b), -inf)  # TVM counts the arguments: there are two
_extreme("min", lambda a, b: tirx.min(a, b), inf)
