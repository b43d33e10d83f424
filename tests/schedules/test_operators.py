"""Every operator rule against NumPy: built by Relax, legalised, fused, scheduled, compiled and run."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import pytest
import tvm
import tvm_ffi
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from tvm import relax, te, tirx

from tesa.schedules.cpu.operators import (
    ScheduleOperators,
    VectorizableMath,
    batched_matmul,
    describe,
    operator_rules,
    schedule_function,
)
from tesa.schedules.cpu.operators.peel import segments
from tesa.schedules.cpu.operators.tiling import register_tile
from tesa.schedules.types import Core
from tests.schedules.reference import AVX512, CPUS, HERE

Array = NDArray[Any]
Shape = tuple[int, ...]
op = relax.op
EXAMPLES = settings(max_examples=12)


class Result(NamedTuple):
    """What a module computed, and which rules its functions were scheduled by."""

    value: Array
    rules: dict[str, str]


def run(
    build: Callable[..., Any],
    arrays: Sequence[Array],
    core: Core = AVX512,
    threads: int = 1,
    together: bool = False,
) -> Result:
    """Build a Relax function out of build(builder, *variables), push it through the usual passes and run it.

    together: everything in one function, as fusion by pattern does; otherwise FuseOps decides.
    """
    builder = relax.BlockBuilder()
    names = [relax.Var(f"x{i}", relax.TensorType(a.shape, str(a.dtype))) for i, a in enumerate(arrays)]
    with builder.function("main", names):
        with builder.dataflow():
            outputs = build(builder, *names)
            result = builder.emit_output(outputs)
        builder.emit_func_output(result)
    module = relax.transform.LegalizeOps()(builder.get())
    module = one_function(module, [a.shape for a in arrays]) if together else module
    for step in ("AnnotateTIROpPattern", "FoldConstant", "FuseOps", "FuseTIR", "DeadCodeElimination"):
        module = getattr(relax.transform, step)()(module)
    module = ScheduleOperators(core, threads)(module)
    rules = {str(n.name_hint): describe(f) for n, f in module.functions_items() if isinstance(f, tirx.PrimFunc)}
    target = tvm.target.Target({"kind": "llvm", "mcpu": CPUS[core.name]})
    machine = relax.VirtualMachine(tvm.compile(module, target=target), tvm.cpu())
    got = machine["main"](*[tvm.runtime.tensor(a) for a in arrays])
    return Result(got.numpy(), rules)


def one_function(module: Any, shapes: Sequence[Shape]) -> Any:
    """main as a call of a single function that FuseTIR will make one PrimFunc of."""
    rest = {name: func for name, func in module.functions_items() if name.name_hint != "main"}
    builder = relax.BlockBuilder(tvm.IRModule(rest))
    body = module["main"].without_attr("global_symbol").with_attr("Primitive", True)
    whole = builder.add_func(body, "whole")
    names = [relax.Var(f"y{i}", relax.TensorType(shape, "float32")) for i, shape in enumerate(shapes)]
    with builder.function("main", names):
        with builder.dataflow():
            result = builder.emit_output(relax.Call(whole, names))
        builder.emit_func_output(result)
    return builder.get()


def agree(result: Result, expected: Array, rule: str | None = None, scale: float = 1.0) -> None:
    """The shapes and numbers match, and some function was scheduled by the rule; none was left as it was."""
    assert result.value.shape == expected.shape
    np.testing.assert_allclose(result.value, expected, rtol=2e-5, atol=2e-6 * scale)
    assert "none" not in result.rules.values()
    if rule is not None:
        assert rule in result.rules.values(), result.rules


def normal(shape: Shape, seed: int = 0) -> Array:
    return np.random.default_rng(seed).standard_normal(shape).astype("float32")


def shapes(least: int, most: int, largest: int = 40) -> st.SearchStrategy[Shape]:
    return st.lists(st.integers(1, largest), min_size=least, max_size=most).map(tuple)


def softmax(x: Array, axis: int) -> Array:
    e = np.exp(x - x.max(axis, keepdims=True))
    return np.asarray(e / e.sum(axis, keepdims=True))


def layer_norm(x: Array, axis: int, gain: Array, shift: Array) -> Array:
    row = [1] * x.ndim
    row[axis] = -1
    wide = x.astype("float64")
    centred = wide - wide.mean(axis, keepdims=True)
    normal_form = centred / np.sqrt((centred**2).mean(axis, keepdims=True) + 1e-5)
    return np.asarray(normal_form * gain.reshape(row) + shift.reshape(row))


# Element-wise


@EXAMPLES
@given(shape=shapes(1, 4), drop=st.integers(0, 15))
def test_broadcast_chain(shape: Shape, drop: int) -> None:
    other = tuple(1 if drop >> i & 1 else size for i, size in enumerate(shape))
    x, y = normal(shape), normal(other, 1)
    got = run(lambda bb, a, b: op.nn.relu(bb.emit(op.add(a, b))), [x, y])
    agree(got, np.maximum(x + y, 0), "elementwise")


FUNCTIONS: dict[str, tuple[Callable[..., Any], Callable[[Array], Array]]] = {
    "exp": (op.exp, np.exp),
    "tanh": (op.tanh, np.tanh),
    "sigmoid": (op.sigmoid, lambda x: 1 / (1 + np.exp(-x))),
    "silu": (op.nn.silu, lambda x: x / (1 + np.exp(-x))),
    "rsqrt": (lambda x: op.rsqrt(op.abs(x)), lambda x: 1 / np.sqrt(np.abs(x))),
    "log": (lambda x: op.log(op.abs(x)), lambda x: np.log(np.abs(x))),
    "sinh": (op.sinh, np.sinh),
    "cosh": (op.cosh, np.cosh),
    "atan": (op.atan, np.arctan),
}


@pytest.mark.parametrize("name", FUNCTIONS)
@pytest.mark.parametrize("core", HERE, ids=lambda core: str(core.name))
def test_functions(name: str, core: Core) -> None:
    function, reference = FUNCTIONS[name]
    x = normal((3, 77)) * 4
    agree(run(lambda bb, a: function(a), [x], core), reference(x.astype("float64")).astype("float32"), "elementwise")


@pytest.mark.parametrize("name", ["sinh", "cosh"])
def test_functions_that_llvm_lacks_in_other_types(name: str) -> None:
    x = normal((3, 77)).astype("float64")
    agree(run(lambda bb, a: getattr(op, name)(a), [x]), getattr(np, name)(x))


def test_gelu_uses_no_library_call() -> None:
    x = normal((5, 37))
    from math import erf

    expected = np.vectorize(lambda v: 0.5 * v * (1 + erf(v / 2**0.5)))(x.astype("float64")).astype("float32")
    agree(run(lambda bb, a: op.nn.gelu(a), [x]), expected, "elementwise")


@pytest.mark.parametrize("core", HERE, ids=lambda core: str(core.name))
@pytest.mark.parametrize("ways", [2, 3, 5, 8])
def test_rows_laid_into_each_other(ways: int, core: Core) -> None:
    x = normal((3, ways, 4, 37))
    got = run(lambda bb, a: op.permute_dims(a, [0, 2, 3, 1]), [x], core)
    agree(got, x.transpose(0, 2, 3, 1), "interleave")


@EXAMPLES
@given(ways=st.tuples(st.integers(1, 9), st.integers(2, 8)), size=st.tuples(st.integers(1, 5), st.integers(2, 70)))
def test_pixel_shuffle_that_is_cut_off(ways: Shape, size: Shape) -> None:
    (down, across), (height, width) = ways, size
    x = normal((2, down, across, 3, -(-height // down), -(-width // across)))
    whole = x.transpose(0, 3, 4, 1, 5, 2).reshape(2, 3, x.shape[4] * down, x.shape[5] * across)

    def shuffled(data: Any) -> Any:
        def element(n: Any, c: Any, i: Any, j: Any) -> Any:
            return data[n, i % down, j % across, c, i // down, j // across]

        return te.compute((2, 3, height, width), element)

    agree(run(lambda bb, a: bb.emit_te(shuffled, a), [x]), whole[:, :, :height, :width])


@EXAMPLES
@given(shape=shapes(2, 4, 20), axis=st.integers(0, 3), more=st.integers(1, 20))
def test_concat(shape: Shape, axis: int, more: int) -> None:
    axis %= len(shape)
    other = tuple(more if i == axis else size for i, size in enumerate(shape))
    x, y = normal(shape), normal(other, 1)
    agree(run(lambda bb, a, b: op.concat([a, b], axis), [x, y]), np.concatenate([x, y], axis))


@EXAMPLES
@given(shape=shapes(4, 4, 9), pad=st.tuples(*[st.integers(0, 3)] * 4))
def test_padding(shape: Shape, pad: tuple[int, int, int, int]) -> None:
    x = normal(shape)
    widths = [0, 0, 0, 0, *pad]
    expected = np.pad(x, [(0, 0), (0, 0), pad[:2], pad[2:]])
    agree(run(lambda bb, a: op.nn.relu(bb.emit(op.nn.pad(a, widths))), [x]), np.maximum(expected, 0))


@EXAMPLES
@given(rows=st.integers(1, 30), width=st.integers(1, 70), count=st.integers(1, 20))
def test_gather(rows: int, width: int, count: int) -> None:
    table = normal((rows, width))
    places = np.random.default_rng(1).integers(0, rows, (2, count)).astype("int64")
    got = run(lambda bb, t, i: op.take(t, i, axis=0, mode="fast"), [table, places])
    agree(got, table[places], "elementwise")


@EXAMPLES
@given(shape=shapes(2, 3, 30))
def test_where_and_compare(shape: Shape) -> None:
    x, y = normal(shape), normal(shape, 1)
    got = run(lambda bb, a, b: op.where(bb.emit(op.less(a, b)), a, b), [x, y])
    agree(got, np.minimum(x, y), "elementwise")


def test_integers() -> None:
    x = np.arange(-50, 55, dtype="int64").reshape(5, 21)
    got = run(lambda bb, a: op.astype(bb.emit(op.multiply(a, relax.const(3, "int64"))), "float32"), [x])
    agree(got, (x * 3).astype("float32"))


# Layout


@EXAMPLES
@given(shape=shapes(2, 4, 35), seed=st.integers(0, 23), chained=st.booleans())
def test_transpose(shape: Shape, seed: int, chained: bool) -> None:
    axes = [int(a) for a in np.random.default_rng(seed).permutation(len(shape))]
    x = normal(shape)
    expected = x.transpose(axes)
    y = normal(expected.shape, 1)
    if not chained:
        agree(run(lambda bb, a: op.permute_dims(a, axes), [x]), expected)
        return
    got = run(lambda bb, a, b: op.nn.relu(bb.emit(op.add(bb.emit(op.permute_dims(a, axes)), b))), [x, y])
    agree(got, np.maximum(expected + y, 0))


@pytest.mark.parametrize("core", HERE, ids=lambda core: str(core.name))
def test_transposed_tiles(core: Core) -> None:
    x = normal((2, 37, 53))
    agree(run(lambda bb, a: op.permute_dims(a, [0, 2, 1]), [x], core), x.transpose(0, 2, 1), "transpose")


def test_heads_apart_and_together() -> None:
    x = normal((16, 6 * 8))
    apart = run(lambda bb, a: op.permute_dims(bb.emit(op.reshape(a, (16, 6, 8))), [1, 2, 0]), [x])
    agree(apart, x.reshape(16, 6, 8).transpose(1, 2, 0), "transpose")
    y = apart.value
    agree(run(lambda bb, a: op.reshape(bb.emit(op.permute_dims(a, [2, 0, 1])), (16, 48)), [y]), x, "transpose")


# Reductions


@EXAMPLES
@given(shape=shapes(1, 4), axis=st.integers(0, 3), core=st.sampled_from(HERE))
def test_softmax(shape: Shape, axis: int, core: Core) -> None:
    axis %= len(shape)
    x = normal(shape) * 5
    got = run(lambda bb, a: op.nn.softmax(a, axis), [x], core)
    agree(got, softmax(x, axis))
    if shape[axis] > 1:
        assert set(got.rules.values()) <= {"row_reduction", "column_reduction"}


def test_softmax_with_masked_places() -> None:
    x = normal((4, 50))
    x[:, 7:] = -3.4e38
    x[1, :] = 90.0
    x[2, 3] = -np.inf
    agree(run(lambda bb, a: op.nn.softmax(a, -1), [x]), softmax(x, -1), "row_reduction")


@EXAMPLES
@given(shape=shapes(2, 4), axis=st.integers(0, 3), added=st.booleans())
def test_layer_norm(shape: Shape, axis: int, added: bool) -> None:
    axis %= len(shape)
    x, gain, shift = normal(shape) + 3, normal((shape[axis],), 1), normal((shape[axis],), 2)

    def build(bb: Any, a: Any, g: Any, s: Any) -> Any:
        return op.nn.layer_norm(bb.emit(op.add(a, a)) if added else a, g, s, axes=[axis])

    taken = x + x if added else x
    expected = layer_norm(taken, axis, gain, shift).astype("float32")
    # x - mean loses as many digits as x is larger than the spread of its row
    loss = np.abs(taken).max() / np.sqrt(taken.astype("float64").var(axis) + 1e-5).min()
    agree(run(build, [x, gain, shift]), expected, scale=max(10.0, loss))


REDUCTIONS: dict[str, tuple[Callable[..., Any], Callable[..., Array]]] = {
    "sum": (op.sum, np.sum),
    "mean": (op.mean, np.mean),
    "max": (op.max, np.max),
    "min": (op.min, np.min),
}


@settings(max_examples=24)
@given(shape=shapes(1, 4), name=st.sampled_from(sorted(REDUCTIONS)), chosen=st.integers(1, 15), keep=st.booleans())
def test_reduction_over_any_axes(shape: Shape, name: str, chosen: int, keep: bool) -> None:
    axes = [i for i in range(len(shape)) if chosen >> i & 1] or [0]
    x = normal(shape)
    function, reference = REDUCTIONS[name]
    expected = reference(x.astype("float64"), axis=tuple(axes), keepdims=keep).astype("float32")
    agree(run(lambda bb, a: function(a, axes, keep), [x]), np.asarray(expected), scale=50)


def test_sum_of_integers() -> None:
    x = np.arange(3 * 41, dtype="int64").reshape(3, 41)
    assert np.array_equal(run(lambda bb, a: op.sum(a, [1]), [x]).value, x.sum(1))


def test_chain_in_one_function() -> None:
    """scale + mask + softmax and residual + layer norm as single functions, as fusion by pattern makes them."""
    x, mask = normal((3, 9, 20)), normal((1, 1, 20), 1)

    def scores(a: Any, m: Any) -> Any:
        scaled = te.compute(a.shape, lambda *i: a(*i) * tirx.const(0.25, "float32"), name="scaled")
        added = te.compute(a.shape, lambda i, j, k: scaled(i, j, k) + m(0, 0, k), name="added")
        return tvm.topi.nn.softmax(added, axis=2)

    got = run(lambda bb, a, m: bb.call_te(scores, a, m), [x, mask])
    agree(got, softmax(x * np.float32(0.25) + mask, 2), "row_reduction")

    def norm(a: Any, b: Any, g: Any, s: Any) -> Any:
        return tvm.topi.nn.layer_norm(tvm.topi.add(a, b), g, s, axis=[1], epsilon=1e-5)

    a, b, gain, shift = normal((2, 30, 17)), normal((2, 30, 17), 1), normal((30,), 2), normal((30,), 3)
    got = run(lambda bb, *v: bb.call_te(norm, *v), [a, b, gain, shift])
    agree(got, layer_norm(a + b, 1, gain, shift).astype("float32"), "column_reduction", scale=10)


# Pooling


@settings(max_examples=16)
@given(
    shape=st.tuples(st.integers(1, 2), st.integers(1, 3), st.integers(5, 40), st.integers(5, 40)),
    kernel=st.tuples(st.integers(1, 4), st.integers(1, 4)),
    stride=st.tuples(st.integers(1, 3), st.integers(1, 3)),
    kind=st.sampled_from(["max", "average", "average of what is there"]),
    padded=st.booleans(),
)
def test_pooling(shape: Shape, kernel: tuple[int, int], stride: tuple[int, int], kind: str, padded: bool) -> None:
    x = normal(shape)
    pad = [k // 2 if padded else 0 for k in kernel] * 2
    if kind == "max":
        got = run(lambda bb, a: op.nn.max_pool2d(a, kernel, stride, pad), [x])
    else:
        inclusive = kind == "average"
        got = run(lambda bb, a: op.nn.avg_pool2d(a, kernel, stride, pad, count_include_pad=inclusive), [x])
    agree(got, pool(x, kernel, stride, pad, kind))


def pool(x: Array, kernel: Sequence[int], stride: Sequence[int], pad: Sequence[int], kind: str) -> Array:
    widths = [(0, 0), (0, 0), (pad[0], pad[2]), (pad[1], pad[3])]
    padded = np.pad(x.astype("float64"), widths, constant_values=-np.inf if kind == "max" else 0.0)
    inside = np.pad(np.ones_like(x, dtype="float64"), widths)
    windows = [
        array[:, :, i :: stride[0], j :: stride[1]]
        for array in (padded, inside)
        for i in range(kernel[0])
        for j in range(kernel[1])
    ]
    height = (padded.shape[2] - kernel[0]) // stride[0] + 1
    width = (padded.shape[3] - kernel[1]) // stride[1] + 1
    windows = [w[:, :, :height, :width] for w in windows]
    area = kernel[0] * kernel[1]
    values, there = np.stack(windows[:area]), np.stack(windows[area:])
    if kind == "max":
        return np.asarray(values.max(0).astype("float32"))
    count = area if kind == "average" else np.maximum(there.sum(0), 1)
    return np.asarray((values.sum(0) / count).astype("float32"))


def test_strided_pooling_is_written_out() -> None:
    x = normal((1, 4, 31, 45))
    got = run(lambda bb, a: op.nn.max_pool2d(a, (3, 3), (2, 2), (1, 1, 1, 1)), [x])
    agree(got, pool(x, (3, 3), (2, 2), (1, 1, 1, 1), "max"), "window")


@pytest.mark.parametrize("shape", [(1, 256, 8, 8), (2, 5, 7, 7), (1, 3, 1, 1)])
def test_global_average_pooling(shape: Shape) -> None:
    x = normal(shape)
    got = run(lambda bb, a: op.nn.adaptive_avg_pool2d(a, (1, 1)), [x])
    agree(got, x.mean((2, 3), keepdims=True, dtype="float64").astype("float32"))


# Products


@settings(max_examples=20)
@given(
    sizes=st.tuples(st.integers(1, 3), st.integers(1, 40), st.integers(1, 70), st.integers(1, 40)),
    order=st.tuples(st.booleans(), st.booleans(), st.booleans()),
    core=st.sampled_from(HERE),
    masked=st.booleans(),
)
def test_batched_matmul(sizes: Shape, order: tuple[bool, bool, bool], core: Core, masked: bool) -> None:
    batch, m, n, k = sizes
    a, b = normal((batch, m, k)), normal((batch, k, n), 1)
    mask = normal((1, 1, m if order[2] else n), 2)
    stored = [x.swapaxes(1, 2).copy() if swap else x for x, swap in zip((a, b), order, strict=False)]
    expected = a @ b * np.float32(0.5)
    expected = expected.swapaxes(1, 2) if order[2] else expected
    func = batched_matmul(
        stored[0].shape,
        stored[1].shape,
        a_transposed=order[0],
        b_transposed=order[1],
        out_transposed=order[2],
        scale=0.5,
        mask_shape=mask.shape if masked else None,
    )
    arrays = [*stored, mask] if masked else stored

    def build(bb: Any, *names: Any) -> Any:
        name = bb.add_func(func, "product")
        return relax.call_tir(name, names, relax.TensorType(expected.shape, "float32"))

    wanted = "matmul" if min(sizes[1:]) > 1 else None
    agree(run(build, arrays, core), expected + mask if masked else expected, wanted, scale=20)


@pytest.mark.parametrize(
    ("left", "right"), [((1, 12, 9, 7), (1, 12, 7, 33)), ((3, 9, 7), (7, 5)), ((1, 7), (7, 33)), ((9, 7), (7, 1))]
)
def test_relax_matmul_with_epilogue(left: Shape, right: Shape) -> None:
    a, b = normal(left), normal(right, 1)

    def build(bb: Any, x: Any, y: Any) -> Any:
        product = bb.emit(op.matmul(x, y))
        return op.nn.relu(bb.emit(op.multiply(product, relax.const(0.3, "float32"))))

    agree(run(build, [a, b]), np.maximum(a @ b * np.float32(0.3), 0), scale=10)


def test_batched_matmul_refuses_shapes_that_do_not_fit() -> None:
    with pytest.raises(ValueError, match="both must agree"):
        batched_matmul((2, 3, 4), (2, 5, 6))


@given(rows=st.integers(1, 200), columns=st.integers(1, 400), core=st.sampled_from(HERE))
def test_register_tile_fits(rows: int, columns: int, core: Core) -> None:
    height, vectors = register_tile(core, rows, columns)
    assert 1 <= height <= rows
    assert height * vectors + vectors + 2 <= core.registers


# One value read at several places: FuseTIR writes down only one of them


def sigmoid(x: Array) -> Array:
    return np.asarray(1 / (1 + np.exp(-x.astype("float64"))))


def _half(bb: Any, a: Any, axis: int, second: bool) -> Any:
    width = int(a.ty.shape[axis]) // 2
    return bb.emit(op.strided_slice(a, [axis], [width * second], [width * (second + 1)]))


def _after(function: Callable[[Any], Any], join: Callable[[Any, Any], Any]) -> Callable[..., Any]:
    """join(bb, function(a)): function(a) is read more than once."""
    return lambda bb, a: join(bb, bb.emit(function(a)))


def _twice(axis: int) -> Callable[[Any, Any], Any]:
    return lambda bb, a: op.concat([a, a], axis)


def _folded(bb: Any, a: Any) -> Any:
    return op.add(_half(bb, a, 1, False), _half(bb, a, 1, True))


def _turned(bb: Any, a: Any) -> Any:
    return op.concat([bb.emit(op.negative(_half(bb, a, 1, True))), _half(bb, a, 1, False)], 1)


def _pooled(a: Any) -> Any:
    return op.nn.max_pool2d(a, (2, 2), (2, 2))


def _halves(x: Array) -> tuple[Array, Array]:
    first, second = np.split(x, 2, axis=1)
    return first, second


def _doubled(x: Array, axis: int) -> Array:
    return np.concatenate([x, x], axis)


def _by_two(x: Array) -> Array:
    return pool(x, (2, 2), (2, 2), (0, 0, 0, 0), "max")


def _row_softmax(a: Any) -> Any:
    return op.nn.softmax(a, -1)


REREAD: dict[str, tuple[Callable[..., Any], Callable[[Array], Array], Shape]] = {
    "itself beside itself": (_after(op.sigmoid, _twice(1)), lambda x: _doubled(sigmoid(x), 1), (34, 26)),
    "itself below itself": (_after(op.nn.silu, _twice(0)), lambda x: _doubled(x * sigmoid(x), 0), (34, 26)),
    "twice as wide twice": (
        _after(lambda a: op.concat([a, a], 1), _twice(1)),
        lambda x: np.tile(x, (1, 4, 1)),
        (2, 3, 7),
    ),
    "sum of halves": (_after(op.sigmoid, _folded), lambda x: np.add(*_halves(sigmoid(x))), (5, 32)),
    "halves exchanged": (
        _after(op.sigmoid, _turned),
        lambda x: np.concatenate([-_halves(sigmoid(x))[1], _halves(sigmoid(x))[0]], 1),
        (5, 32),
    ),
    "softmax beside itself": (_after(_row_softmax, _twice(1)), lambda x: _doubled(softmax(x, -1), 1), (6, 26)),
    "softmax below itself": (_after(_row_softmax, _twice(0)), lambda x: _doubled(softmax(x, -1), 0), (6, 26)),
    "sum of a softmax's halves": (_after(_row_softmax, _folded), lambda x: np.add(*_halves(softmax(x, -1))), (6, 26)),
    "softmax over columns": (
        _after(lambda a: op.nn.softmax(a, 1), _folded),
        lambda x: np.add(*_halves(softmax(x, 1))),
        (3, 8, 26),
    ),
    "mean, halves exchanged": (
        _after(lambda a: op.mean(a, [2]), _turned),
        lambda x: np.concatenate([-_halves(x.mean(2))[1], _halves(x.mean(2))[0]], 1),
        (3, 8, 26),
    ),
    "pooled beside itself": (_after(_pooled, _twice(1)), lambda x: _doubled(_by_two(x), 1), (1, 4, 10, 12)),
    "halves of what is pooled": (_after(_pooled, _folded), lambda x: np.add(*_halves(_by_two(x))), (1, 4, 10, 12)),
    "square, then sum": (
        lambda bb, a: op.sum(bb.emit(op.multiply(bb.emit(op.sigmoid(a)), bb.emit(op.sigmoid(a)))), [1]),
        lambda x: (sigmoid(x) ** 2).sum(1),
        (9, 26),
    ),
    "product with itself turned": (
        lambda bb, a: op.matmul(a, bb.emit(op.permute_dims(a, [1, 0]))),
        lambda x: x @ x.T,
        (20, 30),
    ),
    "product with itself": (
        _after(lambda a: op.matmul(a, a), lambda bb, a: op.concat([a, a], 0)),
        lambda x: _doubled(x @ x, 0),
        (20, 20),
    ),
}


@pytest.mark.parametrize("fused", [True, False], ids=["fused by pattern", "fused by kind"])
@pytest.mark.parametrize("name", REREAD)
def test_a_value_read_at_several_places(name: str, fused: bool) -> None:
    build, reference, shape = REREAD[name]
    x = normal(shape)
    expected = np.asarray(reference(x)).astype("float32")
    for threads in (1, 2):
        agree(run(build, [x], threads=threads, together=fused), expected, scale=20)


# Threads, the pass itself


THREADED: dict[str, tuple[Callable[..., Any], Callable[[Array], Array], Shape]] = {
    "relu": (lambda bb, a: op.nn.relu(a), lambda x: np.maximum(x, 0), (1001, 515)),
    "softmax": (lambda bb, a: op.nn.softmax(a, -1), lambda x: softmax(x, -1), (12, 65, 130)),
    "softmax over columns": (lambda bb, a: op.nn.softmax(a, 1), lambda x: softmax(x, 1), (12, 65, 130)),
    "transpose": (lambda bb, a: op.permute_dims(a, [1, 0]), lambda x: x.T, (1001, 515)),
    "pooling": (
        lambda bb, a: _pooled(a),
        _by_two,
        (1, 16, 130, 130),
    ),
    "product": (lambda bb, a: op.matmul(a, a), lambda x: x @ x, (150, 150)),
}


@pytest.mark.parametrize("name", THREADED)
def test_parallel_only_with_threads(name: str) -> None:
    build, reference, shape = THREADED[name]
    x = normal(shape)
    agree(run(build, [x], threads=2), reference(x), scale=50)
    assert "parallel" in scheduled(build, shape, 2)
    assert "parallel" not in scheduled(build, shape, 1)


def test_small_work_stays_on_one_thread() -> None:
    assert "parallel" not in scheduled(lambda bb, a: op.nn.relu(a), (8, 100), 2)


def scheduled(build: Callable[..., Any], shape: Shape, threads: int) -> str:
    return str(legal(build, shape, threads).script())


def legal(build: Callable[..., Any], shape: Shape, threads: int) -> Any:
    builder = relax.BlockBuilder()
    name = relax.Var("x", relax.TensorType(shape, "float32"))
    with builder.function("main", [name]):
        result = builder.emit(build(builder, name))
        builder.emit_func_output(result)
    return ScheduleOperators(AVX512, threads)(relax.transform.LegalizeOps()(builder.get()))


def test_hot_loops_are_vectors() -> None:
    """32 lanes for the main part, 5 for the tail, no call of the C library."""
    text = scheduled(lambda bb, a: op.tanh(a), (3, 23), 1)
    assert "float32x32" in text
    assert "float32x5" in text
    assert "T.tanh" not in text


def test_attribute_and_list_agree() -> None:
    names = [name for name, _ in operator_rules()]
    assert names[-1] == "fallback"
    assert len(set(names)) == len(names)
    assert all(summary.endswith(".") for _, summary in operator_rules())
    module = legal(lambda bb, a: op.nn.softmax(a, -1), (4, 20), 1)
    function = next(f for f in module.functions.values() if isinstance(f, tirx.PrimFunc))
    assert describe(function) == "row_reduction"
    again = ScheduleOperators(AVX512, 1)(module)
    assert tvm_ffi.structural_equal(again, module)


def test_dynamic_shape_is_left_and_said_so() -> None:
    n = te.var("n", "int64")
    a = te.placeholder((n,), name="a")
    func = te.create_prim_func([a, te.compute((n,), lambda i: a[i] + tirx.const(1.0, "float32"), name="b")])
    assert describe(schedule_function(func, AVX512)) == "none"


@pytest.mark.parametrize("reduction", ["update", "add"])
def test_a_scatter_is_built_without_a_word(reduction: str, capfd: pytest.CaptureFixture[str]) -> None:
    x, rows, places = normal((5, 6)), np.array([[3], [1]]), np.array([[4, 0, 2, 1, 3, 0]])
    made = x.copy()
    made[rows[:, 0]] = (x[:2] + x[rows[:, 0]]) if reduction == "add" else x[:2]
    got = run(lambda bb, a, i, u: op.scatter_nd(a, i, u, reduction), [x, rows, x[:2]])
    np.testing.assert_allclose(got.value, made, rtol=1e-6)
    expected = x.copy()
    np.put_along_axis(expected, places, x[:1] + (np.take_along_axis(x, places, 0) if reduction == "add" else 0), 0)
    got = run(lambda bb, a, i, u: op.scatter_elements(a, i, u, 0, reduction), [x, places, x[:1]])
    np.testing.assert_allclose(got.value, expected, rtol=1e-6)
    assert "pragma" not in "".join(capfd.readouterr())


def test_unscanned_pattern_falls_back() -> None:
    x = normal((3, 40))
    got = run(lambda bb, a: op.argmax(a, 1), [x])
    assert np.array_equal(got.value, x.argmax(1))


def test_vectorizable_math_replaces_calls() -> None:
    a = te.placeholder((8,), name="a")
    func = te.create_prim_func([a, te.compute((8,), lambda i: te.exp(a[i]), name="b")])
    module = VectorizableMath()(tvm.IRModule({"main": func}))
    assert "T.exp(" not in module.script()


def test_segments_cover_the_range() -> None:
    v = tirx.Var("v", "int64")
    one, last = tirx.IntImm("int64", 1), tirx.IntImm("int64", 15)
    condition = tirx.And(one <= v, v < last)
    assert segments(condition, v, 16) == [(0, 1), (1, 15), (15, 16)]
    assert segments(tirx.IntImm("int64", 0) < v * 2 - 6, v, 10) == [(0, 4), (4, 10)]
    assert segments(v < tirx.Var("w", "int64"), v, 10) == [(0, 10)]
