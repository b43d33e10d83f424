"""Scrambling: what it finds of operators without a rule is true, and much of what a rule would find."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import tvm
from hypothesis import given, settings
from hypothesis import strategies as st
from tvm import relax, te
from tvm.relax import op as R

from tesa.attributes.attribute import TeSA, from_constant, from_mask, unknown
from tesa.propagate import remove_rule, rule_scope
from tesa.propagate.engine import solve
from tesa.propagate.executor import CannotRunError
from tesa.propagate.registry import find
from tesa.propagate.scramble.groups import groupings
from tesa.propagate.scramble.rule import scrambling
from tesa.propagate.scramble.samples import STYLES, Pair, draw
from tesa.propagate.select import select

from .calls import alive, call, full, network

F, I32, I64 = "float32", "int32", "int64"


def forward(node: Any, *inputs: TeSA) -> tuple[TeSA, ...]:
    return scrambling(node).forward(node.operator, inputs)


def backward(node: Any, inputs: Any, *live: Any) -> list[Any]:
    shapes = node.operator.outputs
    outputs = tuple(alive(s, np.broadcast_to(m, s)) for s, m in zip(shapes, live, strict=True))
    needs = scrambling(node).backward(node.operator, tuple(inputs), outputs)
    return [np.broadcast_to(n, s) for n, s in zip(needs, node.operator.inputs, strict=True)]


def zeros(keep: Any) -> TeSA:
    return from_mask(np.asarray(keep))


RULED = {
    "relu": (R.nn.relu, [((2, 3), F)]), "multiply": (R.multiply, [((2, 3), F), ((1, 3), F)]),
    "add": (R.add, [((2, 3), F), ((3,), F)]), "maximum": (R.maximum, [((2, 3), F), ((2, 3), F)]),
    "matmul": (R.matmul, [((2, 3), F), ((3, 2), F)]), "sum": (lambda x: R.sum(x, 1), [((2, 3), F)]),
    "max": (lambda x: R.max(x, 1), [((2, 3), F)]), "softmax": (R.nn.softmax, [((2, 3), F)]),
    "concat": (lambda x, y: R.concat((x, y), 1), [((2, 1), F), ((2, 2), F)]),
    "split": (lambda x: R.split(x, 3, 1), [((2, 3), F)]), "transpose": (R.permute_dims, [((2, 3), F)]),
    "where": (R.where, [((2, 3), "bool"), ((2, 3), F), ((2, 3), F)]),
    "conv2d": (R.nn.conv2d, [((1, 2, 3, 3), F), ((2, 2, 2, 2), F)]),
    "layer_norm": (lambda x, g, b: R.nn.layer_norm(x, g, b, [-1]), [((2, 3), F), ((3,), F), ((3,), F)]),
    "slice": (lambda x: R.strided_slice(x, [1], [1], [3]), [((2, 3), F)]),
    "int multiply": (R.multiply, [((2, 3), I32), ((2, 3), I32)]),
    "bitwise_and": (R.bitwise_and, [((2, 3), "uint8"), ((2, 3), "uint8")]),
    "logical_and": (R.logical_and, [((2, 3), "bool"), ((2, 3), "bool")]),
    "less": (R.less, [((2, 3), I32), ((2, 3), I32)]),
}  # fmt: skip


def some_facts(rng: np.random.Generator, shape: Any, dtype: str) -> TeSA:
    """Zeros and small constants in random places."""
    known = rng.random(shape) < rng.choice([0.0, 0.5, 1.0], p=[0.2, 0.6, 0.2])
    value = rng.choice([0, 0, 1], shape).astype(dtype)
    return replace(unknown(shape), known=known, value=value)


@pytest.mark.parametrize("name", RULED)
def test_scrambling_finds_what_the_rule_finds(name: str) -> None:
    """Constants as well as dead elements: of these, a rule may know more of constants than scrambling dares to say."""
    function, types = RULED[name]
    node = call(function, *types)
    rule = select(node).rule
    assert rule is not None
    for seed in range(3):
        rng = np.random.default_rng(seed)
        inputs = tuple(some_facts(rng, shape, dtype) for shape, dtype in types)
        outputs = [alive(s, rng.random(s) < 0.6) for s in node.operator.outputs]
        for mine, other in zip(forward(node, *inputs), rule.forward(node.operator, inputs), strict=True):
            left = full(other.known, other) & ~full(mine.known, mine)
            assert not left.any()
            both = full(other.known, other)
            np.testing.assert_allclose(full(mine.value, mine)[both], full(other.value, other)[both], rtol=1e-5)
        needs = backward(node, inputs, *[t.live for t in outputs])
        for mine, other, t in zip(needs, rule.backward(node.operator, inputs, tuple(outputs)), inputs, strict=True):
            assert not (mine & ~np.broadcast_to(other, t.shape) & ~full(t.known, t)).any()


@pytest.mark.slow
@given(st.integers(0, 2**32 - 1), st.sampled_from(["add", "multiply", "maximum", "minimum", "less", "bitwise_xor"]))
@settings(max_examples=25, deadline=None)
def test_of_two_bit_integers_everything_is_right(seed: int, name: str) -> None:
    """Against all inputs there are: uint8 tensors of two elements, compared over the whole range of a random one."""
    rng = np.random.default_rng(seed)
    node = call(getattr(R, name), ((2,), "uint8"), ((2,), "uint8"))
    inputs = tuple(some_facts(rng, (2,), "uint8") for _ in range(2))
    live = rng.random(2) < 0.7
    (found,) = forward(node, *inputs)
    need = backward(node, inputs, live)
    reference = getattr(np, name)
    grid = np.arange(256, dtype=np.uint8)
    for i in range(2):
        a, b = (np.full(1, full(t.value, t)[i], np.uint8) if full(t.known, t)[i] else grid for t in inputs)
        table = reference(a[:, None], b[None, :])
        assert bool(full(found.known, found)[i]) == bool((table == table[0, 0]).all())
        if full(found.known, found)[i]:
            assert full(found.value, found)[i] == table[0, 0]
        if live[i] and len(a) > 1 and not need[0][i]:
            assert (table == table[:1]).all()
        if live[i] and len(b) > 1 and not need[1][i]:
            assert (table == table[:, :1]).all()


@pytest.mark.parametrize("name", ["multiply", "maximum", "minimum", "bitwise_and"])
def test_two_facts_never_lean_on_each_other(name: str) -> None:
    """0 * 0: each zero would make the other one dead. A known element is needed whatever its partner is."""
    dtype = I32 if name.startswith("bit") else F
    node = call(getattr(R, name), ((4,), dtype), ((4,), dtype))
    both = from_constant(np.zeros(4, dtype))
    assert all(need.all() for need in backward(node, (both, both), True))


def test_a_choice_between_two_known_sides_needs_its_condition_if_they_differ() -> None:
    node = call(R.where, ((3,), "bool"), ((3,), F), ((3,), F))
    left, right = (from_constant(np.array(v, F)) for v in ([1, 2, 3], [1, 5, 3]))
    (found,) = forward(node, unknown((3,)), left, right)
    assert found.known.tolist() == [True, False, True]
    need = backward(node, (unknown((3,)), left, right), True)
    assert need[0].tolist() == [False, True, False]
    assert need[1].all()
    assert need[2].all()


def test_an_unknown_element_may_lean_on_the_zero_of_its_partner() -> None:
    node = call(R.multiply, ((3,), F), ((3,), F))
    need = backward(node, (zeros([1, 0, 1]), unknown((3,))), [True, True, False])
    assert need[0].tolist() == [True, True, False]
    assert need[1].tolist() == [True, False, False]


@pytest.mark.parametrize("length", [7, 300])
@pytest.mark.parametrize("function", [R.max, R.min, R.argmax])
def test_every_element_that_may_win_is_needed(function: Any, length: int) -> None:
    """One of 300 like numbers wins once in 300 times; a bold one in a quiet surrounding wins half of them."""
    node = call(lambda x: function(x, 1), ((2, length), F))
    (need,) = backward(node, (unknown((2, length)),), [True, False])
    assert need[0].all()
    assert not need[1].any()


def test_gates_hide_nothing() -> None:
    """All of 24 gates must be open for one of them to be seen."""
    node = call(lambda x: R.min(x, 0), ((24,), I32))
    assert backward(node, (unknown((24,)),), True)[0].all()

    def conjunction(x: Any) -> Any:
        k = te.reduce_axis((0, 24))
        every = te.comm_reducer(lambda a, b: a & b, lambda t: tvm.tirx.const(True, t), name="every")
        return te.compute((1,), lambda i: every(x[k], axis=k))

    node = network(lambda b, x: b.call_te(conjunction, x), ((24,), "bool")).nodes[0]
    assert backward(node, (unknown((24,)),), True)[0].all()


def test_thresholds_in_the_code_or_among_known_values_are_met() -> None:
    def kernel(x: Any) -> Any:
        return te.compute(x.shape, lambda i: te.if_then_else(x(i) > 31234.5, 1.0, 0.0))

    node = network(lambda b, x: b.call_te(kernel, x), ((3,), F)).nodes[0]
    assert not forward(node, unknown((3,)))[0].known.any()
    assert backward(node, (unknown((3,)),), True)[0].all()
    equal = call(R.equal, ((3,), F), ((3,), F))
    seven = from_constant(np.full(3, 7.3, F))
    assert not forward(equal, unknown((3,)), seven)[0].known.any()
    assert backward(equal, (unknown((3,)), seven), True)[0].all()


def test_a_constant_up_to_rounding_is_one() -> None:
    def kernel(x: Any) -> Any:
        return te.compute(x.shape, lambda i: te.sin(x(i)) * te.sin(x(i)) + te.cos(x(i)) * te.cos(x(i)))

    node = network(lambda b, x: b.call_te(kernel, x), ((3,), F)).nodes[0]
    (found,) = forward(node, unknown((3,)))
    assert found.known.all()
    np.testing.assert_allclose(found.value, 1, rtol=1e-6)


def test_what_is_not_a_number_is_unknown_and_infinity_may_be_known() -> None:
    node = call(R.add, ((3,), F), ((3,), F))
    (found,) = forward(node, from_constant(np.array([-np.inf, np.inf, 0], F)), unknown((3,)))
    assert found.known.tolist() == [True, True, False]
    assert found.value[:2].tolist() == [-np.inf, np.inf]
    times = call(R.multiply, ((2,), F), ((2,), F))
    (product,) = forward(times, from_constant(np.full(2, np.inf, F)), zeros([0, 1]))
    assert not product.known.any()


def test_known_infinities_are_not_dead_beside_a_zero() -> None:
    """inf * 0 is NaN, any finite number in its place gives 0."""
    zero = relax.const(np.zeros(2, F))
    node = call(lambda x: R.multiply(x, zero), ((2,), F))
    infinite = from_constant(np.array([np.inf, 1], F))
    need = backward(node, (infinite, from_constant(np.zeros(2, F))), True)
    assert need[0].tolist() == [True, False]


def test_places_that_come_at_run_time_say_nothing_about_single_rows() -> None:
    """One row in a thousand is other than 0: a few random places never meet it."""
    node = call(lambda x, i: R.take(x, i, 0), ((1000, 2), F), ((3,), I64))
    table = zeros(np.broadcast_to(np.arange(1000)[:, None] == 500, (1000, 2)))
    assert not forward(node, table, unknown((3,)))[0].known.any()
    assert forward(node, zeros(np.zeros((1000, 2))), unknown((3,)))[0].zero.all()
    assert backward(node, (table, unknown((3,))), [[True, False]])[0].all()
    scatter = call(lambda x, i, u: R.scatter_elements(x, i, u, 0), ((1000,), F), ((2,), I64), ((2,), F))
    nothing = zeros(np.zeros(1000))
    assert not forward(scatter, nothing, unknown((2,)), unknown((2,)))[0].known.any()
    need = backward(scatter, (nothing, unknown((2,)), unknown((2,))), np.arange(1000) == 500)
    assert need[1].all()
    assert need[2].all()


def test_constant_places_are_followed() -> None:
    places = relax.const(np.array([[2, 0]]))
    node = call(lambda x: R.gather_elements(x, places, 0), ((4, 2), F))
    inputs = (zeros(np.broadcast_to(np.arange(4)[:, None] == 2, (4, 2))), from_constant(np.array([[2, 0]])))
    (found,) = forward(node, *inputs)
    assert np.broadcast_to(found.zero, (1, 2)).tolist() == [[False, True]]
    need = backward(node, inputs, True)[0]
    assert need.tolist() == [[False, True], [False, False], [True, False], [False, False]]


def test_dead_weights_of_an_operator_without_a_rule() -> None:
    weight = np.ones((4, 2, 3), F)
    weight[:, 1] = 0
    node = call(lambda x: R.nn.conv1d(x, relax.const(weight)), ((1, 2, 6), F))
    inputs = (unknown((1, 2, 6)), from_constant(weight))
    need = backward(node, inputs, (np.arange(4) < 3).reshape(1, 4, 1))
    assert need[0][0].tolist() == [[True] * 6, [False] * 6]
    assert need[1][:3].all()
    assert not need[1][3].any()


def test_large_operators_are_told_apart_by_slices_and_say_so() -> None:
    shape = (1, 6, 60, 60)
    node = call(R.add, (shape, F), (shape, F))
    rule = scrambling(node)
    assert rule.summary == "no rule; scrambled with 32 trials, inputs by slices only: too large"
    need = backward(node, (unknown(shape), unknown(shape)), (np.arange(6) % 2 == 0).reshape(1, 6, 1, 1))
    for mask in need:
        assert mask[0].all(axis=(1, 2)).tolist() == [True, False] * 3
    assert scrambling(call(R.nn.relu, ((2, 2), F))).summary == "no rule; scrambled with 32 trials"
    assert scrambling(node, sharing=30).summary == "no rule; scrambled with 32 trials, forward only: too large"
    with pytest.raises(CannotRunError, match="too large"):
        scrambling(call(R.matmul, ((1024, 1024), F), ((1024, 1024), F)))


def test_slices_cover_every_axis_in_turn() -> None:
    turns = groupings([10**6], [((10, 100, 1000), F)], 10**5)
    assert [plan.axes for plan in turns] == [(1,), (2,), (0,)]
    assert groupings([6], [((2, 3), F)], 10**5)[0].exact


def test_random_generators_and_functions_with_a_memory_are_left_alone() -> None:
    count = iter(range(10**6))

    @tvm.register_global_func("tesa.test.counter", override=True)
    def counter(x: Any, y: Any) -> None:
        y.copyfrom(x.numpy() * 0 + next(count))

    node = call(lambda x: R.call_dps_packed("tesa.test.counter", x, x.ty), ((2,), F))
    with pytest.raises(CannotRunError, match="another result each time"):
        scrambling(node)


def test_a_packed_function_with_integers_beside_a_tensor_is_not_risked() -> None:
    @tvm.register_global_func("tesa.test.pick", override=True)
    def pick(x: Any, i: Any, y: Any) -> None:
        raise AssertionError("it must not be run")

    node = call(lambda x, i: R.call_dps_packed("tesa.test.pick", (x, i), i.ty), ((2,), F), ((2,), I64))
    with pytest.raises(CannotRunError, match="input 1 of the packed function is an integer tensor"):
        scrambling(node)


@pytest.mark.parametrize("dtype", [F, "float16", "bfloat16", "float64", "int8", "uint8", I32, I64, "uint64", "bool"])
def test_random_numbers_are_finite_and_differ(dtype: str) -> None:
    rng = np.random.default_rng(0)
    for style in STYLES:
        drawn = draw(rng, Pair(style, style), True, (64,), dtype, 5)
        assert str(drawn.dtype) == dtype
        assert np.isfinite(drawn.astype(np.float64)).all()
        assert len(np.unique(drawn.astype(np.float64))) > 1
    near = draw(rng, Pair("focus", "focus", 7.0), False, (64,), dtype, 5).astype(np.float64)
    assert dtype == "bool" or (near == 7).any()


def residual(builder: Any, x: Any, y: Any) -> Any:
    """Two products of one tensor, joined, and an operator that no rule is needed for."""
    a = builder.emit(R.multiply(x, y))
    b = builder.emit(R.cumsum(a, 1))
    return builder.emit(R.add(builder.emit(R.multiply(b, x)), a))


WITHOUT = ("relax.multiply", "relax.cumsum", "relax.add", "relax.maximum")


@pytest.mark.slow
def test_the_order_of_visits_does_not_matter_and_a_second_run_adds_nothing() -> None:
    net = network(residual, ((2, 4), F), ((2, 4), F))
    given = {"x0": zeros([[1, 0, 1, 0]] * 2), "x1": zeros([[0, 0, 1, 1]] * 2)}
    with rule_scope():
        remove_rule(*[name for name in WITHOUT if find(name) is not None])
        first = solve(net, given)
        assert len(first.scrambled) == 4
        for seed in range(3):
            again = solve(net, given, seed=seed)
            assert all(again.tesa[name] == t for name, t in first.tesa.items())
        twice = solve(net, first.tesa)
        assert all(twice.tesa[name] == t for name, t in first.tesa.items())


def test_a_constant_passes_an_operator_without_a_rule() -> None:
    net = network(lambda b, x: b.emit(R.nn.relu(b.emit(R.cumsum(x, 1)))), ((1, 4), F))
    with rule_scope():
        remove_rule(*[name for name in WITHOUT if find(name) is not None])
        found = solve(net, {"x0": from_constant(np.full((1, 4), 2, F))})
    assert found.tesa[net.outputs[0]].value.tolist() == [[2, 4, 6, 8]]
    assert list(found.scrambled.values()) == ["relax.cumsum"]
    assert not found.unruled
    assert set(found.notes.values()) == {"no rule; scrambled with 32 trials"}


def test_side_effects_stay_live_and_are_listed() -> None:
    def body(builder: Any, x: Any) -> Any:
        y = builder.emit(R.nn.relu(x))
        builder.emit(R.call_dps_packed("tesa.test.absent", builder.emit(R.exp(x)), x.ty))
        return y

    net = network(body, ((3,), F))
    found = solve(net)
    assert found.unruled == {net.nodes[2].var: "call_dps_packed.tesa.test.absent"}
    assert "could not be run: no function 'tesa.test.absent'" in found.notes[net.nodes[2].var]
    assert found.tesa[net.nodes[1].outputs[0]].live.all()


def test_what_prints_or_asserts_keeps_its_inputs_alive() -> None:
    builder, x = relax.BlockBuilder(), relax.Var("x", relax.TensorType([3], F))
    with builder.function("main", [x], pure=False):
        seen = builder.emit(R.exp(x))
        builder.emit(R.print(seen, format="{}"))
        builder.emit_func_output(builder.emit(R.nn.relu(relax.const(np.zeros(3, F)))))
    from tesa.propagate.network import build_network

    net = build_network(builder.get()["main"])
    found = solve(net)
    assert list(found.unruled.values()) == ["relax.print"]
    assert "side effect" in next(iter(found.notes.values()))
    assert found.tesa["x"].live.all()


def test_empty_tensors_and_shapes_at_run_time_are_left_as_they_are() -> None:
    empty = solve(network(lambda b, x: b.emit(R.nn.relu(x)), ((0, 3), F)))
    assert list(empty.unruled.values()) == ["relax.nn.relu"]
    assert "no elements" in next(iter(empty.notes.values()))
    dynamic = solve(network(lambda b, x: b.emit(R.nonzero(x)), ((2, 3), F)))
    assert list(dynamic.unruled.values()) == ["relax.nonzero"]
    assert "run time" in next(iter(dynamic.notes.values()))
    assert dynamic.tesa["x0"].live.all()
