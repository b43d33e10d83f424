"""What stands between integer layers: quantize and dequantize, tables of 256, and operators that read codes."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import tvm
from onnx import TensorProto
from tvm import relax

from tesa.base.onnxruntime import reference_outputs
from tesa.layers import schedule_rest
from tesa.targets.target import parse_target, runs_here
from tests.frontend.onnx_models import model, node, port

TARGETS = [t for t in map(parse_target, ("x86:icelake-server", "x86:haswell", "x86:x86-64-v2")) if runs_here(t)]
ids = [target.cpu for target in TARGETS]
on_targets = pytest.mark.parametrize("target", TARGETS, ids=ids)
STEP, ZERO = 0.05, 7


def quantize(x: Any, scale: Any = STEP, zero: Any = ZERO, kind: str = "uint8", axis: int = 0) -> Any:
    grid = relax.const(np.asarray(scale, np.float32)), relax.const(np.asarray(zero, kind))
    return relax.op.quantize(x, *grid, axis=axis, out_dtype=kind)


def dequantize(x: Any, scale: Any = STEP, zero: Any = ZERO, kind: str = "uint8", axis: int = 0) -> Any:
    grid = relax.const(np.asarray(scale, np.float32)), relax.const(np.asarray(zero, kind))
    return relax.op.dequantize(x, *grid, axis=axis, out_dtype="float32")


def scheduled(write: Callable[..., Any], inputs: Any, target: Any) -> Any:
    """The module of a function of variables, scheduled. write: gives an expression, of expressions that may nest."""
    builder = relax.BlockBuilder()
    params = [relax.Var(f"x{i}", relax.TensorType(x.shape, str(x.dtype))) for i, x in enumerate(inputs)]
    with builder.function("main", params):
        with builder.dataflow():
            result = builder.emit_output(builder.normalize(write(*params)))
        builder.emit_func_output(result)
    return schedule_rest(builder.get(), tvm.target.Target(target.tvm), target.core, 1).mod


def run(write: Callable[..., Any], inputs: Any, target: Any) -> tuple[Any, list[str]]:
    """The result, and what the functions are called that compute it."""
    mod = scheduled(write, inputs, target)
    vm = relax.VirtualMachine(tvm.compile(mod, tvm.target.Target(target.tvm)), tvm.cpu())
    names = [var.name_hint for var, f in mod.functions_items() if isinstance(f, tvm.tirx.PrimFunc)]
    return vm["main"](*map(tvm.runtime.tensor, inputs)).numpy(), names


def codes(x: Any, scale: Any = STEP, zero: Any = ZERO, kind: str = "uint8") -> Any:
    limits = np.iinfo(kind)
    return np.clip(np.rint(x / np.float32(scale)) + zero, limits.min, limits.max).astype(kind)


def real(x: Any, scale: Any = STEP, zero: Any = ZERO) -> Any:
    return (x.astype(np.int32) - zero).astype(np.float32) * np.float32(scale)


def every_code(*shape: int) -> Any:
    return np.random.default_rng(1).integers(0, 256, shape).astype(np.uint8)


@on_targets
@pytest.mark.parametrize(("kind", "zero"), [("uint8", 0), ("uint8", 131), ("int8", -3)])
def test_ties_round_to_even_and_everything_else_is_clipped(kind: str, zero: int, target: Any) -> None:
    x = np.concatenate([np.arange(-600, 600) * 0.25, [1e30, -1e30, np.inf, -np.inf, 3e9, -3e9]]).astype(np.float32)
    got, _ = run(lambda x: quantize(x, 0.5, zero, kind), [x], target)
    np.testing.assert_array_equal(got, codes(x, 0.5, zero, kind))


@on_targets
def test_a_scale_for_each_channel(target: Any) -> None:
    scale, zero = np.array([0.1, 0.25, 0.5, 1, 2], np.float32), np.array([0, 9, 128, 200, 255], np.uint8)
    x = every_code(3, 5, 17)
    shown = scale[:, None], zero[:, None].astype(np.int32)
    got, _ = run(lambda x: dequantize(x, scale, zero, axis=1), [x], target)
    np.testing.assert_array_equal(got, (x.astype(np.int32) - shown[1]).astype(np.float32) * shown[0])
    again, _ = run(lambda x: quantize(x, scale, zero, axis=1), [got], target)
    np.testing.assert_array_equal(again, x)


def _gelu(d: Any) -> Any:
    half = relax.op.multiply(d, relax.const(np.float32(0.5)))
    root = relax.op.erf(relax.op.divide(d, relax.const(np.float32(math.sqrt(2)))))
    return relax.op.multiply(half, relax.op.add(root, relax.const(np.float32(1))))


def _gelu_by_power(d: Any) -> Any:
    cube = relax.op.multiply(relax.op.power(d, relax.const(np.float32(3))), relax.const(np.float32(0.044715)))
    inner = relax.op.multiply(relax.op.add(d, cube), relax.const(np.float32(math.sqrt(2 / math.pi))))
    half = relax.op.multiply(d, relax.const(np.float32(0.5)))
    return relax.op.multiply(half, relax.op.add(relax.op.tanh(inner), relax.const(np.float32(1))))


def _hardswish(d: Any) -> Any:
    inner = relax.op.clip(relax.op.add(d, relax.const(np.float32(3))), 0, 6)
    return relax.op.divide(relax.op.multiply(d, inner), relax.const(np.float32(6)))


def _in_steps(d: Any) -> Any:
    return relax.op.tanh(dequantize(quantize(relax.op.sigmoid(d), 1 / 256, 0), 1 / 256, 0))


def _sigmoid(x: Any) -> Any:
    return 1 / (1 + np.exp(-x))


CHAINS: dict[str, tuple[Callable[[Any], Any], Callable[[Any], Any]]] = {
    "gelu": (_gelu, lambda x: x * 0.5 * (1 + np.vectorize(math.erf)(x / math.sqrt(2)))),
    "power": (_gelu_by_power, lambda x: 0.5 * x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))),
    "silu": (relax.op.nn.silu, lambda x: x * _sigmoid(x)),
    "hardswish": (_hardswish, lambda x: x * np.clip(x + 3, 0, 6) / 6),
    "leaky": (lambda d: relax.op.nn.leakyrelu(d, 0.1), lambda x: np.where(x < 0, 0.1 * x, x)),
    "exp": (lambda d: relax.op.exp(relax.op.negative(d)), lambda x: np.exp(-x)),
    "steps": (_in_steps, lambda x: np.tanh(real(codes(_sigmoid(x), 1 / 256, 0), 1 / 256, 0))),
}


@on_targets
@pytest.mark.parametrize("chain", CHAINS)
def test_a_chain_is_its_function_of_all_codes(chain: str, target: Any) -> None:
    write, wanted = CHAINS[chain]
    x = np.concatenate([np.arange(256), every_code(23)]).astype(np.uint8).reshape(9, 31)
    got, names = run(lambda x: quantize(write(dequantize(x, 0.04, 128)), 0.03, 50), [x], target)
    exact = wanted(real(x, 0.04, 128).astype(np.float64)) / np.float32(0.03) + 50
    tie = np.abs(exact - np.floor(exact) - 0.5) < 1e-3
    np.testing.assert_array_equal(got[~tie], np.clip(np.rint(exact), 0, 255)[~tie])
    assert tie.mean() < 0.1
    if target.core.permute_bytes is not None:
        assert names == ["table"]


@pytest.mark.parametrize("count", [1, 63, 64, 65, 1000])
@pytest.mark.parametrize("kind", ["uint8", "int8"])
@on_targets
def test_a_table_of_any_length_and_sign(count: int, kind: str, target: Any) -> None:
    x = every_code(count).view(kind)
    zero = 3 if kind == "int8" else 131

    def write(x: Any) -> Any:
        return quantize(relax.op.tanh(dequantize(x, 0.02, zero, kind)), 1 / 127, zero - 3, kind)

    got, _ = run(write, [x], target)
    exact = np.tanh(real(x, 0.02, zero).astype(np.float64)) * 127
    tie = np.abs(exact - np.floor(exact) - 0.5) < 1e-3
    limits = np.iinfo(kind)
    np.testing.assert_array_equal(got[~tie], np.clip(np.rint(exact) + zero - 3, limits.min, limits.max)[~tie])


def test_what_is_read_elsewhere_is_not_lost_to_a_table() -> None:
    x = every_code(70)

    def write(x: Any) -> Any:
        d = dequantize(x)
        return relax.op.add(dequantize(quantize(relax.op.tanh(d), 0.01, 100), 0.01, 100), d)

    got, _ = run(write, [x], TARGETS[0])
    np.testing.assert_allclose(got, real(codes(np.tanh(real(x)), 0.01, 100), 0.01, 100) + real(x), atol=1.1e-2)


def _step(d: Any, scale: float, zero: int) -> Any:
    return dequantize(quantize(d, scale, zero), scale, zero)


def _gelu_in_steps(d: Any) -> Any:
    """As quantizers write it: codes behind every operator, one of which reads the argument again."""
    root = _step(relax.op.erf(_step(relax.op.divide(d, relax.const(np.float32(1.4142135))), 0.03, 128)), 0.008, 128)
    grown = _step(relax.op.add(root, relax.const(np.float32(1))), 0.008, 0)
    return relax.op.multiply(_step(relax.op.multiply(d, grown), 0.04, 20), relax.const(np.float32(0.5)))


@on_targets
@pytest.mark.parametrize("behind", [False, True])
def test_a_chain_goes_on_through_other_tables(behind: bool, target: Any) -> None:
    """behind: a sum with a number for each feature stands before the chain, whose numbers are no single code's."""
    x, shift = every_code(4, 96), relax.const(np.linspace(-1, 1, 96, dtype=np.float32))

    def write(x: Any) -> Any:
        d = dequantize(x, 0.04, 128)
        if behind:
            d = _step(relax.op.add(shift, d), 0.05, 120)
        return quantize(_gelu_in_steps(d), 0.03, 50)

    got, names = run(write, [x], target)
    d = real(x, 0.04, 128)
    if behind:
        d = real(codes(np.linspace(-1, 1, 96, dtype=np.float32) + d, 0.05, 120), 0.05, 120)
    root = real(codes(d / np.float32(1.4142135), 0.03, 128), 0.03, 128)
    root = real(codes(np.vectorize(math.erf)(root.astype(np.float64)), 0.008, 128), 0.008, 128)
    grown = real(codes(root + np.float32(1), 0.008, 0), 0.008, 0)
    half = real(codes(d * grown, 0.04, 20), 0.04, 20) * np.float32(0.5)
    off = np.abs(got.astype(int) - codes(half, 0.03, 50))
    assert off.max() <= 2  # a tie at one of the steps
    assert (off > 0).mean() < 0.02
    if target.core.permute_bytes is not None:
        assert sum(name.startswith("table") for name in names) == 1
        assert len(names) == 1 + behind


@on_targets
@pytest.mark.parametrize("kind", ["uint8", "int8"])
def test_what_is_not_a_number_becomes_the_code_that_onnxruntime_gives_it(kind: str, target: Any) -> None:
    """The logarithm and the root of negative numbers, and infinity, in a table and element by element."""
    zero = 90 if kind == "uint8" else -30
    grid = {"s": np.float32(0.04), "z": np.asarray(zero, kind), "t": np.float32(0.03)}
    x = every_code(300).view(kind)
    for name, function in (("Log", relax.op.log), ("Sqrt", relax.op.sqrt)):
        nodes = [node("DequantizeLinear", ["x", "s", "z"], "d"), node(name, ["d"], "f"),
                 node("QuantizeLinear", ["f", "t", "z"], "q")]  # fmt: skip
        proto = model(nodes, [port("x", [300])], ["q"], grid)
        for value in (proto.graph.input[0], proto.graph.output[0]):
            value.type.tensor_type.elem_type = TensorProto.UINT8 if kind == "uint8" else TensorProto.INT8
        wanted = reference_outputs(proto, {"x": x})["q"]

        def write(x: Any, function: Any = function) -> Any:
            return quantize(function(dequantize(x, 0.04, zero, kind)), 0.03, zero, kind)

        got, _ = run(write, [x], target)
        off = np.abs(got.astype(int) - wanted.astype(int))
        assert off.max() <= 1
        assert (off > 0).mean() < 0.02
        assert (wanted == np.iinfo(kind).min).mean() > 0.2


def _pooled(d: Any) -> Any:
    return relax.op.nn.avg_pool2d(d, (2, 2), (2, 2), layout="NHWC")


def _normed(d: Any) -> Any:
    gain, bias = relax.const(np.linspace(0.5, 2, 40, dtype=np.float32)), relax.const(np.ones(40, np.float32))
    return relax.op.nn.layer_norm(d, gain, bias, [-1], 1e-5)


def _norm(x: Any) -> Any:
    normal = (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-5)
    return normal * np.linspace(0.5, 2, 40) + 1


def _soft(x: Any) -> Any:
    grown = np.exp(x - x.max(-1, keepdims=True))
    return grown / grown.sum(-1, keepdims=True)


READERS: dict[str, tuple[Callable[[Any], Any], Callable[[Any], Any]]] = {
    "average pooling": (_pooled, lambda x: x.reshape(1, 3, 2, 4, 2, 40).mean((2, 4))),
    "mean": (lambda d: relax.op.mean(d, [1, 2]), lambda x: x.mean((1, 2))),
    "softmax": (lambda d: relax.op.nn.softmax(d, -1), _soft),
    "layer norm": (_normed, _norm),
}


@on_targets
@pytest.mark.parametrize("reader", READERS)
def test_an_operator_reads_codes(reader: str, target: Any) -> None:
    write, wanted = READERS[reader]
    x = every_code(1, 6, 8, 40)
    got, names = run(lambda x: quantize(write(dequantize(x)), 0.0123, 90), [x], target)
    exact = wanted(real(x).astype(np.float64)) / np.float32(0.0123) + 90
    tie = np.abs(exact - np.floor(exact) - 0.5) < 1e-3
    np.testing.assert_array_equal(got[~tie], np.clip(np.rint(exact), 0, 255)[~tie])
    assert len(names) == 1


def test_two_readers_of_the_same_numbers_read_codes_both() -> None:
    x = every_code(1, 6, 8, 40)

    def write(x: Any) -> Any:
        d = dequantize(x)
        return relax.op.concat([quantize(_pooled(d)), quantize(_pooled(relax.op.negative(d)))], axis=-1)

    got, names = run(write, [x], TARGETS[0])
    pooled = real(x).reshape(1, 3, 2, 4, 2, 40).mean((2, 4))
    wanted = np.concatenate([codes(pooled), codes(-pooled)], -1)
    assert np.abs(got.astype(int) - wanted.astype(int)).max() <= 1
    assert (got != wanted).mean() < 0.1  # means of four are often between two codes
    assert not any(name == "dequantize" for name in names)


@on_targets
@pytest.mark.parametrize("zeros", [(130, 120), (0, 128)])
def test_a_product_of_codes(zeros: tuple[int, int], target: Any) -> None:
    x, y = every_code(2, 9, 33), every_code(2, 33, 20)

    def write(x: Any, y: Any) -> Any:
        left, right = dequantize(x, 0.02, zeros[0]), dequantize(y, 0.03, zeros[1])
        scaled = relax.op.multiply(relax.op.matmul(left, right), relax.const(np.float32(0.125)))
        return quantize(scaled, 0.05, 100)

    got, names = run(write, [x, y], target)
    exact = (real(x, 0.02, zeros[0]).astype(np.float64) @ real(y, 0.03, zeros[1])) * 0.125 / np.float32(0.05) + 100
    tie = np.abs(exact - np.floor(exact) - 0.5) < 1e-3
    np.testing.assert_array_equal(got[~tie], np.clip(np.rint(exact), 0, 255)[~tie])
    if target.core.dot is not None and target.core.dot.group == 4:
        assert len(names) == 1
