"""Finds the weight layers of a Relax function and the operators that fuse into their epilogues."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tvm import ir, relax

from tesa.schedules.types import FloatArray, Window

_ACTIVATIONS = {
    "relax.nn.relu": "relu", "relax.nn.gelu": "gelu", "relax.nn.silu": "silu", "relax.sigmoid": "sigmoid",
    "relax.tanh": "tanh",
}  # fmt: skip


@dataclass(frozen=True)
class Anchor:
    """A weight layer before its epilogue: op as in Problem, the (m, k) weight, the activation it reads.

    axis: the logical axis of its output features. A linear layer with the weight on the right, x W, has them last; with
    the weight on the left, W x, they come before the columns, which is how the kernel wants them.
    """

    op: str
    call: Any
    source: Any
    weight: FloatArray
    axis: int
    window: Window | None = None


@dataclass(frozen=True)
class Known:
    """The facts that propagation found for a weight layer.

    weight: in the place of its own, with more zeros. shift: (m,) what known constant inputs contribute to each output.
    """

    weight: NDArray[Any] | None = None
    shift: FloatArray | None = None


@dataclass
class Chain:
    """An anchor and what follows it up to `last`, the variable that the fused kernel computes."""

    anchor: Anchor
    first: Any
    last: Any
    scale: FloatArray | None = None
    bias: FloatArray | None = None
    residual: Any = None
    activation: str | None = None
    absorbed: list[Any] = field(default_factory=list)

    @property
    def weight(self) -> FloatArray:
        """The anchor's weight with a following per-feature factor multiplied in."""
        if self.scale is None:
            return self.anchor.weight
        return np.ascontiguousarray(self.anchor.weight * self.scale[:, None])


def shape_of(expr: Any) -> tuple[int, ...]:
    """The static shape of a Relax tensor expression."""
    return tuple(int(extent) for extent in expr.ty.shape)


def constant_of(expr: Any) -> NDArray[Any] | None:
    """The array of a Relax constant, None for anything else."""
    return np.asarray(expr.value.numpy()) if isinstance(expr, ir.GenericConst) else None


def op_name(expr: Any) -> str:
    """The operator's name of a call, "" for anything else."""
    return str(getattr(expr.op, "name", "")) if isinstance(expr, relax.Call) else ""


def find_anchor(call: Any, known: NDArray[Any] | None = None) -> Anchor | None:
    """The weight layer that a call is, if it is one: matmul or conv2d with a constant float32 weight.

    known takes the place of the call's own weight.
    """
    name = op_name(call)
    if name == "relax.matmul":
        return _linear(call, known)
    if name == "relax.nn.conv2d" and call.attrs.data_layout == "NCHW" and call.attrs.kernel_layout == "OIHW":
        weight = _weight(call, 1, known)
        if weight is not None and weight.dtype == np.float32:
            return _convolution(call, weight)
    return None


def _weight(call: Any, argument: int, known: NDArray[Any] | None) -> NDArray[Any] | None:
    own = constant_of(call.args[argument])
    return own if own is None or known is None else known


def _linear(call: Any, known: NDArray[Any] | None) -> Anchor | None:
    rank = len(shape_of(call))
    for argument in (1, 0):
        weight = _weight(call, argument, known)
        source = call.args[1 - argument]
        if weight is None or weight.ndim != 2 or weight.dtype != np.float32 or len(shape_of(source)) < 2:
            continue
        matrix = weight.T if argument == 1 else weight
        return Anchor("linear", call, source, np.ascontiguousarray(matrix), rank - 1 if argument == 1 else rank - 2)
    return None


def _convolution(call: Any, weight: FloatArray) -> Anchor:
    """A convolution as a matrix product. A grouped one is a block-diagonal weight: zeros cost nothing here."""
    attrs = call.attrs
    _, channels, height, width = shape_of(call.args[0])
    out, in_group, kh, kw = weight.shape
    stride, dilation = _pair(attrs.strides), _pair(attrs.dilation)
    pads = [int(p) for p in attrs.padding]
    padding = (pads * (4 // len(pads)))[:4]
    window = Window(height, width, (kh, kw), stride, (padding[0], padding[1], padding[2], padding[3]), dilation)
    groups = int(attrs.groups)
    if groups == channels == out and in_group == 1:
        return Anchor("depthwise", call, call.args[0], np.ascontiguousarray(weight.reshape(out, kh * kw)), 1, window)
    full = weight
    if groups > 1:
        full = np.zeros((out, channels, kh, kw), np.float32)
        rows = out // groups
        for g in range(groups):
            part = slice(g * rows, (g + 1) * rows)
            full[part, g * in_group : (g + 1) * in_group] = weight[part]
    return Anchor("conv2d", call, call.args[0], np.ascontiguousarray(full.reshape(out, -1)), 1, window)


def _pair(values: Any) -> tuple[int, int]:
    first, second = (int(v) for v in (values if len(values) == 2 else (values[0], values[0])))
    return first, second


def find_chains(bindings: list[Any], outputs: set[Any], facts: Mapping[str, Known]) -> list[Chain]:
    """Every weight layer with the longest epilogue that its value's single use allows."""
    consumers: dict[Any, list[Any]] = {}
    for binding in bindings:
        for used in _variables(binding.value):
            consumers.setdefault(used, []).append(binding)
    chains = []
    taken: set[Any] = set()
    for binding in bindings:
        known = facts.get(binding.var.name, Known())
        anchor = find_anchor(binding.value, known.weight)
        if anchor is not None:
            chain = Chain(anchor, binding.var, binding.var, bias=known.shift)
            while _extend(chain, consumers.get(chain.last, []), outputs, taken):
                taken.add(chain.last)
            chains.append(chain)
    return chains


def _extend(chain: Chain, users: list[Any], outputs: set[Any], taken: set[Any]) -> bool:
    """Absorb the one consumer of the chain's value, if its operator fits into what is left of the epilogue.

    taken: what other chains compute. Of a sum of two layers one takes the sum into its epilogue, and the other is its
    residual.
    """
    if len(users) != 1 or chain.last in outputs or chain.activation is not None or users[0].var in taken:
        return False
    binding = users[0]
    call, name = binding.value, op_name(binding.value)
    fits = False
    if name in ("relax.add", "relax.subtract", "relax.multiply"):
        fits = _absorb_binary(chain, call, name)
    elif _activation(call) is not None:
        chain.activation = _activation(call)
        fits = True
    if fits:
        chain.absorbed.append(chain.last)
        chain.last = binding.var
    return fits


def _activation(call: Any) -> str | None:
    name = op_name(call)
    if name == "relax.clip":
        low, high = (float(bound.value) for bound in call.args[1:])
        return "relu6" if (low, high) == (0.0, 6.0) else None
    return _ACTIVATIONS.get(name)


def _absorb_binary(chain: Chain, call: Any, name: str) -> bool:
    left, right = call.args
    other = right if left.same_as(chain.last) else left
    if other.same_as(chain.last) or (name == "relax.subtract" and other is left):
        return False
    vector = _per_feature(chain, other)
    if vector is not None and chain.residual is None:
        if name == "relax.multiply":
            chain.scale = vector if chain.scale is None else chain.scale * vector
            chain.bias = None if chain.bias is None else chain.bias * vector
        else:
            signed = -vector if name == "relax.subtract" else vector
            chain.bias = signed if chain.bias is None else chain.bias + signed
        return True
    same = constant_of(other) is None and hasattr(other.ty, "shape") and shape_of(other) == shape_of(call)
    if name == "relax.add" and same and chain.residual is None:
        chain.residual = other
        return True
    return False


def _per_feature(chain: Chain, expr: Any) -> FloatArray | None:
    """A constant that differs along the layer's output features only, as an (m,) vector."""
    array = constant_of(expr)
    shape = shape_of(chain.anchor.call)
    if array is None or array.dtype != np.float32 or array.ndim > len(shape):
        return None
    axis = chain.anchor.axis
    padded = array.reshape((1,) * (len(shape) - array.ndim) + array.shape)
    if any(extent != 1 for place, extent in enumerate(padded.shape) if place != axis):
        return None
    return np.ascontiguousarray(np.broadcast_to(padded.reshape(-1), (shape[axis],)))


def _variables(expr: Any) -> list[Any]:
    found: list[Any] = []

    def visit(node: Any) -> None:
        if isinstance(node, relax.Var):
            found.append(node)

    relax.analysis.post_order_visit(expr, visit)
    return found
