"""Activations that are short formulas of others."""

from collections.abc import Sequence
from typing import Any

from tesa.frontend.expand import Writer, expands
from tesa.frontend.expansions.parts import cast, number, optional, reduce, split, text


@expands("Celu")
def celu(writer: Writer, node: Any) -> Sequence[str]:
    """max(0, x) + min(0, alpha (exp(x / alpha) - 1)), alpha 1 if it is not given."""
    x = node.input[0]
    alpha, zero, one = (number(writer, v, x) for v in (writer.options.get("alpha", 1.0), 0.0, 1.0))
    grown = writer.add("Sub", writer.add("Exp", writer.add("Div", x, alpha)), one)
    below = writer.add("Min", zero, writer.add("Mul", alpha, grown))
    return [writer.add("Add", writer.add("Relu", x), below)]


@expands("com.microsoft::QuickGelu")
def quick_gelu(writer: Writer, node: Any) -> Sequence[str]:
    """x * sigmoid(alpha * x), alpha 1.702 if it is not given."""
    return [times_sigmoid(writer, node.input[0], float(writer.options.get("alpha", 1.702)))]


def times_sigmoid(writer: Writer, x: str, alpha: float = 1.0) -> str:
    """x * sigmoid(alpha * x)."""
    inner = x if alpha == 1.0 else writer.add("Mul", x, number(writer, alpha, x))
    return str(writer.add("Mul", x, writer.add("Sigmoid", inner)))


@expands("com.microsoft::Gelu")
def gelu(writer: Writer, node: Any) -> Sequence[str]:
    """ONNX's Gelu, which is younger than ONNX Runtime's."""
    return [writer.add("Gelu", node.input[0])]


@expands("com.microsoft::BiasGelu")
def bias_gelu(writer: Writer, node: Any) -> Sequence[str]:
    """gelu(x + bias)."""
    return [writer.add("Gelu", writer.add("Add", *node.input[:2]))]


@expands("com.microsoft::FastGelu")
def fast_gelu(writer: Writer, node: Any) -> Sequence[str]:
    """GELU by way of tanh of x, or of x + bias."""
    x = writer.add("Add", *node.input[:2]) if writer.has(1) else node.input[0]
    return [writer.add("Gelu", x, approximate="tanh")]


@expands("com.microsoft::GemmFastGelu")
def gemm_fast_gelu(writer: Writer, node: Any) -> Sequence[str]:
    """GELU by way of tanh of x @ w (+ bias)."""
    product = writer.add("MatMul", *node.input[:2])
    product = writer.add("Add", product, node.input[2]) if writer.has(2) else product
    return [writer.add("Gelu", product, approximate="tanh")]


@expands("com.microsoft::BiasSplitGelu")
def bias_split_gelu(writer: Writer, node: Any) -> Sequence[str]:
    """left * gelu(right), where left and right are the halves of x + bias."""
    half = writer.shape(node.input[0])[-1] // 2
    left, right = split(writer, writer.add("Add", *node.input[:2]), [half, half], -1)
    return [writer.add("Mul", left, writer.add("Gelu", right))]


@expands("com.microsoft::BiasAdd")
def bias_add(writer: Writer, node: Any) -> Sequence[str]:
    """x + bias + skip."""
    return [writer.add("Add", writer.add("Add", *node.input[:2]), node.input[2])]


@expands("com.microsoft::ScaledSiLU")
def scaled_silu(writer: Writer, node: Any) -> Sequence[str]:
    """z * sigmoid(z) of z = scale * x; the scale is an input or the attribute alpha."""
    x = node.input[0]
    scale = node.input[1] if writer.has(1) else number(writer, writer.options.get("alpha", 1.0), x)
    return [times_sigmoid(writer, writer.add("Mul", x, scale))]


@expands("com.microsoft::BiasSoftmax")
def bias_softmax(writer: Writer, node: Any) -> Sequence[str]:
    """softmax(x + bias) over the axes from `axis` on; the bias lacks inner axes or outer ones."""
    x, bias = node.input[:2]
    shape, given = writer.shape(x), list(writer.shape(bias))
    axis = int(writer.options.get("axis", 1)) % len(shape)
    if writer.options.get("is_inner_broadcast", 0) and len(given) < len(shape):
        view = [*given[: len(given) - (len(shape) - axis)], *given[len(given) - (len(shape) - axis) :]]
        view = [*view[: len(view) - (len(shape) - axis)], *[1] * (len(shape) - len(view)), *shape[axis:]]
        bias = writer.add("Reshape", bias, writer.constant(view, "int64"))
    total = writer.add("Add", x, bias)
    if axis == len(shape) - 1:
        return [writer.add("Softmax", total, axis=-1)]
    flat = writer.add("Flatten", total, axis=axis)
    return [writer.add("Reshape", writer.add("Softmax", flat, axis=-1), writer.constant(shape, "int64"))]


@expands("com.microsoft::SwiGLU")
def swiglu(writer: Writer, node: Any) -> Sequence[str]:
    """clamp(gate) * sigmoid(alpha gate) * (clamp(up) + beta); both may be halves of one tensor."""
    options = writer.options
    gate = node.input[0]
    half = writer.shape(gate)[-1] // 2
    gate, up = (gate, node.input[1]) if writer.has(1) else split(writer, gate, [half, half], -1)
    like, limit = node.input[0], float(options.get("limit", 0.0))
    if limit > 0:
        gate = writer.add("Min", gate, number(writer, limit, like))
        up = writer.add("Max", writer.add("Min", up, number(writer, limit, like)), number(writer, -limit, like))
    scaled = writer.add("Mul", gate, number(writer, options.get("activation_alpha", 1.0), like))
    gated = writer.add("Mul", gate, writer.add("Sigmoid", scaled))
    shifted = writer.add("Add", up, number(writer, options.get("activation_beta", 0.0), like))
    return [writer.add("Mul", gated, shifted)]


@expands("com.microsoft::IsAllFinite")
def is_all_finite(writer: Writer, node: Any) -> Sequence[str]:
    """True if no element of any input is NaN or infinite."""
    options, bad = writer.options, []
    for x in node.input:
        tests = [op for op, other in (("IsNaN", "isinf_only"), ("IsInf", "isnan_only")) if not options.get(other, 0)]
        for test in tests:
            flat = writer.add("Reshape", cast(writer, writer.add(test, x), "float32"), writer.constant([-1], "int64"))
            bad.append(reduce(writer, "ReduceMax", flat, [0], 0))
    worst = writer.add("Max", *bad) if len(bad) > 1 else bad[0]
    return [writer.add("Less", worst, writer.constant(0.5, "float32"))]


def activated(writer: Writer, x: str, options: dict[str, Any], like: str) -> str:
    """The activation of a fused operator: its name in `activation`, its numbers in `activation_params` or one by one.

    like: a tensor of the element type of x.
    """
    kind = text(options.get("activation"))
    params = [float(n) for n in options.get("activation_params", ())]
    if not kind or kind == "Identity":
        return x
    if kind == "Clip":
        low, high = params or (options.get("activation_min"), options.get("activation_max"))
        bounds = [writer.constant(n, writer.dtype(like)) if n is not None else "" for n in (low, high)]
        return str(writer.add("Clip", x, *bounds))
    names = ("alpha", "beta", "gamma")
    given: dict[str, Any] = dict(zip(names, params, strict=False))
    given |= {n: float(options[f"activation_{n}"]) for n in names if f"activation_{n}" in options}
    if kind not in PARAMETERS:
        raise writer.unsupported(f"its activation {kind!r} is not known. Export the model without fused operators")
    return str(writer.add(kind, x, **optional(given, *PARAMETERS[kind])))


PARAMETERS: dict[str, tuple[str, ...]] = {
    "Relu": (), "Sigmoid": (), "Tanh": (), "Softplus": (), "Softsign": (), "HardSwish": (), "Gelu": (), "Erf": (),
    "Abs": (), "Neg": (), "Exp": (), "Elu": ("alpha",), "LeakyRelu": ("alpha",), "ThresholdedRelu": ("alpha",),
    "HardSigmoid": ("alpha", "beta"), "Selu": ("alpha", "gamma"), "Mish": (), "Celu": ("alpha",), "Softmax": (),
}  # fmt: skip
"""The activations of fused operators, and the attributes that each has."""


@expands("Mod")
def floor_mod(writer: Writer, node: Any) -> Sequence[str] | None:
    """The remainder of reals with the sign of the divisor, exact as the one with the dividend's is. None for others."""
    a, b = node.input[:2]
    if writer.dtype(a).kind != "f" or writer.options.get("fmod", 0):
        return None
    zero, rest = number(writer, 0, a), writer.add("Mod", a, b, fmod=1)
    other = writer.add("Xor", writer.add("Less", rest, zero), writer.add("Less", b, zero))
    wrong = writer.add("And", other, writer.add("Not", writer.add("Equal", rest, zero)))
    return [writer.add("Where", wrong, writer.add("Add", rest, b), rest)]
