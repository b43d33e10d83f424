"""Weight layers on codes whose scale and zero point are found at run time: MatMulInteger, ConvInteger and their kin.

An activation is quantized by its own range, in two passes over it: its least and largest element, then its codes. The
layer is an int8 problem for a zero point of 128, and takes the scale and bias of each row as vectors that are computed
meanwhile, m elements each: of W codes w with row sums r, and codes c of X with scale s and zero point z,

    sum_k W[m, k] X[k, n] = s w_scale[m] (sum_k w[m, k] (c[k, n] - 128)) - s w_scale[m] (z - 128) r[m]

The first sum is one of integers and exact; the second term goes into the bias.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tvm import relax, te, tirx

from tesa.layers.anchors import Chain, Known, consumers_of, extend, find_anchors
from tesa.layers.codes_layers import Integer, KernelCall, coded_anchors, draft_of, features_last, precisions
from tesa.layers.emitter import Emitter
from tesa.layers.expressions import constant_of, op_name, shape_of
from tesa.layers.layout import Grid, Value, identity
from tesa.layers.quantizers import Quantizer, codes_of, operands, quantizer_of, surrounded

MIDDLE = 128
"""The zero point that kernels are made for: the one at run time is as far from it on either side."""

_OPAQUE = 8  # TVM's operator kind that fusion leaves alone


@dataclass
class Dynamic:
    """A weight layer on codes of a quantizer. factor: by which its integer sums become real numbers, an expression.

    chain: with the weight as codes, or as numbers whose scale is known. inside: variables that its kernel replaces.
    """

    chain: Chain
    quantizer: Quantizer
    factor: Any
    inside: tuple[Any, ...] = ()


def find_dynamic(
    bindings: Sequence[Any], outputs: set[Any], facts: Mapping[str, Known], chains: Sequence[Chain], threads: int,
    integer: Integer,
) -> list[Dynamic]:  # fmt: skip
    """The layers of a function that are computed on codes quantized at run time. chains: all of its weight layers."""
    bound = {binding.var: binding.value for binding in bindings}
    quantizers = {q.steps: q for var in bound if (q := quantizer_of(bound, var)) is not None}
    if not quantizers:
        return []
    sums = {var: one for one in _integer(bindings, outputs, facts, bound, quantizers) for var in one.inside}
    made: list[Dynamic] = []
    taken = {var for chain in chains if chain.first not in sums for var in (*chain.absorbed, chain.last)}
    consumers = consumers_of(bindings)
    for chain in chains:
        one = _real(chain, bound, quantizers) or sums.get(chain.first)
        if one is None or one in made:
            continue
        if one.inside:
            while extend(one.chain, consumers.get(one.chain.last, []), outputs, taken):
                taken.add(one.chain.last)
        if drafts(one, threads, integer):
            made.append(one)
    return made


def _real(chain: Chain, bound: Mapping[Any, Any], quantizers: Mapping[Any, Quantizer]) -> Dynamic | None:
    """A product of numbers out of codes, steps * scale: the scale is left for behind the product."""
    factors = operands(bound, chain.anchor.source, "multiply")
    for steps, scale in (factors, factors[::-1]) if factors else ():
        quantizer = quantizers.get(steps)
        if quantizer is not None and scale.same_as(quantizer.scale):
            return Dynamic(replace(chain, store=None), quantizer, scale)
    return None


def _integer(
    bindings: Sequence[Any], outputs: set[Any], facts: Mapping[str, Known], bound: Mapping[Any, Any],
    quantizers: Mapping[Any, Quantizer],
) -> list[Dynamic]:  # fmt: skip
    """Integer products that become real numbers by a factor of the rows or of all."""
    consumers = consumers_of(bindings)
    found = []
    for binding in bindings:
        (total,) = operands(bound, binding.var, "astype") or (None,)
        users = consumers.get(binding.var, [])
        if total is None or str(binding.var.ty.dtype) != "float32" or len(users) != 1 or binding.var in outputs:
            continue
        inside: list[Any] = []
        parts = _parts(bound, total, quantizers, inside)
        factor = next((arg for arg in operands(bound, users[0].var, "multiply") if not arg.same_as(binding.var)), None)
        if not parts or factor is None or any(len(consumers[var]) != 1 or var in outputs for var in inside):
            continue
        quantizer = quantizers[next(arg for arg in bound[parts[0]].args if arg in quantizers)]
        weights = [_weight(bound[var], facts.get(var.name, Known())) for var in parts]
        whole = np.asarray(np.sum(weights, axis=0, dtype=np.float32))
        known = Known(whole, None, np.ones(1, np.float32))
        anchors = find_anchors(bound[parts[0]], whole)
        if (
            not anchors
            or _per_row(factor, anchors[0]) is None
            or any(facts.get(v.name, Known()).shift is not None for v in parts)
        ):
            continue
        chain = Chain(anchors, parts[0], users[0].var, known=known, absorbed=[*inside, binding.var])
        found.append(Dynamic(chain, quantizer, factor, tuple(parts)))
    return found


def _parts(bound: Mapping[Any, Any], total: Any, quantizers: Mapping[Any, Quantizer], inside: list[Any]) -> list[Any]:
    """The products that an int32 sum is made of, all of one quantizer; none if it is something else.

    inside: gets the variables on the way.
    """
    inside.append(total)
    summands = operands(bound, total, "add")
    if summands:
        both = [_parts(bound, one, quantizers, inside) for one in summands]
        same = all(both) and bound[both[0][0]].args[0].same_as(bound[both[1][0]].args[0])
        return both[0] + both[1] if same else []
    (product,) = operands(bound, total, "astype") or (None,)
    call = bound.get(product)
    if call is None or not (op_name(call) == "relax.matmul" or op_name(call).startswith("relax.nn.conv")):
        return []
    if call.args[0] not in quantizers or constant_of(call.args[1]) is None:
        return []
    inside.append(product)
    return [product]


_EXACT = 2.0**24
"""The largest share of a zero point in a sum: it is taken away again as a float32, which holds such integers."""


def _weight(call: Any, known: Known) -> NDArray[Any]:
    return np.asarray(known.weight if known.weight is not None else constant_of(call.args[1]))


def _per_row(factor: Any, anchor: Any) -> int | None:
    """1 for one factor, m where each row has its own; None for any other, and for what is no tensor of float32."""
    if not hasattr(factor.ty, "shape") or str(factor.ty.dtype) != "float32":
        return None
    shape, own = shape_of(anchor.call), shape_of(factor)
    if prod(own) == 1 and len(own) <= len(shape):
        return 1
    wide = (1,) * (len(shape) - len(own)) + own
    fits = all(n == (shape[i] if i == anchor.axis else 1) for i, n in enumerate(wide)) and len(wide) == len(shape)
    return shape[anchor.axis] if fits else None


def drafts(one: Dynamic, threads: int, integer: Integer) -> list[KernelCall]:
    """The calls of the kernels of a layer, one for each piece, without arguments; none where one has no kernel."""
    found, shape = coded_anchors(one.chain), shape_of(one.quantizer.x)
    residual = None if one.chain.residual is None else Value(None, shape_of(one.chain.residual), "float32", ())
    source = Value(None, shape, "float32", identity(len(shape)), Grid(1.0, MIDDLE))
    made: list[KernelCall] = []
    for (anchor, rows), real in zip(found or (), one.chain.anchors, strict=False):
        if anchor.stack is not None or anchor.phases:
            return []
        if MIDDLE * np.abs(anchor.weight.sum(axis=1, dtype=np.float64)).max(initial=0.0) > _EXACT:
            return []
        draft = draft_of(one.chain, anchor, rows, source, None, residual, threads)
        padded = None if draft is None else _padded(draft)
        if padded is None:
            return []
        ways = precisions(one.chain.first.name, one.chain, padded, real)
        if not integer(replace(ways, alone=False)):  # other real numbers would be computed in its place
            return []
        made.append(padded)
    return made


def _padded(draft: KernelCall) -> KernelCall | None:
    """The call for codes that are padded before: what pads them is not known when the kernel is made.

    Its epilogue has a bias in any case.
    """
    problem, window = draft.problem, draft.problem.window
    epilogue = replace(problem.epilogue, bias=draft.whole)
    if window is not None and any(window.padding):
        top, left, bottom, right = window.padding
        if len(problem.x_shape) > 4:
            return None
        larger = replace(
            window, height=window.height + top + bottom, width=window.width + left + right, padding=(0, 0, 0, 0)
        )
        added = {4: (top + bottom, left + right), 3: (left + right,)}[len(problem.x_shape)]
        n, *spatial, channels = problem.x_shape
        shape = (n, *(size + more for size, more in zip(spatial, added, strict=True)), channels)
        problem = replace(problem, window=larger, x_shape=shape)
    before = None if draft.before is None else _padded(draft.before)
    return replace(draft, problem=replace(problem, epilogue=epilogue), before=before)


def dynamic_calls(emitter: Emitter, one: Dynamic, threads: int, integer: Integer) -> tuple[KernelCall, ...]:
    """The calls of the kernels of a layer, and what is computed for them."""
    made = []
    for draft in drafts(one, threads, integer):
        codes = _codes(emitter, one.quantizer, draft)
        residual: tuple[Any, ...] = ()
        if one.chain.residual is not None:
            residual = (emitter.to(emitter.value(one.chain.residual), draft.perm).expr,)
        rows = _rows(emitter, one, draft)
        before = draft.before
        if before is not None:
            before = before.given(arguments=(codes, *residual), rows=rows[:1], bias=None, scale=None)
        made.append(replace(draft, arguments=(codes, *residual), rows=rows, bias=None, scale=None, before=before))
    return tuple(made)


def _codes(emitter: Emitter, quantizer: Quantizer, draft: KernelCall) -> Any:
    """The codes that a kernel reads, padded with that of 0."""
    anchor, places = draft.anchor, features_last(draft.anchor)
    perm, window = places[0], anchor.window
    top, left, bottom, right = (0, 0, 0, 0) if window is None else window.padding
    pads = {4: ((0, 0), (top, bottom), (left, right), (0, 0)), 3: ((0, 0), (left, right), (0, 0))}.get(len(perm), ())
    codes = emitter.to(codes_of(emitter, quantizer), perm)
    if anchor.piece is not None and anchor.piece.read is not None:
        codes = emitter.part(codes, *anchor.piece.read)
    return surrounded(emitter, quantizer, codes.expr, pads) if any(map(any, pads)) else codes.expr


def _rows(emitter: Emitter, one: Dynamic, draft: KernelCall) -> tuple[Any, Any]:
    """The scale and the bias of each row, for the scale and the zero point that are found."""
    scale = np.asarray(draft.scale, np.float64)
    sums = draft.anchor.weight.sum(axis=1, dtype=np.float64)  # with what a call before this one computes
    bias = np.zeros(len(scale), np.float32) if draft.bias is None else np.asarray(draft.bias, np.float32)
    tables = [scale.astype(np.float32), (scale * sums).astype(np.float32), bias]
    level = emitter.value(one.quantizer.level)
    common, own = _factors(emitter, one, draft)
    count = shape_of(own)[0]

    def compute(scales: Any, summed: Any, shift: Any, times: Any, step: Any, zero: Any) -> list[Any]:
        def at(row: Any) -> Any:
            # experts have one for each of their rows
            return times[row if count == len(scale) else row % count] * step[0]

        def moved(row: Any) -> Any:
            return shift[row] - summed[row] * (at(row) * (zero[()] - tirx.const(float(MIDDLE), "float32")))

        rows = (len(scale),)
        return [te.compute(rows, lambda row: scales[row] * at(row), name="scale"), te.compute(rows, moved, name="bias")]

    constants = [relax.const(table) for table in tables]
    named = {"primfunc_name_hint": "rows", "primfunc_attrs": {"op_pattern": _OPAQUE}}
    made = emitter.builder.emit_te(compute, *constants, own, common, level.expr, **named)
    first, second = (emitter.builder.emit(relax.TupleGetItem(made, i)) for i in range(2))
    return first, second


def _factors(emitter: Emitter, one: Dynamic, draft: KernelCall) -> tuple[Any, Any]:
    """The factors by which sums become real numbers: one of all, and those of the rows, vectors.

    A product of the scale that is found and of constants is computed where it is read.
    """
    one_of_all = relax.const(np.ones(1, np.float32))
    for scale, table in _permutations(emitter, one.factor):
        steps = constant_of(table)
        if steps is not None and scale.same_as(one.quantizer.scale) and steps.dtype == np.float32:
            common = emitter.builder.emit(relax.op.reshape(emitter.value(scale).expr, (1,)))
            return common, relax.const(_picked(draft, np.ascontiguousarray(steps.reshape(-1))))
    factor = emitter.value(one.factor)
    count = prod(factor.shape)
    flat = emitter.builder.emit(relax.op.reshape(factor.expr, (count,)))
    if count == 1:
        return flat, one_of_all
    if draft.anchor.piece is not None:
        picks = relax.const(np.asarray(draft.anchor.piece.rows % count, np.int32))
        flat = emitter.builder.emit(relax.op.take(flat, picks, 0, mode="fast"))
    return one_of_all, flat


def _permutations(emitter: Emitter, factor: Any) -> list[tuple[Any, Any]]:
    """The operands of the product that a factor is, in both orders; none where it is something else."""
    call = emitter.sources.get(factor)
    if call is None or op_name(call) != "relax.multiply":
        return []
    return [(call.args[0], call.args[1]), (call.args[1], call.args[0])]


def _picked(draft: KernelCall, steps: NDArray[np.float32]) -> NDArray[np.float32]:
    """The factors of the rows of a piece."""
    piece = draft.anchor.piece
    return steps if piece is None or len(steps) == 1 else steps[piece.rows % len(steps)]
