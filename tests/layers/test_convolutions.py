"""Convolutions of any number of axes, plain and transposed, become layers with the window of a 2-D one."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper

import tesa
from tesa.layers import anchor
from tesa.layers.network import to_network
from tesa.runtime.verify import verify
from tesa.schedules.types import Depth, Window
from tests.layers.many import Many, Shape, run
from tests.support import rest_slow


def plain(draw: random.Random, rank: int) -> tuple[Shape, Shape, dict[str, Any]]:
    """The input, the weight and the attributes of a Conv."""
    groups = draw.choice([1, 1, 2, 3])
    ins, outs = draw.randint(1, 3) * groups, draw.choice([1, 2, 3]) * groups
    taps = [draw.randint(1, 3) for _ in range(rank)]
    dilations = [draw.randint(1, 2) for _ in range(rank)]
    pads = [draw.randint(0, 2) for _ in range(2 * rank)]
    sizes = [
        draw.randint(max(1, (k - 1) * d + 1 - before - after), 7)
        for k, d, before, after in zip(taps, dilations, pads[:rank], pads[rank:], strict=True)
    ]
    strides = [draw.randint(1, 3) for _ in range(rank)]
    options = {"strides": strides, "dilations": dilations, "pads": pads, "group": groups}
    return (draw.randint(1, 2), ins, *sizes), (outs, ins // groups, *taps), options


def transposed(draw: random.Random, rank: int) -> tuple[Shape, Shape, dict[str, Any]]:
    """The input, the weight and the attributes of a ConvTranspose."""
    groups = draw.choice([1, 1, 2, 3])
    ins, outs = draw.randint(1, 3) * groups, draw.randint(1, 3)
    sizes, taps = ([draw.randint(1, 5) for _ in range(rank)] for _ in range(2))
    strides, dilations = ([draw.randint(1, most) for _ in range(rank)] for most in (4, 2))
    extra = [draw.randint(0, s - 1) for s in strides]
    pads = [0] * (2 * rank)
    for axis in range(rank):
        whole = (sizes[axis] - 1) * strides[axis] + (taps[axis] - 1) * dilations[axis] + 1 + extra[axis]
        pads[axis] = draw.randint(0, min(3, whole - 1))
        pads[rank + axis] = draw.randint(0, min(3, whole - 1 - pads[axis]))
    options = {
        "strides": strides, "dilations": dilations, "pads": pads, "group": groups, "output_padding": extra,
    }  # fmt: skip
    return (draw.randint(1, 2), ins, *sizes), (ins, outs, *taps), options


@pytest.mark.parametrize("op", ["Conv", "ConvTranspose"])
@pytest.mark.parametrize("rank", rest_slow([1, 2, 3], 2))
def test_any_convolution_is_a_layer(op: str, rank: int) -> None:
    draw, many = random.Random(rank), Many(rank)
    for _ in range(25):
        x, w, options = (plain if op == "Conv" else transposed)(draw, rank)
        outputs = w[0] if op == "Conv" else w[1] * options["group"]
        bias = (1, outputs, *[1] * rank) if draw.random() < 0.5 else None
        many.add(op, x, w, bias=bias, **options)
    many.check()


def test_groups_too_large_for_one_matrix_are_several_layers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(anchor, "LARGEST", 200)
    many = Many()
    many.add("Conv", (2, 10, 9), (15, 2, 3), group=5, bias=(1, 15, 1), pads=[1, 1])
    many.add("Conv", (1, 6, 4, 5, 5), (6, 2, 2, 2, 2), group=3, bias=(1, 6, 1, 1, 1))
    many.add("ConvTranspose", (1, 6, 5, 4), (6, 2, 3, 3), group=3, strides=[2, 1], bias=(1, 6, 1, 1))
    network = many.check(kernels=6)
    assert {layer.whole for layer in network.lowered.layers} == {"conv", "conv_2", "convtranspose"}
    assert all(layer.problem.epilogue.bias for layer in network.layers)


def test_a_bias_and_an_activation_go_into_the_kernel_of_every_phase() -> None:
    many = Many()
    many.add("ConvTranspose", (1, 4, 6, 6), (4, 3, 4, 4), bias=(1, 3, 1, 1), strides=[2, 2], pads=[1] * 4)
    (layer,) = many.check().layers
    assert layer.problem.epilogue.bias
    assert layer.problem.epilogue.activation == "relu"
    assert layer.problem.m == 12


@pytest.mark.parametrize("pads", [[1, 0], [0, 1]])
def test_more_output_padding_than_the_stride(pads: list[int]) -> None:
    """onnxruntime refuses it for some sizes; torch exports it, where the dilation is larger than the stride."""
    many = Many()
    options = {"strides": [1], "dilations": [3], "pads": pads}
    many.add("ConvTranspose", (1, 2, 5), (2, 3, 2), bias=(1, 3, 1), output_padding=[2], **options)
    (got,) = run(to_network(many.proto), many.inputs)
    whole = np.zeros((1, 3, 10))  # 5 + 3 elements are reached, 2 are added
    for tap in range(2):
        whole[:, :, 3 * tap : 3 * tap + 5] += np.einsum(
            "nci,cm->nmi", many.inputs["x0"], many.constants["w0"][:, :, tap]
        )
    expected = whole[:, :, pads[0] : 10 - pads[1]] + many.constants["b0"]
    np.testing.assert_allclose(got, np.maximum(expected, 0), atol=1e-5)


def test_one_element_spread_over_many_is_a_product() -> None:
    many = Many()
    many.add("ConvTranspose", (2, 5, 1, 1), (5, 3, 4, 4))
    many.add("ConvTranspose", (2, 5, 1, 6), (5, 3, 4, 3), pads=[1, 1, 0, 1], strides=[3, 2], dilations=[2, 1])
    first, second = (layer.problem for layer in many.check().layers)
    assert (first.m, first.k, first.n) == (48, 5, 1)
    assert second.m == 3 * 6 * 2


def test_depth_stays_where_it_is_between_convolutions() -> None:
    many = Many()
    many.add("Conv", (2, 3, 5, 6, 6), (4, 3, 3, 3, 3), pads=[1] * 6)
    many.constants["w9"] = many.rng.standard_normal((4, 4, 3, 1, 1)).astype(np.float32)
    many.nodes.append(helper.make_node("Conv", ["y0", "w9"], ["y1"], pads=[1, 0, 0, 1, 0, 0]))
    many.nodes.append(helper.make_node("Add", ["y0", "y1"], ["s"]))
    many.outputs = ["s"]
    network = many.check()
    first, second = (layer.problem for layer in network.layers)
    assert [first.epilogue.residual, second.epilogue.residual] == [False, True]
    assert [layer.layout for layer in network.lowered.layers] == [(0, 1, 2, 3, 4)] * 2
    assert (first.depth, first.batch) == (Depth(size=5, taps=3, out=5, before=1), 10)
    assert second.depth is None
    assert second.window == Window(5, 36, (3, 1), padding=(1, 0, 1, 0))
    on_a_gpu = to_network(many.proto, codes_first=True)  # whose kernels know batch entries only
    assert [layer.problem.depth for layer in on_a_gpu.layers] == [None, None]


def test_an_axis_of_one_element_is_none() -> None:
    many = Many()
    many.add("Conv", (1, 4, 1, 8, 8), (4, 4, 1, 3, 3), pads=[0, 1, 1, 0, 1, 1])
    many.add("Conv", (1, 4, 6, 8, 1), (4, 1, 3, 3, 1), group=4)
    plain, depthwise = (layer.problem for layer in many.check().layers)
    assert (plain.op, plain.batch, plain.k) == ("conv2d", 1, 36)
    assert depthwise.op == "depthwise"


def test_compiled_layers_are_compared_with_their_tensors(tmp_path: Path) -> None:
    many = Many()
    many.add("ConvTranspose", (1, 4, 6, 6), (4, 3, 3, 3), bias=(1, 3, 1, 1), strides=[2, 2], pads=[1] * 4)
    many.add("ConvTranspose", (1, 4, 3, 4, 5), (4, 2, 2, 3, 2), strides=[2, 1, 3])
    many.add("Conv", (1, 4, 30), (6, 4, 5), pads=[2, 2], bias=(1, 6, 1))
    many.add("Conv", (1, 4, 5, 6, 6), (6, 4, 3, 3, 3), pads=[1] * 6)
    many.add("MatMul", (3, 5, 7), (3, 7, 4))
    onnx.save(many.proto, tmp_path / "m.onnx")
    model = tesa.compile(tmp_path / "m.onnx", output=tmp_path / "m.so", measure=False)
    assert model.skipped == ()
    shares = [1 - np.count_nonzero(many.constants[f"w{i}"]) / many.constants[f"w{i}"].size for i in range(5)]
    assert [layer.sparsity for layer in model.plan.layers if layer.kind == "sparse"] == pytest.approx(shares)
    found = verify(tesa.load(tmp_path / "m.so"), tmp_path / "m.onnx", per_layer=True)
    assert found.ok
    assert len(found.layers) == 5
    assert all(layer.compared and layer.max_abs < 1e-4 for layer in found.layers)


@pytest.mark.slow
def test_pieces_are_compared_with_their_share_of_the_tensor(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(anchor, "LARGEST", 200)
    many = Many()
    many.add("Conv", (2, 10, 9), (15, 2, 3), group=5, bias=(1, 15, 1), pads=[1, 1])
    many.add("ConvTranspose", (1, 6, 5, 4), (6, 2, 3, 3), group=3, strides=[2, 1])
    many.add("MatMul", (3, 5, 7), (3, 7, 4))
    onnx.save(many.proto, tmp_path / "m.onnx")
    plan = tesa.compile(tmp_path / "m.onnx", output=tmp_path / "m.so", measure=False).plan
    row = plan.find("conv")
    assert row is not None
    assert (row.layer, row.piece) == ("conv.piece0", (1, 0, 6))
    found = verify(tesa.load(tmp_path / "m.so"), tmp_path / "m.onnx", per_layer=True)
    assert [layer.name.partition(".")[2] for layer in found.layers] == ["piece0", "piece1"] * 3
    assert all(layer.ok and layer.compared and layer.max_abs < 1e-4 for layer in found.layers)
