"""Networks of sequences with random weights, as ONNX: a decoder with its cache, a keyword spotter, a speech LSTM."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from onnx import TensorProto, helper

from benchmarks.zoo import Builder

TC_RESNET14 = (24, 36, 36, 48, 48, 72, 72)


def gpt2(
    layers: int = 12, hidden: int = 768, heads: int = 12, past: int = 127, *, vocabulary: int = 50257, batch: int = 1,
    seed: int = 0,
) -> Any:  # fmt: skip
    """One step of a decoder of GPT-2's sizes (Radford et al., 2019): a token in, logits and a longer cache out.

    Inputs: input_ids and position_ids int64 [batch, 1], past.I.key and past.I.value [batch, heads, past, hidden/heads]
    of each layer. Outputs: logits [batch, vocabulary], present.I.key and present.I.value, which are longer by one.
    """
    build = Builder(seed)
    size = hidden // heads
    build.tensor("rows", np.array([batch, hidden]))
    build.tensor("heads", np.array([batch, 1, heads, size]))
    build.tensor("sqrt_size", np.float32(math.sqrt(size)))
    build.tensor("split", np.array([hidden] * 3))
    for name, value in (("half", 0.5), ("one", 1.0), ("three", 3.0), ("cubed", 0.044715), ("slope", 0.7978845608)):
        build.tensor(name, np.float32(value))
    words = build.node("Gather", [build.weight("wte.weight", (vocabulary, hidden), 1, 0.02), "input_ids"], "wte")
    places = build.node("Gather", [build.weight("wpe.weight", (past + 1, hidden), 1, 0.02), "position_ids"], "wpe")
    x = build.node("Reshape", [build.node("Add", [words, places], "embeddings"), "rows"], "embeddings")
    inputs = dict.fromkeys(("input_ids", "position_ids"), ("int64", (batch, 1)))
    cache = (batch, heads, past, size)
    presents = []
    for i in range(layers):
        name = f"h.{i}"
        inputs |= dict.fromkeys((f"past.{i}.key", f"past.{i}.value"), ("float32", cache))  # type: ignore[arg-type]
        y = _linear(build, _norm(build, x, f"{name}.ln_1", hidden), f"{name}.attn.c_attn", hidden, 3 * hidden)
        y, made = _attend(build, y, name, i)
        presents += made
        x = build.node("Add", [_linear(build, y, f"{name}.attn.c_proj", hidden, hidden, 0.5), x], f"{name}.attn.add")
        y = _linear(build, _norm(build, x, f"{name}.ln_2", hidden), f"{name}.mlp.c_fc", hidden, 4 * hidden)
        y = _linear(build, _gelu(build, y, f"{name}.mlp.act"), f"{name}.mlp.c_proj", 4 * hidden, hidden, 0.5)
        x = build.node("Add", [x, y], f"{name}.mlp.add")
    x = _norm(build, x, "ln_f", hidden)
    logits = build.node("MatMul", [x, build.weight("lm_head.weight", (hidden, vocabulary), hidden, 1.0)], "lm_head")
    model = build.model(inputs, logits, (batch, vocabulary))
    longer = (batch, heads, past + 1, size)
    for name in presents:
        model.graph.output.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, longer))
    return model


def _attend(build: Builder, x: str, name: str, layer: int) -> tuple[str, list[str]]:
    """The attention of one token over the cache and itself, and the names of the longer cache."""
    outputs = [f"/{name}/Split_output_{i}" for i in range(3)]
    build.nodes.append(helper.make_node("Split", [x, "split"], outputs, f"/{name}/Split", axis=1))
    parts = []
    for part, output in zip(("query", "key", "value"), outputs, strict=True):
        y = build.node("Reshape", [output, "heads"], f"{name}.{part}")
        parts.append(build.node("Transpose", [y], f"{name}.{part}", perm=[0, 2, 1, 3]))
    presents = [f"present.{layer}.{part}" for part in ("key", "value")]
    for part, new, present in zip(("key", "value"), parts[1:], presents, strict=True):
        node = helper.make_node("Concat", [f"past.{layer}.{part}", new], [present], f"/{name}.{part}/Concat", axis=2)
        build.nodes.append(node)
    turned = build.node("Transpose", [presents[0]], f"{name}.turned", perm=[0, 1, 3, 2])
    scores = build.node("MatMul", [parts[0], turned], f"{name}.scores")
    weights = build.node("Softmax", [build.node("Div", [scores, "sqrt_size"], f"{name}.scores")], name, axis=-1)
    y = build.node("MatMul", [weights, presents[1]], f"{name}.context")
    y = build.node("Transpose", [y], f"{name}.context", perm=[0, 2, 1, 3])
    return build.node("Reshape", [y, "rows"], f"{name}.context"), presents


def _linear(build: Builder, x: str, name: str, k: int, n: int, gain: float = 1.0) -> str:
    weight = build.weight(f"{name}.weight", (k, n), k, gain)
    return build.node("Gemm", [x, weight, build.around(f"{name}.bias", n, 0)], name)


def _norm(build: Builder, x: str, name: str, hidden: int) -> str:
    ends = [build.around(f"{name}.{end}", hidden, center) for end, center in (("weight", 1), ("bias", 0))]
    return build.node("LayerNormalization", [x, *ends], name, axis=-1, epsilon=1e-5)


def _gelu(build: Builder, x: str, name: str) -> str:
    """GELU by tanh, as GPT-2 has it."""
    cube = build.node("Mul", [build.node("Pow", [x, "three"], name), "cubed"], f"{name}.cube")
    inner = build.node("Mul", [build.node("Add", [x, cube], f"{name}.inner"), "slope"], f"{name}.inner")
    y = build.node("Add", [build.node("Tanh", [inner], name), "one"], f"{name}.outer")
    return build.node("Mul", [build.node("Mul", [x, "half"], f"{name}.half"), y], name)


def keyword_spotter(
    features: int = 40, frames: int = 98, *, channels: Sequence[int] = TC_RESNET14, kernel: int = 9, classes: int = 12,
    batch: int = 1, seed: int = 0,
) -> Any:  # fmt: skip
    """TC-ResNet14-1.5 (Choi et al., 2019), batch norms folded: convolutions along time over the features of a sound.

    channels: of the stem and of each residual block; where they grow, a block halves the time.

    >>> sum(node.op_type == "Conv" for node in keyword_spotter().graph.node)
    16
    """
    build = Builder(seed)
    x = build.node("Relu", [_conv1d(build, "features", "stem", (channels[0], features, 3))], "stem")
    for number, (before, after) in enumerate(itertools.pairwise(channels)):
        name, stride = f"block{number}", 1 if before == after else 2
        y = _conv1d(build, x, f"{name}.conv0", (after, before, kernel), stride)
        y = build.node("Relu", [y], f"{name}.relu0")
        y = _conv1d(build, y, f"{name}.conv1", (after, after, kernel), gain=0.5)
        if stride != 1:
            x = build.node("Relu", [_conv1d(build, x, f"{name}.skip", (after, before, 1), stride)], f"{name}.skip")
        x = build.node("Relu", [build.node("Add", [y, x], f"{name}.add")], f"{name}.relu1")
    x = build.node("Flatten", [build.node("GlobalAveragePool", [x], "pool")], "flatten", axis=1)
    weight = build.weight("classifier.weight", (classes, channels[-1]), channels[-1], 1.0)
    x = build.node("Gemm", [x, weight, build.around("classifier.bias", classes, 0)], "classifier", transB=1)
    return build.model({"features": ("float32", (batch, features, frames))}, x, (batch, classes))


def _conv1d(build: Builder, x: str, name: str, shape: tuple[int, int, int], stride: int = 1, gain: float = 2.0) -> str:
    inputs = [x, build.weight(f"{name}.weight", shape, shape[1] * shape[2], gain)]
    inputs.append(build.around(f"{name}.bias", shape[0], 0))
    pads = [shape[2] // 2] * 2
    return build.node("Conv", inputs, name, kernel_shape=[shape[2]], strides=[stride], pads=pads)


def speech_lstm(
    hidden: int = 512, layers: int = 3, *, features: int = 80, frames: int = 100, classes: int = 29, batch: int = 1,
    seed: int = 0,
) -> Any:  # fmt: skip
    """Layers of LSTM over a second of speech and a linear layer for connectionist temporal classification.

    The sizes are those of acoustic models such as Graves et al., 2013. Input: features [frames, batch, features];
    output: logits [frames, batch, classes].
    """
    build = Builder(seed)
    build.tensor("direction", np.array([1]))
    x, before = "features", features
    for i in range(layers):
        name = f"lstm{i}"
        weights = [
            build.weight(f"{name}.{part}", (1, 4 * hidden, k), k, 1.0) for part, k in (("W", before), ("R", hidden))
        ]
        bias = build.tensor(f"{name}.B", (0.1 * build.rng.standard_normal((1, 8 * hidden))).astype(np.float32))
        y = build.node("LSTM", [x, *weights, bias], name, hidden_size=hidden)
        x, before = build.node("Squeeze", [y, "direction"], name), hidden
    weight = build.weight("classifier.weight", (hidden, classes), hidden, 4.0)
    x = build.node("MatMul", [x, weight], "classifier")
    x = build.node("Add", [x, build.around("classifier.bias", classes, 0)], "classifier")
    return build.model({"features": ("float32", (frames, batch, features))}, x, (frames, batch, classes))
