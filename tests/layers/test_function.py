"""Lowering keeps what a model computes: lowered modules run with NumPy layers and are compared with TVM's own build."""

import numpy as np
import pytest
import tvm
from tvm import relax
from tvm.script import relax as R

from tesa.layers.bind import Binding, bind
from tesa.layers.function import lower
from tests.schedules.reference import reference
from tests.support import QUICK

RNG = np.random.default_rng(0)
TARGET = tvm.target.Target(QUICK)


def sparse(*shape):
    """A constant with half of its elements zero."""
    return relax.const((RNG.standard_normal(shape) * (RNG.random(shape) < 0.5)).astype("float32"))


def build(make, *inputs):
    """A module of one function; make gets the block builder and a variable for each input shape."""
    builder = relax.BlockBuilder()
    params = [relax.Var(f"x{i}", R.Tensor(shape, "float32")) for i, shape in enumerate(inputs)]
    with builder.function("main", params):
        with builder.dataflow():
            result = builder.emit_output(make(builder, *params))
        builder.emit_func_output(result)
    return builder.get()


def run(mod, arrays):
    passes = [relax.transform.LegalizeOps(), relax.transform.RewriteDataflowReshape()]
    with TARGET:
        mod = tvm.transform.Sequential(passes)(mod)
    machine = relax.VirtualMachine(tvm.compile(mod, target=TARGET), tvm.cpu())
    result = machine["main"](*(tvm.runtime.tensor(a) for a in arrays))
    return [result.numpy()] if hasattr(result, "numpy") else [tensor.numpy() for tensor in result]


def numpy_kernel(layer):
    """A layer's kernel in NumPy, called as a generated one is: x, constants, bias, residual, y."""

    def kernel(x, *rest):
        residual = rest[-2].numpy() if layer.problem.epilogue.residual else None
        y = reference(layer.problem, layer.weight, x.numpy(), layer.bias, residual)
        rest[-1].copyfrom(np.ascontiguousarray(y.reshape(layer.problem.y_shape)))

    return kernel


def check(mod, layers, shapes, names=None):
    """Lower, bind NumPy kernels, run, compare; returns the lowered function as text."""
    lowered = lower(mod, names or {})
    assert len(lowered.layers) == layers
    for index, layer in enumerate(lowered.layers):
        tvm.register_global_func(f"test.kernel{index}", numpy_kernel(layer), override=True)
    kernels = {
        layer.placeholder: Binding(f"test.kernel{index}", (), layer.bias) for index, layer in enumerate(lowered.layers)
    }
    arrays = [RNG.standard_normal(shape).astype("float32") for shape in shapes]
    for got, expected in zip(run(bind(lowered.mod, kernels), arrays), run(mod, arrays), strict=True):
        np.testing.assert_allclose(got, expected, atol=2e-5, rtol=1e-4)
    return lowered.mod["main"].script(show_meta=False)


def attention(builder, x, heads=2, size=8, tokens=5):
    """A transformer block as exporters write it."""
    emit = builder.emit
    width = heads * size

    def project(value, out=width):
        return emit(relax.op.add(emit(relax.op.matmul(value, sparse(value.ty.shape[-1].value, out))), sparse(out)))

    def split(value, axes):
        apart = emit(relax.op.reshape(value, (1, tokens, heads, size)))
        return emit(relax.op.permute_dims(apart, axes))

    q, k, v = split(project(x), [0, 2, 1, 3]), split(project(x), [0, 2, 3, 1]), split(project(x), [0, 2, 1, 3])
    scores = emit(relax.op.divide(emit(relax.op.matmul(q, k)), relax.const(np.float32(3))))
    mixed = emit(relax.op.matmul(emit(relax.op.nn.softmax(scores, -1)), v))
    merged = emit(relax.op.reshape(emit(relax.op.permute_dims(mixed, [0, 2, 1, 3])), (1, tokens, width)))
    added = emit(relax.op.add(project(merged), x))
    scale = relax.const(np.ones(width, "float32"))
    normed = emit(relax.op.nn.layer_norm(added, scale, scale, axes=[-1]))
    wide = emit(relax.op.nn.gelu(project(normed, 3 * width)))
    return emit(relax.op.add(project(wide), normed))


def test_a_transformer_block_moves_data_only_at_its_ends():
    mod = build(attention, (1, 5, 16))
    text = check(mod, 6, [(1, 5, 16)])
    assert text.count("call_tir(layout") == 2
    assert "permute_dims" not in text


def test_bias_residual_and_activation_fuse():
    def make(builder, x):
        y = builder.emit(relax.op.nn.conv2d(x, sparse(6, 6, 3, 3), padding=[1, 1]))
        y = builder.emit(relax.op.add(y, sparse(1, 6, 1, 1)))
        y = builder.emit(relax.op.add(x, y))
        return builder.emit(relax.op.clip(y, 0.0, 6.0))

    mod = build(make, (1, 6, 7, 9))
    (layer,) = lower(mod, {}).layers
    assert (layer.problem.epilogue.bias, layer.problem.epilogue.residual) == (True, True)
    assert layer.problem.epilogue.activation == "relu6"
    check(mod, 1, [(1, 6, 7, 9)])


def test_gelu_by_tanh_fuses():
    def make(builder, x):
        return builder.emit(relax.op.nn.gelu_tanh(builder.emit(relax.op.matmul(x, sparse(6, 5)))))

    mod = build(make, (4, 6))
    assert lower(mod, {}).layers[0].problem.epilogue.activation == "gelu_tanh"
    check(mod, 1, [(4, 6)])


def test_a_following_scale_is_folded_into_weight_and_bias():
    def make(builder, x):
        y = builder.emit(relax.op.nn.conv2d(x, sparse(4, 3, 1, 1)))
        y = builder.emit(relax.op.add(y, sparse(1, 4, 1, 1)))
        y = builder.emit(relax.op.multiply(y, sparse(1, 4, 1, 1)))
        return builder.emit(relax.op.subtract(y, sparse(1, 4, 1, 1)))

    check(build(make, (2, 3, 5, 5)), 1, [(2, 3, 5, 5)])


def test_a_constant_minus_a_layer_is_no_bias():
    def make(builder, x):
        return builder.emit(relax.op.subtract(sparse(4), builder.emit(relax.op.matmul(x, sparse(3, 4)))))

    mod = build(make, (2, 3))
    assert not lower(mod, {}).layers[0].problem.epilogue.bias
    check(mod, 1, [(2, 3)])


def test_a_value_with_two_users_is_not_absorbed():
    def make(builder, x):
        y = builder.emit(relax.op.matmul(x, sparse(3, 3)))
        return builder.emit(relax.op.add(builder.emit(relax.op.nn.relu(y)), y))

    mod = build(make, (2, 3))
    assert lower(mod, {}).layers[0].problem.epilogue.activation is None
    check(mod, 1, [(2, 3)])


def test_an_output_is_not_absorbed():
    builder = relax.BlockBuilder()
    x = relax.Var("x", R.Tensor((2, 3), "float32"))
    with builder.function("main", [x]):
        with builder.dataflow():
            y = builder.emit(relax.op.matmul(x, sparse(3, 4)))
            z = builder.emit(relax.op.nn.relu(y))
            out = builder.emit_output(relax.Tuple([y, z]))
        builder.emit_func_output(out)
    check(builder.get(), 1, [(2, 3)])


@pytest.mark.parametrize("groups", [2, 3, 6])
def test_grouped_and_depthwise_convolutions(groups):
    def make(builder, x):
        conv = relax.op.nn.conv2d(x, sparse(6, 6 // groups, 3, 3), strides=[2, 1], padding=[1, 0, 2, 1], groups=groups)
        return builder.emit(relax.op.nn.relu(builder.emit(conv)))

    mod = build(make, (2, 6, 8, 7))
    assert lower(mod, {}).layers[0].problem.op == ("depthwise" if groups == 6 else "conv2d")
    check(mod, 1, [(2, 6, 8, 7)])


def test_split_concat_slice_and_reductions_keep_the_layout():
    def make(builder, x):
        emit = builder.emit
        y = emit(relax.op.matmul(x, sparse(6, 8)))
        parts = emit(relax.op.split(y, 2, axis=-1))
        first, second = emit(relax.TupleGetItem(parts, 0)), emit(relax.TupleGetItem(parts, 1))
        both = emit(relax.op.concat([second, emit(relax.op.sqrt(emit(relax.op.abs(first))))], axis=-1))
        mean = emit(relax.op.mean(both, axis=[1], keepdims=True))
        total = emit(relax.op.sum(emit(relax.op.subtract(both, mean)), axis=[-1]))
        return emit(relax.op.multiply(total, relax.const(np.float32(2))))

    check(build(make, (2, 5, 6)), 1, [(2, 5, 6)])


def test_a_batch_of_vectors_and_a_single_one():
    def make(builder, x):
        y = builder.emit(relax.op.add(builder.emit(relax.op.matmul(x, sparse(6, 8))), sparse(8)))
        return builder.emit(relax.op.matmul(builder.emit(relax.op.nn.relu(y)), sparse(8, 3)))

    for rows in (1, 4):
        check(build(make, (rows, 6)), 2, [(rows, 6)])


def test_a_layer_without_a_name_gets_a_number():
    mod = build(lambda builder, x: builder.emit(relax.op.matmul(x, sparse(3, 4))), (2, 3))
    assert [layer.name for layer in lower(mod, {}).layers] == ["layer0"]


def test_layers_of_one_operator_have_names_and_kernels_of_their_own():
    """As a Resize that is a product along each axis: two weights, one node."""

    def make(builder, x):
        y = builder.emit(relax.op.matmul(x, sparse(3, 4)), "rows")
        return builder.emit(relax.op.matmul(builder.emit(relax.op.nn.relu(y)), sparse(4, 3)), "columns")

    mod = build(make, (2, 3))
    names = dict.fromkeys(("rows", "columns", "gv"), "resize")
    layers = lower(mod, names).layers
    assert [layer.name for layer in layers] == ["resize", "resize_2"]
    assert [layer.whole for layer in layers] == ["resize", "resize"]
    assert len({layer.placeholder for layer in layers}) == 2
    check(mod, 2, [(2, 3)], names)


@pytest.mark.parametrize("shared", [False, True])
def test_a_sum_of_two_layers_is_one_epilogue(shared):
    def make(builder, x, y):
        left = builder.emit(relax.op.matmul(x, sparse(6, 4)))
        right = builder.emit(relax.op.matmul(x if shared else y, sparse(6, 4)))
        return builder.emit(relax.op.nn.relu(builder.emit(relax.op.add(left, right))))

    mod = build(make, (3, 6), (3, 6))
    residuals = [layer.problem.epilogue.residual for layer in lower(mod, {}).layers]
    assert sorted(residuals) == [False, True]
    check(mod, 2, [(3, 6), (3, 6)])


def test_a_down_sampling_block():
    def make(builder, x):
        first = builder.emit(relax.op.nn.conv2d(x, sparse(4, 4, 3, 3), strides=[2, 2], padding=[1, 1]))
        second = builder.emit(
            relax.op.nn.conv2d(builder.emit(relax.op.nn.relu(first)), sparse(4, 4, 3, 3), padding=[1, 1])
        )
        short = builder.emit(relax.op.nn.conv2d(x, sparse(4, 4, 1, 1), strides=[2, 2]))
        return builder.emit(relax.op.nn.relu(builder.emit(relax.op.add(second, short))))

    check(build(make, (1, 4, 8, 8)), 3, [(1, 4, 8, 8)])


@pytest.mark.parametrize("shape", [(6, 5), (2, 6, 5)])
def test_a_weight_on_the_left_needs_no_other_layout(shape):
    def make(builder, x):
        y = builder.emit(relax.op.add(builder.emit(relax.op.matmul(sparse(4, 6), x)), sparse(4, 1)))
        return builder.emit(relax.op.nn.relu(y))

    text = check(build(make, shape), 1, [shape])
    assert "layout" not in text


@pytest.mark.parametrize("shape", [(4, 5, 6), (6, 6, 6)])
def test_a_tensor_and_its_transpose_do_not_share_a_copy(shape):
    builder = relax.BlockBuilder()
    x = relax.Var("x", R.Tensor(shape, "float32"))
    with builder.function("main", [x]):
        with builder.dataflow():
            y = builder.emit(relax.op.matmul(x, sparse(6, 6)))
            turned = builder.emit(relax.op.permute_dims(y, [2, 1, 0]))
            out = builder.emit_output(relax.Tuple([y, turned]))
        builder.emit_func_output(out)
    check(builder.get(), 1, [shape])
