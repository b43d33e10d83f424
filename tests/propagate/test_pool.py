"""Poolings and resizing: every rule against plain loops, the border, precision."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tesa.attributes.attribute import Quantization, TeSA, from_constant, from_mask, from_quantization, unknown
from tesa.frontend import import_onnx
from tesa.propagate import propagate
from tesa.propagate.registry import Operator, find

from ..frontend.onnx_models import floats, model, node, port
from .window_reference import check, influence, operator, pool, some_facts, varies

LAYOUTS = {1: "NCW", 2: "NCHW", 3: "NCDHW"}


@st.composite
def poolings(draw: Any) -> tuple[Operator, int]:
    """(operator, seed): maxima, averages with and without padding, a ceiling that goes past it, adaptive ones."""
    seed, rank = draw(st.integers(0, 10**6)), draw(st.sampled_from([1, 2, 2, 3]))
    kind = draw(st.sampled_from(["max_pool", "avg_pool", "avg_pool", "adaptive_avg_pool"]))
    sizes = [draw(st.integers(2, 5)) for _ in range(rank)]
    if kind == "adaptive_avg_pool":
        outs, attrs = [draw(st.integers(1, 5)) for _ in range(rank)], {}
    else:
        taps, strides, dilation = ([draw(st.integers(1, 3)) for _ in range(rank)] for _ in range(3))
        taps = [min(k, n) for k, n in zip(taps, sizes, strict=True)]
        dilation = [1 if (k - 1) * d >= n else d for k, d, n in zip(taps, dilation, sizes, strict=True)]
        pads = [draw(st.integers(0, k - 1)) if d == 1 else 0 for k, d in zip(taps * 2, dilation * 2, strict=True)]
        room = [n + a + b - (k - 1) * d - 1 for n, a, b, k, d in
                zip(sizes, pads[:rank], pads[rank:], taps, dilation, strict=True)]  # fmt: skip
        outs = [r // s + 1 for r, s in zip(room, strides, strict=True)]
        if draw(st.booleans()):  # a window more where it starts within the input
            outs = [o + (r % s > 0 and o * s - a < n) for o, r, s, a, n in
                    zip(outs, room, strides, pads[:rank], sizes, strict=True)]  # fmt: skip
        attrs = {"pool_size": taps, "strides": strides, "dilation": dilation, "padding": pads}
        attrs["count_include_pad"] = draw(st.booleans())
    shape = (2, 3, *sizes)
    return operator(
        f"relax.nn.{kind}{rank}d", [shape], (2, 3, *outs), layout=LAYOUTS[rank], out_layout="", **attrs
    ), seed


@given(poolings(), st.booleans(), st.booleans())
@settings(max_examples=100, deadline=None)
def test_the_law_of_one_pooling(made: Any, spatial_x: bool, spatial_live: bool) -> None:
    op, seed = made
    rng = np.random.default_rng((seed, 1))
    x = some_facts(op.inputs[0], rng, spatial=spatial_x)
    shape = op.outputs[0] if spatial_live else (1, op.outputs[0][1], *(1 for _ in op.outputs[0][2:]))
    live = rng.random(shape) < 0.6
    found, needs = check(op, (x,), live, pool, seed)
    # a maximum may stand still by chance, so an average over the same windows tells which are known
    moving = varies(replace(op, op=op.op.replace("max", "avg")), (x,), pool)
    np.testing.assert_array_equal(np.broadcast_to(found[0].known, moving.shape), ~moving)
    if "max" not in op.op and spatial_live:
        wanted = influence(op, (x,), live, 0, pool)
        assert (needs[0] | ~wanted).all()
        if all(n > 1 for n in op.outputs[0]):  # only an axis with one output is judged as a whole
            np.testing.assert_array_equal(np.broadcast_to(needs[0], wanted.shape), wanted)


def test_channels_may_come_last() -> None:
    op = operator("relax.nn.max_pool2d", [(1, 4, 4, 3)], (1, 2, 2, 3), pool_size=(2, 2), strides=(2, 2),
                  dilation=(1, 1), padding=(0, 0, 0, 0), layout="NHWC", out_layout="NHWC")  # fmt: skip
    known = np.array([True, False, True])
    x = replace(unknown((1, 4, 4, 3)), known=known.reshape(1, 1, 1, 3), value=np.array([[[[2.0, 0, -3.0]]]]))
    found, needs = check(op, (x,), np.array([1, 1, 0]).reshape(1, 1, 1, 3) > 0, pool)
    np.testing.assert_array_equal(found[0].known, x.known)
    assert needs[0].reshape(-1).tolist() == [True, True, False]


def test_a_blocked_layout_counts_as_unknown() -> None:
    op = operator("relax.nn.max_pool2d", [(1, 1, 2, 2, 4)], (1, 1, 1, 1, 4), pool_size=(2, 2), strides=(2, 2),
                  dilation=(1, 1), padding=(0, 0, 0, 0), layout="NCHW4c", out_layout="NCHW4c")  # fmt: skip
    rule = find(op.op)
    assert rule is not None
    x = from_constant(np.zeros(op.inputs[0]))
    assert rule.forward(op, (x,))[0].trivial
    assert rule.backward(op, (x,), (unknown(op.outputs[0]),))[0].all()


def small(kind: str = "max_pool", pads: Any = (1, 1, 1, 1)) -> Operator:
    return operator(f"relax.nn.{kind}2d", [(1, 2, 4, 4)], (1, 2, 4, 4), pool_size=(3, 3), strides=(1, 1),
                    dilation=(1, 1), padding=pads, layout="NCHW", count_include_pad=True)  # fmt: skip


@pytest.mark.parametrize(("kind", "expected"), [("max_pool", [-np.inf, np.inf]), ("avg_pool", [-np.inf, np.inf])])
def test_infinite_constants(kind: str, expected: list[float]) -> None:
    rule = find(f"relax.nn.{kind}2d")
    assert rule is not None
    value = np.array([-np.inf, np.inf]).reshape(1, 2, 1, 1)
    x = replace(unknown((1, 2, 4, 4)), known=np.ones((1, 1, 1, 1), bool), value=value)
    (found,) = rule.forward(small(kind), (x,))
    assert found.value.reshape(-1).tolist() == expected
    mixed = from_constant(np.where(np.indices((1, 2, 4, 4))[3] % 2 == 0, np.inf, -np.inf))
    (found,) = rule.forward(small(kind), (mixed,))
    assert found.known.all() == (kind == "max_pool")


def grid(shape: Any, scale: Any) -> TeSA:
    return from_quantization(shape, Quantization(4, True, np.asarray(scale), np.zeros((1, 1, 1, 1), int)))


def test_a_maximum_needs_the_precision_of_its_result() -> None:
    op, rule = small(), find("relax.nn.max_pool2d")
    assert rule is not None
    assert rule.precision is not None
    scale = np.array([0.5, 0.25]).reshape(1, 2, 1, 1)
    y = grid((1, 2, 4, 4), scale)
    (need,) = rule.precision(op, (unknown((1, 2, 4, 4)),), (y,))
    assert need is not None
    assert need.bits.max() == 4
    x = np.random.default_rng(0).normal(size=(1, 2, 4, 4)) * 5

    def rounded(v: Any) -> Any:
        return np.clip(np.rint(v / scale), -8, 7) * scale

    np.testing.assert_array_equal(rounded(pool(op, x)[0]), rounded(pool(op, rounded(x))[0]))
    (passed,) = rule.forward(op, (y,))
    assert passed.quantization == y.quantization
    by_pixel = grid((1, 2, 4, 4), np.linspace(0.1, 0.4, 16).reshape(1, 1, 4, 4))
    assert rule.precision(op, (unknown((1, 2, 4, 4)),), (by_pixel,)) == (None,)
    assert rule.forward(op, (by_pixel,))[0].bits.max() == 32
    assert rule.precision(op, (unknown((1, 2, 4, 4)),), (unknown((1, 2, 4, 4)),)) == (None,)
    average = find("relax.nn.avg_pool2d")
    assert average is not None
    assert average.precision is None


# ---- resizing


def resize(op: str = "relax.image.resize2d", **attrs: Any) -> Operator:
    given = {"layout": "NCHW", "method": "linear", "coordinate_transformation_mode": "half_pixel",
             "extrapolation_value": 0.0, "padding_mode": "zeros"}  # fmt: skip
    shapes = [(1, 4, 3, 3)] + ([(1, 2, 5, 5)] if "grid" in op else [])
    return operator(op, shapes, (1, 4, 5, 5), **{**given, **attrs})


CROP = {"coordinate_transformation_mode": "tf_crop_and_resize"}


@pytest.mark.parametrize(
    ("op", "expected"),
    [
        (resize(), [True, True, False, False]),
        (resize(method="cubic"), [True, True, False, False]),
        (resize(**CROP), [True, False, False, False]),
        (resize(**CROP, extrapolation_value=2.0), [False, True, False, False]),
        (resize("relax.image.grid_sample"), [True, False, False, False]),
        (resize("relax.image.grid_sample", padding_mode="border"), [True, True, False, False]),
    ],
)
def test_a_resized_constant(op: Operator, expected: list[bool]) -> None:
    """Channels: 0, 2, unknown, constants that differ."""
    value = np.zeros((1, 4, 3, 3))
    value[:, 1] = 2
    value[:, 3] = np.arange(9).reshape(3, 3)
    x = replace(unknown((1, 4, 3, 3)), known=np.array([1, 1, 0, 1]).reshape(1, 4, 1, 1) > 0, value=value)
    rule, rest = find(op.op), [unknown(s) for s in op.inputs[1:]]
    assert rule is not None
    (found,) = rule.forward(op, (x, *rest))
    known = np.broadcast_to(found.known, (1, 4, 1, 1)).reshape(-1)
    assert known.tolist() == expected
    live = np.array([1, 0, 1, 0]).reshape(1, 4, 1, 1) > 0
    needs = rule.backward(op, (x, *rest), (replace(unknown(op.outputs[0]), live=live),))
    np.testing.assert_array_equal(needs[0], live)
    assert all(need.all() for need in needs[1:])


def test_upsampling_in_a_model() -> None:
    """conv with a pruned row and a bias -> resize -> conv: the row's constant reaches the second convolution."""
    first = floats(3, 2, 1, 1)
    first[1] = 0
    constants = {"a": first, "bias": np.array([0, 2, 0], np.float32), "b": floats(2, 3, 1, 1),
                 "scales": np.array([1, 1, 2, 2], np.float32)}  # fmt: skip
    nodes = [node("Conv", ["x", "a", "bias"], "h"), node("Resize", ["h", "", "scales"], "r", mode="linear"),
             node("Conv", ["r", "b"], "y", name="y")]  # fmt: skip
    found = propagate(import_onnx(model(nodes, [port("x", [1, 2, 3, 3])], ["y"], constants)))
    assert not found.unruled
    fold = found.fold("y") or pytest.fail("the constant channel must fold")
    np.testing.assert_allclose(fold.shift.reshape(-1), 2 * constants["b"][:, 1, 0, 0], rtol=1e-6)


def test_pooling_in_a_model() -> None:
    mask = np.array([1, 0, 1], np.float32).reshape(1, 3, 1, 1)
    nodes = [node("Mul", ["x", "mask"], "h"), node("MaxPool", ["h"], "m", kernel_shape=[2, 2]),
             node("LRN", ["m"], "l", size=3), node("LpPool", ["l"], "p", kernel_shape=[2, 2], p=2),
             node("Conv", ["p", "w"], "y", name="y")]  # fmt: skip
    imported = import_onnx(model(nodes, [port("x", [1, 3, 6, 6])], ["y"], {"mask": mask, "w": floats(2, 3, 1, 1)}))
    found = propagate(imported, given={"x": from_mask(np.ones((1, 3, 6, 6)))})
    assert not found.unruled
    assert not found.weights["y"].effective_weight[:, 1].any()
