"""Removal in quantized networks that are compiled: groups of four features stay whole, and kernels store codes."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest

from tesa.compact import Compacted, compact
from tesa.compact.codes import split
from tesa.compiler import compile_model
from tesa.frontend import import_onnx
from tesa.propagate import propagate
from tesa.runtime import load, verify
from tests.layers.integer import Quantized

SCALE, ZERO = 0.02, 0


def layer(net: Quantized, x: str, weight: Any, bias: Any, **window: Any) -> str:
    """A convolution of codes with a ReLU, and the codes of its result."""
    scale = np.full(len(weight), 0.01, np.float32)
    w = net.op("DequantizeLinear", weight, scale, np.zeros(len(weight), np.int8), axis=0)
    y = net.op("Conv", x, w, net.op("DequantizeLinear", bias, np.float32(2e-4)), **window)
    return net.codes(net.op("Relu", y), SCALE, ZERO)


def network(gone: Any, live: float, depthwise: bool) -> Any:
    """A convolution of 32 channels of which some have no weights, a depthwise one, and one pruned in groups of four.

    live: of the channels without weights, what the constant is that is left of them.
    """
    net = Quantized()
    rng = net.rng
    first = rng.integers(1, 100, (32, 8, 1, 1)).astype(np.int8)
    first[list(gone)] = 0
    bias = rng.integers(500, 900, 32).astype(np.int32)
    bias[list(gone)] = live
    x = layer(net, net.codes(net.input(1, 8, 9, 9), SCALE, ZERO), first, bias)
    if depthwise:
        weight = rng.integers(1, 100, (32, 1, 3, 3)).astype(np.int8)
        x = layer(net, x, weight, np.zeros(32, np.int32), group=32, pads=[1] * 4)
    last = rng.integers(1, 100, (16, 8, 4)) * (rng.random((16, 8, 1)) < 0.3)
    last[:, 0, 0] = 3  # no channel is without any weight
    last[3] = 5
    y = layer(net, x, last.reshape(16, 32, 1, 1).astype(np.int8), rng.integers(-900, 900, 16).astype(np.int32))
    return net.proto(y)


def left(found: Compacted) -> set[int]:
    """The lengths of the channels of the weights."""
    return {row.after for row in found.removed}


def both(proto: Any) -> tuple[Compacted, Compacted]:
    """As compiled, and as a smaller file."""
    model = propagate(import_onnx(proto))
    return compact(model, file=False), compact(model)


def test_channels_that_are_0_go_by_whole_groups() -> None:
    compiled, smaller = both(network((0, 1, 2, 3, 9, 20, 21, 22, 23, 30), -1, False))
    assert left(smaller) == {22}
    assert left(compiled) == {24}
    assert any("of a group of features" in line for line in compiled.kept)


def test_a_constant_that_differs_at_the_border_stays_a_channel() -> None:
    """As a file it is a map that is added; a kernel that adds it would give numbers."""
    compiled, smaller = both(network(range(12, 28), 700, True))
    assert left(smaller) == {16}
    assert left(compiled) == set()
    assert any("costs more" in line for line in compiled.kept)


@pytest.mark.parametrize(
    ("goes", "stays"),
    [((), ()), ((0, 1, 2, 3), ()), ((0, 1, 3, 4, 5, 6, 7), (0, 1, 3)), ((8,), ()), ((8, 2), (2,))],
)
def test_the_last_group_may_be_short(goes: tuple[int, ...], stays: tuple[int, ...]) -> None:
    mask = np.isin(np.arange(9), goes)
    np.testing.assert_array_equal(np.flatnonzero(split(mask)), stays)


def test_what_is_compiled_stores_codes_and_is_right(tmp_path: Any) -> None:
    proto = network(range(12, 28), 700, True)
    onnx.save(proto, tmp_path / "m.onnx")
    compiled = compile_model(proto, output=tmp_path / "m.so", measure=False)
    assert verify(load(tmp_path / "m.so"), tmp_path / "m.onnx", atol=SCALE).ok
    said = [row.codes for row in compiled.plan.layers if row.op in ("conv2d", "depthwise")]
    assert len(said) == 3
    assert all("Y is uint8 codes" in line for line in said)
