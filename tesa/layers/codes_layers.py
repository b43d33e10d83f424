"""Weight layers on integers: codes of 8 bits in, a weight of int8 codes, and codes or float32 out.

A chain dequantize -> matmul or convolution -> bias, residual, activation -> quantize is one int8 problem whose scale is
that of the codes times that of the row of the weight (Jacob et al., Quantization and Training of Neural Networks for
Efficient Integer-Arithmetic-Only Inference, 2018). Its features are stored last: tokens x features, or NHWC.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tesa.attributes.zeros import frozen
from tesa.layers.anchor import Anchor
from tesa.layers.anchors import Chain, find_anchors
from tesa.layers.codes import grid_of
from tesa.layers.emitter import Emitter
from tesa.layers.expressions import constant_of, shape_of
from tesa.layers.layout import SIGNED, Grid, Perm, Value, identity
from tesa.layers.rearrange import stack, stack_last, stored_layout, stored_shape
from tesa.schedules.types import Epilogue, FloatArray, Output, Problem

Kernel = tuple[Problem, FloatArray]
"""What a kernel computes: a problem and its weight (m, k)."""


@dataclass(frozen=True)
class Precisions:
    """The two ways to compute a layer between codes, or a piece of it: on integers, and with real numbers.

    integers: one kernel, or the summands of one. real: the other way, for which `elements` codes are turned into
    numbers in another layout, or back. alone: it is the whole layer. All weights are frozen().
    """

    layer: str
    integers: tuple[Kernel, ...]
    real: Kernel
    elements: int
    alone: bool = True


Integer = Callable[[Precisions], bool]
"""Says of a layer, or a piece of it, whether it is computed on integers."""

ROUNDING = 1e-4
"""Of a step: a weight that was scaled in float32 is so close to a multiple of its scale."""

_LARGEST = (1 << 31) - 1  # a sum of products


@dataclass(frozen=True)
class KernelCall:
    """A kernel for a layer, or for a piece of it, that is still to be called.

    arguments: x and the residual, if there is one. layout: see WeightLayer. perm, dtype, grid: of the value that it
    computes, see Value. bias, scale: one for each row; rows: these two as tensors that are computed. before: the call
    that computes the residual, the rest of a sum. whole: False for such a call.
    """

    anchor: Anchor
    problem: Problem
    weight: FloatArray
    arguments: tuple[Any, ...]
    layout: tuple[int, ...]
    perm: Perm
    dtype: str
    bias: FloatArray | None = None
    scale: FloatArray | None = None
    grid: Grid | None = None
    before: "KernelCall | None" = None
    whole: bool = True
    rows: tuple[Any, ...] = ()

    def parts(self) -> "tuple[KernelCall, ...]":
        """All calls of the sum that this one is the last of, in their order."""
        return (*(() if self.before is None else self.before.parts()), self)

    def given(self, **fields: Any) -> "KernelCall":
        """The same with these fields in all calls of the sum."""
        before = None if self.before is None else self.before.given(**fields)
        return replace(self, **fields, before=before)

    def behind(self, rest: Any) -> "KernelCall":
        """The same with the result of `before` as its residual."""
        return replace(self, arguments=(self.arguments[0], rest))


def integer_layers(
    emitter: Emitter, chain: Chain, name: str, threads: int, integer: Integer, first: bool = False
) -> tuple[KernelCall, ...]:  # fmt: skip
    """The calls of int8 kernels for a chain, one for each of its pieces; none where it has to be float32.

    first: kernels of features_first, as GPUs have them; else of features_last.
    Nothing is emitted where there are none but changes of layout.
    """
    source = emitter.coded(chain.anchor.source)
    if source.grid is None or source.dtype != "float32":
        return ()
    found = coded_anchors(chain)
    store = None if chain.store is None else grid_of(chain.store.value)
    residual = None if chain.residual is None else emitter.coded(chain.residual)
    if found is None or (chain.store is not None and store is None):
        return ()
    draft_for = first_of if first else draft_of
    drafts = [draft_for(chain, *one, source, store, residual, threads) for one in found]
    ways = zip(drafts, chain.anchors, strict=True)
    if not all(draft is not None and integer(precisions(name, chain, draft, real, first)) for draft, real in ways):
        return ()
    signed = chain.store is not None and str(chain.store.value.ty.dtype) == "int8"
    dtype = "float32" if chain.store is None else "int8" if signed else "uint8"
    made = []
    for draft in filter(None, drafts):
        x = _activation(emitter, draft.anchor, source, first)
        arguments = (x,) if residual is None else (x, emitter.to(residual, draft.perm).expr)
        before = None if draft.before is None else draft.before.given(arguments=arguments)
        kind = SIGNED if signed else None
        made.append(replace(draft, arguments=arguments, dtype=dtype, grid=kind, before=before))
    return tuple(made)


def precisions(name: str, chain: Chain, draft: KernelCall, anchor: Anchor, first: bool = False) -> Precisions:
    """Both ways to compute a piece of a chain. anchor: the piece with its weight as real numbers; first: see
    integer_layers."""
    anchor = anchor.stacked() if first else anchor.in_place()
    parts = [(part.problem, frozen(part.weight)) for part in draft.parts()]
    problem = float_problem(chain.short or chain, anchor, real_shape(anchor), draft.problem.threads)
    elements = prod(problem.x_shape) + prod(problem.y_shape) * (1 + 2 * len(chain.inner))
    real = problem, frozen(chain.weight_of(anchor))
    return Precisions(name, tuple(parts), real, elements, len(chain.anchors) == 1)


def float_problem(chain: Chain, anchor: Anchor, x_shape: tuple[int, ...], threads: int) -> Problem:
    """The problem of a chain, or of a piece of it, in float32."""
    m, k = anchor.weight.shape
    return Problem(
        op=anchor.op, m=m, k=k, n=anchor.n, x_shape=x_shape, y_shape=stored(anchor)[0], batch=anchor.batch,
        window=anchor.window, threads=threads, depth=anchor.depth,
        epilogue=Epilogue(chain.bias is not None, chain.residual is not None, chain.activation),
    )  # fmt: skip


def stored(anchor: Anchor) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """The shape of what a float32 kernel stores, and the logical axis of each of its axes, see WeightLayer."""
    shape = anchor.shape
    if not anchor.phases:
        return tuple(shape[axis] for axis in anchor.y_perm), anchor.y_perm
    layout = stored_layout(anchor.phases, anchor.y_perm != identity(len(shape)))
    return stored_shape(shape, anchor.phases, layout), layout


def real_shape(anchor: Anchor) -> tuple[int, ...]:
    """The shape of the activation that a kernel of features_first reads."""
    shape = _source_shape(anchor)
    if anchor.stack is not None:
        n, channels, _, height, width = shape
        return (n, anchor.stack.out, anchor.stack.taps * channels, height, width)
    return tuple(shape[axis] for axis in anchor.x_perm)


def coded_anchors(chain: Chain) -> list[tuple[Anchor, NDArray[np.float64]]] | None:
    """Each of the chain's anchors with its weight as codes, and the scale of each row; None where it is not so.

    The codes are less their zero point: of 8 bits, they are between -255 and 255.
    """
    weight, scale = chain.known.weight, chain.known.scale
    call = chain.anchor.call
    if weight is None:
        weight = next((array for arg in call.args[:2] if (array := constant_of(arg)) is not None), None)
    if scale is None or weight is None:
        return None
    wide = np.broadcast_to(np.asarray(scale, np.float64), weight.shape)
    if not (wide > 0).all():
        return None
    codes = np.rint(weight / wide)
    if (np.abs(codes * wide - weight) > ROUNDING * wide + 1e-6 * np.abs(weight)).any():
        return None
    if np.abs(codes).max(initial=0) > 255:
        return None
    anchors = find_anchors(call, codes.astype(np.float32))
    scales = find_anchors(call, np.ascontiguousarray(wide, np.float32)) if scale.size > 1 else ()
    found = []
    for i, anchor in enumerate(anchors):
        rows = _rows(scales[i].weight) if scales else np.full(len(anchor.weight), float(scale.reshape(-1)[0]))
        if rows is None or 255 * np.abs(anchor.weight).sum(axis=1, dtype=np.float64).max(initial=0.0) > _LARGEST:
            return None
        found.append((anchor, rows))
    return found


def _rows(scales: FloatArray) -> NDArray[np.float64] | None:
    """The scale of each row where all of its elements have one; 0 is what stands between groups and phases."""
    rows = scales.max(axis=1, initial=0.0)
    same = (scales == rows[:, None]) | (scales == 0)
    return np.asarray(rows, np.float64) if same.all() else None


def draft_of(
    chain: Chain, anchor: Anchor, rows: NDArray[np.float64], source: Value, store: Grid | None,
    residual: Value | None, threads: int,
) -> KernelCall | None:  # fmt: skip
    """The call of one kernel without its arguments; None where its activation cannot be laid out for it."""
    made = _draft_of(chain, anchor, rows, source, store, residual, threads)
    return None if made is None else _split(made)


def _draft_of(
    chain: Chain, anchor: Anchor, rows: NDArray[np.float64], source: Value, store: Grid | None,
    residual: Value | None, threads: int,
) -> KernelCall | None:  # fmt: skip
    """The call of a kernel with the codes as they are, which may be beyond int8."""
    if source.grid is None:
        return None
    x_perm, layout, perm = features_last(anchor)
    scale = rows * source.grid.scale
    if chain.scale is not None:
        scale = scale * (chain.scale if anchor.piece is None else chain.scale[anchor.piece.rows])
    m, k = anchor.weight.shape
    batch, n = anchor.batch, anchor.n
    if anchor.op == "linear":  # features last, the columns of all batch entries are neighbours
        batch, n = 1, batch * n
    problem = Problem(
        op=anchor.op, m=m, k=k, n=n, x_shape=_x_shape(anchor, x_perm), batch=batch, window=anchor.window,
        y_shape=_y_shape(anchor, layout), threads=threads, dtype="int8",
        epilogue=Epilogue(chain.bias is not None, residual is not None, chain.activation, scale=True),
        x_zero=source.grid.zero, layout="features_last",
        output=Output() if store is None else Output("uint8", store.scale, store.zero),
        residual=Output() if residual is None else _kind(residual), inner=chain.inner,
    )  # fmt: skip
    with np.errstate(over="ignore"):
        factors, weight = np.ascontiguousarray(scale, np.float32), frozen(anchor.weight)
    if not np.isfinite(factors).all() or (chain.inner and (weight != np.clip(weight, -128, 127)).any()):
        return None
    return KernelCall(anchor, problem, weight, (), layout, perm, "float32", chain.bias_of(anchor), factors)


def first_of(
    chain: Chain, anchor: Anchor, rows: NDArray[np.float64], source: Value, store: Grid | None,
    residual: Value | None, threads: int,
) -> KernelCall | None:  # fmt: skip
    """As draft_of, of a kernel of features_first; None also where such kernels know it only in float32.

    Such a kernel knows no zero point z of X: scale * z * (the sum of each row of W) goes into the bias, and a border is
    padded with codes of z. Numbers that are rounded to codes in front of a bias of their own are none of such a kernel.
    """
    anchor = anchor.stacked()
    made = _draft_of(chain, anchor, rows, source, store, residual, threads)
    if made is None or source.grid is None:
        return None
    zero, window, inner = source.grid.zero, anchor.window, made.problem.inner
    if zero and any(step == "scale" for step, _ in inner):
        if made.bias is not None:
            return None
        inner = tuple(("bias" if step == "scale" else step, kind) for step, kind in inner)  # behind the one that comes
    padded = window is not None and any(window.padding)
    problem = replace(
        made.problem, n=anchor.n, batch=anchor.batch, x_shape=real_shape(anchor), inner=inner,
        y_shape=stored(anchor)[0], layout="features_first", x_zero=0, x_pad=zero if padded else 0,
    )  # fmt: skip
    bias = made.bias
    if zero and made.scale is not None:
        sums = anchor.weight.sum(axis=1, dtype=np.float64)
        shift = zero * made.scale.astype(np.float64) * sums
        bias = np.asarray(-shift if bias is None else bias - shift, np.float32)
        problem = replace(problem, epilogue=replace(problem.epilogue, bias=True))
    perm = identity(len(anchor.shape)) if anchor.phases else anchor.y_perm
    return _split(replace(made, problem=problem, bias=bias, layout=stored(anchor)[1], perm=perm))


def _split(call: KernelCall) -> KernelCall:
    """The call as a sum where codes are beyond int8: of clipped ones and what is left, until nothing is.

    y = W x is clip(W) x + (W - clip(W)) x, where the second has few weights. A code of 255 is 127 + 127 + 1.
    """
    codes = np.clip(call.weight, -128, 127)
    if (codes == call.weight).all():
        return call
    problem = call.problem
    alone = Epilogue(residual=problem.epilogue.residual, scale=True)
    before = replace(
        call, problem=replace(problem, epilogue=alone, output=Output()), weight=call.weight - codes, bias=None,
        whole=False,
    )  # fmt: skip
    epilogue = replace(problem.epilogue, residual=True)
    return replace(
        call, problem=replace(problem, epilogue=epilogue, residual=Output()), weight=codes, before=_split(before)
    )  # fmt: skip


def _kind(residual: Value) -> Output:
    """The kind of the elements of a residual."""
    grid = residual.grid
    return Output() if grid is None else Output("uint8", grid.scale, grid.zero)


def features_last(anchor: Anchor) -> tuple[Perm, tuple[int, ...], Perm]:
    """(layout of the activation, of what is stored, of the result) with the features innermost.

    Of a weight with batch axes these are features as well: tokens x experts x features.
    """
    rank = len(anchor.shape)
    if anchor.op == "linear":
        perm = _behind(rank, anchor.features)
        return _behind(len(shape_of(anchor.source)), _summed(anchor)), perm, perm
    channels_last = (0, *range(2, rank), 1)
    if not anchor.phases:
        return channels_last, channels_last, channels_last
    phases = tuple(~axis for axis in range(2, 2 + len(anchor.phases)))
    depth = channels_last[1 : rank - 3] if rank == 5 else ()
    spatial = tuple(axis for axis in channels_last[1:-1] if axis not in depth)
    return channels_last, (0, *depth, *spatial, *phases, 1), channels_last


def _summed(anchor: Anchor) -> tuple[int, ...]:
    """The axes of a linear layer's activation that the columns of its weight count: blocks, then its features."""
    rank = len(shape_of(anchor.source))
    own = rank - 2 if rank > 1 and constant_of(anchor.call.args[0]) is not None else rank - 1
    missing = len(anchor.shape) - rank if rank > 1 else 0  # of the result's batch axes
    blocks = (axis - missing for axis in anchor.features[:-1]) if rank > 1 else ()
    return (*(axis for axis in blocks if axis >= 0), own)


def _behind(rank: int, axes: tuple[int, ...]) -> Perm:
    """The row-major layout with some axes innermost."""
    return (*(a for a in range(rank) if a not in axes), *axes)


def _source_shape(anchor: Anchor) -> list[int]:
    shape = list(shape_of(anchor.source))
    if anchor.piece is not None and anchor.piece.read is not None:
        axis, start, stop = anchor.piece.read
        shape[axis] = stop - start
    return shape


def _x_shape(anchor: Anchor, perm: Perm) -> tuple[int, ...]:
    shape = _source_shape(anchor)
    if anchor.stack is not None:
        n, channels, _, height, width = shape
        return (n, anchor.stack.out, height, width, anchor.stack.taps * channels)
    return tuple(shape[axis] for axis in perm)


def _y_shape(anchor: Anchor, layout: tuple[int, ...]) -> tuple[int, ...]:
    if anchor.phases:
        return stored_shape(anchor.shape, anchor.phases, layout)
    return tuple(anchor.shape[axis] for axis in layout)


def _activation(emitter: Emitter, anchor: Anchor, source: Value, first: bool) -> Any:
    """The codes that the kernel reads."""
    if anchor.piece is not None and anchor.piece.read is not None:
        source = emitter.part(source, *anchor.piece.read)
    if anchor.stack is not None and source.grid is not None:
        stacked = stack if first else stack_last
        return stacked(emitter, source, anchor.stack, source.grid.zero)
    return emitter.to(source, anchor.x_perm if first else features_last(anchor)[0]).expr
