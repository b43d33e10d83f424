"""Layers on codes whose scale is found at run time are integer layers, and compute what onnxruntime computes."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnxruntime
import pytest
import tvm

from tesa.layers.pipeline import schedule_rest
from tesa.targets.target import parse_target
from tests.layers.integer import Quantized, lowered, run

MICROSOFT = "com.microsoft"


class Dynamic(Quantized):
    """A model that is quantized at run time, as quantizers write it."""

    def codes_of(self, x: str) -> tuple[str, str, str]:
        """Codes, scale and zero point of a tensor."""
        return self.several("DynamicQuantizeLinear", 3, x)

    def several(self, op: str, count: int, *inputs: str, **options: Any) -> tuple[str, ...]:
        first = self.op(op, *inputs, **options)
        names = [first, *(f"{first}.{i}" for i in range(1, count))]
        self.nodes[-1].output[:] = names
        return tuple(names)

    def table(self, *shape: int, density: float = 0.4, dtype: Any = np.int8) -> Any:
        """Codes of a weight."""
        limits = np.iinfo(dtype)
        zero = 0 if dtype == np.int8 else 119
        values = self.rng.integers(limits.min, limits.max + 1, shape)
        return np.where(self.rng.random(shape) < density, values, zero).astype(dtype)

    def real(self, sums: str, *factors: Any) -> str:
        """Integer sums as real numbers."""
        factor = self.op("Mul", *factors) if len(factors) > 1 else factors[0]
        return self.op("Mul", self.op("Cast", sums, to=1), factor)

    def product(self, codes: tuple[str, str, str], w: Any, scale: Any, zero: Any = None) -> str:
        """A MatMulInteger, and its sums as real numbers."""
        zeros = [codes[2]] if zero is None else [codes[2], self.constant(zero)]
        return self.real(self.op("MatMulInteger", codes[0], w, *zeros), codes[1], scale)

    def check(self, *outputs: str, layers: int, tolerance: float = 2e-6) -> list[Any]:
        """So many layers, all on integers; the results are those of onnxruntime."""
        proto, feeds = self.proto(*outputs), self.feeds()
        domain = proto.opset_import.add()
        domain.domain, domain.version = MICROSOFT, 1
        network = lowered(proto)
        assert [layer.problem.dtype for layer in network.layers] == ["int8"] * layers
        assert network.skipped == ()
        options = onnxruntime.SessionOptions()
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
        session = onnxruntime.InferenceSession(proto.SerializeToString(), options)
        for got, want in zip(run(network, feeds).values(), session.run(None, feeds), strict=True):
            np.testing.assert_allclose(got, want, rtol=0, atol=tolerance * np.abs(want).max())
        return list(network.layers)


@pytest.mark.parametrize("rows", [1, 24])
def test_integer_products_with_a_scale_for_all_or_for_each_row(rows: int) -> None:
    made = Dynamic()
    x = made.input(2, 5, 16)
    scale = made.rng.uniform(0.001, 0.01, () if rows == 1 else (rows,)).astype(np.float32)
    y = made.product(made.codes_of(x), made.table(16, 24), scale, np.zeros(scale.shape, np.int8))
    y = made.op("Relu", made.op("Add", y, made.rng.standard_normal(24).astype(np.float32)))
    (layer,) = made.check(y, layers=1)
    assert (layer.problem.layout, layer.problem.n, layer.problem.epilogue.activation) == ("features_last", 10, "relu")


def test_scales_are_multiplied_where_they_are_read() -> None:
    made = Dynamic()
    x = made.input(5, 16)
    scale = made.rng.uniform(0.001, 0.01, 24).astype(np.float32)
    proto = made.proto(made.product(made.codes_of(x), made.table(16, 24), scale))
    here = parse_target(None)
    mod = schedule_rest(lowered(proto).lowered.mod, tvm.target.Target(here.tvm), here.core, 1).mod
    names = sorted(var.name_hint for var in mod.functions if var.name_hint != "main")
    assert names == ["quantize", "range", "rows"]


@pytest.mark.parametrize(("rows", "limit", "layers"), [(1, 1 << 24, 1), (8, 1 << 24, 1), (8, 600, 2)])
def test_a_weight_with_batch_axes(rows: int, limit: int, layers: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tesa.layers.anchor.LARGEST", limit)
    made = Dynamic()
    x = made.input(3, 5, 16)
    scale = made.rng.uniform(0.001, 0.01, () if rows == 1 else (rows,)).astype(np.float32)
    made.check(made.product(made.codes_of(x), made.table(3, 16, 8), scale, np.int8(0)), layers=layers)


def test_products_of_one_quantizer_and_their_sum() -> None:
    made = Dynamic()
    x = made.input(7, 16)
    codes = made.codes_of(x)
    parts = [made.product(codes, made.table(16, 16), np.float32(0.01)) for _ in range(3)]
    y = made.op("Add", made.op("Add", parts[0], parts[1]), x)
    made.check(made.op("Mul", y, made.op("Sigmoid", parts[2])), layers=3)


def test_weights_of_uint8_and_sums_beyond_float32() -> None:
    made = Dynamic()
    x = made.input(3, 1024)
    w = made.table(1024, 8, density=0.9, dtype=np.uint8)
    y = made.product(made.codes_of(x), w, np.float32(0.01), np.uint8(119))
    layers = made.check(y, layers=2)  # codes beyond int8 are a layer of their own
    assert [layer.problem.epilogue.residual for layer in layers] == [False, True]


def test_rows_of_one_sign_are_not_a_difference_of_two_large_numbers() -> None:
    """What the zero point adds to the sums, rounded to float32, would be larger than the results."""
    made = Dynamic()
    x = made.op("Abs", made.input(3, 2048))
    codes = made.codes_of(x)
    w = made.rng.integers(60, 128, (2048, 8)).astype(np.int8)
    network = lowered(made.proto(made.product(codes, w, np.float32(0.01))))
    assert [layer.problem.dtype for layer in network.layers] == ["float32"] * len(network.layers)


@pytest.mark.parametrize("groups", [1, 2, 4])
def test_integer_convolutions_pad_with_the_code_of_0(groups: int) -> None:
    made = Dynamic()
    image, line = made.input(2, 4, 7, 6), made.input(1, 4, 9)
    total = []
    for x, window, options in (
        (image, (3, 3), {"pads": [1, 0, 1, 2], "strides": [2, 1]}), (line, (3,), {"pads": [2, 1], "dilations": [2]}),
    ):  # fmt: skip
        codes = made.codes_of(made.op("Add", x, np.float32(0.7)))
        w = made.table(8, 4 // groups, *window)
        sums = made.op("ConvInteger", codes[0], w, codes[2], group=groups, **options)
        y = made.real(sums, codes[1], np.float32(0.02))
        total.append(made.op("Add", y, made.rng.standard_normal((8, *[1] * len(window))).astype(np.float32)))
    made.check(*total, layers=2)


def test_operators_that_quantize_and_multiply() -> None:
    made = Dynamic()
    x, step, zero = made.input(2, 5, 16), np.float32(0.01), np.int8(0)
    bias = made.rng.standard_normal(24).astype(np.float32)
    table, steps = made.table(16, 24), made.rng.uniform(0.001, 0.01, 24).astype(np.float32)
    one = made.op("DynamicQuantizeMatMul", x, table, steps, np.zeros(24, np.int8), bias, domain=MICROSOFT)
    codes, scale, level = made.codes_of(made.op("Mul", x, np.float32(2)))
    two = made.op("MatMulIntegerToFloat", codes, made.table(16, 24), scale, step, level, zero, domain=MICROSOFT)
    made.check(one, two, layers=2)


def test_attention_of_codes() -> None:
    made = Dynamic()
    x = made.input(1, 6, 16)
    codes, scale, level = made.codes_of(x)
    bias = made.rng.standard_normal(48).astype(np.float32)
    names = [codes, made.table(16, 48), bias, scale, np.float32(0.01)]
    y = made.op("QAttention", *names, "", level, np.int8(0), domain=MICROSOFT, num_heads=2)
    assert {layer.problem.dtype for layer in lowered(_with_domain(made.proto(y))).layers} == {"int8"}
    made.check(y, layers=1, tolerance=1e-5)


def _with_domain(proto: Any) -> Any:
    domain = proto.opset_import.add()
    domain.domain, domain.version = MICROSOFT, 1
    return proto


def test_a_tensor_of_zeros_and_one_of_one_element() -> None:
    made = Dynamic()
    x = made.input(1, 1)
    y = made.product(made.codes_of(made.op("Mul", x, np.float32(0))), made.table(1, 8), np.float32(0.01))
    made.check(y, layers=1)


@pytest.mark.slow
def test_both_products_of_a_quantized_lstm() -> None:
    made = Dynamic()
    steps, inputs, n = 40, 16, 24
    x, zeros = made.input(steps, 1, inputs), made.constant(np.zeros((1, 4 * n), np.int8))
    scales = [made.constant(made.rng.uniform(0.001, 0.002, (1, 4 * n)).astype(np.float32)) for _ in range(2)]
    bias = made.constant(made.rng.standard_normal((1, 8 * n)).astype(np.float32))
    weights = [made.constant(made.table(1, rows, 4 * n)) for rows in (inputs, n)]
    names = [x, *weights, bias, "", "", "", "", scales[0], zeros, scales[1], zeros]
    (y,) = made.several("DynamicQuantizeLSTM", 1, *names, domain=MICROSOFT, hidden_size=n)
    layers = made.check(y, layers=2, tolerance=1e-5)
    assert sorted((layer.name[-2:], layer.problem.n) for layer in layers) == [(".R", 1), (".W", steps)]


def test_attention_moves_nothing() -> None:
    made = Dynamic()
    x, step = made.input(2, 10, 32), np.float32(0.002)
    codes = made.codes_of(x)

    def heads() -> str:
        y = made.product(codes, made.table(32, 32), step)
        return made.op("Transpose", made.op("Reshape", y, np.array([2, 10, 4, 8])), perm=[0, 2, 1, 3])

    q, k, v = (heads() for _ in range(3))
    scores = made.op("Softmax", made.op("MatMul", q, made.op("Transpose", k, perm=[0, 1, 3, 2])))
    context = made.op("Transpose", made.op("MatMul", scores, v), perm=[0, 2, 1, 3])
    y = made.product(made.codes_of(made.op("Reshape", context, np.array([2, 10, 32]))), made.table(32, 32), step)
    made.check(y, layers=4, tolerance=5e-3)  # a code may be the next one where its number is half way
    assert not any("layout" in var.name_hint for var in lowered(made.proto(y)).lowered.mod.functions)
