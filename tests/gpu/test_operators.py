"""Operators without a sparse weight, scheduled for GPUs, against NumPy, and whole networks against onnxruntime."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import tvm
from tvm import relax

import tesa.models
from benchmarks.zoo import bert_base, mobilenet_v1
from tesa.base.random_inputs import random_array
from tesa.frontend.onnx import import_onnx
from tesa.schedules.gpu.operators import ScheduleOperators, describe, legalization, operator_rules
from tests.gpu import opencl
from tests.gpu.families import GPU
from tests.gpu.network import Network

op = relax.op
TARGET = tvm.target.Target(opencl.TARGET, host="llvm")
Arrays = Sequence[np.ndarray]


def scheduled(mod: Any) -> Any:
    """The module with all its operators bound to threads."""
    passes = [
        relax.transform.DecomposeOpsForInference(),
        relax.transform.LegalizeOps(legalization()),
        relax.transform.AnnotateTIROpPattern(),
        relax.transform.FoldConstant(),
        relax.transform.FuseOps(),
        relax.transform.FuseTIR(),
        relax.transform.DeadCodeElimination(),
        ScheduleOperators(GPU),
    ]
    with TARGET:
        return tvm.transform.Sequential(passes)(mod)


def module(shapes: Sequence[tuple[int, ...]], make: Callable[..., Any]) -> Any:
    """A module of one expression."""
    builder = relax.BlockBuilder()
    given = [relax.Var(f"a{i}", relax.TensorType(shape, "float32")) for i, shape in enumerate(shapes)]
    with builder.function("main", given):
        with builder.dataflow():
            out = builder.emit_output(make(*given))
        builder.emit_func_output(out)
    return builder.get()


def rules_of(mod: Any) -> set[str]:
    return {describe(func) for _, func in mod.functions.items() if not isinstance(func, relax.Function)}


def _softmax(x: np.ndarray, axis: int = -1) -> np.ndarray:
    e = np.exp(x - x.max(axis, keepdims=True))
    return e / e.sum(axis, keepdims=True)


def _norm(x: np.ndarray, g: np.ndarray, b: np.ndarray) -> np.ndarray:
    return (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-5) * g + b


def _pool(x: np.ndarray) -> np.ndarray:
    windows = np.lib.stride_tricks.sliding_window_view(x, (2, 2), (2, 3))[:, :, ::2, ::2]
    return windows.max((4, 5))


def _scattered(x: np.ndarray, u: np.ndarray) -> np.ndarray:
    y = x.copy()
    y[[1, 4], :6] = u
    return y


def _int(*values: Any) -> Any:
    return relax.const(np.array(values, "int64"))


OPERATORS: dict[str, tuple[list[tuple[int, ...]], Callable[..., Any], Callable[..., np.ndarray], str]] = {
    "softmax": ([(3, 5, 33)], lambda x: op.nn.softmax(x, -1), _softmax, "general_reduction"),
    "softmax of the middle": ([(3, 7, 20)], lambda x: op.nn.softmax(x, 1), lambda x: _softmax(x, 1), ""),
    "layer norm": ([(4, 10, 48), (48,), (48,)], lambda x, g, b: op.nn.layer_norm(x, g, b, [-1]), _norm, ""),
    "chain": (
        [(3, 100), (100,)],
        lambda x, b: op.nn.relu(op.add(op.exp(x), b)),
        lambda x, b: np.maximum(np.exp(x) + b, 0),
        "",
    ),
    "max pool": ([(1, 3, 11, 13)], lambda x: op.nn.max_pool2d(x, (2, 2), (2, 2)), _pool, ""),
    "global pool": (
        [(2, 30, 7, 7)],
        lambda x: op.nn.adaptive_avg_pool2d(x, (1, 1)),
        lambda x: x.mean((2, 3), keepdims=True),
        "",
    ),
    "resize": (
        [(1, 3, 5, 6)],
        lambda x: op.image.resize2d(x, (10, 12), None, "NCHW", "nearest_neighbor", "asymmetric", "floor"),
        lambda x: x.repeat(2, 2).repeat(2, 3),
        "",
    ),
    "transpose": ([(5, 33, 47)], lambda x: op.permute_dims(x, [2, 0, 1]), lambda x: x.transpose(2, 0, 1), ""),
    "attention": ([(2, 4, 17, 16), (2, 4, 16, 17)], op.matmul, np.matmul, "matmul"),
    "matrix by vector": ([(1, 300), (300, 60)], op.matmul, np.matmul, ""),
    "sum": ([(7, 9, 11)], op.sum, lambda x: x.sum(), ""),
    "mean of the first axis": ([(50, 70)], lambda x: op.mean(x, 0), lambda x: x.mean(0), ""),
    "variance": ([(4, 5, 6)], lambda x: op.variance(x, [1, 2]), lambda x: x.var((1, 2)), ""),
    "argmax": ([(5, 70)], lambda x: op.argmax(x, -1), lambda x: x.argmax(-1), ""),
    "concat": ([(3, 5), (3, 8)], lambda a, b: op.concat([a, b], 1), lambda a, b: np.concatenate([a, b], 1), ""),
    "slice": (
        [(10, 20)],
        lambda x: op.strided_slice(x, [0, 1], [1, 2], [9, 20], [2, 3]),
        lambda x: x[1:9:2, 2:20:3],
        "",
    ),
    "pad": ([(3, 7)], lambda x: op.nn.pad(x, [1, 2, 0, 3]), lambda x: np.pad(x, ((1, 2), (0, 3))), ""),
    "take": ([(10, 6)], lambda x: op.take(x, _int(3, 1, 9, 0), 0), lambda x: x[[3, 1, 9, 0]], ""),
    "where": (
        [(5, 40)],
        lambda x: op.where(op.greater(x, op.negative(x)), x, op.exp(x)),
        lambda x: np.where(x > -x, x, np.exp(x)),
        "",
    ),
    "cumsum": ([(5, 40)], lambda x: op.cumsum(x, 1), lambda x: x.cumsum(1), ""),
    "sort": ([(5, 40)], lambda x: op.sort(x, -1), lambda x: np.sort(x, -1), ""),
    "argsort": ([(40, 3)], lambda x: op.argsort(x, 0, True), lambda x: np.argsort(-x, 0, kind="stable"), ""),
    "topk": ([(5, 40)], lambda x: op.topk(x, 3, ret_type="values"), lambda x: -np.sort(-x, -1)[:, :3], ""),
    "scatter": ([(10, 7), (2, 6)], lambda x, u: op.scatter_elements(x, _int([1] * 6, [4] * 6), u, 0), _scattered, ""),
    "scatter add": (
        [(10, 6), (2, 6)],
        lambda x, u: op.scatter_elements(x, _int([1] * 6, [1] * 6), u, 0, "add"),
        lambda x, u: x + np.eye(10, dtype=x.dtype)[:, 1:2] * u.sum(0),
        "",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", OPERATORS)
def test_operators(name: str) -> None:
    opencl.require_opencl()
    shapes, make, wanted, rule = OPERATORS[name]
    mod = scheduled(module(shapes, make))
    rng = np.random.default_rng(1)
    given = [rng.standard_normal(shape).astype(np.float32) for shape in shapes]
    (found,) = Network(mod)(*given)
    np.testing.assert_allclose(found, wanted(*given), rtol=2e-5, atol=2e-5)
    assert rules_of(mod) <= {name for name, _ in operator_rules()}
    if rule:
        assert rules_of(mod) == {rule}


@pytest.mark.parametrize(
    "make", [op.nn.relu, lambda x: op.clip(x, -1, 1), lambda x: op.maximum(x, op.negative(op.exp(x)))]
)
def test_what_is_not_a_number_stays_so(make: Callable[..., Any]) -> None:
    opencl.require_opencl()
    x = np.array([[1, np.nan, -2, 3]], np.float32)
    (found,) = Network(scheduled(module([x.shape], make)))(x)
    assert np.isnan(found).tolist() == [[False, True, False, False]]


def equals(model: Any) -> Network:
    """Run a model by both and compare."""
    imported = import_onnx(model)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    rng = np.random.default_rng(3)
    limits = {"input_ids": (0, 40), "token_type_ids": (0, 1)}
    given = {
        one.name: random_array(one.name, one.shape, one.dtype, rng, limits.get(one.name)) for one in imported.inputs
    }
    network = Network(scheduled(imported.mod))
    found = network(*(given[port.name] for port in imported.inputs))
    for mine, theirs in zip(found, session.run(None, given), strict=True):
        np.testing.assert_allclose(mine.reshape(theirs.shape), theirs, rtol=1e-3, atol=1e-3)
    return network


@pytest.mark.slow
def test_digits() -> None:
    opencl.require_opencl()
    path = Path(tesa.models.__file__).parent / "digits.onnx"
    assert equals(onnx.load(path)).launches


@pytest.mark.slow
def test_mobilenet() -> None:
    opencl.require_opencl()
    equals(mobilenet_v1(0.125, 32, classes=10, blocks=((32, 1), (64, 2), (64, 1))))


@pytest.mark.slow
def test_transformer() -> None:
    opencl.require_opencl()
    equals(bert_base(1, 16, 2, 8, vocabulary=50))
