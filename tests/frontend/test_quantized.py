"""Quantized weights and tensors in every form that quantizers write: numbers against onnxruntime, zeros seen."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import ml_dtypes
import numpy as np
import onnx
import onnxruntime
import pytest
import tvm
from onnx import TensorProto, helper, numpy_helper
from tvm import relax

from tesa.errors import ModelError, UnsupportedError
from tesa.frontend import import_onnx
from tesa.propagate import propagate
from tests.support import QUICK, rest_slow

from .test_import import compare, operators

MS = "com.microsoft"
RNG = np.random.default_rng(0)


def floats(*shape: int) -> Any:
    return RNG.standard_normal(shape).astype(np.float32)


def codes(dtype: Any, *shape: int) -> Any:
    """Random codes of the whole range of a type."""
    name = np.dtype(dtype).name
    bits = int(name.lstrip("uint"))
    low = 0 if name.startswith("u") else -(1 << (bits - 1))
    return RNG.integers(low, low + (1 << bits), shape).astype(dtype)


def scales(*shape: int) -> Any:
    return (RNG.random(shape) * 0.1 + 0.01).astype(np.float32)


def both(given: onnx.ModelProto, feeds: Mapping[str, Any]) -> tuple[Any, list[Any], list[Any]]:
    """(imported model, our outputs, those of onnxruntime as the file is)."""
    imported = import_onnx(given)
    mod = relax.get_pipeline("zero")(imported.mod)
    machine = relax.VirtualMachine(tvm.compile(mod, tvm.target.Target(QUICK)), tvm.cpu())
    found = machine["main"](*[tvm.runtime.tensor(feeds[p.name]) for p in imported.inputs])
    found = [found] if isinstance(found, tvm.runtime.Tensor) else list(found)
    plain = onnxruntime.SessionOptions()
    plain.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(given.SerializeToString(), plain, providers=["CPUExecutionProvider"])
    return imported, [array.numpy() for array in found], session.run(None, dict(feeds))


class Builder:
    """Many nodes in one model: compiled once, every result compared."""

    def __init__(self, opset: int = 21) -> None:
        self.nodes: list[Any] = []
        self.constants: dict[str, Any] = {}
        self.feeds: dict[str, Any] = {}
        self.opset = opset

    def constant(self, array: Any) -> str:
        name = f"c{len(self.constants)}"
        self.constants[name] = np.asarray(array)
        return name

    def feed(self, array: Any) -> str:
        name = f"x{len(self.feeds)}"
        self.feeds[name] = np.asarray(array)
        return name

    def add(self, op: str, *inputs: Any, domain: str = "", outputs: int = 1, **attrs: Any) -> Any:
        """A node; arrays among its inputs become constants, None is left out."""
        names = ["" if x is None else x if isinstance(x, str) else self.constant(x) for x in inputs]
        made = [f"t{len(self.nodes)}{'abc'[i]}" for i in range(outputs)]
        self.nodes.append(helper.make_node(op, names, made, f"n{len(self.nodes)}", domain=domain, **attrs))
        return made[0] if outputs == 1 else made

    def model(self, inner: bool = False) -> onnx.ModelProto:
        """All results that nobody reads are outputs; inner: those that somebody reads as well."""
        kind = helper.np_dtype_to_tensor_dtype
        read = {name for node in self.nodes for name in node.input}
        outs = [onnx.ValueInfoProto(name=n) for node in self.nodes for n in node.output if inner or n not in read]
        ports = [helper.make_tensor_value_info(n, kind(a.dtype), a.shape) for n, a in self.feeds.items()]
        tensors = [numpy_helper.from_array(a, n) for n, a in self.constants.items()]
        graph = helper.make_graph(self.nodes, "test", ports, outs, tensors)
        opsets = [helper.make_opsetid("", self.opset), helper.make_opsetid(MS, 1)]
        return helper.make_model(graph, opset_imports=opsets, ir_version=10)

    def check(self, tolerance: float, inner: bool = False) -> Any:
        return compare(onnx.shape_inference.infer_shapes(self.model(inner)), self.feeds, tolerance)

    def check_codes(self) -> Any:
        """Every output is codes, at most one step from those of onnxruntime: a float sum may lie between two."""
        given = onnx.shape_inference.infer_shapes(self.model())
        imported, found, expected = both(given, self.feeds)
        for node, ours, theirs in zip(self.nodes, found, expected, strict=True):
            assert ours.dtype == theirs.dtype
            assert ours.shape == theirs.shape
            assert np.abs(ours.astype(int) - theirs.astype(int)).max() <= 1, node.op_type
            assert theirs.min() < theirs.max(), f"{node.op_type}: codes that are all alike show nothing"
        return imported


LAYOUTS: dict[str, tuple[tuple[int, ...], tuple[int, ...], dict[str, int]]] = {
    "one number": ((4, 6), (), {}),
    "one number of one axis": ((4, 6), (1,), {}),
    "one number of one axis, of a vector": ((6,), (1,), {}),
    "one number of one axis, along the last": ((4, 6), (1,), {"axis": -1}),
    "along the first axis": ((4, 6), (4,), {"axis": 0}),
    "along the last axis": ((4, 3, 6), (6,), {"axis": -1}),
    "along the one axis": ((6,), (6,), {"axis": 0}),
    "blocks of the first axis": ((32, 5), (2, 5), {"axis": 0, "block_size": 16}),
    "blocks of the last axis": ((3, 2, 32), (3, 2, 2), {"axis": -1, "block_size": 16}),
}


@pytest.mark.parametrize("dtype", [np.int8, np.uint8, np.int16, np.uint16, ml_dtypes.int4, ml_dtypes.uint4])
def test_constants_are_dequantized_where_scales_may_lie(dtype: Any) -> None:
    b = Builder()
    for shape, scale, attrs in LAYOUTS.values():
        x = b.feed(floats(*shape))
        for zero in (None, codes(dtype, *scale)):
            b.add("Add", x, b.add("DequantizeLinear", codes(dtype, *shape), scales(*scale), zero, **attrs))
    imported = b.check(1e-6)
    assert set(operators(imported)) == {"add"}


@pytest.mark.parametrize("dtype", rest_slow([np.int8, np.uint8, np.int16, np.uint16]))
def test_tensors_are_quantized_and_dequantized_where_scales_may_lie(dtype: Any) -> None:
    b = Builder()
    for shape, scale, attrs in LAYOUTS.values():
        for zero in (None, codes(dtype, *scale)):
            b.add("DequantizeLinear", b.feed(codes(dtype, *shape)), scales(*scale), zero, **attrs)
        steps = np.full(scale, 0.25, np.float32)  # where halves are ties, which go to the even code
        x = np.round(floats(*shape) * 40) / 8
        b.add("QuantizeLinear", b.feed(x.astype(np.float32)), steps, codes(dtype, *scale), **attrs)
    b.check(1e-6)


def test_sixteen_bits_of_onnxruntimes_own_operators() -> None:
    b = Builder(17)
    for dtype in (np.int16, np.uint16):
        level = np.asarray(codes(dtype, 1)[0])
        q = b.add("QuantizeLinear", b.feed(floats(3, 4)), np.float32(1e-4), level, domain=MS)
        b.add("DequantizeLinear", q, np.float32(1e-4), level, domain=MS)
        stored = b.add("DequantizeLinear", codes(dtype, 4, 5), scales(5), codes(dtype, 5), domain=MS, axis=1)
        b.add("MatMul", b.feed(floats(3, 4)), stored)
    imported = b.check(1e-4)
    assert [q.bits for q in imported.quantization.values()] == [16, 16]


def test_a_bias_of_int32_has_one_scale_or_many() -> None:
    b = Builder(17)
    for scale in (np.float32(0.01), scales(1), scales(6)):
        bias = RNG.integers(-1000, 1000, 6).astype(np.int32)
        axis = {"axis": 0} if scale.size > 1 else {}
        b.add(
            "Add", b.feed(floats(2, 6)), b.add("DequantizeLinear", bias, scale, np.zeros(scale.shape, np.int32), **axis)
        )
        b.add("DequantizeLinear", b.feed(bias), scale, np.zeros(scale.shape, np.int32), **axis)
    b.check(1e-6)


def test_fake_quantization_of_a_weight_folds_into_it() -> None:
    """What training with fake quantization leaves: the weight as float32, quantized in front of its layer."""
    b = Builder(17)
    for dtype, axis, count in ((np.int8, 0, 5), (np.int8, 1, 4), (np.uint8, 0, 1)):
        scale, zero = scales(count), codes(dtype, count) if dtype == np.uint8 else np.zeros(count, dtype)
        attrs = {"axis": axis} if count > 1 else {}
        q = b.add("QuantizeLinear", floats(5, 4), scale, zero, **attrs)
        narrow = b.add("Clip", q, np.asarray(-127, dtype), np.asarray(127, dtype)) if dtype == np.int8 else q
        b.add("Gemm", b.feed(floats(2, 4)), b.add("DequantizeLinear", narrow, scale, zero, **attrs), transB=1)
    imported = b.check(1e-5)
    assert operators(imported) == ["matmul"] * 3
    assert [q.bits for q in imported.quantization.values()] == [8, 8, 8]


def test_tensors_of_fewer_than_8_bits() -> None:
    b = Builder()
    for zero in (codes(ml_dtypes.int4), codes(ml_dtypes.uint4, 3, 2), None):
        attrs = {"axis": 1, "block_size": 16} if zero is None or zero.ndim else {}
        step = np.full((3, 2) if attrs else (), 0.25, np.float32)
        kind = {"output_dtype": TensorProto.INT4} if zero is None else {}
        q = b.add("QuantizeLinear", b.feed(floats(3, 32)), step, zero, **attrs, **kind)
        b.add("DequantizeLinear", q, step, zero, **attrs)
    b.check(1e-6)


def test_operators_fused_with_dynamic_quantization() -> None:
    b, x = Builder(17), floats(3, 32)
    weight, bias = codes(np.int8, 32, 5), floats(5)
    b.add("DynamicQuantizeMatMul", b.feed(x), weight, scales(5), np.zeros(5, np.int8), bias, domain=MS)
    q, s, z = b.add("DynamicQuantizeLinear", b.feed(x), outputs=3)
    inputs = [q, codes(np.uint8, 32, 5), s, scales(), z, np.uint8(128)]
    b.add("MatMulIntegerToFloat", *inputs, domain=MS)
    imported = b.check(1e-4)
    assert [q.bits for q in imported.quantization.values()] == [8, 8]


def test_weights_of_8_bit_floats() -> None:
    b = Builder()
    for dtype, count in ((ml_dtypes.float8_e4m3fn, 5), (ml_dtypes.float8_e5m2, 1)):
        level = np.zeros(count, dtype)
        stored = floats(6, 5).astype(dtype) if count > 1 else b.add("QuantizeLinear", floats(6, 5), scales(1), level)
        b.add("MatMul", b.feed(floats(2, 6)), b.add("DequantizeLinear", stored, scales(count), level, axis=1))
    assert operators(b.check(1e-4)) == ["matmul"] * 2


@pytest.mark.parametrize("op", ["Cast", "CastLike", "QuantizeLinear"])
def test_rounding_to_8_bit_floats_at_run_time_is_refused(op: str) -> None:
    """As if it were not there the numbers would be other ones."""
    b = Builder(21)
    x, level = b.feed(floats(2, 6)), np.zeros((), ml_dtypes.float8_e4m3fn)
    given = {"Cast": [x], "CastLike": [x, level], "QuantizeLinear": [x, scales(1), level]}[op]
    options = {"to": TensorProto.FLOAT8E4M3FN} if op == "Cast" else {}
    b.add("Cast", b.add(op, *given, **options), to=TensorProto.FLOAT)
    with pytest.raises(UnsupportedError, match=rf"\({op}\): it rounds to float8_?e4m3fn when the model runs"):
        import_onnx(b.model())


def test_a_scale_that_does_not_fit_is_refused() -> None:
    b = Builder()
    b.add("Add", b.feed(floats(4, 6)), b.add("DequantizeLinear", codes(np.int8, 4, 6), scales(5), axis=0))
    with pytest.raises(ModelError, match="'c1' of shape \\[5\\] does not fit x of shape \\[4, 6\\] along axis 0"):
        import_onnx(b.model())


@pytest.mark.parametrize("bits", [2, 4, 8])
def test_products_with_packed_weights(bits: int) -> None:
    b, outer = Builder(17), 6

    def layer(inner: int, block: int, *extra: Any) -> None:
        blocks = -(-inner // block)
        packed = codes(np.uint8, outer, blocks, block * bits // 8)
        b.add("MatMulNBits", b.feed(floats(2, 3, inner)), packed, scales(outer * blocks), *extra, domain=MS,
              K=inner, N=outer, bits=bits, block_size=block)  # fmt: skip

    layer(64, 32)
    layer(80, 32, codes(np.uint8, outer * -(-3 * bits // 8)))
    layer(64, 16, codes(np.uint8, outer * -(-4 * bits // 8)), None, floats(outer))
    if bits < 8:
        layer(64, 32, (RNG.random((outer, 2)) * 3).astype(np.float32))
    if bits == 4:
        layer(64, 32, None, RNG.integers(0, 2, 64).astype(np.int32))
    imported = b.check(1e-4)
    assert [q.bits for q in imported.quantization.values()] == [bits] * (4 if bits == 4 else 3)
    assert all(f"c{i}" in imported.weights for i in (0, 2, 5))


def test_the_scales_of_reordered_rows_have_their_zero_points() -> None:
    """By what MatMulNBits is said to be; onnxruntime leaves the zero points out."""
    packed, scale, zero = codes(np.uint8, 5, 2, 16), scales(5, 2), codes(np.uint8, 5)
    groups = RNG.integers(0, 2, 64).astype(np.int32)
    b = Builder(17)
    b.add(
        "MatMulNBits", b.feed(floats(1, 64)), packed, scale, zero, groups, domain=MS, K=64, N=5, bits=4, block_size=32
    )
    (layer,) = propagate(import_onnx(b.model())).weights.values()
    stored = np.stack([packed & 15, packed >> 4], -1).reshape(5, 64).astype(int)
    levels = np.stack([zero & 15, zero >> 4], -1).astype(int)
    np.testing.assert_allclose(layer.weight.T, (stored - levels[:, groups]) * scale[:, groups], rtol=1e-6)


def test_weights_of_bitsandbytes() -> None:
    b = Builder(17)
    for kind in (0, 1):
        b.add("MatMulBnb4", b.feed(floats(3, 64)), codes(np.uint8, 10 * 32), scales(20), domain=MS, K=64, N=10,
              block_size=32, quant_type=kind)  # fmt: skip
    b.check(1e-4)


def test_tables_with_packed_rows() -> None:
    b, rows = Builder(17), np.array([[0, 1, 5], [3, 4, 2]])
    table = {"gather_axis": 0, "quantize_axis": 1, "block_size": 16, "domain": MS}
    for bits in (2, 4, 8):
        for zero in (None, codes(np.uint8, 6, 1 if bits < 8 else 2)):
            data = codes(np.uint8, 6, 32 * bits // 8)
            b.add("GatherBlockQuantized", data, b.feed(rows), scales(6, 2), zero, bits=bits, **table)
    for dtype in (ml_dtypes.int4, ml_dtypes.uint4):
        for zero in (None, codes(dtype, 6, 2)):
            b.add("GatherBlockQuantized", codes(dtype, 6, 32), b.feed(rows), scales(6, 2), zero, **table)
    b.add("GatherBlockQuantized", codes(ml_dtypes.int4, 64, 8), b.feed(rows), scales(4, 8), domain=MS, gather_axis=1,
          quantize_axis=0, block_size=16)  # fmt: skip
    b.check(0)


def test_zeros_of_packed_weights_count_and_masks_prune_them() -> None:
    stored = codes(np.uint8, 8, 1, 16)
    stored[:4] = 0x88  # the code in the middle stands for 0
    b = Builder(17)
    b.add("MatMulNBits", b.feed(floats(2, 32)), stored, scales(8), domain=MS, K=32, N=8, bits=4, block_size=32)
    (layer,) = propagate(import_onnx(b.model())).weights.values()
    assert layer.weight.shape == (32, 8)
    assert not layer.weight[:, :4].any()
    mask = np.ones((8, 32), bool)
    mask[:, ::2] = False
    (layer,) = propagate(import_onnx(b.model(), masks={"c0": mask})).weights.values()
    assert not layer.weight[::2].any()
    assert layer.weight[1::2, 4:].any()


def test_weights_that_are_not_constant_or_have_odd_bits_are_refused() -> None:
    for bits, packed, said in ((4, None, "is computed by the model"), (3, codes(np.uint8, 4, 1, 12), "have 3 bits")):
        b = Builder(17)
        x, w = b.feed(floats(2, 32)), b.feed(codes(np.uint8, 4, 1, 16)) if packed is None else packed
        b.add("MatMulNBits", x, w, scales(4), domain=MS, K=32, N=4, bits=bits, block_size=32)
        with pytest.raises(UnsupportedError, match=f"node 'n0' \\(MatMulNBits\\): .*{said}"):
            import_onnx(b.model())


RANGES: Mapping[str, Any] = {
    "normal": floats(3, 4),
    "of four axes": floats(2, 3, 4, 2),
    "all zeros": np.zeros((2, 3), np.float32),
    "ties at both ends": np.array([[-101.5, 0, 153.5, 0.5, 1.5, 2.5, -1.5]], np.float32),
    "positive": np.array([3, 4, 5], np.float32),
    "negative": np.array([[-3, -4, -5]], np.float32),
}


@pytest.mark.slow
def test_dynamic_quantization_is_exact() -> None:
    b = Builder(17)
    for x in RANGES.values():
        b.add("DequantizeLinear", *b.add("DynamicQuantizeLinear", b.feed(x), outputs=3))
    b.check(0, inner=True)


def test_integer_products_are_exact() -> None:
    """Also where a sum passes 2^24, with every kind of zero point, and of two tensors."""
    b = Builder(17)
    for inner in (40, 1000):
        for dtype in (np.int8, np.uint8):
            a = b.feed(np.full((3, inner), 255, np.uint8) if inner > 40 else codes(np.uint8, 3, inner))
            w = np.full((inner, 4), np.iinfo(dtype).max, dtype) if inner > 40 else codes(dtype, inner, 4)
            b.add("MatMulInteger", a, w)
            b.add("MatMulInteger", a, w, np.uint8(3), np.asarray(1, dtype))
            b.add("MatMulInteger", a, w, np.uint8(200), codes(dtype, 4))
        b.add("MatMulInteger", b.feed(codes(np.uint8, 2, 3, inner)), b.feed(codes(np.uint8, 2, inner, 4)))
        b.add("MatMulInteger", codes(np.uint8, 3, inner), b.feed(codes(np.uint8, inner, 4)), np.uint8(7))
    b.add("MatMulInteger", b.feed(codes(np.int8, 5)), codes(np.int8, 5, 4))
    image = b.feed(codes(np.uint8, 1, 8, 9, 9))
    for w in (codes(np.int8, 4, 8, 3, 3), np.full((4, 8, 9, 9), 127, np.int8)):
        b.add("ConvInteger", image, w, np.uint8(0), pads=[1] * 4)
        b.add("ConvInteger", image, w, np.uint8(120), strides=[2, 2])
        b.add("ConvInteger", image, w, np.uint8(255), np.int8(3))
    b.add("ConvInteger", image, codes(np.uint8, 8, 2, 3, 3), np.uint8(7), group=4)
    imported = b.check(0)
    assert "matmul" in operators(imported)


def test_a_weight_of_both_signs_is_one_part() -> None:
    """What is above 0 and what is below cannot both meet the largest code."""
    for weight, parts in ((codes(np.int8, 1500, 2), 1), (np.abs(codes(np.int8, 1500, 2)), 2)):
        b = Builder(17)
        b.add("MatMulInteger", b.feed(codes(np.uint8, 1, 1500)), weight.astype(np.int8))
        assert operators(import_onnx(b.model())).count("matmul") == parts


def test_a_dynamic_product_keeps_its_zeros_and_its_name() -> None:
    """The weight is one float32 constant of codes less their zero point, and an input of 0 is 0 in front of it."""
    stored = np.where(RNG.random((8, 6)) < 0.3, codes(np.uint8, 8, 6), 128).astype(np.uint8)
    b = Builder(17)
    x = b.feed(floats(2, 8))
    codes_, scale, zero = b.add("DynamicQuantizeLinear", b.add("Mul", x, np.array([0, 1] * 4, np.float32)), outputs=3)
    real = b.add("Cast", b.add("MatMulInteger", codes_, stored, zero, np.uint8(128)), to=TensorProto.FLOAT)
    b.add("Mul", real, b.add("Mul", scale, np.float32(0.01)))
    imported = b.check(1e-6)
    assert [name for name, uses in imported.weights.items() if uses] == [b.nodes[2].input[1]]
    (layer,) = propagate(imported).weights.values()
    np.testing.assert_array_equal(layer.weight, stored.astype(np.float32) - 128)
    assert not layer.effective_weight[::2].any()
    masked = propagate(import_onnx(b.model(), masks={b.nodes[2].input[1]: np.zeros((8, 6))}))
    assert not next(iter(masked.weights.values())).weight.any()


@pytest.mark.slow
def test_operators_on_codes() -> None:
    """What onnxruntime's quantizer and optimizer write in its operator form."""
    b = Builder(17)
    for dtype in (np.uint8, np.int8):
        x = b.feed(codes(dtype, 2, 4, 6, 6))
        middle = np.asarray(120 if dtype == np.uint8 else 10, dtype)
        px, py = (scales(), np.asarray(codes(dtype, 1)[0] // 4)), (np.float32(0.1), middle)
        one = (scales(), np.asarray(codes(dtype, 1)[0] // 4))
        other = (b.feed(codes(dtype, 2, 4, 6, 6)), *one)
        for op in ("QLinearAdd", "QLinearMul"):
            b.add(op, x, *px, *other, *py, domain=MS)
        b.add("QLinearAdd", x, *px, codes(dtype, 6), *one, *py, domain=MS)
        for op, attrs in (("QLinearSigmoid", {}), ("QLinearLeakyRelu", {"alpha": 0.2})):
            b.add(op, x, *one, np.float32(0.02), np.asarray(0, dtype), domain=MS, **attrs)
        small = np.float32(1 / 256), np.asarray(-100 if dtype == np.int8 else 3, dtype)
        for opset, axis in ((13, 1), (13, -1), (11, 2), (11, 1)):
            b.add("QLinearSoftmax", x, *px, *small, domain=MS, opset=opset, axis=axis)
        for last in (0, 1):
            b.add("QLinearGlobalAveragePool", x, *px, *py, domain=MS, channels_last=last)
            pool = {"kernel_shape": [3, 3], "strides": [2, 2], "pads": [1] * 4, "channels_last": last, "domain": MS}
            b.add("QLinearAveragePool", x, *px, *py, **pool)
            b.add("QLinearAveragePool", x, *px, *py, count_include_pad=1, **pool)
        b.add("QLinearConcat", *py, x, *px, *other, domain=MS, axis=1)
        condition = b.feed(RNG.random((2, 1, 6, 6)) < 0.5)
        b.add("QLinearWhere", condition, x, *px, *other, *py, domain=MS)
        for weight, kinds in ((np.int8, (0, 1)), (np.uint8, (0, 1))):
            if dtype == np.int8 and weight == np.uint8:
                continue  # onnxruntime has no such product
            for wide in kinds:
                count = (5,) if wide else (1,)
                level = np.full(count, 0 if weight == np.int8 else 131, weight)
                w, bias = (scales(*count), level), RNG.integers(-900, 900, 5).astype(np.int32)
                b.add("QLinearConv", x, *px, codes(weight, 5, 4, 3, 3), *w, np.float32(2.0), py[1], bias, pads=[1] * 4)
                b.add("QLinearMatMul", x, *px, codes(weight, 6, 5), *w, np.float32(1.5), py[1])
                flat = b.feed(codes(dtype, 3, 7))
                b.add("QGemm", flat, *px, codes(weight, 5, 7), *w, bias, np.float32(0.7), py[1], domain=MS, transB=1)
    b.check_codes()


def test_fused_operators_on_codes() -> None:
    """QAttention and QEmbedLayerNormalization, which dynamic quantization makes of a fused BERT."""
    b = Builder(17)
    for weight, count in ((np.int8, 1), (np.uint8, 1), (np.int8, 24)):
        level = np.zeros(count, np.int8) if weight == np.int8 else codes(np.uint8, 1)
        x, w = b.feed(codes(np.uint8, 2, 5, 8)), codes(weight, 8, 24)
        scale = scales(count) if count > 1 else scales()
        level = level if count > 1 else np.asarray(level[0])
        b.add(
            "QAttention", x, w, floats(24), np.float32(0.01), scale, None, np.uint8(120), level, domain=MS, num_heads=2
        )
    ids = b.feed(RNG.integers(0, 9, (2, 5)).astype(np.int32))
    kinds = b.feed(RNG.integers(0, 2, (2, 5)).astype(np.int32))
    stored = [codes(np.uint8, *shape) for shape in ((9, 8), (6, 8), (2, 8), (8,), (8,))]
    levels = [np.asarray(v) for v in codes(np.uint8, 5)]
    names = [ids, kinds, *stored, None, *[scales() for _ in stored], *levels]
    b.add("QEmbedLayerNormalization", *names, domain=MS, outputs=2, epsilon=1e-6)
    b.check(1e-3)
