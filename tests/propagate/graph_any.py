"""Steps of random models for tensors of any shape: unaries, arithmetic, comparisons, quantization."""

from __future__ import annotations

from typing import Any

import numpy as np
from onnx import TensorProto

from .graph_maker import LARGEST, Maker

FREE = ["Relu", "Sigmoid", "Tanh", "LeakyRelu", "Neg", "Abs", "Erf", "HardSwish", "HardSigmoid", "Sin", "Cos", "Atan",
        "Softplus", "Softsign", "Sign", "Ceil", "Floor", "Asinh", "Gelu", "Silu", "Mish", "Clip", "Round"]  # fmt: skip
SQUASHED = ["Exp", "Elu", "Selu", "Sinh", "Cosh", "Softplus", "Mish"]
Names = list[str]


def unary(m: Maker, x: str, alike: Names) -> Names:
    """An activation, or another function of one number; arguments are kept within its domain."""
    shape, kind = m.shapes[x], str(m.rng.choice([*FREE, *SQUASHED, "Sqrt", "Log", "Reciprocal", "Pow", "ErfGelu"]))
    if kind in SQUASHED:
        return [m.op(kind, [m.small(x)], shape)]
    if kind == "Clip":
        low = float(m.rng.choice([0.0, -1.0, 0.5]))
        return [m.op("Clip", [x, m.constant(np.float32(low)), m.constant(np.float32(6))], shape)]
    if kind == "Silu":
        return [m.op("Mul", [x, m.op("Sigmoid", [x], shape)], shape)]
    if kind == "Gelu" and m.opset >= 20:
        return [m.op("Gelu", [x], shape, approximate=str(m.rng.choice(["none", "tanh"])))]
    if kind in ("ErfGelu", "Gelu"):
        erf = m.op("Erf", [m.op("Div", [x, m.constant(np.float32(2**0.5))], shape)], shape)
        plus = m.op("Add", [erf, m.constant(np.float32(1))], shape)
        return [m.op("Mul", [m.op("Mul", [x, plus], shape), m.constant(np.float32(0.5))], shape)]
    if kind in ("Sqrt", "Log", "Reciprocal"):
        positive = m.op("Add", [m.op("Abs", [x], shape), m.constant(np.float32(0.5))], shape)
        return [m.op(kind, [positive], shape)]
    if kind == "Pow":
        x = m.small(x, LARGEST // 3)
        return [m.op("Pow", [x, m.constant(np.float32(m.rng.choice([2, 3])))], shape)]
    return [m.op(kind, [x], shape)]


def arithmetic(m: Maker, x: str, alike: Names) -> Names:
    """Two tensors of one shape, maybe the same one twice; or a tensor and a pruned constant."""
    shape = m.shapes[x]
    other = str(m.rng.choice(alike)) if m.rng.random() < 0.7 else None
    kind = str(m.rng.choice(["Add", "Add", "Sub", "Mul", "Mul", "Mul", "Div", "Max", "Min", "Sum"]))
    if kind == "Mul":
        return [m.op("Mul", m.pair(x, other), shape) if other else m.op("Mul", [x, _small_constant(m, shape)], shape)]
    if kind == "Div":
        positive = m.op("Add", [m.op("Abs", [other or x], shape), m.constant(np.float32(0.5))], shape)
        below = positive if m.rng.random() < 0.7 else m.constant(np.abs(m.rng.normal(size=shape[1:])) + 0.5)
        return [m.op("Div", [x, below], shape)]
    operands = [x, other or _small_constant(m, shape)]
    if m.rng.random() < 0.3 and kind != "Sum":
        operands.reverse()
    if kind == "Sum":
        operands.append(str(m.rng.choice(alike)))
    return [m.op(kind, operands, shape)]


def _small_constant(m: Maker, shape: Any) -> str:
    """Pruned, broadcast along some of the axes."""
    return m.constant(m.pruned(*[n if m.rng.random() < 0.6 else 1 for n in shape[1:]]))


def choose(m: Maker, x: str, alike: Names) -> Names:
    """where with a condition that is known, or that compares tensors."""
    shape = m.shapes[x]
    other = str(m.rng.choice(alike)) if m.rng.random() < 0.5 else _small_constant(m, shape)
    if m.rng.random() < 0.4:
        condition = m.constant(m.rng.random(shape[1:]) < 0.5)
    else:
        kind = str(m.rng.choice(["Greater", "Less", "GreaterOrEqual", "LessOrEqual"]))
        condition = m.op(kind, [str(m.rng.choice(alike)), _small_constant(m, shape)], shape)
        if m.rng.random() < 0.3:
            condition = m.op("Not", [condition], shape)
        if m.rng.random() < 0.3:
            condition = m.op("And", [condition, m.constant(m.rng.random(shape[1:]) < 0.6)], shape)
        if m.rng.random() < 0.2:
            return [m.op("Mul", [x, m.op("Cast", [condition], shape, to=TensorProto.FLOAT)], shape)]
    return [m.op("Where", [condition, x, other], shape)]


def cast(m: Maker, x: str, alike: Names) -> Names:
    """To whole numbers and back."""
    shape = m.shapes[x]
    whole = m.op("Cast", [m.small(x, 3)], shape, to=TensorProto.INT32)
    return [m.op("Cast", [whole], shape, to=TensorProto.FLOAT)]


def rounded(m: Maker, x: str, alike: Names) -> Names:
    """Quantized and back: the parameters are constants."""
    shape = m.shapes[x]
    scale = m.constant(np.float32(m.rng.uniform(0.03, 0.3)))
    signed = m.rng.random() < 0.6
    zero = m.constant(np.int8(m.rng.integers(-3, 3)) if signed else np.uint8(m.rng.choice([0, 128])))
    stored = m.op("QuantizeLinear", [x, scale, zero], shape)
    return [m.op("DequantizeLinear", [stored, scale, zero], shape)]


ANY_STEPS = {
    "unary": unary, "unary2": unary, "unary3": unary, "arithmetic": arithmetic, "arithmetic2": arithmetic,
    "arithmetic3": arithmetic, "choose": choose, "cast": cast, "rounded": rounded,
}  # fmt: skip
