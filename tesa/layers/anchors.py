"""Finds the weight layers of a Relax function and the operators that fuse into their epilogues."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tvm import relax

from tesa.layers.anchor import Anchor
from tesa.layers.convolutions import find_convolution
from tesa.layers.expressions import constant_of, op_name, shape_of, variables
from tesa.layers.products import find_product
from tesa.schedules.types import FloatArray, Inner

_ACTIVATIONS = {
    "relax.nn.relu": "relu", "relax.nn.gelu": "gelu", "relax.nn.silu": "silu", "relax.sigmoid": "sigmoid",
    "relax.tanh": "tanh", "relax.nn.gelu_tanh": "gelu_tanh",
}  # fmt: skip


@dataclass(frozen=True)
class Known:
    """The facts that propagation found for a weight layer.

    weight: in the place of its own, with more zeros. shift: (m,) what known constant inputs contribute to each output.
    scale: of a weight that was stored as codes, so that it broadcasts to it: each number is a multiple of it.
    """

    weight: NDArray[Any] | None = None
    shift: FloatArray | None = None
    scale: NDArray[Any] | None = None


@dataclass
class Chain:
    """A layer and what follows it up to `last`, the variable that the fused kernel computes.

    anchors: the layer, or the pieces of it. scale and bias have an element for each row of the whole layer. store: the
    binding that quantizes `last`, where nothing else reads it. known: the facts of the layer. inner: the steps behind
    which numbers are rounded to codes on the way, see Problem.inner; short: the chain up to the first of these.
    """

    anchors: tuple[Anchor, ...]
    first: Any
    last: Any
    scale: FloatArray | None = None
    bias: FloatArray | None = None
    residual: Any = None
    activation: str | None = None
    absorbed: list[Any] = field(default_factory=list)
    store: Any = None
    known: Known = Known()
    inner: tuple[Inner, ...] = ()
    short: "Chain | None" = None

    @property
    def anchor(self) -> Anchor:
        """The first piece, which has the axes, phases and layouts of all."""
        return self.anchors[0]

    def weight_of(self, anchor: Anchor) -> FloatArray:
        """The weight of one of the anchors with a following per-feature factor multiplied in."""
        if self.scale is None:
            return anchor.weight
        scale = self.scale if anchor.piece is None else self.scale[anchor.piece.rows]
        return np.ascontiguousarray(anchor.weight * scale[:, None])

    def bias_of(self, anchor: Anchor) -> FloatArray | None:
        """The bias of one of the anchors."""
        return self.bias if self.bias is None or anchor.piece is None else self.bias[anchor.piece.rows]


def find_anchors(call: Any, known: NDArray[Any] | None = None) -> tuple[Anchor, ...]:
    """The weight layer that a call is, if it is one: a matrix product or convolution with a constant float32 weight.

    known takes the place of the call's own weight. Pieces of the layer where it is too large for one matrix.
    """
    name = op_name(call)
    if name == "relax.matmul":
        return find_product(call, known)
    return find_convolution(call, known) if name.startswith("relax.nn.conv") else ()


def find_chains(bindings: list[Any], outputs: set[Any], facts: Mapping[str, Known]) -> list[Chain]:
    """Every weight layer with the longest epilogue that its value's single use allows."""
    consumers = consumers_of(bindings)
    chains = []
    taken: set[Any] = set()
    for binding in bindings:
        known = facts.get(binding.var.name, Known())
        anchors = find_anchors(binding.value, known.weight)
        if anchors:
            chain = Chain(anchors, binding.var, binding.var, bias=known.shift, known=known)
            while extend(chain, consumers.get(chain.last, []), outputs, taken):
                taken.add(chain.last)
            users = consumers.get(chain.last, [])
            if len(users) == 1 and chain.last not in outputs and op_name(users[0].value) == "relax.quantize":
                chain.store = users[0]
            chains.append(chain)
    return chains


def consumers_of(bindings: Sequence[Any]) -> dict[Any, list[Any]]:
    """The bindings that read a variable, one for each time that they do."""
    consumers: dict[Any, list[Any]] = {}
    for binding in bindings:
        for used in variables(binding.value):
            consumers.setdefault(used, []).append(binding)
    return consumers


def extend(chain: Chain, users: list[Any], outputs: set[Any], taken: set[Any]) -> bool:
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
    rounded = [step for step, _ in chain.inner]
    if vector is not None and chain.residual is None:
        if rounded and (name == "relax.multiply" or rounded != ["scale"]):
            return False
        if name == "relax.multiply":
            chain.scale = vector if chain.scale is None else chain.scale * vector
            chain.bias = None if chain.bias is None else chain.bias * vector
        else:
            signed = -vector if name == "relax.subtract" else vector
            chain.bias = signed if chain.bias is None else chain.bias + signed
        return True
    # a constant, too: what channels that were cut off added, which differs at the border of an image
    array = constant_of(other)
    if array is not None and array.dtype == np.float32 and array.size == prod(shape_of(call)):
        other = relax.const(array.reshape(shape_of(call)))
    same = hasattr(other.ty, "shape") and shape_of(other) == shape_of(call) and str(other.ty.dtype) == "float32"
    stored_so = not chain.anchor.phases and len(chain.anchors) == 1
    if name == "relax.add" and same and stored_so and chain.residual is None and "residual" not in rounded:
        chain.residual = other
        return True
    return False


def _per_feature(chain: Chain, expr: Any) -> FloatArray | None:
    """A constant that differs along the layer's output features only, as an (m,) vector."""
    array = constant_of(expr)
    anchor = chain.anchor
    shape = shape_of(anchor.call)
    if array is None or array.dtype != np.float32 or array.ndim > len(shape):
        return None
    padded = array.reshape((1,) * (len(shape) - array.ndim) + array.shape)
    if any(extent != 1 for place, extent in enumerate(padded.shape) if place not in anchor.features):
        return None
    wide = tuple(extent if place in anchor.features else 1 for place, extent in enumerate(shape))
    return np.tile(np.broadcast_to(padded, wide).reshape(-1), prod(anchor.phases))
