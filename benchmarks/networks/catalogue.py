"""The networks of the benchmark: their graphs, realistic inputs, how they are quantized, and tiny forms for tests."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import TensorProto

from benchmarks import zoo
from benchmarks.networks import sequences, vision
from tesa.errors import UsageError

Array = NDArray[Any]


@dataclass(frozen=True)
class Network:
    """One network. title: in tables. build: its ModelProto, of keywords batch and others; tiny: those of a test's form.

    quantized: the ways in which it is quantized, "static" or "dynamic", of which the first is "int8". unit: what one
    call of batch 1 makes, where a rate is wanted.
    """

    name: str
    title: str
    build: Callable[..., Any]
    tiny: Mapping[str, Any] = field(default_factory=dict)
    quantized: tuple[str, ...] = ("static",)
    unit: str = ""


NETWORKS: Mapping[str, Network] = {
    network.name: network
    for network in (
        Network(
            "mobilenet_v1", "MobileNet-v1", lambda **given: zoo.mobilenet_v1(batch_norm=False, **given),
            {"width": 0.25, "resolution": 32, "classes": 10, "blocks": ((64, 1), (128, 2))},
        ),
        Network(
            "mobilenet_v2", "MobileNet-v2", vision.mobilenet_v2,
            {"resolution": 32, "stem": 8, "last": 32, "classes": 10, "blocks": ((1, 8, 1, 1), (4, 12, 2, 2))},
        ),
        Network(
            "resnet50", "ResNet-50", lambda **given: zoo.resnet50(batch_norm=False, **given),
            {"resolution": 32, "width": 8, "stages": (1, 1), "classes": 10},
        ),
        Network(
            "bert_base", "BERT-base, 128 tokens", zoo.bert_base,
            {"layers": 1, "hidden": 32, "heads": 2, "tokens": 8, "vocabulary": 20}, ("static", "dynamic"),
        ),
        Network(
            "gpt2", "GPT-2 with cache, 1 token", sequences.gpt2,
            {"layers": 1, "hidden": 32, "heads": 2, "past": 7, "vocabulary": 40}, ("dynamic",), "tokens",
        ),
        Network(
            "keyword", "TC-ResNet14", sequences.keyword_spotter,
            {"features": 8, "frames": 20, "channels": (8, 12, 12), "kernel": 5, "classes": 5},
        ),
        Network("unet", "U-Net, 256x256", vision.unet, {"resolution": 16, "width": 8, "depth": 2}),
        Network(
            "speech", "LSTM, 1 s of speech", sequences.speech_lstm,
            {"hidden": 16, "layers": 2, "features": 8, "frames": 6}, ("dynamic",),
        ),
    )
}  # fmt: skip


def network(name: str) -> Network:
    """The network of that name."""
    if name not in NETWORKS:
        raise UsageError(f"unknown network {name!r}; there are: {', '.join(NETWORKS)}")
    return NETWORKS[name]


def feeds(model: Any, seed: int = 0) -> dict[str, Array]:
    """Inputs like those that the network would get: images and sounds of neighbours that are alike, tokens, a cache.

    Integers are below the number of rows of the table that they pick from; a mask lets everything through; the
    position is the last one.
    """
    rng, arrays = np.random.default_rng(seed), {}
    rows = _tables(model)
    for value in model.graph.input:
        shape = [d.dim_value for d in value.type.tensor_type.shape.dim]
        if value.type.tensor_type.elem_type == TensorProto.FLOAT:
            smooth = value.name in ("image", "features")
            arrays[value.name] = _smooth(rng, shape) if smooth else rng.standard_normal(shape, np.float32)
        elif "mask" in value.name:
            arrays[value.name] = np.ones(shape, np.int64)
        elif "position" in value.name:
            arrays[value.name] = np.full(shape, rows[value.name] - 1, np.int64)
        elif "type" in value.name:
            arrays[value.name] = np.zeros(shape, np.int64)
        else:
            arrays[value.name] = rng.integers(0, rows[value.name], shape)
    return arrays


def _tables(model: Any) -> dict[str, int]:
    """The number of rows of the table that each input picks from."""
    sizes = {tensor.name: tensor.dims[0] for tensor in model.graph.initializer if tensor.dims}
    for node in model.graph.node:
        if node.op_type == "DequantizeLinear" and node.input[0] in sizes:
            sizes[node.output[0]] = sizes[node.input[0]]
    return {n.input[1]: sizes[n.input[0]] for n in model.graph.node if n.op_type == "Gather" and n.input[0] in sizes}


def _smooth(rng: np.random.Generator, shape: list[int]) -> Array:
    """Normal numbers whose neighbours along the last axes are alike: half of the energy is of a coarser grid."""
    array = rng.standard_normal(shape, np.float32)
    coarse = rng.standard_normal([*shape[:2], *(-(-n // 8) for n in shape[2:])], np.float32)
    for axis in range(2, len(shape)):
        coarse = np.repeat(coarse, 8, axis).take(range(shape[axis]), axis)
    return np.asarray((array + coarse) * np.float32(0.5**0.5), np.float32)
