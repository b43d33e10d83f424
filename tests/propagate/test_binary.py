"""Facts through operators of several tensors, element by element: what one operand decides alone."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import tvm
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tesa.attributes.attribute import Quantization, from_constant, from_mask, from_quantization, unknown
from tesa.propagate.engine import solve
from tesa.propagate.network import Network, Node
from tesa.propagate.registry import Operator, find
from tesa.propagate.rules.annihilate import BINARY

from .one_rule import FLOATS, backward, case, check_dead, check_known, forward, some_facts, some_live

SEEDS = st.integers(0, 2**32 - 1)
many = settings(max_examples=400, deadline=None, suppress_health_check=list(HealthCheck))
some = settings(max_examples=100, deadline=None, suppress_health_check=list(HealthCheck))
SHAPES: list[Any] = [((2, 3), (2, 3)), ((2, 3), (3,)), ((1,), (2, 3)), ((), (2, 3)), ((2, 1, 3), (4, 1)), ((2, 3), ())]
EXTREME = (*FLOATS, np.inf, -np.inf, float(np.finfo(np.float32).min), 3.0, -2.0, 2.0)
REFERENCE: dict[str, Any] = {
    "add": np.add, "subtract": np.subtract, "multiply": np.multiply, "divide": np.divide, "power": np.power,
    "maximum": np.maximum, "minimum": np.minimum, "floor_divide": lambda a, b: np.floor(a / b), "mod": np.fmod,
    "floor_mod": lambda a, b: a - b * np.floor(a / b), "less": np.less, "less_equal": np.less_equal,
    "greater": np.greater, "greater_equal": np.greater_equal, "equal": np.equal, "not_equal": np.not_equal,
    "atan2": np.arctan2, "log_add_exp": np.logaddexp,
}  # fmt: skip
INTEGER: dict[str, Any] = {
    "add": np.add, "subtract": np.subtract, "multiply": np.multiply, "maximum": np.maximum, "minimum": np.minimum,
    "divide": lambda a, b: np.trunc(a / b), "floor_divide": np.floor_divide, "mod": np.fmod, "floor_mod": np.mod,
    "power": lambda a, b: np.power(a, np.abs(b)), "bitwise_and": np.bitwise_and, "bitwise_or": np.bitwise_or,
    "bitwise_xor": np.bitwise_xor, "left_shift": np.left_shift, "right_shift": np.right_shift,
}  # fmt: skip
LOGICAL: dict[str, Any] = {"logical_and": np.logical_and, "logical_or": np.logical_or, "logical_xor": np.logical_xor}
COMPARE = ("less", "less_equal", "greater", "greater_equal", "equal", "not_equal")


def binary(name: str, function: Any, a: Any, b: Any, dtype: str = "float32") -> Any:
    output = np.broadcast_shapes(a.shape, b.shape)
    return case(f"relax.{name}", function, [a, b], output, "bool" if name in COMPARE else dtype)


def operands(rng: Any, shapes: Any, values: Any) -> list[Any]:
    """Two activations, or one and a constant."""
    constant = int(rng.integers(0, 4))
    numbers = [rng.choice(np.asarray(values), s) for s in shapes]
    return [numbers[i] if i == constant else some_facts(rng, shapes[i], values) for i in (0, 1)]


@given(SEEDS, st.sampled_from(sorted(REFERENCE)), st.sampled_from(SHAPES), st.sampled_from([FLOATS, EXTREME]))
@many
def test_floats_against_numpy(seed: int, name: str, shapes: Any, values: Any) -> None:
    rng = np.random.default_rng(seed)
    it = binary(name, REFERENCE[name], *operands(rng, shapes, values))
    object.__setattr__(it, "integer", False)
    check_known(it, rng)
    check_dead(it, rng, some_live(rng, it.op.outputs[0]))


@given(SEEDS, st.sampled_from(sorted(INTEGER)), st.sampled_from(SHAPES))
@many
def test_integers_against_numpy(seed: int, name: str, shapes: Any) -> None:
    rng = np.random.default_rng(seed)
    values = np.array([0, 0, 0, 1, 2, 5, -1 if "power" not in name and "shift" not in name else 1, 2**31 - 1][:7])
    it = binary(name, INTEGER[name], *operands(rng, shapes, values), dtype="int32")
    if name in ("divide", "floor_divide", "mod", "floor_mod") and (it.numbers(rng)[1] == 0).any():
        return  # an error of the model
    check_known(it, rng)
    check_dead(it, rng, some_live(rng, it.op.outputs[0]))


@given(SEEDS, st.sampled_from(sorted(LOGICAL)), st.sampled_from(SHAPES))
@some
def test_logic_against_numpy(seed: int, name: str, shapes: Any) -> None:
    rng = np.random.default_rng(seed)
    it = binary(name, lambda a, b: LOGICAL[name](a > 0, b > 0), *operands(rng, shapes, [True, False]), dtype="bool")
    object.__setattr__(it, "integer", False)  # a random number is true or false by its sign
    check_known(it, rng)
    check_dead(it, rng, some_live(rng, it.op.outputs[0]))


@given(SEEDS, st.sampled_from(["multiply", "add", "subtract", "maximum", "power"]))
@some
def test_a_tensor_with_itself(seed: int, name: str) -> None:
    rng = np.random.default_rng(seed)
    x = some_facts(rng, (2, 3))
    check_dead(binary(name, REFERENCE[name], x, x), rng, some_live(rng, (2, 3)), twins=(0, 1))


@pytest.mark.parametrize(
    ("name", "left", "right", "dtype", "result"),
    [
        ("multiply", 0.0, None, "float32", 0.0), ("multiply", None, 0, "int8", 0), ("power", None, 0.0, "float32", 1.0),
        ("power", 1.0, None, "float32", 1.0), ("add", -np.inf, None, "float32", -np.inf),
        ("subtract", None, -np.inf, "float32", np.inf), ("maximum", np.inf, None, "float32", np.inf),
        ("minimum", None, -np.inf, "float32", -np.inf), ("maximum", None, 127, "int8", 127),
        ("minimum", 0, None, "uint8", 0), ("bitwise_and", None, 0, "int16", 0), ("bitwise_or", -1, None, "int16", -1),
        ("bitwise_or", 255, None, "uint8", 255), ("logical_and", False, None, "bool", False),
        ("logical_or", None, True, "bool", True), ("divide", None, np.inf, "float32", 0.0),
    ],
)  # fmt: skip
def test_who_decides_alone(name: str, left: Any, right: Any, dtype: str, result: Any) -> None:
    """The result is known and the unknown operand dead, the one that decides is not."""
    facts = [unknown((1,)) if v is None else from_constant(np.array([v])) for v in (left, right)]
    it = binary(name, None, *facts, dtype=dtype)
    found = forward(it)
    assert found.known.all()
    assert found.value[0] == result
    needs = [bool(n.all()) for n in backward(it, np.ones((1,), bool))]
    assert needs == [left is not None, right is not None]


@pytest.mark.parametrize(
    ("name", "left", "right", "dtype"),
    [
        ("multiply", 0.0, np.inf, "float32"), ("divide", 0.0, 0.0, "float32"), ("add", np.inf, -np.inf, "float32"),
        ("divide", 1, 0, "int32"), ("mod", 1, 0, "int32"), ("add", None, float(np.finfo(np.float32).min), "float32"),
        ("add", None, float(np.finfo(np.float16).min), "float16"), ("equal", 0.3, 0.1 * 3, "float32"),
        ("floor_divide", 0.3, 0.1, "float32"), ("add", 2**31 - 1, 1, "int32"), ("power", 2, -1, "int32"),
        ("atan2", 0.0, -1.0, "float32"), ("maximum", None, 126, "int8"), ("power", 0.0, None, "float32"),
    ],
)  # fmt: skip
def test_what_is_not_claimed(name: str, left: Any, right: Any, dtype: str) -> None:
    facts = [unknown((1,)) if v is None else from_constant(np.array([v])) for v in (left, right)]
    assert not forward(binary(name, None, *facts, dtype=dtype)).known.any()


def test_a_divisor_stays_even_below_a_zero() -> None:
    it = binary("divide", None, from_constant(np.array([0.0])), unknown((1,)))
    assert forward(it).zero.all()
    assert all(n.all() for n in backward(it, np.ones((1,), bool)))


def test_a_known_element_leans_on_a_constant_of_the_program_only() -> None:
    x, mask = from_constant(np.array([2.0, 0.0])), np.array([0.0, 0.0])
    live = np.ones((2,), bool)
    by_constant = backward(binary("multiply", None, x, mask), live)
    by_tensor = backward(binary("multiply", None, x, from_constant(mask)), live)
    assert not by_constant[0].any()
    assert by_constant[1].all()
    assert by_tensor[0].all()
    assert by_tensor[1].all()


def _node(op: str, layer: str, inputs: tuple[str, ...]) -> Node:
    shapes = ((2,),) * len(inputs)
    return Node(Operator(op, layer, shapes, ((2,),), (None,) * len(inputs), ("float32",)), layer, inputs, (layer,))


@pytest.mark.parametrize("seed", [None, 3])
def test_a_chain_of_products_keeps_one_reason_for_each_zero(seed: int | None) -> None:
    """p * (p * q) with p and q zero in one place, and the residual (p * q) + p."""
    nodes = [_node("relax.multiply", "m", ("p", "q")), _node("relax.multiply", "n", ("p", "m")),
             _node("relax.add", "y", ("n", "p"))]  # fmt: skip
    net = Network(nodes, dict.fromkeys("pqmny", (2,)), {}, ("y",))
    zero = from_mask(np.array([True, False]))
    facts = solve(net, {"p": zero, "q": zero}, seed=seed).tesa
    assert facts["y"].zero.tolist() == [False, True]
    assert facts["p"].live.all()
    free = solve(net, {"p": zero}, seed=seed).tesa
    assert free["q"].live.tolist() == [True, False]  # q is not known, p is: q leans on p


@given(SEEDS, st.sampled_from([((2, 3), (2, 3), (2, 3)), ((3,), (2, 1), (2, 3)), ((), (2, 3), (1, 3))]))
@many
def test_where_against_numpy(seed: int, shapes: Any) -> None:
    rng = np.random.default_rng(seed)
    facts = [some_facts(rng, shapes[0], [True, False]), *(some_facts(rng, s, EXTREME) for s in shapes[1:])]
    it = case("relax.where", lambda c, a, b: np.where(c > 0, a, b), facts, np.broadcast_shapes(*shapes))
    check_known(it, rng)
    check_dead(it, rng, some_live(rng, it.op.outputs[0]))


def test_a_condition_between_equal_constants_is_dead() -> None:
    same = from_constant(np.array([1.0, 2.0]))
    it = case("relax.where", None, [unknown((2,)), same, from_constant(np.array([1.0, 3.0]))], (2,))
    assert forward(it).known.tolist() == [True, False]
    assert backward(it, np.ones((2,), bool))[0].tolist() == [False, True]


@given(SEEDS)
@some
def test_fused_multiply_add_against_numpy(seed: int) -> None:
    rng = np.random.default_rng(seed)
    it = case("relax.ewise_fma", lambda a, b, c: a * b + c, [some_facts(rng, (2, 3)) for _ in range(3)], (2, 3))
    check_known(it, rng)
    check_dead(it, rng, some_live(rng, (2, 3)))


@given(SEEDS, st.sampled_from([(0, 2), (1, 3), (-1, 3), (1, 1)]))
@some
def test_prelu_against_numpy(seed: int, axis: tuple[int, int]) -> None:
    rng = np.random.default_rng(seed)
    view = [1, 1]
    view[axis[0]] = -1

    def prelu(x: Any, slope: Any) -> Any:
        return np.where(x > 0, x, x * slope.reshape(view))

    facts = [some_facts(rng, (2, 3)), some_facts(rng, (axis[1],))]
    it = case("relax.nn.prelu", prelu, facts, (2, 3), attrs={"axis": axis[0]})
    check_known(it, rng)
    check_dead(it, rng, some_live(rng, (2, 3)))


@given(SEEDS, st.sampled_from([(0.0, 6.0), (1.0, 6.0), (-np.inf, 1.0), (2.0, 2.0)]))
@some
def test_clip_against_numpy(seed: int, bounds: tuple[float, float]) -> None:
    rng = np.random.default_rng(seed)
    it = case("relax.clip", lambda x: np.clip(x, *bounds), [some_facts(rng, (2, 3), EXTREME)], (2, 3), static=bounds)
    check_known(it, rng)
    check_dead(it, rng, some_live(rng, (2, 3)))


def test_dropout_is_the_identity() -> None:
    x = from_mask(np.array([True, False]))
    op = Operator("relax.nn.dropout", "d", ((2,),), ((2,), (2,)), (None,), ("float32", "float32"), {"rate": 0.5})
    first, second = find(op.op).forward(op, (x,))
    assert first.zero.tolist() == [False, True]
    assert (second.value == 1).all()
    assert second.known.all()


GRID = Quantization(8, False, np.array([6 / 255]), np.array([0]))


def test_a_clip_needs_no_more_bits_than_what_reads_it() -> None:
    it = case("relax.clip", None, [unknown((2,))], (2,), static=(0.0, 1.0))
    assert find("relax.clip").precision(it.op, it.inputs, (from_quantization((2,), GRID),))[0].bits.max() == 8
    assert find("relax.clip").precision(it.op, it.inputs, (unknown((2,)),)) == (None,)


def test_bits_pass_a_selection_on_one_grid() -> None:
    a, b = from_quantization((2,), GRID), from_quantization((2,), GRID)
    other = from_quantization((2,), Quantization(8, False, np.array([0.5]), np.array([0])))
    assert forward(binary("maximum", None, a, b)).bits.max() == 8
    assert forward(binary("maximum", None, a, other)).bits.max() == 32
    it = case("relax.where", None, [unknown((2,)), a, b], (2,))
    needs = find("relax.where").precision(it.op, it.inputs, (a,))
    assert needs[0] is None
    assert [n.bits.max() for n in needs[1:]] == [8, 8]
    assert find("relax.add").precision is None


def test_every_binary_operator_of_relax_has_a_rule() -> None:
    """Relax is asked for what broadcasts two tensors, so that a new operator is noticed."""
    names = []
    for name in tvm.ir.Op.list_op_names():
        op = tvm.ir.Op.get(name)
        if name.startswith("relax.") and [a.name for a in op.arguments or ()] == ["x1", "x2"]:
            names.append(name)
    assert len(names) > 20
    assert [name for name in names if find(name) is None] == []
    assert {f"relax.{name}" for name in BINARY} <= set(names)
