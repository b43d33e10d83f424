"""A MobileNet-v1 of mixed precision as ONNX, and its bits before and after propagation.

`python -m benchmarks.quantized_mobilenet` prints the table. Each layer has its own number of bits, as a search for
mixed precision leaves it; the first numbers are those that SparTA (Zheng et al., OSDI 2022) starts from in its figure
17. Weights are random: precision propagation looks at grids and ranges, not at accuracy.

Fewer than 8 bits are stored as ONNX files store them: QuantizeLinear to 8 bits, Clip of the codes, DequantizeLinear.
Each layer quantizes what it reads and what it leaves behind, with steps that are powers of two.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

BITS = (8, 5, 5, 5, 7, 7, 7, 4, 7, 7, 7, 7, 7, 5, 6, 6, 4, 7, 5, 5, 8, 6, 4, 4, 7, 5, 6, 8)  # of the 28 layers
BLOCKS = ((64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2), *((512, 1),) * 5, (1024, 2), (1024, 1))
RANGE = 8.0  # a quantized activation covers 0 .. 8, which holds all that relu6 leaves
WIDE = (2, 9, 15, 21)  # layers whose observer saw twice the range: relu6 leaves half of their codes


class _Writer:
    def __init__(self, seed: int, nested: bool) -> None:
        self.rng = np.random.default_rng(seed)
        self.nested = nested
        self.nodes: list[Any] = []
        self.constants: dict[str, Any] = {}

    def node(self, kind: str, inputs: list[str], output: str, **attributes: Any) -> str:
        self.nodes.append(helper.make_node(kind, inputs, [output], output, **attributes))
        return output

    def constant(self, name: str, array: Any) -> str:
        self.constants[name] = np.asarray(array)
        return name

    def step(self, bits: int, span: float) -> float:
        """Powers of two divide each other; otherwise 0 .. 6 is divided evenly, and no two steps fit."""
        return float(span / 2**bits if self.nested else 6.0 * span / RANGE / (2**bits - 1))

    def activation(self, x: str, name: str, bits: int, span: float = RANGE) -> str:
        """Quantize, clip the codes to fewer bits, dequantize."""
        scale = self.constant(f"{name}.scale", np.float32(self.step(bits, span)))
        zero = self.constant(f"{name}.zero", np.uint8(0))
        codes = self.node("QuantizeLinear", [x, scale, zero], f"{name}.codes")
        if bits < 8:
            low, high = (self.constant(f"{name}.{n}", np.uint8(v)) for n, v in (("low", 0), ("high", 2**bits - 1)))
            codes = self.node("Clip", [codes, low, high], f"{name}.clipped")
        return self.node("DequantizeLinear", [codes, scale, zero], f"{name}.real")

    def weight(self, name: str, shape: tuple[int, ...], bits: int) -> str:
        """Integers of so many bits, stored as int8, with a scale for each output channel."""
        half = 2 ** (bits - 1)
        codes = np.clip(np.rint(self.rng.normal(scale=half / 3, size=shape)), -half, half - 1).astype(np.int8)
        codes.reshape(-1)[:2] = (-half, half - 1)
        fan_in = int(np.prod(shape[1:]))
        powers = self.rng.integers(-1, 2, shape[0]) + np.round(np.log2(3 / half / np.sqrt(fan_in)))
        scale = self.constant(f"{name}.scale", (2.0**powers).astype(np.float32))
        stored = self.constant(f"{name}.weight", codes)
        return self.node("DequantizeLinear", [stored, scale], f"{name}.weight.real", axis=0)

    def layer(self, x: str, name: str, index: int, bits: int, shape: tuple[int, ...], **attributes: Any) -> str:
        """Quantize the input, convolve, bias, relu6, quantize the output."""
        read = self.activation(x, f"{name}.input", bits)
        bias = self.constant(f"{name}.bias", self.rng.normal(scale=0.5, size=shape[0]).astype(np.float32))
        conv = self.node("Conv", [read, self.weight(name, shape, bits), bias], name, **attributes)
        low, high = (self.constant(f"relu6.{n}", np.float32(v)) for n, v in (("low", 0), ("high", 6)))
        act = self.node("Clip", [conv, low, high], f"{name}.relu6")
        return self.activation(act, f"{name}.output", bits, 2 * RANGE if index in WIDE else RANGE)


def quantized_mobilenet(
    width: float = 1.0, resolution: int = 224, *, bits: Sequence[int] = BITS, classes: int = 1000, seed: int = 0,
    nested: bool = True,
) -> onnx.ModelProto:  # fmt: skip
    """The model. width: multiplies the channels; resolution: of the square image "image" (1, 3, n, n), 0 .. 8.

    bits: of each layer, weight and activations; as many as there are layers decide how deep the model is: the stem,
    two for each block, and the classifier. nested: steps are powers of two, so that each grid of fewer bits is part of
    one of more; if not, hardly any two grids share a number.
    """
    writer = _Writer(seed, nested)
    blocks = BLOCKS[: (len(bits) - 2) // 2]
    inside = iter(enumerate(bits))
    index, first = next(inside)
    channels = max(int(32 * width), 4)
    same = {"pads": [1, 1, 1, 1]}
    x = writer.layer("image", "stem", index, first, (channels, 3, 3, 3), strides=[2, 2], **same)
    for number, (out, stride) in enumerate(blocks, start=1):
        index, each = next(inside)
        shape = (channels, 1, 3, 3)
        x = writer.layer(x, f"block{number}.dw", index, each, shape, group=channels, strides=[stride] * 2, **same)
        index, each = next(inside)
        outs = max(int(out * width), 4)
        x = writer.layer(x, f"block{number}.pw", index, each, (outs, channels, 1, 1))
        channels = outs
    pooled = writer.node("GlobalAveragePool", [x], "pooled")
    flat = writer.node("Flatten", [pooled], "features")
    index, each = next(inside)
    read = writer.activation(flat, "classifier.input", each)
    turned = writer.node("Transpose", [writer.weight("classifier", (classes, channels), each)], "classifier.turned")
    writer.node("MatMul", [read, turned], "logits")
    ports = [("image", [1, 3, resolution, resolution]), ("logits", [1, classes])]
    image, logits = (helper.make_tensor_value_info(n, TensorProto.FLOAT, s) for n, s in ports)
    tensors = [numpy_helper.from_array(array, name) for name, array in writer.constants.items()]
    graph = helper.make_graph(writer.nodes, "quantized_mobilenet", [image], [logits], tensors)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)


def main() -> None:
    """Print the bits of each layer before and after."""
    from tesa.frontend import import_onnx
    from tesa.propagate import propagate
    from tesa.propagate.bits.layer_bits import layer_bits

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--width", type=float, default=1.0, help="multiplies the channels")
    parser.add_argument("--resolution", type=int, default=224, help="pixels of an edge of the image")
    parser.add_argument("--output", type=Path, help="write the ONNX file here")
    options = parser.parse_args()
    model = quantized_mobilenet(options.width, options.resolution)
    if options.output:
        onnx.save(model, options.output)
    imported = import_onnx(model)
    start = time.perf_counter()
    layers = layer_bits(propagate(imported))
    print(f"propagated in {time.perf_counter() - start:.2f} s; bits before -> after")
    print(f"{'layer':<14}{'weight':>10}{'input':>10}{'output':>10}")
    for row in layers:
        pairs = (
            (row.weight_before, row.weight_after), (row.input_before, row.input_after),
            (row.output_before, row.output_after),
        )  # fmt: skip
        print(f"{row.layer:<14}" + "".join(f"{f'{a} -> {b}' if a != b else str(a):>10}" for a, b in pairs))


if __name__ == "__main__":
    main()
