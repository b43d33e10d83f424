"""Matrix products, norms, and what else is a small network."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from .case import MICROSOFT, Case, numbers, types, versions

F = np.float32


def cases() -> Iterator[Case]:
    """All of them."""
    for part in (gemms, matmuls, einsums, norms, integers, codes, fused):
        yield from part()


def f(*shape: int, seed: int = 0) -> Any:
    return numbers(shape, F, seed, -2, 2)


def gemms() -> Iterator[Case]:
    """Either operand turned, scaled, with every shape of the bias; weights fixed or fed; integers."""
    for opset in versions("Gemm"):
        for a, b in ((0, 0), (0, 1), (1, 0), (1, 1)):
            left, right = f(*((4, 2) if a else (2, 4))), f(*((3, 4) if b else (4, 3)), seed=1)
            for fixed in ((1, 2), (), (0,)):
                yield Case("Gemm", (left, right, f(3)), {"transA": a, "transB": b, "alpha": 0.5, "beta": 1.5}, opset,
                           fixed)  # fmt: skip
        for bias in (f(2, 3), f(1, 3), f(2, 1), f(1), f()):
            yield Case("Gemm", (f(2, 4), f(4, 3), bias), {}, opset, (1, 2))
            yield Case("Gemm", (f(2, 4), f(4, 3), bias), {"beta": 0.5}, opset, (1,))
        if opset >= 11:
            yield Case("Gemm", (f(2, 4), f(4, 3)), {"alpha": 2.0}, opset, (1,))
        for dtype in types("Gemm", opset):
            given = numbers((2, 4), dtype), numbers((4, 3), dtype, 1), numbers((3,), dtype, 2)
            yield Case("Gemm", given, {}, opset, (1, 2), tolerance=2e-2 if dtype == np.float16 else 1e-5)


def matmuls() -> Iterator[Case]:
    """Vectors, matrices, batches that broadcast."""
    for opset in versions("MatMul"):
        for a, b in (
            ((3,), (3,)), ((3,), (3, 4)), ((2, 3), (3,)), ((2, 3), (3, 4)), ((5, 2, 3), (3, 4)),
            ((5, 2, 3), (5, 3, 4)), ((2, 1, 2, 3), (5, 3, 4)), ((3,), (5, 3, 4)), ((5, 2, 3), (3,)),
        ):  # fmt: skip
            yield Case("MatMul", (f(*a), f(*b, seed=1)), {}, opset, (1,))
            yield Case("MatMul", (f(*a), f(*b, seed=1)), {}, opset)
        yield Case("MatMul", (f(2, 3), f(3, 4)), {}, opset, (0,))
        for dtype in types("MatMul", opset):
            given = numbers((2, 4), dtype), numbers((4, 3), dtype, 1)
            yield Case("MatMul", given, {}, opset, tolerance=2e-2 if dtype == np.float16 else 1e-5)


def einsums() -> Iterator[Case]:
    """One to three operands, sums, diagonals, dots, the implicit form."""
    rows: list[tuple[str, tuple[Any, ...]]] = [
        ("ij->ji", ((3, 4),)), ("ij->", ((3, 4),)), ("ij->i", ((3, 4),)), ("ii->i", ((3, 3),)), ("ii", ((3, 3),)),
        ("...ii->...i", ((2, 3, 3),)), ("ij,jk->ik", ((3, 4), (4, 5))), ("ij,jk", ((3, 4), (4, 5))),
        ("bij,bjk->bik", ((2, 3, 4), (2, 4, 5))), ("bhqd,bhkd->bhqk", ((2, 2, 3, 4), (2, 2, 5, 4))),
        ("...ij,...jk->...ik", ((2, 3, 4), (2, 4, 5))), ("i,j->ij", ((3,), (4,))), ("i,i->", ((3,), (3,))),
        ("i,i", ((3,), (3,))), ("ij,j->i", ((3, 4), (4,))), ("bnd,de->bne", ((2, 3, 4), (4, 5))),
        ("bhwc,hkc->bhwk", ((2, 3, 4, 5), (3, 6, 5))), ("ab,bc,cd->ad", ((2, 3), (3, 4), (4, 5))),
        ("bij, bjk -> bik", ((2, 3, 4), (2, 4, 5))), ("zab,zb->za", ((2, 3, 4), (2, 4))),
        ("bchw,bcij->bhwij", ((1, 2, 3, 2), (1, 2, 2, 3))), ("ij,ij->ij", ((3, 4), (3, 4))), ("abc->cab", ((2, 3, 4),)),
    ]  # fmt: skip
    for equation, shapes in rows:
        given = tuple(f(*shape, seed=i) for i, shape in enumerate(shapes))
        yield Case("Einsum", given, {"equation": equation}, 12)
        if len(given) == 2:
            yield Case("Einsum", given, {"equation": equation}, 12, (1,))


def norms() -> Iterator[Case]:
    """Batch, instance, layer, group, RMS and L-p norms, and by mean and variance."""
    x, image = f(2, 3, 4), f(2, 4, 3, 5)
    s, b, m, v = (f(4, seed=i) for i in range(4))
    for opset in versions("BatchNormalization"):
        for given in (image, f(3, 4), f(2, 4, 5), f(1, 4, 2, 2, 3)):
            yield Case("BatchNormalization", (given, s, b, m, np.abs(v)), {"epsilon": 0.01}, opset, (1, 2, 3, 4))
        yield Case("BatchNormalization", (image, s, b, m, np.abs(v)), {}, opset)
        if opset == 7:
            wide = tuple(np.abs(f(4, 3, 5, seed=i)) for i in range(4))
            yield Case("BatchNormalization", (image, *wide), {"spatial": 0}, 7, (1, 2, 3, 4))
    for opset in versions("InstanceNormalization"):
        for given in (image, f(2, 4, 5), f(1, 4, 2, 3, 2)):
            yield Case("InstanceNormalization", (given, s, b), {"epsilon": 0.01}, opset, (1, 2), tolerance=1e-4)
            yield Case("InstanceNormalization", (given, s, b), {}, opset, tolerance=1e-4)
    for axis, shape in ((-1, (4,)), (1, (3, 4)), (-2, (3, 4)), (0, (2, 3, 4))):
        scale, shift = f(*shape), f(*shape, seed=1)
        for outputs in (1, 2, 3):
            yield Case("LayerNormalization", (x, scale, shift), {"axis": axis}, 17, (1, 2), outputs, tolerance=1e-4)
        yield Case("LayerNormalization", (x, scale), {"axis": axis, "epsilon": 0.1}, 17, (1,), tolerance=1e-4)
        yield Case("RMSNormalization", (x, scale), {"axis": axis, "epsilon": 0.1}, 23, (1,), tolerance=1e-4)
    yield Case("LayerNormalization", (x, f(1), f(1, seed=1)), {}, 17, (1, 2), tolerance=1e-4)
    yield Case("LayerNormalization", (x, f(3, 1), f(1, 4, seed=1)), {"axis": 1}, 17, (1, 2), tolerance=1e-4)
    for opset, size in ((18, 2), (21, 4)):
        for given in (image, f(2, 4, 5), f(1, 4, 2, 3, 2)):
            attrs = {"num_groups": 2, "epsilon": 0.01}
            yield Case("GroupNormalization", (given, f(size), f(size, seed=1)), attrs, opset, (1, 2), tolerance=1e-4)
    for opset in versions("MeanVarianceNormalization"):
        yield Case("MeanVarianceNormalization", (image,), {}, opset, tolerance=1e-4)
        yield Case("MeanVarianceNormalization", (image,), {"axes": [1, 2]}, opset, tolerance=1e-4)
    for opset in versions("LpNormalization"):
        for attrs in ({}, {"axis": 1}, {"p": 1}, {"axis": 0, "p": 1}):
            yield Case("LpNormalization", (x,), attrs, opset)


def integers() -> Iterator[Case]:
    """MatMulInteger, ConvInteger and their zero points."""
    for kinds in ((np.uint8, np.uint8), (np.uint8, np.int8), (np.int8, np.int8)):
        a, b = numbers((3, 4), kinds[0], 0, -100, 120), numbers((4, 2), kinds[1], 1, -100, 120)
        zeros = np.array(7, kinds[0]), np.array(3, kinds[1])
        yield Case("MatMulInteger", (a, b), {}, 10, (1,))
        yield Case("MatMulInteger", (a, b, *zeros), {}, 10, (1, 2, 3))
        yield Case("MatMulInteger", (a, b, *zeros), {}, 10)
        yield Case("MatMulInteger", (a, b, zeros[0], np.array([1, 2], kinds[1])), {}, 10, (1, 2, 3))
    x, w = numbers((1, 2, 5, 5), np.uint8, 0, 0, 200), numbers((3, 2, 3, 3), np.uint8, 1, 0, 200)
    for attrs in ({}, {"pads": [1, 1, 1, 1]}, {"strides": [2, 2], "auto_pad": "SAME_UPPER"}):
        yield Case("ConvInteger", (x, w), attrs, 10, (1,))
        yield Case("ConvInteger", (x, w, np.array(9, np.uint8), np.array(3, np.uint8)), attrs, 10, (1, 2, 3))


def codes() -> Iterator[Case]:
    """QuantizeLinear, DequantizeLinear: types, axes, halves, what does not fit; by tensor's own range."""
    x = np.array([[-3.0, 0.25, 0.5, 0.75], [1.25, 1000, -1000, 0], [0.1, 2, 3, 4]], F)
    for opset in versions("QuantizeLinear", 21):
        for kind in (np.uint8, np.int8, *((np.uint16, np.int16) if opset >= 21 else ())):
            yield Case("QuantizeLinear", (x, np.array(0.5, F), np.array(3, kind)), {}, opset, (1, 2))
            if opset >= 13:
                for axis, n in ((1, 4), (0, 3), (-1, 4)):
                    scale = np.linspace(0.1, 1, n).astype(F)
                    yield Case("QuantizeLinear", (x, scale, np.arange(n).astype(kind)), {"axis": axis}, opset, (1, 2))
        yield Case("QuantizeLinear", (x, np.array(0.5, F)), {}, opset, (1,))
    for opset in versions("DequantizeLinear", 21):
        for kind in (np.uint8, np.int8, np.int32, *((np.uint16, np.int16) if opset >= 21 else ())):
            q = numbers((3, 4), kind, low=-100, high=120)
            zero = np.array(0 if kind == np.int32 else 3, kind)
            yield Case("DequantizeLinear", (q, np.array(0.5, F), zero), {}, opset, (1, 2))
            if opset >= 13:
                for axis, n in ((1, 4), (0, 3), (-1, 4)):
                    scale, zeros = np.linspace(0.1, 1, n).astype(F), np.zeros(n, kind)
                    yield Case("DequantizeLinear", (q, scale, zeros), {"axis": axis}, opset, (1, 2))
        yield Case("DequantizeLinear", (numbers((3, 4), np.uint8), np.array(0.5, F)), {}, opset, (1,))
    for given in (x, np.abs(x), -np.abs(x), np.zeros((2, 2), F)):
        yield Case("DynamicQuantizeLinear", (given,), {}, 11, outputs=3)


def fused() -> Iterator[Case]:
    """Operators of onnxruntime's own domain that are a few others in one."""
    x, y = f(2, 3, 8), f(2, 3, 8, seed=1)
    for op, given, attrs, fixed, outputs in (
        ("Gelu", (x,), {}, (), 1), ("FastGelu", (x,), {}, (), 1), ("FastGelu", (x, f(8)), {}, (1,), 1),
        ("BiasGelu", (x, f(8)), {}, (1,), 1), ("QuickGelu", (x,), {"alpha": 1.5}, (), 1),
        ("FusedMatMul", (x, f(2, 5, 8)), {"transB": 1, "alpha": 0.5}, (), 1),
        ("FusedMatMul", (f(2, 8, 3), f(2, 8, 5)), {"transA": 1}, (), 1),
        ("SkipLayerNormalization", (x, y, f(8), f(8, seed=2)), {}, (2, 3), 1),
        ("SkipLayerNormalization", (x, y, f(8), f(8, seed=2), f(8, seed=3)), {"epsilon": 0.1}, (2, 3, 4), 1),
        ("SkipLayerNormalization", (x, y, f(8)), {}, (2,), "1001"),
        ("SkipSimplifiedLayerNormalization", (x, y, f(8)), {}, (2,), "1001"),
    ):  # fmt: skip
        yield Case(op, given, attrs, 17, fixed, outputs, MICROSOFT, 1e-4)
