"""Well-known networks as ONNX models with random weights: mlp, mobilenet_v1, resnet50, bert_base.

Their graphs are those that exporters write, so that import, propagation and compilation meet what users bring. The
weights are He-initialised, the same for the same seed. Every size is a parameter: tests use tiny versions.

    python -m benchmarks.zoo mobilenet_v1 -o mobilenet.onnx
"""

from __future__ import annotations

import argparse
import itertools
import math
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

OPSET = 17
MOBILENET_V1 = (
    (64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2), *((512, 1),) * 5, (1024, 2), (1024, 1),
)  # fmt: skip
RESNET50 = (3, 4, 6, 3)


class Builder:
    """A model in the making: each method adds a node or a tensor and returns the name of what it made."""

    def __init__(self, seed: int) -> None:
        self.rng = np.random.default_rng(seed)
        self.nodes: list[Any] = []
        self.tensors: list[Any] = []

    def tensor(self, name: str, array: Any) -> str:
        """A constant."""
        self.tensors.append(numpy_helper.from_array(np.ascontiguousarray(array).reshape(np.shape(array)), name))
        return name

    def weight(self, name: str, shape: Sequence[int], fan_in: int, gain: float = 2.0) -> str:
        """Normal with variance gain / fan_in. He et al., 2015: a gain of 2 before a ReLU keeps the variance."""
        values = self.rng.standard_normal(tuple(shape), np.float32)
        return self.tensor(name, values * np.float32(math.sqrt(gain / fan_in)))

    def around(self, name: str, size: int, center: float) -> str:
        """A vector of small deviations from the center, as biases and norms have after training."""
        return self.tensor(name, (center + 0.1 * self.rng.standard_normal(size)).astype(np.float32))

    def node(self, op: str, inputs: Sequence[str], name: str, **attributes: Any) -> str:
        """An operator with one output."""
        output = f"/{name}/{op}_output_0"
        self.nodes.append(helper.make_node(op, list(inputs), [output], f"/{name}/{op}", **attributes))
        return output

    def model(
        self, inputs: Mapping[str, tuple[str, Sequence[int]]], output: str, shape: Sequence[int], name: str = "logits"
    ) -> Any:
        """The finished ModelProto. inputs: name -> (element type, shape); output: the tensor to call `name`."""
        for node in self.nodes:
            node.output[:] = [name if tensor == output else tensor for tensor in node.output]
            node.input[:] = [name if tensor == output else tensor for tensor in node.input]
        types = {"float32": TensorProto.FLOAT, "int64": TensorProto.INT64}
        ports = [helper.make_tensor_value_info(n, types[t], list(shape)) for n, (t, shape) in inputs.items()]
        result = [helper.make_tensor_value_info(name, TensorProto.FLOAT, list(shape))]
        graph = helper.make_graph(self.nodes, "zoo", ports, result, self.tensors)
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=8)


def mlp(sizes: Sequence[int] = (784, 1024, 1024, 512, 10), *, batch: int = 1, seed: int = 0) -> Any:
    """Gemm and ReLU in turn. sizes: features of the input, of each hidden layer and of the output.

    >>> [node.op_type for node in mlp((4, 3, 2)).graph.node]
    ['Gemm', 'Relu', 'Gemm']
    """
    build, x = Builder(seed), "x"
    for i, (k, n) in enumerate(itertools.pairwise(sizes)):
        x = _gemm(build, x, f"layer{i}", k, n)
        if i < len(sizes) - 2:
            x = build.node("Relu", [x], f"relu{i}")
    return build.model({"x": ("float32", (batch, sizes[0]))}, x, (batch, sizes[-1]))


def mobilenet_v1(
    width: float = 1.0, resolution: int = 224, *, batch_norm: bool = True, classes: int = 1000,
    blocks: Sequence[tuple[int, int]] = MOBILENET_V1, batch: int = 1, seed: int = 0,
) -> Any:  # fmt: skip
    """MobileNet-v1 (Howard et al., 2017): a 3x3 stem, then blocks of a 3x3 depthwise and a 1x1 convolution.

    width: multiplies all channels. blocks: (channels, stride) of each block. batch_norm: a BatchNormalization behind
    each convolution; without, the convolutions have biases, as after folding. ReLU6 is a Clip with constant bounds.
    """
    build = Builder(seed)
    build.tensor("zero", np.float32(0))
    build.tensor("six", np.float32(6))

    def scaled(channels: int) -> int:
        return max(1, round(channels * width))

    def unit(x: str, name: str, shape: tuple[int, ...], stride: int, group: int = 1) -> str:
        x = _conv(build, x, name, shape, stride, group, batch_norm)
        return build.node("Clip", [x, "zero", "six"], f"{name}.relu6")

    before = scaled(32)
    x = unit("image", "stem", (before, 3, 3, 3), 2)
    for i, (channels, stride) in enumerate(blocks):
        after = scaled(channels)
        x = unit(x, f"block{i}.depthwise", (before, 1, 3, 3), stride, before)
        x = unit(x, f"block{i}.pointwise", (after, before, 1, 1), 1)
        before = after
    return _classifier(build, x, before, classes, (batch, 3, resolution, resolution))


def resnet50(
    resolution: int = 224, *, batch_norm: bool = True, width: int = 64, stages: Sequence[int] = RESNET50,
    classes: int = 1000, batch: int = 1, seed: int = 0,
) -> Any:  # fmt: skip
    """ResNet-50 (He et al., 2015), version 1.5: bottlenecks of 1x1, 3x3 with the stride, 1x1, and a residual sum.

    width: channels of the stem, a quarter of the first stage's outputs. stages: bottlenecks of each stage.
    """
    build = Builder(seed)
    x = _conv(build, "image", "conv1", (width, 3, 7, 7), 2, 1, batch_norm)
    x = build.node("Relu", [x], "relu")
    x = build.node("MaxPool", [x], "maxpool", kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1])
    before = width
    for stage, count in enumerate(stages):
        inner = width * 2**stage
        for i in range(count):
            stride = 2 if stage and not i else 1
            x = _bottleneck(build, x, f"layer{stage + 1}.{i}", (before, inner), stride, batch_norm)
            before = inner * 4
    return _classifier(build, x, before, classes, (batch, 3, resolution, resolution))


def _bottleneck(build: Builder, x: str, name: str, channels: tuple[int, int], stride: int, norm: bool) -> str:
    before, inner = channels
    skip, after = x, inner * 4
    if stride != 1 or before != after:
        skip = _conv(build, x, f"{name}.downsample", (after, before, 1, 1), stride, 1, norm)
    for i, (shape, step) in enumerate((((inner, before, 1, 1), 1), ((inner, inner, 3, 3), stride)), start=1):
        x = _conv(build, x, f"{name}.conv{i}", shape, step, 1, norm)
        x = build.node("Relu", [x], f"{name}.relu{i}")
    # A quarter of the variance on the branch, so that the sum does not grow from block to block.
    x = _conv(build, x, f"{name}.conv3", (after, inner, 1, 1), 1, 1, norm, gain=0.5)
    return build.node("Relu", [build.node("Add", [x, skip], f"{name}.add")], f"{name}.relu3")


def _conv(
    build: Builder, x: str, name: str, shape: tuple[int, ...], stride: int, group: int, norm: bool, gain: float = 2.0
) -> str:
    """A convolution that keeps the size at stride 1, with its norm or its bias."""
    kernel = shape[2]
    inputs = [x, build.weight(f"{name}.weight", shape, math.prod(shape[1:]), gain)]
    if not norm:
        inputs.append(build.around(f"{name}.bias", shape[0], 0))
    pads = [kernel // 2] * 4
    x = build.node("Conv", inputs, name, kernel_shape=[kernel] * 2, strides=[stride] * 2, pads=pads, group=group)
    if not norm:
        return x
    ends = {"weight": 1.0, "bias": 0.0, "running_mean": 0.0}
    names = [build.around(f"{name}.bn.{end}", shape[0], center) for end, center in ends.items()]
    variance = build.tensor(f"{name}.bn.running_var", build.rng.uniform(0.8, 1.2, shape[0]).astype(np.float32))
    return build.node("BatchNormalization", [x, *names, variance], f"{name}.bn", epsilon=1e-5)


def _gemm(build: Builder, x: str, name: str, k: int, n: int, gain: float = 2.0) -> str:
    inputs = [x, build.weight(f"{name}.weight", (n, k), k, gain), build.around(f"{name}.bias", n, 0)]
    return build.node("Gemm", inputs, name, transB=1)


def _classifier(build: Builder, x: str, channels: int, classes: int, image: Sequence[int]) -> Any:
    x = build.node("Flatten", [build.node("GlobalAveragePool", [x], "pool")], "flatten", axis=1)
    x = _gemm(build, x, "classifier", channels, classes, gain=1.0)
    return build.model({"image": ("float32", image)}, x, (image[0], classes))


def bert_base(
    layers: int = 12, hidden: int = 768, heads: int = 12, tokens: int = 128, *, vocabulary: int = 30522,
    batch: int = 1, seed: int = 0,
) -> Any:  # fmt: skip
    """BERT (Devlin et al., 2018), the encoder with its pooler; the feed-forward layers are 4 * hidden wide.

    Inputs: input_ids, attention_mask and token_type_ids, int64 [batch, tokens]. Output: pooled, float32
    [batch, hidden].
    """
    build = Builder(seed)
    x = _embeddings(build, hidden, tokens, vocabulary)
    mask = build.node("Unsqueeze", ["attention_mask", build.tensor("axes12", np.array([1, 2]))], "mask")
    mask = build.node("Cast", [mask], "mask", to=TensorProto.FLOAT)
    mask = build.node("Sub", [build.tensor("one", np.float32(1)), mask], "mask")
    mask = build.node("Mul", [mask, build.tensor("lowest", np.float32(np.finfo(np.float32).min))], "mask")
    build.tensor("split", np.array([batch, tokens, heads, hidden // heads]))
    build.tensor("joined", np.array([batch, tokens, hidden]))
    build.tensor("sqrt_dim", np.float32(math.sqrt(hidden // heads)))
    build.tensor("sqrt_2", np.float32(math.sqrt(2)))
    build.tensor("half", np.float32(0.5))
    for i in range(layers):
        name = f"encoder.layer.{i}"
        attended = _attention(build, x, f"{name}.attention", hidden, mask)
        x = _normed(build, build.node("Add", [attended, x], f"{name}.attention.residual"), f"{name}.attention", hidden)
        inner = _gelu(build, _linear(build, x, f"{name}.intermediate", hidden, 4 * hidden), f"{name}.gelu")
        wide = _linear(build, inner, f"{name}.output", 4 * hidden, hidden)
        x = _normed(build, build.node("Add", [wide, x], f"{name}.residual"), name, hidden)
    first = build.node("Gather", [x, build.tensor("first", np.int64(0))], "pooler", axis=1)
    x = build.node("Tanh", [_gemm(build, first, "pooler", hidden, hidden, gain=1.0)], "pooler")
    ids = dict.fromkeys(("input_ids", "attention_mask", "token_type_ids"), ("int64", (batch, tokens)))
    return build.model(ids, x, (batch, hidden), "pooled")


def _embeddings(build: Builder, hidden: int, tokens: int, vocabulary: int) -> str:
    tables = (("word", vocabulary, "input_ids"), ("token_type", 2, "token_type_ids"), ("position", tokens, "positions"))
    build.tensor("positions", np.arange(tokens)[None])
    parts = [
        build.node("Gather", [build.weight(f"embeddings.{name}.weight", (size, hidden), 50, 0.02), ids], f"{name}")
        for name, size, ids in tables
    ]
    x = build.node("Add", parts[:2], "embeddings.types")
    return _normed(build, build.node("Add", [x, parts[2]], "embeddings.positions"), "embeddings", hidden)


def _attention(build: Builder, x: str, name: str, hidden: int, mask: str) -> str:
    turns = {"query": [0, 2, 1, 3], "key": [0, 2, 3, 1], "value": [0, 2, 1, 3]}
    parts = {}
    for part, perm in turns.items():
        y = build.node("Reshape", [_linear(build, x, f"{name}.{part}", hidden, hidden), "split"], f"{name}.{part}")
        parts[part] = build.node("Transpose", [y], f"{name}.{part}", perm=perm)
    scores = build.node("MatMul", [parts["query"], parts["key"]], f"{name}.scores")
    scores = build.node("Add", [build.node("Div", [scores, "sqrt_dim"], f"{name}.scores"), mask], f"{name}.scores")
    weights = build.node("Softmax", [scores], f"{name}.softmax", axis=-1)
    y = build.node("Transpose", [build.node("MatMul", [weights, parts["value"]], f"{name}.context")], f"{name}.context",
                   perm=[0, 2, 1, 3])  # fmt: skip
    y = build.node("Reshape", [y, "joined"], f"{name}.context")
    return _linear(build, y, f"{name}.output", hidden, hidden)


def _linear(build: Builder, x: str, name: str, k: int, n: int) -> str:
    """A linear layer on three axes, as exporters write it: MatMul with the weight as (k, n), then Add."""
    y = build.node("MatMul", [x, build.weight(f"{name}.weight", (k, n), k, 1.0)], name)
    return build.node("Add", [build.around(f"{name}.bias", n, 0), y], name)


def _normed(build: Builder, x: str, name: str, hidden: int) -> str:
    names = [build.around(f"{name}.norm.{end}", hidden, center) for end, center in (("weight", 1), ("bias", 0))]
    return build.node("LayerNormalization", [x, *names], f"{name}.norm", axis=-1, epsilon=1e-12)


def _gelu(build: Builder, x: str, name: str) -> str:
    y = build.node("Erf", [build.node("Div", [x, "sqrt_2"], name)], name)
    y = build.node("Mul", [x, build.node("Add", [y, "one"], name)], name)
    return build.node("Mul", [y, "half"], f"{name}.half")


MODELS: Mapping[str, Callable[..., Any]] = {
    "mlp": mlp, "mobilenet_v1": mobilenet_v1, "resnet50": resnet50, "bert_base": bert_base,
}  # fmt: skip


def feeds(model: Any, seed: int = 0) -> dict[str, NDArray[Any]]:
    """Random inputs: normal floats, small token numbers, ones for the attention mask and zeros for the types."""
    rng, arrays = np.random.default_rng(seed), {}
    for value in model.graph.input:
        shape = [d.dim_value for d in value.type.tensor_type.shape.dim]
        if value.type.tensor_type.elem_type == TensorProto.FLOAT:
            arrays[value.name] = rng.standard_normal(shape, np.float32)
        elif value.name == "input_ids":
            words = next(t.dims[0] for t in model.graph.initializer if t.name == "embeddings.word.weight")
            arrays[value.name] = rng.integers(0, words, shape)
        else:
            arrays[value.name] = np.full(shape, int("mask" in value.name), np.int64)
    return arrays


def main() -> int:
    """Write one model to a file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", choices=sorted(MODELS))
    parser.add_argument("-o", "--output", type=Path, required=True)
    options = parser.parse_args()
    onnx.save(MODELS[options.name](), options.output)
    return 0


if __name__ == "__main__":
    sys.exit(main())
