"""Random quantized models, quantizations in a row and side by side; and the law of bits as a function."""

from __future__ import annotations

from typing import Any

import numpy as np

from tesa.frontend import import_onnx
from tesa.propagate import TesaModel, propagate

from ..frontend.onnx_models import model, node, port
from .interpreter import run

SHAPE = (1, 4, 6, 6)
STEPS = "qdq qdq qdq relu clip pool conv concat slice add turn max average scale".split()
SCALES = (0.1, 0.05, 0.2, 0.4, 0.125, 0.25, 0.5, 1.0, 0.3, 0.037)


class Builder:
    """Grows a graph tensor by tensor; `shapes` knows what each looks like."""

    def __init__(self, seed: int) -> None:
        self.rng = np.random.default_rng(seed)
        self.nodes: list[Any] = []
        self.constants: dict[str, Any] = {}
        self.shapes: dict[str, tuple[int, ...]] = {"x": SHAPE}

    def op(self, kind: str, inputs: list[str], shape: tuple[int, ...], **attributes: Any) -> str:
        name = f"t{len(self.nodes)}"
        self.nodes.append(node(kind, inputs, name, name=name, **attributes))
        self.shapes[name] = shape
        return name

    def const(self, array: Any) -> str:
        name = f"c{len(self.constants)}"
        self.constants[name] = np.asarray(array)
        return name

    def any(self) -> str:
        names = list(self.shapes)
        return str(self.rng.choice(names[-3:] if self.rng.random() < 0.7 else names))

    def qdq(self, x: str) -> str:
        """Quantize, maybe clip the codes, dequantize: one scale, or one for each channel."""
        rng, shape = self.rng, self.shapes[x]
        signed, bits = rng.random() < 0.5, int(rng.integers(2, 9))
        dtype = np.int8 if signed else np.uint8
        each = rng.random() < 0.2
        scale = rng.choice(SCALES, shape[1] if each else ()).astype(np.float32)
        zero = np.full(scale.shape, rng.choice([0, 0, 3, -20 if signed else 128]), dtype)
        parameters = [self.const(scale), self.const(zero)]
        codes = self.op("QuantizeLinear", [x, *parameters], shape, axis=1)
        if bits < 8 and rng.random() < 0.8:
            low = -(2 ** (bits - 1)) if signed else 0
            bounds = [self.const(np.array(v, dtype)) for v in (low, low + 2**bits - 1)]
            codes = self.op("Clip", [codes, *bounds], shape)
        real = self.op("DequantizeLinear", [codes, *parameters], shape, axis=1)
        for name in [n for n in self.shapes if n not in (real,) and self._is_codes(n)]:
            del self.shapes[name]
        return real

    def _is_codes(self, name: str) -> bool:
        maker = next((n for n in self.nodes if n.output[0] == name), None)
        source = maker.input[0] if maker is not None and maker.op_type == "Clip" else ""
        return maker is not None and (maker.op_type == "QuantizeLinear" or self._made_by(source) == "QuantizeLinear")

    def _made_by(self, name: str) -> str:
        return next((n.op_type for n in self.nodes if n.output[0] == name), "")

    def step(self) -> None:
        rng, x = self.rng, self.any()
        n, c, h, w = shape = self.shapes[x]
        kind = str(rng.choice(STEPS))
        alike = [t for t, s in self.shapes.items() if s == shape]
        other = str(rng.choice(alike))
        if kind == "qdq":
            self.qdq(x)
        elif kind == "relu":
            self.op("Relu", [x], shape)
        elif kind == "clip":
            low, high = rng.choice([0.0, -1.0, 0.3]), rng.choice([6.0, 1.0, 2.5])
            self.op("Clip", [x, self.const(np.float32(low)), self.const(np.float32(high))], shape)
        elif kind == "pool" and min(h, w) > 1:
            self.op("MaxPool", [x], (n, c, h - 1, w - 1), kernel_shape=[2, 2])
        elif kind == "average" and min(h, w) > 1:
            self.op("AveragePool", [x], (n, c, h - 1, w - 1), kernel_shape=[2, 2])
        elif kind == "conv":
            self.conv(x)
        elif kind == "concat" and c <= 8:
            self.op("Concat", [x, other], (n, 2 * c, h, w), axis=1)
        elif kind == "slice" and c > 1:
            bounds = [self.const(np.array([v])) for v in (1, c, 1)]
            self.op("Slice", [x, *bounds], (n, c - 1, h, w))
        elif kind == "add":
            self.op("Add", [x, other], shape)
        elif kind == "max":
            self.op(str(rng.choice(["Max", "Min"])), [x, other], shape)
        elif kind == "turn":
            self.op("Transpose", [x], (n, c, w, h), perm=[0, 1, 3, 2])
        elif kind == "scale":
            self.op("Mul", [x, self.const(np.float32(rng.choice([0.5, 2.0, -1.0])))], shape)

    def conv(self, x: str) -> None:
        n, c, h, w = self.shapes[x]
        half = 2 ** int(self.rng.integers(1, 8))
        codes = self.rng.integers(-half, half, (4, c, 1, 1)).astype(np.int8)
        scale = self.rng.choice(SCALES, 4) / half
        weight = self.op("DequantizeLinear", [self.const(codes), self.const(scale.astype(np.float32))], (), axis=0)
        del self.shapes[weight]
        self.op("Conv", [x, weight, self.const(self.rng.normal(size=4).astype(np.float32))], (n, 4, h, w))


def random_qdq(seed: int) -> Any:
    """Up to 14 operators; one or two outputs."""
    builder = Builder(seed)
    for _ in range(int(builder.rng.integers(3, 14))):
        builder.step()
    builder.qdq(builder.any())
    names = [n for n in builder.shapes if n != "x"]
    outputs = [names[-1]]
    if builder.rng.random() < 0.3:
        outputs.append(str(builder.rng.choice(names)))
    return model(builder.nodes, [port("x", list(SHAPE))], list(dict.fromkeys(outputs)), builder.constants)


def solved(nodes: list[Any], constants: dict[str, Any], shape: Any = (2, 6)) -> TesaModel:
    return propagate(import_onnx(model(nodes, [port("x", list(shape))], ["y"], constants)))


def quantizer(x: str, y: str, scale: float, bits: int = 8, zero: int = 0, signed: bool = True) -> tuple[Any, Any]:
    """(nodes, constants) of quantize, clip of the codes, dequantize."""
    dtype = np.int8 if signed else np.uint8
    low = -(2 ** (bits - 1)) if signed else 0
    constants = {f"{y}.s": np.float32(scale), f"{y}.z": dtype(zero)}
    nodes = [node("QuantizeLinear", [x, f"{y}.s", f"{y}.z"], f"{y}.q", name=f"{y}.q")]
    codes = f"{y}.q"
    if bits < 8:
        constants |= {f"{y}.low": dtype(low), f"{y}.high": dtype(low + 2**bits - 1)}
        nodes.append(node("Clip", [codes, f"{y}.low", f"{y}.high"], f"{y}.c", name=f"{y}.c"))
        codes = f"{y}.c"
    return [*nodes, node("DequantizeLinear", [codes, f"{y}.s", f"{y}.z"], y, name=y)], constants


def bits(found: TesaModel, name: str) -> int:
    return int(found.tesa[name].bits.max())


def rounding(found: TesaModel) -> Any:
    return lambda name, value: found.tesa[name].rounded(value)


def check_law_of_bits(found: TesaModel, feeds: dict[str, Any]) -> None:
    """All tensors rounded at once; the float64 interpreter makes a wrong claim stand out by a whole step."""
    expected, result = run(found.network, feeds), run(found.network, feeds, rounding(found))
    for name in found.network.outputs:
        np.testing.assert_allclose(result[name], expected[name], rtol=1e-5, atol=1e-5)


def feeds_of(found: TesaModel, seed: int, scale: float = 3.0) -> dict[str, Any]:
    rng = np.random.default_rng(seed)
    return {p.name: rng.normal(scale=scale, size=p.shape).astype(np.float32) for p in found.imported.inputs}
