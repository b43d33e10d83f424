"""Chains of codes become int8 layers with the features last, and compute what onnxruntime computes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto

from tesa.base.onnxruntime import reference_outputs
from tesa.layers.network import Network, to_network
from tesa.schedules.types import Output
from tests.layers.integer import Quantized, lowered, run
from tests.support import rest_slow

KINDS = [(signed, channels) for signed in (False, True) for channels in (False, True)]


def check(q: Quantized, *outputs: str, dtypes: list[str] | None = None, ties: float = 0.002, **options: Any) -> Network:
    """The network computes onnxruntime's results, but for single codes; its layers have these dtypes.

    ties: the share of codes that may be off by one, of outputs that are codes or dequantized ones.
    """
    proto, feeds = q.proto(*outputs), q.feeds()
    network = lowered(proto, **options)
    if dtypes is not None:
        assert [layer.problem.dtype for layer in network.layers] == dtypes
    expected, found = reference_outputs(proto, feeds), run(network, feeds)
    for name, wanted in expected.items():
        got = found[name]
        assert (got.dtype, got.shape) == (wanted.dtype, wanted.shape)
        if wanted.dtype.kind in "iu":
            off = np.abs(got.astype(int) - wanted.astype(int))
            assert off.max() <= 1, name
            assert (off > 0).mean() <= ties, name
            assert wanted.std() > 2, "the codes say nothing"
        else:
            np.testing.assert_allclose(got, wanted, rtol=1e-4, atol=1e-4 * np.abs(wanted).max(), err_msg=name)
    return network


@pytest.mark.parametrize(("signed", "channels"), KINDS)
def test_linear_layers(signed: bool, channels: bool) -> None:
    q = Quantized(signed, channels)
    d = q.codes(q.input(5, 16), 0.02, 120)
    d = q.codes(q.op("Relu", q.op("Gemm", d, q.weight(8, 16), q.bias(8), transB=1)), 0.03, 3)
    code = q.quantize(q.op("MatMul", d, q.weight(8, 24, axis=1, zero=4)), 0.03, 100)
    network = check(q, code, dtypes=["int8", "int8"])
    first, second = (layer.problem for layer in network.layers)
    assert (first.layout, first.x_shape, first.y_shape, first.x_zero) == ("features_last", (5, 16), (5, 8), 120)
    assert (first.epilogue.bias, first.epilogue.activation, first.epilogue.scale) == (True, "relu", True)
    assert first.output == Output("uint8", float(np.float32(0.03)), 3)
    assert second.x_zero == 3


def test_codes_go_from_layer_to_layer_without_any_step_between() -> None:
    q = Quantized()
    d = q.codes(q.input(2, 5, 16), 0.02, 120)
    for _ in range(3):
        d = q.codes(q.op("MatMul", d, q.weight(16, 16, axis=1)), 0.03, 100)
    network = check(q, d, dtypes=["int8"] * 3)
    (function,) = (f for var, f in network.lowered.mod.functions_items() if var.name_hint == "main")
    names = [str(getattr(b.value, "op", "")) for block in function.body.blocks for b in block.bindings]
    assert len([name for name in names if name]) == 5, names


LAYERS: dict[str, Callable[[Quantized], str]] = {
    "left": lambda q: q.op("MatMul", q.weight(8, 16), q.codes(q.input(16, 5), 0.02, 120)),
    "batch, left": lambda q: q.op("MatMul", q.weight(8, 16), q.codes(q.input(3, 16, 5), 0.02, 120)),
    "vector": lambda q: q.op("MatMul", q.codes(q.input(16), 0.02, 120), q.weight(16, 40, axis=1)),
    "conv": lambda q: q.op("Conv", q.codes(q.input(2, 4, 7, 9), 0.02, 120), q.weight(8, 4, 3, 2), q.bias(8),
                           strides=[2, 1], pads=[1, 0, 2, 1], dilations=[1, 2]),
    "1x1": lambda q: q.op("Conv", q.codes(q.input(1, 4, 7, 9), 0.02, 120), q.weight(8, 4, 1, 1), q.bias(8)),
    "depthwise": lambda q: q.op("Conv", q.codes(q.input(2, 6, 7, 9), 0.02, 120), q.weight(6, 1, 3, 3, density=1),
                                q.bias(6), pads=[1] * 4, group=6),
    "grouped": lambda q: q.op("Conv", q.codes(q.input(1, 6, 7, 9), 0.02, 90), q.weight(8, 3, 3, 3), pads=[1] * 4,
                              group=2),
    "1-D": lambda q: q.op("Conv", q.codes(q.input(2, 6, 19), 0.02, 120), q.weight(8, 6, 5), q.bias(8), pads=[2, 2],
                          strides=[2]),
    "3-D": lambda q: q.op("Conv", q.codes(q.input(2, 3, 5, 6, 7), 0.02, 120), q.weight(8, 3, 3, 3, 3), q.bias(8),
                          pads=[1] * 6, strides=[2, 1, 1]),
    "3-D pointwise": lambda q: q.op("Conv", q.codes(q.input(2, 3, 5, 6, 7), 0.02, 120), q.weight(8, 3, 1, 1, 1)),
    "transposed": lambda q: q.op("ConvTranspose", q.codes(q.input(1, 5, 6, 7), 0.02, 120),
                                 q.weight(5, 4, 3, 3, axis=1), q.bias(4), strides=[2, 2], pads=[1, 1, 0, 0]),
    "transposed, groups": lambda q: q.op("ConvTranspose", q.codes(q.input(1, 4, 6, 7), 0.02, 120),
                                         q.weight(4, 3, 3, 3, axis=1), strides=[2, 1], group=2),
    "transposed, 1-D": lambda q: q.op("ConvTranspose", q.codes(q.input(2, 5, 6), 0.02, 120),
                                      q.weight(5, 4, 4, axis=1), strides=[2], pads=[1, 1]),
    "transposed, 3-D": lambda q: q.op("ConvTranspose", q.codes(q.input(1, 3, 3, 4, 5), 0.02, 120),
                                      q.weight(3, 4, 2, 2, 2, axis=1), strides=[2, 2, 2]),
}  # fmt: skip


@pytest.mark.parametrize("signed", rest_slow([False, True]))
def test_every_kind_of_layer(signed: bool) -> None:
    """Codes out, and the numbers themselves to another reader."""
    q = Quantized(signed)
    outputs = [q.quantize(make(q), 0.03, 110) for make in LAYERS.values()]
    network = check(q, *outputs, dtypes=["int8"] * len(LAYERS))
    assert {layer.problem.output.dtype for layer in network.layers} == {"uint8"}
    q = Quantized(signed, channels=False)
    network = check(q, *(make(q) for make in LAYERS.values()), dtypes=["int8"] * len(LAYERS))
    assert {layer.problem.output.dtype for layer in network.layers} == {"float32"}


def test_pieces_of_a_grouped_convolution(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tesa.layers.anchor.LARGEST", 300)
    q = Quantized(True)
    d = q.codes(q.input(1, 8, 6, 7), 0.02, 120)
    code = q.quantize(q.op("Conv", d, q.weight(8, 2, 3, 3), q.bias(8), pads=[1] * 4, group=4), 0.03, 110)
    check(q, code, dtypes=["int8"] * 2)


@pytest.mark.parametrize("signed", [False, True])
def test_residual_of_numbers_and_of_codes(signed: bool) -> None:
    q = Quantized(signed)
    x, skip = q.codes(q.input(1, 4, 7, 7), 0.02, 120), q.input(1, 8, 7, 7)
    y = q.op("Add", q.op("Conv", x, q.weight(8, 4, 3, 3), q.bias(8), pads=[1] * 4), q.codes(skip, 0.05, 100))
    code = q.quantize(q.op("Relu", y), 0.03, 0)
    network = check(q, code, dtypes=["int8"])
    assert network.layers[0].problem.residual == Output("uint8", float(np.float32(0.05)), 100)
    q = Quantized(signed)
    x, skip = q.codes(q.input(1, 4, 7, 7), 0.02, 120), q.input(1, 8, 7, 7)
    y = q.op("Add", skip, q.op("Conv", x, q.weight(8, 4, 3, 3), q.bias(8), pads=[1] * 4))
    network = check(q, q.quantize(y, 0.03, 90), dtypes=["int8"])
    assert network.layers[0].problem.residual == Output()


@pytest.mark.parametrize("shape", [(1, 8, 6, 7), (8, 6, 7)])
@pytest.mark.parametrize("integer", [False, True])
def test_a_constant_of_the_whole_shape_is_a_residual(integer: bool, shape: tuple[int, ...]) -> None:
    q = Quantized()
    d = q.codes(q.input(1, 4, 6, 7), 0.02, 120)
    border = q.rng.standard_normal(shape).astype(np.float32)
    made = q.op("Add", border, q.op("Conv", d, q.weight(8, 4, 3, 3), q.bias(8), pads=[1] * 4))
    code = q.quantize(q.op("Relu", made), 0.03, 4)
    if integer:
        network = check(q, code, dtypes=["int8"])
    else:
        proto, feeds = q.proto(code), q.feeds()
        network = to_network(proto)
        found, wanted = run(network, feeds)[code], reference_outputs(proto, feeds)[code]
        assert np.abs(found.astype(int) - wanted.astype(int)).max() <= 1
        assert (found != wanted).mean() < 0.002
    (layer,) = network.layers
    assert (layer.problem.epilogue.residual, layer.problem.epilogue.activation) == (True, "relu")


def test_several_readers_of_codes() -> None:
    """Two layers, a sum of numbers and an output read one tensor of codes."""
    q = Quantized(True)
    code = q.quantize(q.op("Gemm", q.codes(q.input(5, 16), 0.02, 120), q.weight(16, 16, axis=1)), 0.03, 100)
    d = q.dequantize(code, 0.03, 100)
    one, two = (q.op("MatMul", d, q.weight(16, 16, axis=1)) for _ in range(2))
    check(q, code, q.op("Add", q.op("Mul", one, two), d), dtypes=["int8"] * 3)


def test_what_only_moves_elements_moves_codes() -> None:
    q = Quantized(True)
    d = q.codes(q.op("Conv", q.codes(q.input(1, 4, 8, 8), 0.02, 120), q.weight(8, 4, 1, 1)), 0.03, 100)
    d = q.op("MaxPool", d, kernel_shape=[3, 3], strides=[2, 2], pads=[1] * 4)
    d = q.op("Pad", q.op("Relu", d), np.int64([0, 0, 1, 1, 0, 0, 1, 1]))
    d = q.op("Concat", d, q.op("Slice", d, np.int64([0]), np.int64([2]), np.int64([1])), axis=1)
    d = q.op("Conv", d, q.weight(6, 10, 3, 3))
    d = q.op("Transpose", q.op("Reshape", q.codes(d, 0.04, 90), np.int64([1, 6, 16])), perm=[0, 2, 1])
    code = q.quantize(q.op("MatMul", d, q.weight(6, 9, axis=1)), 0.03, 100)
    network = check(q, code, dtypes=["int8"] * 3)
    text = network.lowered.mod.script()
    assert text.count("R.dequantize") == 0
    assert text.count("R.quantize") == 1


def test_images_stay_channels_last() -> None:
    """Pooling, padding and resizing of codes and of numbers turn nothing."""
    q = Quantized()
    d = q.codes(q.op("Conv", q.codes(q.input(1, 8, 9, 9), 0.02, 120), q.weight(8, 8, 1, 1)), 0.03, 100)
    ways = [
        q.op("MaxPool", d, kernel_shape=[3, 2], strides=[2, 1], pads=[1, 0, 1, 1], ceil_mode=1),
        q.op("AveragePool", d, kernel_shape=[3, 3], strides=[2, 2], pads=[1] * 4, count_include_pad=1),
        q.op("Pad", d, np.int64([0, 0, 1, 0, 0, 0, 2, 3]), np.float32(0.7)),
        q.op("Resize", d, "", np.float32([1, 1, 2, 2]), mode="nearest"),
        q.op("GlobalAveragePool", d),
    ]
    # each numbers, and each behind another layer of integers
    ends = [q.op("Conv", q.codes(way, 0.0317, 100), q.weight(4, 8, 1, 1)) for way in ways]
    linear = q.op("Resize", d, "", np.float32([1, 1, 2, 1.5]), mode="linear")
    ends.append(linear)
    network = check(q, *ends, dtypes=["int8"] * 6)
    text = network.lowered.mod.script()
    assert text.count("R.call_tir(cls.layout") == len(ends), text  # the input and the outputs, but for one pixel


def test_clips_of_codes() -> None:
    """A relu6 between two quantizations of one grid, and one whose bounds are codes."""
    q = Quantized()
    d = q.codes(q.op("MatMul", q.codes(q.input(9, 16), 0.02, 120), q.weight(16, 16, axis=1)), 0.05, 100)
    d = q.codes(q.op("Clip", d, np.float32(0), np.float32(6)), 0.05, 100)
    d = q.op("Clip", q.op("MatMul", d, q.weight(16, 16, axis=1)), np.float32(-2), np.float32(3))
    d = q.op("Clip", q.codes(d, 0.03125, 100), np.float32(-1), np.float32(100))
    code = q.quantize(q.op("MatMul", d, q.weight(16, 16, axis=1)), 0.03, 100)
    network = check(q, code, dtypes=["int8"] * 3)
    assert network.lowered.mod.script().count("R.dequantize") == 0


@pytest.mark.parametrize("signed", [False, True])
def test_another_grid_is_another_quantization(signed: bool) -> None:
    q = Quantized(signed)
    d = q.codes(q.op("MatMul", q.codes(q.input(9, 16), 0.02, 120), q.weight(16, 16, axis=1)), 0.05, 100)
    code = q.quantize(q.op("MatMul", q.codes(d, 0.04, 90), q.weight(16, 16, axis=1)), 0.03, 100)
    check(q, code, dtypes=["int8"] * 2)


@pytest.mark.parametrize("dtype", [np.int8, np.uint8])
def test_a_weight_beyond_int8_is_a_sum_of_two(dtype: Any) -> None:
    """Codes less their zero point reach from -50 to 205, of uint8 those of unsigned weights of other quantizers."""
    q = Quantized(True)
    middle = 50 if dtype == np.uint8 else -78
    low = 0 if dtype == np.uint8 else -128

    def weight(*shape: int) -> str:
        values = np.where(q.rng.random(shape) < 0.5, middle, q.rng.integers(low, low + 256, shape)).astype(dtype)
        return q.op("DequantizeLinear", values, np.float32(0.01), dtype(middle))

    d = q.codes(q.op("MatMul", q.codes(q.input(5, 16), 0.02, 120), weight(16, 8)), 0.05, 100)
    d = q.op("Add", q.op("MatMul", d, weight(8, 8)), d)
    d = q.op("Reshape", q.codes(q.op("Relu", d), 0.06, 10), np.int64([1, 5, 2, 4]))
    up = q.op("ConvTranspose", d, weight(5, 3, 3, 3), strides=[2, 1])
    code = q.quantize(up, 0.03, 100)
    network = check(q, code, dtypes=["int8"] * 6)
    assert [layer.weight.max() for layer in network.layers][1::2] == [127] * 3
    assert all(0 < layer.weight.max() <= 78 for layer in network.layers[::2])
    assert all((layer.weight == 0).mean() > 0.4 for layer in network.layers)


def test_a_code_of_255_is_a_sum_of_three() -> None:
    """An unsigned weight without a zero point: 255 is 127 + 127 + 1, and every part fits int8."""
    q = Quantized()
    values = q.rng.integers(0, 256, (16, 8)).astype(np.uint8)
    values[3, 2] = 255
    weight = q.op("DequantizeLinear", values, np.float32(0.01), np.uint8(0))
    d = q.op("MatMul", q.codes(q.input(5, 16), 0.02, 120), weight)
    network = check(q, d, dtypes=["int8"] * 3)
    assert all(np.abs(layer.weight).max() <= 127 for layer in network.layers)
    assert sum(layer.weight.astype(int) for layer in network.layers).max() == 255


@pytest.mark.parametrize(("low", "high", "zero"), [(6, 9, 100), (-9, -5, 100), (1, 6, 255), (-5, 9, 100), (-9, 2, 0)])
def test_clips_beyond_all_numbers_of_a_grid(low: float, high: float, zero: int) -> None:
    """A bound that is above or below every number that a code stands for may be none of them."""
    q = Quantized()
    d = q.op("Clip", q.codes(q.input(5, 16), 0.03, zero), np.float32(low), np.float32(high))
    check(q, d)
    check(q, q.op("MatMul", d, q.weight(16, 8, axis=1)))


def test_a_scale_without_an_inverse_stays_float() -> None:
    q = Quantized()
    d = q.op("MatMul", q.codes(q.input(9, 16), 0.02, 120), q.weight(16, 16, axis=1))
    network = check(q, q.op("Mul", q.codes(d, 1e-40, 100), np.float32(1e30)))
    assert [layer.problem.output.quantized for layer in network.layers] == [False]


def test_a_scale_of_which_codes_are_beyond_float32_stays_float() -> None:
    q = Quantized()
    d = q.op("Mul", q.op("MatMul", q.codes(q.input(9, 16), 0.02, 120), q.weight(16, 16, axis=1)), np.float32(2e37))
    network = check(q, q.op("Mul", q.codes(d, 1e38, 100), np.float32(1e-37)))
    assert [layer.problem.output.quantized for layer in network.layers] == [False]


EXPERTS = [
    ((3, 5, 16), (3, 16, 8)), ((5, 16), (3, 16, 8)), ((1, 5, 16), (3, 16, 8)), ((2, 3, 5, 16), (3, 16, 8)),
    ((2, 3, 5, 16), (2, 1, 16, 8)), ((2, 1, 1, 16), (2, 3, 16, 8)),
]  # fmt: skip


@pytest.mark.parametrize(("x", "w"), EXPERTS)
@pytest.mark.parametrize("left", [False, True])
def test_weights_with_batch_axes(x: tuple[int, ...], w: tuple[int, ...], left: bool) -> None:
    q = Quantized(channels=False)
    d = q.codes(q.input(*(x[:-2] + x[:-3:-1] if left else x)), 0.02, 120)
    if left:
        y = q.op("MatMul", q.weight(*w[:-2], w[-1], w[-2], zero=3), d)
    else:
        y = q.op(
            "Add", q.op("MatMul", d, q.weight(*w, zero=3)), q.rng.standard_normal((w[-3], 1, 8)).astype(np.float32)
        )
    check(q, q.quantize(q.op("Relu", y), 0.02, 3), dtypes=["int8"], ties=0.02)


def test_pieces_of_a_weight_with_batch_axes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tesa.layers.anchor.LARGEST", 600)
    q = Quantized(channels=False)
    d = q.codes(q.input(2, 3, 5, 16), 0.02, 120)
    check(q, q.quantize(q.op("MatMul", d, q.weight(3, 16, 8)), 0.02, 120), dtypes=["int8"] * 2, ties=0.02)


@pytest.mark.parametrize("real", [False, True])
@pytest.mark.parametrize("op", ["MatMulInteger", "ConvInteger"])
def test_integer_products_of_codes_on_a_known_grid(op: str, real: bool) -> None:
    q = Quantized()
    image = op == "ConvInteger"
    code = q.quantize(q.input(*((2, 6, 7, 5) if image else (5, 16))), 0.02, 117)
    weight = q.rng.integers(0, 256, (8, 6, 3, 3) if image else (16, 8)).astype(np.uint8)
    sums = q.op(op, code, weight, np.uint8(117), np.uint8(131), **({"pads": [1, 0, 2, 1]} if image else {}))
    proto, feeds = q.proto(q.op("Mul", q.op("Cast", sums, to=1), np.float32(0.0125)) if real else sums), q.feeds()
    if not real:
        proto.graph.output[0].type.tensor_type.elem_type = TensorProto.INT32
    network = lowered(proto)
    assert {layer.problem.dtype for layer in network.layers} == {"int8"}
    ((name, wanted),) = reference_outputs(proto, feeds).items()
    np.testing.assert_array_equal(run(network, feeds)[name], wanted)


@pytest.mark.parametrize("turned", [0, 1])
def test_a_factor_of_the_product(turned: int) -> None:
    q = Quantized()
    weight = q.weight(8, 16) if turned else q.weight(16, 8, axis=1)
    y = q.op("Gemm", q.codes(q.input(5, 16), 0.02, 120), weight, q.bias(8), transB=turned, alpha=0.3, beta=2.0)
    check(q, q.quantize(y, 0.008, 100), dtypes=["int8"], ties=0.03)


def test_what_integers_cannot_do_stays_float() -> None:
    """A scale for each input, codes of 16 bits, an activation that was no codes."""
    q = Quantized()
    d = q.codes(q.input(5, 16), 0.02, 120)
    by_input = q.quantize(q.op("MatMul", d, q.weight(16, 8, axis=0)), 0.03, 100)
    wide = q.constant((q.rng.integers(-3000, 3000, (16, 8)) * np.float32(1e-4)).astype(np.float32))
    beyond = q.quantize(q.op("MatMul", d, wide), 0.03, 100)
    plain = q.quantize(q.op("MatMul", q.input(5, 16), q.weight(16, 8, axis=1)), 0.03, 100)
    check(q, by_input, beyond, plain, dtypes=["float32"] * 3)


def test_nothing_is_integer_where_there_is_no_kernel() -> None:
    q = Quantized(True)
    d = q.codes(q.op("MatMul", q.codes(q.input(5, 16), 0.02, 120), q.weight(16, 16, axis=1)), 0.03, 100)
    code = q.quantize(q.op("MatMul", d, q.weight(16, 8, axis=1)), 0.03, 100)
    check(q, code, dtypes=["float32"] * 2, integer=False)
    proto = q.proto(code)
    some = to_network(proto, integer=lambda ways: ways.real[0].m == 8)
    assert [layer.problem.dtype for layer in some.layers] == ["float32", "int8"]
    feeds = q.feeds()
    np.testing.assert_array_equal(run(some, feeds)[code], reference_outputs(proto, feeds)[code])


def test_a_scale_and_known_constants_behind_the_sum() -> None:
    """A multiplication for each feature, then a bias; some channels of the input are constants."""
    q = Quantized()
    x = q.op("Mul", q.codes(q.input(5, 16), 0.02, 120), (np.arange(16) % 4 > 0).astype(np.float32))
    d = q.codes(q.op("Add", x, (np.arange(16) % 4 == 0).astype(np.float32)), 0.02, 120)
    y = q.op("Mul", q.op("MatMul", d, q.weight(16, 8, axis=1)), np.linspace(-1, 2, 8, dtype=np.float32))
    code = q.quantize(q.op("Add", y, np.linspace(-1, 1, 8, dtype=np.float32)), 0.02, 100)
    network = check(q, code, dtypes=["int8"])
    assert (network.layers[0].weight == 0).mean() > 0.6


@settings(max_examples=15, deadline=None)
@given(st.data())
def test_any_parameters(data: Any) -> None:
    signed, channels = data.draw(st.booleans()), data.draw(st.booleans())
    zeros = st.integers(0, 255)
    scales = st.sampled_from([0.0039, 0.02, 1 / 64, 0.11])
    q = Quantized(signed, channels, seed=data.draw(st.integers(0, 99)))
    d = q.codes(q.input(2, 12), data.draw(scales), data.draw(zeros))
    y = q.op("MatMul", d, q.weight(12, 10, axis=1, zero=data.draw(st.integers(-20, 20))))
    activation = data.draw(st.sampled_from(["", "Relu", "Sigmoid", "Tanh"]))
    y = q.op(activation, y) if activation else y
    d = q.codes(y, data.draw(scales), data.draw(zeros))
    code = q.quantize(q.op("Gemm", d, q.weight(6, 10), q.bias(6), transB=1), data.draw(scales), data.draw(zeros))
    proto, feeds = q.proto(code), q.feeds()
    found = run(lowered(proto), feeds)[code].astype(int)
    assert np.abs(found - reference_outputs(proto, feeds)[code].astype(int)).max() <= 1


@pytest.mark.parametrize("signed", [False, True])
def test_products_of_attention_on_codes(signed: bool) -> None:
    """Scores and values of heads, between linear layers, with a softmax and scaling on codes."""
    q = Quantized(signed)
    x = q.codes(q.input(1, 9, 16), 0.02, 120)

    def heads(perm: list[int]) -> str:
        projected = q.codes(q.op("MatMul", x, q.weight(16, 16, axis=1)), 0.01, 110)
        return q.op("Transpose", q.op("Reshape", projected, np.int64([1, 9, 2, 8])), perm=perm)

    scores = q.op("MatMul", heads([0, 2, 1, 3]), heads([0, 2, 3, 1]))
    scores = q.op("Mul", q.codes(scores, 0.02, 128), np.float32(0.35))
    shares = q.codes(q.op("Softmax", q.codes(scores, 0.01, 128), axis=-1), 1 / 255, 0)
    mixed = q.codes(q.op("MatMul", shares, heads([0, 2, 1, 3])), 0.01, 128)
    mixed = q.op("Reshape", q.op("Transpose", mixed, perm=[0, 2, 1, 3]), np.int64([1, 9, 16]))
    check(q, q.quantize(q.op("MatMul", mixed, q.weight(16, 12, axis=1)), 0.02, 100), dtypes=["int8"] * 4)
