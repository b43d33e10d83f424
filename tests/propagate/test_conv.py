"""Convolutions: every rule against plain loops, what is found against what there is to find, and folding."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import onnxruntime
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tesa.attributes.attribute import from_constant, from_mask, unknown
from tesa.frontend import import_onnx
from tesa.propagate import TesaModel, propagate
from tesa.propagate.network import build_network
from tesa.propagate.registry import Operator, find
from tesa.propagate.rules.conv import constant_part

from ..frontend.onnx_models import floats, model, node, port
from .execute import execute
from .window_reference import check, convolution, influence, operator, pruned, some_facts, varies, weight_facts

RULE = find("relax.nn.conv2d")
NAMES = {1: "W", 2: "HW", 3: "DHW"}
many = settings(max_examples=100, deadline=None)


@st.composite
def convolutions(draw: Any, transposed: bool | None = None) -> tuple[Operator, Any, int]:
    """(operator without constants, weight, seed): all ranks, groups, strides, dilations, paddings, both directions."""
    seed = draw(st.integers(0, 10**6))
    rank = draw(st.sampled_from([1, 2, 2, 2, 3]))
    turned = draw(st.booleans()) if transposed is None else transposed
    groups, ins, outs = draw(st.sampled_from([(1, 3, 2), (2, 2, 1), (3, 1, 2), (4, 1, 1), (1, 4, 4)]))
    small = st.integers(1, 2 if rank == 3 else 3)
    taps, strides, dilation = ([draw(small) for _ in range(rank)] for _ in range(3))
    dilation = [d if k > 1 else 1 for d, k in zip(dilation, taps, strict=True)]
    pads = [draw(st.integers(0, 2)) for _ in range(2 * rank)]
    reach = [(k - 1) * d + 1 for k, d in zip(taps, dilation, strict=True)]
    pads = [min(p, r - 1) for p, r in zip(pads, reach * 2, strict=True)]
    need = [max(1, r - a - b) for r, a, b in zip(reach, pads[:rank], pads[rank:], strict=True)]
    sizes = [n + draw(st.integers(0, 2)) for n in need]
    extra = [draw(st.integers(0, s - 1)) for s in strides]
    names, attrs = NAMES[rank], {"strides": strides, "dilation": dilation, "padding": pads, "groups": groups}
    if turned:
        sizes = [n if (n - 1) * s + r + e > a + b else n + 3 for n, s, r, e, a, b in
                 zip(sizes, strides, reach, extra, pads[:rank], pads[rank:], strict=True)]  # fmt: skip
        weight = (groups * ins, outs, *taps)
        layouts = {"data_layout": "NC" + names, "kernel_layout": "IO" + names, "output_padding": extra}
        after = [(n - 1) * s + r + e - a - b for n, s, r, e, a, b in
                 zip(sizes, strides, reach, extra, pads[:rank], pads[rank:], strict=True)]  # fmt: skip
    else:
        weight = (groups * outs, ins, *taps)
        layouts = {"data_layout": "NC" + names, "kernel_layout": "OI" + names}
        after = [(n + a + b - r) // s + 1 for n, s, r, a, b in
                 zip(sizes, strides, reach, pads[:rank], pads[rank:], strict=True)]  # fmt: skip
    shapes = [(2, groups * ins, *sizes), weight]
    name = f"relax.nn.conv{rank}d" + "_transpose" * turned
    op = operator(name, shapes, (2, groups * outs, *after), out_layout="", **attrs, **layouts)
    return op, pruned(np.random.default_rng(seed), weight), seed


def with_weight(op: Operator, weight: Any) -> Operator:
    return replace(op, constants=(None, weight))


def live_mask(op: Operator, rng: Any, spatial: bool) -> Any:
    shape = op.outputs[0]
    return rng.random(shape if spatial else (1, shape[1], *(1 for _ in shape[2:]))) < 0.6


@given(convolutions(), st.booleans(), st.booleans(), st.booleans())
@many
def test_the_law_of_one_convolution(made: Any, constant: bool, spatial_x: bool, spatial_live: bool) -> None:
    op, weight, seed = made
    rng = np.random.default_rng((seed, 1))
    op = with_weight(op, weight) if constant else op
    x, w = some_facts(op.inputs[0], rng, spatial=spatial_x), weight_facts(weight, constant, rng)
    check(op, (x, w), live_mask(op, rng, spatial_live), convolution, seed)


@given(convolutions())
@many
def test_all_that_is_constant_by_channel_is_found(made: Any) -> None:
    op, weight, seed = made
    op, rng = with_weight(op, weight), np.random.default_rng((seed, 1))
    inputs = (some_facts(op.inputs[0], rng), weight_facts(weight, True, rng))
    moving = varies(op, inputs, convolution).any(axis=(0, *range(2, len(op.inputs[0]))))
    (found,) = RULE.forward(op, inputs) if RULE else ()
    expected = np.broadcast_to(found.known, (1, len(moving), *found.known.shape[2:])).reshape(len(moving), -1)[:, 0]
    np.testing.assert_array_equal(expected, ~moving)


@given(convolutions())
@settings(max_examples=80, deadline=None)
def test_all_that_is_dead_by_channel_and_by_weight_is_found(made: Any) -> None:
    op, weight, seed = made
    op, rng = with_weight(op, weight), np.random.default_rng((seed, 1))
    x = some_facts(op.inputs[0], rng)
    inputs, live = (x, weight_facts(weight, True, rng)), live_mask(op, rng, False)
    outputs = (replace(unknown(op.outputs[0]), live=live),)
    need_x, need_w = RULE.backward(op, inputs, outputs) if RULE else ()
    np.testing.assert_array_equal(need_w, influence(op, inputs, live, 1, convolution))
    places = (0, *range(2, len(x.shape)))
    wanted = influence(op, inputs, live, 0, convolution).any(axis=places)
    leans = np.broadcast_to(x.zero, (1, *x.shape[1:])).all(axis=places)  # the weights that meet a zero are gone
    np.testing.assert_array_equal(np.broadcast_to(need_x, x.shape).any(axis=places), wanted & ~leans)


def test_other_layouts_are_the_same_convolution() -> None:
    rng = np.random.default_rng(3)
    weight, x = pruned(rng, (4, 2, 3, 2)), some_facts((1, 4, 5, 4), rng)
    common = {"strides": [2, 1], "dilation": [1, 1], "padding": [1, 0, 1, 1], "groups": 2, "out_layout": ""}
    plain = operator("relax.nn.conv2d", [x.shape, weight.shape], (1, 4, 3, 4), (None, weight),
                     data_layout="NCHW", kernel_layout="OIHW", **common)  # fmt: skip
    last = operator("relax.nn.conv2d", [(1, 5, 4, 4), (3, 2, 2, 4)], (1, 3, 4, 4), (None, weight.transpose(2, 3, 1, 0)),
                    data_layout="NHWC", kernel_layout="HWIO", **common)  # fmt: skip
    turned = replace(unknown((1, 5, 4, 4)), known=x.known.transpose(0, 2, 3, 1), value=x.value.transpose(0, 2, 3, 1))
    live = np.array([True, False, True, True])
    a, needs_a = check(plain, (x, weight_facts(weight, True, rng)), live.reshape(1, 4, 1, 1), convolution)
    b, needs_b = check(last, (turned, weight_facts(weight.transpose(2, 3, 1, 0), True, rng)), live.reshape(1, 1, 1, 4),
                       convolution)  # fmt: skip
    np.testing.assert_array_equal(a[0].value.transpose(0, 2, 3, 1), b[0].value)
    np.testing.assert_array_equal(needs_a[1].transpose(2, 3, 1, 0), needs_b[1])
    np.testing.assert_array_equal(needs_a[0].transpose(0, 2, 3, 1), needs_b[0])


def test_a_blocked_layout_counts_as_unknown() -> None:
    weight = np.zeros((1, 1, 1, 1, 4, 4))
    op = operator("relax.nn.conv2d", [(1, 1, 2, 2, 4), weight.shape], (1, 1, 2, 2, 4), (None, weight), strides=[1, 1],
                  dilation=[1, 1], padding=[0] * 4, groups=1, data_layout="NCHW4c", kernel_layout="OIHW4i4o",
                  out_layout="NCHW4c")  # fmt: skip
    found, needs = check(
        op,
        (unknown(op.inputs[0]), unknown(weight.shape)),
        np.ones((1,) * 5, bool),
        lambda *_: [np.zeros(op.outputs[0])],
    )
    assert found[0].trivial
    assert all(need.all() for need in needs)


def test_pixels_that_a_stride_leaves_out_are_dead() -> None:
    weight = np.ones((2, 2, 1, 1))
    op = operator("relax.nn.conv2d", [(1, 2, 5, 5), weight.shape], (1, 2, 3, 3), (None, weight), strides=[2, 2],
                  dilation=[1, 1], padding=[0] * 4, groups=1, data_layout="NCHW", kernel_layout="OIHW",
                  out_layout="")  # fmt: skip
    _, needs = check(op, (unknown((1, 2, 5, 5)), from_mask(weight)), np.ones((1,) * 4, bool), convolution)
    assert np.broadcast_to(needs[0], (1, 2, 5, 5)).sum() == 2 * 9


def infinite(value: float) -> tuple[Operator, Any, Any]:
    weight = np.array([[0.0, 1.0], [1.0, 0.0]]).reshape(2, 2, 1, 1)
    op = operator("relax.nn.conv2d", [(1, 2, 2, 2), weight.shape], (1, 2, 2, 2), (None, weight), strides=[1, 1],
                  dilation=[1, 1], padding=[0] * 4, groups=1, data_layout="NCHW", kernel_layout="OIHW",
                  out_layout="")  # fmt: skip
    return op, from_constant(np.full((1, 2, 2, 2), [[[[value]], [[3.0]]]])), from_mask(weight)


@pytest.mark.parametrize("value", [np.inf, -np.inf])
def test_zero_times_infinity_is_not_known(value: float) -> None:
    op, x, w = infinite(value)
    assert RULE is not None
    (found,) = RULE.forward(op, (x, w))
    assert not found.known.any()
    needs = RULE.backward(op, (x, w), (replace(unknown((1, 2, 2, 2)), live=np.array([1, 0]).reshape(1, 2, 1, 1) > 0),))
    assert np.broadcast_to(needs[0], x.shape)[0, 0].all()  # through a weight of 0 it makes NaN
    weight = np.ones((2, 2, 1, 1))
    left, shift = constant_part(replace(op, constants=(None, weight)), x, weight) or pytest.fail("3 can be folded")
    assert left[:, 0].all()
    assert not left[:, 1].any()
    np.testing.assert_array_equal(shift.reshape(-1), [3.0])


def test_an_infinite_weight_that_the_model_computes_hides_zeros() -> None:
    op, x, _ = infinite(0.0)
    w = from_constant(np.array([[np.inf, 0.0], [1.0, 0.0]]).reshape(2, 2, 1, 1))
    assert RULE is not None
    (found,) = RULE.forward(replace(op, constants=(None, None)), (x, w))
    assert found.known.reshape(-1).tolist() == [False, True]


# ---- whole graphs


def pruned_mobile(kind: str) -> tuple[Any, dict[str, Any]]:
    """A filter with a pruned row and a bias -> relu -> a padded layer -> 1x1."""
    first = floats(4, 3, 3, 3)
    first[1] = first[3] = 0
    constants = {"a.w": first, "a.b": np.array([0.1, 0.7, -0.2, -0.5], np.float32), "c.w": floats(5, 4, 1, 1)}
    attrs: dict[str, Any] = {"pads": [1, 1, 1, 1]}
    if kind == "depthwise":
        constants["b.w"], attrs["group"] = floats(4, 1, 3, 3), 4
    elif kind == "grouped":
        constants["b.w"], attrs["group"] = floats(4, 2, 3, 3), 2
    else:
        constants["b.w"] = floats(4, 4, 3, 3)
    if kind == "transposed":
        attrs |= {"strides": [2, 2], "output_padding": [1, 0]}
    nodes = [
        node("Conv", ["x", "a.w", "a.b"], "a", pads=[1, 0, 1, 2]), node("Relu", ["a"], "h"),
        node("ConvTranspose" if kind == "transposed" else "Conv", ["h", "b.w"], "b", name="b", **attrs),
        node("Conv", ["b", "c.w"], "y", name="c"),
    ]  # fmt: skip
    return model(nodes, [port("x", [1, 3, 6, 5])], ["b", "y"], constants), constants


def session_run(proto: Any, x: Any) -> list[Any]:
    session = onnxruntime.InferenceSession(proto.SerializeToString(), providers=["CPUExecutionProvider"])
    return list(session.run(None, {"x": x}))


def replaced_weight(proto: Any, name: str, content: Any) -> Any:
    from onnx import numpy_helper

    new = type(proto)()
    new.CopyFrom(proto)
    for tensor in new.graph.initializer:
        if tensor.name == name:
            tensor.CopyFrom(numpy_helper.from_array(np.ascontiguousarray(content), name))
    return new


@pytest.mark.parametrize("kind", ["depthwise", "grouped", "plain", "transposed"])
def test_folding_through_padding(kind: str) -> None:
    proto, _ = pruned_mobile(kind)
    found = propagate(import_onnx(proto))
    x = floats(1, 3, 6, 5, seed=4)
    expected = session_run(proto, x)[0]
    fold = found.fold("b") or pytest.fail("the constant channel must fold")
    assert found.folded("b") is None
    pixels = fold.shift.shape[2:]
    assert pixels == expected.shape[2:]
    layer = session_run(replaced_weight(proto, "b.w", fold.weight), x)[0]
    np.testing.assert_allclose(layer + fold.shift, expected, rtol=1e-5, atol=1e-6)
    axis = 0 if kind in ("depthwise", "transposed") else 1
    gone = fold.weight.reshape(4, 2, -1)[:2, 1] if kind == "grouped" else fold.weight.take([1, 3], axis=axis)
    assert not gone.any()
    facts = found.tesa["b"]
    known = np.broadcast_to(facts.known, expected.shape)
    assert known[0, [1, 3]].all() == (kind == "depthwise")
    np.testing.assert_allclose(np.broadcast_to(facts.value, expected.shape)[known], expected[known], rtol=1e-5)


def test_spatial_constants_pass_the_whole_chain() -> None:
    """All of a layer's input is constant: so is all after it, to the last pixel of the border."""
    constants = {"zero": np.zeros((3, 2, 3, 3), np.float32), "bias": floats(3), "d": floats(3, 1, 3, 3),
                 "p": floats(4, 3, 1, 1), "t": floats(4, 2, 2, 2)}  # fmt: skip
    nodes = [
        node("Conv", ["x", "zero", "bias"], "a", pads=[1] * 4), node("Conv", ["a", "d"], "b", group=3, pads=[1] * 4),
        node("Relu", ["b"], "r"), node("Conv", ["r", "p"], "c"),
        node("MaxPool", ["c"], "m", kernel_shape=[3, 3], pads=[1] * 4, strides=[2, 2]),
        node("AveragePool", ["m"], "v", kernel_shape=[2, 2], pads=[1, 0, 0, 1], count_include_pad=1),
        node("ConvTranspose", ["v", "t"], "u", strides=[2, 2], group=2), node("GlobalAveragePool", ["u"], "g"),
    ]  # fmt: skip
    nodes.append(node("Add", ["u", "g"], "y"))
    proto = model(nodes, [port("x", [1, 2, 7, 6])], ["y"], constants)
    facts = propagate(import_onnx(proto)).tesa
    expected = session_run(proto, floats(1, 2, 7, 6))[0]
    last = facts["y"]
    assert last.known.all()
    np.testing.assert_allclose(np.broadcast_to(last.value, expected.shape), expected, rtol=1e-4, atol=1e-5)


def test_one_dimension_and_three() -> None:
    for rank in (1, 3):
        first = floats(4, 2, *[3] * rank)
        first[2] = 0
        nodes = [node("Conv", ["x", "a"], "h", pads=[1] * 2 * rank), node("Conv", ["h", "b"], "y", name="y")]
        proto = model(nodes, [port("x", [1, 2, *[4] * rank])], ["y"], {"a": first, "b": floats(3, 4, *[2] * rank)})
        found = propagate(import_onnx(proto))
        assert not found.unruled
        assert found.weights["y"].op == f"relax.nn.conv{rank}d"
        assert not found.weights["y"].effective_weight[:, 2].any()
        assert found.weights["y"].sparsity == pytest.approx(1 / 4)


def matmul_model(left: bool, batched: bool) -> tuple[Any, TesaModel]:
    """x @ P leaves constants (a bias where P is 0), which then meet a second weight on the left or on the right."""
    pruned = floats(3, 4)
    pruned[:, 1] = 0
    bias = np.array([0.0, 2.0, 0.0, 0.0], np.float32)
    nodes = [node("MatMul", ["x", "p"], "h"), node("Add", ["h", "bias"], "b")]
    if left:
        nodes.append(node("Transpose", ["b"], "t", perm=[0, 2, 1]))
    shape = (5, 4) if left else (4, 5)
    constants = {"p": pruned, "bias": bias, "w": floats(2, *shape) if batched else floats(*shape)}
    nodes.append(node("MatMul", ["w", "t"] if left else ["b", "w"], "y", name="y"))
    proto = model(nodes, [port("x", [2, 6, 3])], ["y"], constants)
    return proto, propagate(import_onnx(proto))


@pytest.mark.parametrize("left", [False, True])
@pytest.mark.parametrize("batched", [False, True])
def test_folding_matrix_products(left: bool, batched: bool) -> None:
    proto, found = matmul_model(left, batched)
    fold = found.fold("y") or pytest.fail("the constant column must fold")
    x = floats(2, 6, 3, seed=2)
    expected, layer = session_run(proto, x)[0], session_run(replaced_weight(proto, "w", fold.weight), x)[0]
    assert fold.shift.ndim == expected.ndim
    assert not np.moveaxis(fold.weight, -1 if left else -2, 0)[1].any()
    np.testing.assert_allclose(layer + fold.shift, expected, rtol=1e-5, atol=1e-6)
    assert (found.folded("y") is None) == (left or batched)


def test_nothing_to_fold() -> None:
    proto = model([node("Conv", ["x", "w"], "y")], [port("x", [1, 2, 3, 3])], ["y"], {"w": floats(2, 2, 1, 1)})
    assert propagate(import_onnx(proto)).fold("y") is None


def test_dead_weights_go_from_all_operators_together() -> None:
    """Einsum and a transposed convolution too: a layer that kept its own would read what nobody keeps at 0 any more."""
    first, table = floats(3, 4), floats(4, 4, seed=1)
    first[:, 1] = 0
    first[:, 2] = 0
    table[:, 2] = 0
    last = floats(5, 4, seed=2)
    nodes = [
        node("MatMul", ["x", "first"], "h"), node("Einsum", ["h", "table"], "e", equation="bi,ij->bj"),
        node("Reshape", ["e", "shape"], "r"), node("ConvTranspose", ["r", "up"], "u", strides=[2, 2]),
        node("Reshape", ["u", "flat"], "f"), node("Gemm", ["f", "last"], "y", transB=1),
    ]  # fmt: skip
    constants = {"first": first, "table": table, "shape": np.array([2, 4, 1, 1]), "up": floats(4, 1, 2, 2),
                 "flat": np.array([2, 4]), "last": last}  # fmt: skip
    proto = model(nodes, [port("x", [2, 3])], ["y"], constants)
    found = propagate(import_onnx(proto))
    changed = found.effective_constants()
    assert {name.split("#")[0] for name in changed} == {"e", "u"}
    x = floats(2, 3, seed=5)
    values: dict[str, Any] = {"x": x}
    net = build_network(found.effective_module()["main"])
    assert net.shapes == found.network.shapes
    for name, content in net.constants.items():
        expected = changed.get(name, found.network.constants[name])
        np.testing.assert_array_equal(content, expected)
    values |= net.constants
    for step in net.nodes:
        outputs = execute(step, [values[name] for name in step.inputs], found.effective_module())
        values |= dict(zip(step.outputs, outputs, strict=True))
    np.testing.assert_allclose(values[net.outputs[0]], session_run(proto, x)[0], rtol=1e-4, atol=1e-5)
