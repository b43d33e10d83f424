"""Functions of one code are computed when the model is compiled: a chain dequantize -> f -> quantize is a table.

before:  d = dequantize(x);  h = d * 0.5 * (erf(d / sqrt 2) + 1);  y = quantize(h)        after:  y = table[x]
f is any composition of functions of single elements, with constant numbers as their other arguments, grids in between
included. The 256 results are computed in float32, operator by operator, as the model says.
"""

from collections.abc import Callable
from math import erf
from typing import Any

import numpy as np
import tvm
from numpy.typing import NDArray
from tvm import relax, te, tirx

from tesa.layers.expressions import constant_of, op_name, shape_of
from tesa.schedules.cpu.operators import lookup, permutes_table
from tesa.schedules.types import Core

Numbers = NDArray[Any]

_LONG = 3
"""Operators of a chain that pay for a table where its bytes are read one by one."""

_COSTLY = (
    "relax.erf relax.tanh relax.exp relax.log relax.sigmoid relax.nn.silu relax.nn.gelu relax.nn.gelu_tanh relax.power "
    "relax.sin relax.cos relax.atan relax.sinh relax.cosh relax.nn.softplus"
).split()

_BYTES = {"uint8": np.uint8, "int8": np.int8}


def tables(core: Core, threads: int) -> Any:
    """The pass, before operators become TIR."""

    @tvm.transform.module_pass(opt_level=0, name="Tables")  # type: ignore[untyped-decorator, unused-ignore]
    def change(mod: Any, _context: Any) -> Any:
        writer = _Tables(mod, core, threads)
        for var, function in list(mod.functions_items()):
            if isinstance(function, relax.Function):
                writer.builder_.update_func(var, writer.visit_expr(function))
        if not writer.made:
            return mod
        return relax.transform.DeadCodeElimination()(writer.builder_.get())

    return change


@relax.expr_functor.mutator  # type: ignore[misc, untyped-decorator, unused-ignore]
class _Tables(relax.PyExprMutator):  # type: ignore[misc]
    def __init__(self, mod: Any, core: Core, threads: int) -> None:
        super().__init__(mod)
        self._core, self._threads = core, threads
        self._tabled: list[tuple[Any, Any]] = []
        self.made = 0

    def visit_call_(self, call: Any) -> Any:
        call = self.visit_expr_post_order(call)
        if op_name(call) != "relax.quantize" or str(call.ty.dtype) not in _BYTES:
            return call
        chain = _Chain(self._binding)
        if not chain.follow(call) or chain.source is None:
            return call
        source, shape = chain.source, shape_of(call)
        if shape is None or shape != shape_of(source) or 0 in shape:
            return call
        wide = permutes_table(self._core) is not None
        if not wide and not (chain.costly and len(chain.calls) > _LONG):
            return call
        kinds = (str(source.ty.dtype), str(call.ty.dtype))
        codes = np.arange(256, dtype=np.uint8)
        table = relax.const(chain.evaluate(call, codes.view(_BYTES[kinds[0]])).view(np.uint8))
        self.made += 1
        self._tabled.append((table, call))
        if not wide:
            return self.builder_.call_te(_gathered(kinds[1]), source, table, primfunc_name_hint="table")
        function = lookup(shape, self._core, self._threads, kinds)
        return relax.call_tir(self.builder_.add_func(function, "table"), (source, table), call.ty)

    def _binding(self, var: Any) -> Any:
        """The value of a variable; of a table the quantize that it stands for, so that chains go on through it."""
        value = self.lookup_binding(var)
        if op_name(value) == "relax.call_tir" and isinstance(value.args[1], relax.Tuple):
            for table, call in self._tabled:
                if any(field.same_as(table) for field in value.args[1].fields):
                    return call
        return value


class _Chain:
    """The operators between a quantize and the one tensor of codes that it is a function of.

    source: that tensor; calls: the operators that were met; costly: one of them is tens of instructions.
    """

    def __init__(self, binding: Callable[[Any], Any]) -> None:
        self._binding = binding
        self.source: Any = None
        self.calls: list[Any] = []
        self.costly = False

    def follow(self, call: Any) -> bool:
        """True where a call is such a function, or one of nothing but constants."""
        if any(call.same_as(other) for other in self.calls):
            return True
        name = op_name(call)
        if name not in _FUNCTIONS and name not in ("relax.quantize", "relax.dequantize"):
            return False
        self.calls.append(call)
        self.costly = self.costly or name in _COSTLY
        if len(self.calls) > 64 or (name in ("relax.quantize", "relax.dequantize") and _grid(call) is None):
            return False
        operands = call.args[:1] if name in ("relax.quantize", "relax.dequantize") else call.args
        return all(self._operand(arg, name == "relax.dequantize") for arg in operands)

    def _operand(self, arg: Any, decoded: bool) -> bool:
        if isinstance(arg, relax.PrimValue if hasattr(relax, "PrimValue") else ()) or not hasattr(arg.ty, "dtype"):
            return True
        constant = constant_of(arg)
        if constant is not None:
            return bool(constant.size == 1)
        if not isinstance(arg, relax.Var):
            return not isinstance(arg, relax.Expr) or _is_number(arg)
        value, before = self._binding(arg), (self.source, self.calls, self.costly)
        self.calls = list(self.calls)
        if isinstance(value, relax.Call) and self.follow(value):
            return True
        self.source, self.calls, self.costly = before
        if not decoded or str(arg.ty.dtype) not in _BYTES:
            return False
        if self.source is None:
            self.source = arg
        return bool(self.source.same_as(arg))

    def evaluate(self, expr: Any, codes: Numbers) -> Numbers:
        """The value of an expression for each of these values of the source."""
        if self.source is not None and expr.same_as(self.source):
            return codes
        constant = constant_of(expr) if hasattr(expr, "ty") and isinstance(expr, relax.Expr) else None
        if constant is not None:
            return np.asarray(constant).reshape(())
        if isinstance(expr, relax.Var):
            return self.evaluate(self._binding(expr), codes)
        if not isinstance(expr, relax.Call):
            return np.asarray(getattr(expr.value, "value", expr.value), np.float32)
        name = op_name(expr)
        with np.errstate(all="ignore"):
            if name in ("relax.quantize", "relax.dequantize"):
                step, zero = _grid(expr) or (np.float32(1), 0)
                inner = self.evaluate(expr.args[0], codes)
                if name == "relax.dequantize":
                    return np.asarray((inner.astype(np.int32) - zero).astype(np.float32) * step)
                limits = np.iinfo(_BYTES[str(expr.ty.dtype)])
                # what is not a number becomes the least code, as in onnxruntime
                steps = np.nan_to_num(np.rint(inner.astype(np.float32) / step) + zero, nan=limits.min)
                made: Numbers = np.clip(steps, limits.min, limits.max).astype(limits.dtype)
                return made
            arguments = [self.evaluate(arg, codes) for arg in expr.args]
            found = _FUNCTIONS[name](expr, *arguments)
        return np.asarray(found, str(expr.ty.dtype))


def _is_number(arg: Any) -> bool:
    return hasattr(arg, "value") and not isinstance(arg, relax.Call)


def _grid(call: Any) -> tuple[Any, int] | None:
    """(scale, zero) of a quantize or a dequantize between bytes and float32, each one number; None for another."""
    scale, zero = (constant_of(arg) for arg in call.args[1:3])
    kinds = {str(call.ty.dtype), str(call.args[0].ty.dtype)}
    if scale is None or zero is None or scale.size != 1 or zero.size != 1:
        return None
    if "float32" not in kinds or not kinds & set(_BYTES):
        return None
    return np.float32(scale.reshape(-1)[0]), int(zero.reshape(-1)[0])


def _gathered(kind: str) -> Callable[[Any, Any], Any]:
    def compute(x: Any, table: Any) -> Any:
        def element(*at: Any) -> Any:
            code = tirx.Cast("int32", tirx.reinterpret("uint8", x[at]))
            return tirx.reinterpret(kind, table[code])

        return te.compute(x.shape, element, name="table", tag="elemwise")

    return compute


def _wide(function: Callable[..., Any]) -> Callable[..., Any]:
    """A function that is computed in float64, and rounded once."""
    return lambda _, *x: function(*(np.asarray(one, np.float64) for one in x))


def _erf(x: Any) -> Any:
    return np.vectorize(erf, otypes=[np.float64])(x)


def _sigmoid(x: Any) -> Any:
    return 0.5 * (1 + np.tanh(0.5 * x))


def _leaky(call: Any, x: Any) -> Any:
    return np.where(x < 0, x * np.float32(call.attrs.alpha), x)


_FUNCTIONS: dict[str, Callable[..., Any]] = {
    "relax.add": lambda _, a, b: a + b,
    "relax.subtract": lambda _, a, b: a - b,
    "relax.multiply": lambda _, a, b: a * b,
    "relax.divide": lambda _, a, b: a / b,
    "relax.maximum": lambda _, a, b: np.maximum(a, b),
    "relax.minimum": lambda _, a, b: np.minimum(a, b),
    "relax.power": _wide(np.power),
    "relax.negative": lambda _, x: -x,
    "relax.abs": lambda _, x: np.abs(x),
    "relax.square": lambda _, x: x * x,
    "relax.floor": lambda _, x: np.floor(x),
    "relax.ceil": lambda _, x: np.ceil(x),
    "relax.sign": lambda _, x: np.sign(x),
    "relax.exp": _wide(np.exp),
    "relax.log": _wide(np.log),
    "relax.sqrt": _wide(np.sqrt),
    "relax.rsqrt": _wide(lambda x: 1 / np.sqrt(x)),
    "relax.tanh": _wide(np.tanh),
    "relax.erf": _wide(_erf),
    "relax.sigmoid": _wide(_sigmoid),
    "relax.sin": _wide(np.sin),
    "relax.cos": _wide(np.cos),
    "relax.atan": _wide(np.arctan),
    "relax.sinh": _wide(np.sinh),
    "relax.cosh": _wide(np.cosh),
    "relax.clip": lambda _, x, low, high: np.minimum(np.maximum(x, low), high),
    "relax.nn.relu": lambda _, x: np.maximum(x, np.float32(0)),
    "relax.nn.relu6": lambda _, x: np.clip(x, np.float32(0), np.float32(6)),
    "relax.nn.leakyrelu": _leaky,
    "relax.nn.silu": _wide(lambda x: x * _sigmoid(x)),
    "relax.nn.gelu": _wide(lambda x: 0.5 * x * (1 + _erf(x * np.sqrt(0.5)))),
    "relax.nn.gelu_tanh": _wide(lambda x: 0.5 * x * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3)))),
    "relax.greater": lambda _, a, b: a > b,
    "relax.greater_equal": lambda _, a, b: a >= b,
    "relax.less": lambda _, a, b: a < b,
    "relax.less_equal": lambda _, a, b: a <= b,
    "relax.where": lambda _, c, a, b: np.where(c, a, b),
}
