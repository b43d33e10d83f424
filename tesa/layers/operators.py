"""Operators on stored layouts: one small function for each group of them; without one, inputs are made plain.

A handler gets the emitter and the source call and gives the lowered value, or None where it does not apply: then the
inputs are brought to row-major layout and the operator is emitted as it stands.
"""

from collections.abc import Callable
from operator import attrgetter
from typing import Any

from tvm import relax, te, tirx

from tesa.layers.emitter import Emitter
from tesa.layers.expressions import constant_of, op_name, shape_of
from tesa.layers.layout import Perm, Value, compose, features_outer, identity, reshape_perm

Handler = Callable[[Emitter, Any], Value | None]
_HANDLERS: dict[str, Handler] = {}


def handles(*names: str) -> Callable[[Handler], Handler]:
    """Register a handler for operators by their Relax names, without the leading `relax.`."""

    def register(handler: Handler) -> Handler:
        _HANDLERS.update({f"relax.{name}": handler for name in names})
        return handler

    return register


def lower_operator(emitter: Emitter, call: Any) -> Value:
    """Lower one call that yields one tensor."""
    handler = _HANDLERS.get(op_name(call))
    value = handler(emitter, call) if handler else None
    return value if value is not None else _plain(emitter, call)


def _same(call: Any) -> Any:
    """The function of relax.op that makes calls of the same operator."""
    return attrgetter(op_name(call).removeprefix("relax."))(relax.op)


def _plain(emitter: Emitter, call: Any) -> Value:
    shape = shape_of(call)
    args = [plain_argument(emitter, arg) for arg in call.args]
    return emitter.emit(relax.Call(call.op, args, call.attrs, call.ty_args), shape, identity(len(shape)))


def plain_argument(emitter: Emitter, arg: Any) -> Any:
    """An argument in row-major layout; tuples element by element, anything but tensors untouched."""
    if arg in emitter.values:
        return emitter.plain(emitter.coded(arg))
    if isinstance(arg, relax.Tuple):
        return relax.Tuple([plain_argument(emitter, field) for field in arg.fields])
    return arg


_ELEMENTWISE = (
    "add subtract multiply divide maximum minimum power floor_divide mod "
    "equal not_equal less less_equal greater greater_equal logical_and logical_or logical_xor where "
    "abs ceil cos cosh exp floor log negative round rsqrt sigmoid sign sin sinh sqrt square tan tanh erf "
    "logical_not isnan isinf isfinite bitwise_not clip "
    "nn.relu nn.gelu nn.gelu_tanh nn.silu nn.leakyrelu nn.softplus"
).split()


@handles(*_ELEMENTWISE)
def elementwise(emitter: Emitter, call: Any) -> Value | None:
    """All operands take the layout of the largest one that has the result's shape."""
    shape = shape_of(call)
    tensors = [emitter.value(arg) for arg in call.args if _is_tensor(arg)]
    full = [t for t in tensors if t.shape == shape and constant_of(t.expr) is None]
    moved = [t.perm for t in full if t.perm != identity(len(shape))]
    if not moved:
        return None
    perm = moved[0]
    args = [_aligned(emitter, emitter.value(arg), perm) if _is_tensor(arg) else arg for arg in call.args]
    return emitter.emit(relax.Call(call.op, args, call.attrs, call.ty_args), shape, perm)


@handles("astype")
def astype(emitter: Emitter, call: Any) -> Value | None:
    """Element by element; to and from bfloat16 by its bits, since TVM has no such conversion for every CPU."""
    value, dtype = emitter.value(call.args[0]), str(call.ty.dtype)
    if "bfloat16" not in (value.dtype, dtype) or value.dtype == dtype:
        return elementwise(emitter, call)
    made = emitter.plain(value)  # nothing else, as a change of layout, has to know bfloat16
    if value.dtype == "bfloat16":
        made = emitter.builder.emit_te(widen_bfloat16, made, primfunc_name_hint="astype")
    elif value.dtype != "float32":
        made = emitter.builder.emit(relax.op.astype(made, "float32"))
    if dtype == "bfloat16":
        made = emitter.builder.emit_te(narrow_bfloat16, made, primfunc_name_hint="astype")
    elif dtype != "float32":
        made = emitter.builder.emit(relax.op.astype(made, dtype))
    return Value(made, value.shape, dtype, identity(len(value.shape)))


def widen_bfloat16(x: Any) -> Any:
    """float32 has the same sign and exponent, and 16 more bits."""

    def element(*axes: Any) -> Any:
        bits = tirx.reinterpret("uint16", x[axes]).astype("uint32")
        return tirx.reinterpret("float32", bits << tirx.IntImm("uint32", 16))

    return te.compute(x.shape, element, name="astype")


def narrow_bfloat16(x: Any) -> Any:
    """The nearest bfloat16, of two the even one; NaN stays NaN."""

    def element(*axes: Any) -> Any:
        def number(value: int) -> Any:
            return tirx.IntImm("uint32", value)

        bits = tirx.reinterpret("uint32", x[axes])
        nearest = bits + number(0x7FFF) + ((bits >> number(16)) & number(1))
        nan = (bits & number(0x7FFFFFFF)) > number(0x7F800000)
        kept = tirx.Select(nan, bits | number(0x00400000), nearest)
        return tirx.reinterpret("bfloat16", (kept >> number(16)).astype("uint16"))

    return te.compute(x.shape, element, name="astype")


def _is_tensor(expr: Any) -> bool:
    """False for scalars such as the bounds of a clip."""
    return hasattr(expr.ty, "shape") and hasattr(expr.ty, "ndim")


def _aligned(emitter: Emitter, value: Value, perm: Perm) -> Any:
    """An operand that broadcasts to the result, its axes padded to the result's rank and ordered like the result."""
    missing = len(perm) - len(value.shape)
    if not value.shape:
        return value.expr
    if missing:
        wide = (1,) * missing + value.shape
        array = constant_of(value.expr)
        if array is not None:
            expr = relax.const(array.reshape(wide), value.dtype)
        else:
            expr = emitter.builder.emit(relax.op.reshape(emitter.plain(value), wide))
        value = Value(expr, wide, value.dtype, identity(len(perm)))
    return emitter.to(value, perm).expr


@handles("permute_dims")
def permute(emitter: Emitter, call: Any) -> Value:
    """No data moves: only the layout's book-keeping changes."""
    value = emitter.value(call.args[0])
    rank = len(value.shape)
    axes = call.attrs.axes
    order = tuple(int(a) % rank for a in axes) if axes is not None else tuple(reversed(range(rank)))
    return Value(value.expr, tuple(value.shape[a] for a in order), value.dtype, compose(value.perm, order))


@handles("reshape", "expand_dims", "squeeze", "flatten", "nn.batch_flatten")
def reshape(emitter: Emitter, call: Any) -> Value | None:
    """A view where the layout allows it."""
    value = emitter.value(call.args[0])
    shape = shape_of(call)
    perm = reshape_perm(value.shape, value.perm, shape)
    if perm is None:
        value = emitter.to(value, identity(len(value.shape)))
        perm = identity(len(shape))
    physical = tuple(shape[axis] for axis in perm)
    return emitter.emit(relax.op.reshape(value.expr, physical), shape, perm)


@handles("nn.softmax", "nn.log_softmax")
def softmax(emitter: Emitter, call: Any) -> Value:
    """Works along any axis."""
    value = emitter.value(call.args[0])
    axis = value.perm.index(int(call.attrs.axis) % len(value.shape))
    return emitter.emit(_same(call)(value.expr, axis), value.shape, value.perm)


@handles("nn.layer_norm")
def layer_norm(emitter: Emitter, call: Any) -> Value | None:
    """Works along any one axis; several axes must keep their order."""
    value = emitter.value(call.args[0])
    attrs = call.attrs
    if len(attrs.axes) != 1:
        return None
    axis = value.perm.index(int(attrs.axes[0]) % len(value.shape))
    gain, shift = (emitter.plain(emitter.value(arg)) for arg in call.args[1:])  # what computes them may be lowered
    call = relax.op.nn.layer_norm(
        value.expr, gain, shift, [axis], float(attrs.epsilon), bool(attrs.center), bool(attrs.scale)
    )
    return emitter.emit(call, value.shape, value.perm)


@handles("mean", "sum", "max", "min", "prod", "variance", "std")
def reduction(emitter: Emitter, call: Any) -> Value:
    """Reduces the stored axes; the layout of what is left follows."""
    value = emitter.value(call.args[0])
    rank = len(value.shape)
    axes = call.attrs.axis
    logical = sorted(int(a) % rank for a in axes) if axes is not None else list(range(rank))
    keep = bool(call.attrs.keepdims)
    physical = sorted(value.perm.index(a) for a in logical)
    left = list(range(rank)) if keep else [a for a in range(rank) if a not in logical]
    perm = tuple(left.index(a) for a in value.perm if a in left)
    return emitter.emit(_same(call)(value.expr, physical, keep), shape_of(call), perm)


@handles("concat")
def concat(emitter: Emitter, call: Any) -> Value | None:
    """All parts take the layout of the first one that is not row-major."""
    if not isinstance(call.args[0], relax.Tuple):
        return None
    values = [emitter.value(field) for field in call.args[0].fields]
    moved = [v.perm for v in values if v.perm != identity(len(v.shape))]
    if not moved:
        return None
    perm = moved[0]
    axis = perm.index(int(call.attrs.axis or 0) % len(perm))
    parts = [emitter.to(v, perm).expr for v in values]
    return emitter.emit(relax.op.concat(parts, axis), shape_of(call), perm)


@handles("matmul")
def product(emitter: Emitter, call: Any) -> Value | None:
    """The product of two activations: rows of the result innermost where the left operand has them innermost.

    S = Q K^T and C = P V of an attention block then need no transpose at all, and both vectorize over the tokens.
    """
    left, right = (emitter.value(arg) for arg in call.args)
    shape = shape_of(call)
    rank = len(shape)
    if rank < 2 or len(left.shape) != rank or len(right.shape) != rank or left.dtype != "float32":
        return None
    if left.shape[:-2] != right.shape[:-2]:
        return None
    plain, swapped = identity(rank), features_outer(rank)
    if left.perm == swapped:
        right = right if right.perm in (plain, swapped) else emitter.to(right, plain)
        return _matmul(emitter, left, right, shape, swapped)
    left, right = (x if x.perm == plain or x.perm[-1] >= rank - 2 else emitter.to(x, plain) for x in (left, right))
    # context[b, h, i, p] of values that lie as tokens x features is one of tokens x features
    return _matmul(emitter, left, right, shape, right.perm if right.perm[-1] == rank - 1 else plain)


def _matmul(emitter: Emitter, left: Value, right: Value, shape: tuple[int, ...], out: Perm) -> Value:
    """The product written on the stored arrays, so that no operand is transposed first. out: the result's layout."""
    depth = left.shape[-1]

    def compute(a: Any, b: Any) -> Any:
        k = te.reduce_axis((0, depth), name="k")

        def element(*axes: Any) -> Any:
            at = dict(zip(out, axes, strict=True))
            batch, (i, j) = [at[axis] for axis in range(len(shape) - 2)], (at[len(shape) - 2], at[len(shape) - 1])
            one, other = (*batch, i, k), (*batch, k, j)
            return te.sum(
                a[tuple(one[axis] for axis in left.perm)] * b[tuple(other[axis] for axis in right.perm)], axis=k
            )

        return te.compute(tuple(shape[axis] for axis in out), element, name="matmul")

    result = emitter.builder.emit_te(compute, left.expr, right.expr, primfunc_name_hint="matmul")
    return Value(result, shape, left.dtype, out)
