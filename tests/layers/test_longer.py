"""Layers whose numbers are rounded to codes on the way: one kernel computes what onnxruntime does step by step."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from tesa.layers.codes_layers import Precisions
from tesa.layers.network import to_network
from tests.layers.integer import Quantized, run
from tests.layers.test_codes import check


def _vector(q: Quantized, count: int) -> Any:
    return (q.rng.standard_normal(count) * 0.3).astype(np.float32)


def _bias_behind(q: Quantized) -> str:
    product = q.codes(q.op("MatMul", q.codes(q.input(5, 24), 0.02, 120), q.weight(24, 40, axis=1)), 0.0313, 100)
    return q.quantize(q.op("Add", _vector(q, 40), product), 0.0337, 130)


def _residual_behind_bias(q: Quantized) -> str:
    d = q.codes(q.input(5, 24), 0.02, 120)
    product = q.codes(q.op("MatMul", d, q.weight(24, 24, axis=1)), 0.0313, 100)
    moved = q.codes(q.op("Add", product, _vector(q, 24)), 0.0337, 130)
    return q.quantize(q.op("Add", moved, d), 0.0471, 90)


def _residual_and_relu(q: Quantized) -> str:
    d = q.codes(q.input(1, 8, 6, 7), 0.02, 120)
    first = q.codes(q.op("Conv", d, q.weight(8, 8, 3, 3), q.bias(8), pads=[1] * 4), 0.0313, 100)
    return q.quantize(q.op("Relu", q.op("Add", first, d)), 0.0337, 0)


def _two_layers(q: Quantized) -> str:
    d = q.codes(q.input(1, 8, 6, 7), 0.02, 120)
    first = q.codes(q.op("Conv", d, q.weight(8, 8, 3, 3), q.bias(8), pads=[1] * 4), 0.0313, 100)
    second = q.codes(q.op("Conv", d, q.weight(8, 8, 1, 1), q.bias(8)), 0.0337, 130)
    return q.quantize(q.op("Relu", q.op("Add", first, second)), 0.0471, 5)


def _relu_behind_codes(q: Quantized) -> str:
    d = q.codes(q.op("MatMul", q.codes(q.input(5, 24), 0.02, 120), q.weight(24, 40, axis=1)), 0.0313, 100)
    return q.quantize(q.op("Relu", d), 0.0171, 0)


CASES: dict[str, tuple[Callable[[Quantized], str], list[tuple[str, ...]]]] = {
    "a bias": (_bias_behind, [("scale",)]),
    "a bias and a residual": (_residual_behind_bias, [("scale", "bias")]),
    "a residual and relu": (_residual_and_relu, [("bias",)]),
    "a sum of two layers": (_two_layers, [(), ("bias",)]),
    "relu": (_relu_behind_codes, [("scale",)]),
}


def _steps(network: Any) -> list[tuple[str, ...]]:
    return sorted((tuple(step for step, _ in layer.problem.inner) for layer in network.layers), key=len)


@pytest.mark.parametrize("signed", [False, True])
@pytest.mark.parametrize("case", CASES)
def test_one_kernel_rounds_on_the_way(case: str, signed: bool) -> None:
    write, steps = CASES[case]
    q = Quantized(signed)
    code = write(q)
    network = check(q, code, ties=0.01)
    assert _steps(network) == steps
    assert all(layer.problem.output.quantized for layer in network.layers)


def _kept_elsewhere(q: Quantized) -> list[str]:
    """Codes on the way that something else reads, too."""
    d = q.codes(q.input(5, 24), 0.02, 120)
    product = q.codes(q.op("MatMul", d, q.weight(24, 24, axis=1)), 0.0313, 100)
    return [q.quantize(q.op("Add", product, _vector(q, 24)), 0.0337, 130), q.op("Neg", product)]


def _scaled_behind(q: Quantized) -> list[str]:
    product = q.codes(q.op("MatMul", q.codes(q.input(5, 24), 0.02, 120), q.weight(24, 24, axis=1)), 0.0313, 100)
    return [q.quantize(q.op("Mul", product, _vector(q, 24)), 0.0137, 130)]


def _beyond_int8(q: Quantized) -> list[str]:
    """Weights of uint8, which become a sum of two."""
    values = q.rng.integers(0, 256, (24, 16)).astype(np.uint8)
    weight = q.op("DequantizeLinear", values, np.float32(0.01), np.uint8(3))
    product = q.codes(q.op("MatMul", q.codes(q.input(5, 24), 0.002, 120), weight), 0.0313, 100)
    return [q.quantize(q.op("Add", product, _vector(q, 16)), 0.0337, 130)]


def _second_bias(q: Quantized) -> list[str]:
    d = q.codes(q.input(1, 4, 5, 5), 0.02, 120)
    first = q.codes(q.op("Conv", d, q.weight(8, 4, 3, 3), q.bias(8)), 0.0313, 100)
    return [q.quantize(q.op("Add", first, _vector(q, 8).reshape(1, 8, 1, 1)), 0.0337, 130)]


@pytest.mark.parametrize("write", [_kept_elsewhere, _scaled_behind, _beyond_int8, _second_bias])
def test_what_is_no_step_of_the_epilogue_stays_behind(write: Any) -> None:
    q = Quantized()
    outputs = write(q)
    network = check(q, *outputs, ties=0.01)
    assert all(layer.problem.inner == () for layer in network.layers)
    assert {layer.problem.dtype for layer in network.layers} == {"int8"}


@pytest.mark.parametrize("case", CASES)
def test_a_layer_that_is_faster_in_float32_stays_so(case: str) -> None:
    q = Quantized()
    code = CASES[case][0](q)
    asked: list[Precisions] = []
    proto, feeds = q.proto(code), q.feeds()

    def none(ways: Precisions) -> bool:
        asked.append(ways)
        return False

    network, other = to_network(proto, integer=none), to_network(proto)
    assert {layer.problem.dtype for layer in network.layers} == {"float32"}
    assert any(problem.inner for ways in asked for problem, _ in ways.integers)
    assert not any(ways.real[0].inner for ways in asked)
    found, wanted = run(network, feeds)[code], run(other, feeds)[code]
    assert np.abs(found.astype(int) - wanted.astype(int)).max() <= 1
    assert (found != wanted).mean() < 0.01
