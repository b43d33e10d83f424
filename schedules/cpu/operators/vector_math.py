"""The module pass that replaces calls of the C library's float32 functions by arithmetic, which vectorizes."""

from collections.abc import Callable
from typing import Any

from tvm import ir, tirx

from tesa.schedules.cpu import math
from tesa.schedules.cpu.operators.softmax import exp_nonpositive, nonpositive
from tesa.schedules.cpu.operators.tree import function_pass, rewrite

_FUNCTIONS: dict[str, Callable[[Any], Any]] = {
    "tirx.exp": math.exp,
    "tirx.erf": math.erf,
    "tirx.tanh": math.tanh,
    "tirx.sigmoid": math.sigmoid,
    "tirx.log": math.log,
    "tirx.atan": math.atan,
    "tirx.sinh": math.sinh,
    "tirx.cosh": math.cosh,
    "tirx.rsqrt": lambda x: tirx.FloatImm("float32", 1.0) / tirx.sqrt(x),
}


def rewrite_math(root: Any) -> Any:
    """root with every scalar float32 function of the table written out as arithmetic.

    sinh and cosh of other types too, by exp: LLVM has no such functions.
    """

    def change(call: Any) -> Any:
        name = getattr(call.op, "name", "")
        function = _FUNCTIONS.get(name)
        if function is not None and str(call.ty.dtype) != "float32" and name in ("tirx.sinh", "tirx.cosh"):
            grown, shrunk = tirx.exp(call.args[0]), tirx.exp(-call.args[0])
            return (grown - shrunk if name == "tirx.sinh" else grown + shrunk) * tirx.const(0.5, call.ty.dtype)
        if function is None or str(call.ty.dtype) != "float32":
            return call
        argument = call.args[0]
        below = nonpositive(argument) if function is math.exp else None
        return function(argument) if below is None else exp_nonpositive(below)

    return rewrite(root, ir.Call, change)


def VectorizableMath() -> Any:
    """The module pass: rewrite_math on every PrimFunc. Run it before loops are vectorized.

    ScheduleOperators does this itself; the pass alone is for kernels that are written by hand.
    """
    return function_pass("VectorizableMath", lambda func: func.with_body(rewrite_math(func.body)))
