"""A NumPy interpreter of the networks that propagation runs over: the reference of its tests, in float64.

It is written from what the operators mean, not from tesa's rules, and compared with onnxruntime in the tests. The body
of a call_tir (what TVM's importer writes as a kernel at once) runs through TVM, in float32.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from tesa.propagate.network import Network, Node
from tesa.propagate.registry import Operator

from .execute import execute, is_kernel
from .interpreter_move import MOVES
from .interpreter_nn import LAYERS
from .law import Arrays, Change, Evaluate, keep
from .law import run as run_with

ERF = np.vectorize(math.erf, otypes=[float])
ELEMENTWISE: dict[str, Callable[..., Any]] = {
    "add": lambda a, b: a + b,
    "subtract": lambda a, b: a - b,
    "multiply": lambda a, b: a * b,
    "divide": lambda a, b: a / b,
    "power": np.power,
    "mod": np.fmod,
    "floor_mod": np.mod,
    "floor_divide": np.floor_divide,
    "maximum": np.maximum,
    "minimum": np.minimum,
    "less": np.less,
    "less_equal": np.less_equal,
    "greater": np.greater,
    "greater_equal": np.greater_equal,
    "equal": np.equal,
    "not_equal": np.not_equal,
    "logical_and": np.logical_and,
    "logical_or": np.logical_or,
    "logical_xor": np.logical_xor,
    "logical_not": np.logical_not,
    "where": lambda c, a, b: np.where(c, a, b),
    "isnan": np.isnan,
    "isinf": np.isinf,
    "isfinite": np.isfinite,
    "nn.relu": lambda x: np.maximum(x, 0),
    "nn.relu6": lambda x: np.clip(x, 0, 6),
    "nn.gelu": lambda x: x * 0.5 * (1 + ERF(x / math.sqrt(2))),
    "nn.gelu_tanh": lambda x: 0.5 * x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3))),
    "nn.silu": lambda x: x / (1 + np.exp(-x)),
    "sigmoid": lambda x: 1 / (1 + np.exp(-x)),
    "erf": lambda x: ERF(x),
    "tanh": np.tanh,
    "exp": np.exp,
    "log": np.log,
    "sqrt": np.sqrt,
    "rsqrt": lambda x: 1 / np.sqrt(x),
    "square": np.square,
    "sin": np.sin,
    "cos": np.cos,
    "tan": np.tan,
    "atan": np.arctan,
    "sinh": np.sinh,
    "cosh": np.cosh,
    "asinh": np.arcsinh,
    "negative": np.negative,
    "abs": np.abs,
    "floor": np.floor,
    "ceil": np.ceil,
    "round": np.rint,
    "sign": np.sign,
}


def run(net: Network, inputs: Mapping[str, Any], change: Change = keep, mod: Any = None) -> Arrays:
    """All tensors of the network. change(name, value) may replace a tensor as soon as it is there."""
    return run_with(widened(net), {n: _wide(a) for n, a in inputs.items()}, evaluator(mod), change)


def widened(net: Network) -> Network:
    """The network with its constants in float64."""
    return replace(net, constants={n: _wide(a) for n, a in net.constants.items()})


def evaluator(mod: Any = None) -> Evaluate:
    """evaluate(node, arguments) by NumPy. mod: the module, for the nodes that are kernels (call_tir)."""

    def run_node(node: Node, args: Sequence[Any]) -> list[Any]:
        if mod is not None and is_kernel(node):
            return [_wide(out) for out in execute(node, [_narrow(a) for a in args], mod)]
        return evaluate(node.operator, args)

    return run_node


def evaluate(op: Operator, args: Sequence[Any]) -> list[Any]:
    """The outputs of one operator."""
    name = op.op.removeprefix("relax.")
    with np.errstate(all="ignore"):
        if name in ELEMENTWISE:
            return [np.asarray(ELEMENTWISE[name](*args))]
        result = {**OTHERS, **MOVES, **LAYERS}[name](op, *args)
    return [np.asarray(r) for r in result] if isinstance(result, list) else [np.asarray(result)]


def covered(op: str) -> bool:
    """Whether the interpreter knows the operator."""
    return op.removeprefix("relax.") in {*ELEMENTWISE, *OTHERS, *MOVES, *LAYERS}


def _wide(array: Any) -> Any:
    array = np.asarray(array)
    return array.astype(np.float64) if array.dtype.kind == "f" else array


def _narrow(array: Any) -> Any:
    return array.astype(np.float32) if array.dtype.kind == "f" else array


def _cast(op: Operator, x: Any) -> Any:
    kind = np.dtype(op.dtypes[0])
    return x.astype(np.float64 if kind.kind == "f" else kind)


def _matmul(op: Operator, a: Any, b: Any) -> Any:
    if a.dtype.kind != "f":
        a, b = a.astype(op.dtypes[0]), b.astype(op.dtypes[0])
    return a @ b


def _reduction(function: Callable[..., Any]) -> Callable[..., Any]:
    def reduce(op: Operator, x: Any) -> Any:
        axis = op.attrs.get("axis")
        axes = None if axis is None else tuple(axis)
        return function(x, axis=axes, keepdims=bool(op.attrs["keepdims"]))

    return reduce


def _arg(function: Callable[..., Any]) -> Callable[..., Any]:
    def reduce(op: Operator, x: Any) -> Any:
        return function(x, axis=op.attrs["axis"], keepdims=bool(op.attrs["keepdims"])).astype(op.dtypes[0])

    return reduce


def _quantize(op: Operator, x: Any, scale: Any, zero: Any) -> Any:
    info = np.iinfo(op.dtypes[0])
    scale, zero = _along(op, scale), _along(op, zero)
    return np.clip(np.rint(x / scale) + zero, info.min, info.max).astype(op.dtypes[0])


def _dequantize(op: Operator, q: Any, scale: Any, zero: Any) -> Any:
    return (q.astype(np.float64) - _along(op, zero)) * _along(op, scale)


def _along(op: Operator, parameter: Any) -> Any:
    """A scale or zero point, laid along its axis; wide, so that no difference of short integers wraps around."""
    view = [1] * len(op.inputs[0])
    if parameter.size > 1:
        view[op.attrs["axis"]] = -1
    return parameter.astype(np.float64).reshape(view)


OTHERS: dict[str, Callable[..., Any]] = {
    "clip": lambda op, x: np.clip(x, *op.static),
    "nn.leakyrelu": lambda op, x: np.where(x > 0, x, op.attrs["alpha"] * x),
    "nn.prelu": lambda op, x, slope: np.where(
        x > 0, x, x * slope.reshape([-1 if i == op.attrs["axis"] % x.ndim else 1 for i in range(x.ndim)])
    ),
    "astype": _cast,
    "matmul": _matmul,
    "einsum": lambda op, *xs: np.einsum(op.attrs["subscripts"], *xs),
    "sum": _reduction(np.sum),
    "mean": _reduction(np.mean),
    "max": _reduction(np.max),
    "min": _reduction(np.min),
    "prod": _reduction(np.prod),
    "variance": _reduction(np.var),
    "argmax": _arg(np.argmax),
    "argmin": _arg(np.argmin),
    "cumsum": lambda op, x: np.cumsum(x, axis=op.attrs["axis"]),
    "quantize": _quantize,
    "dequantize": _dequantize,
}
