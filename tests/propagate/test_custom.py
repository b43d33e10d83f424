"""Operators that tesa has never heard of: with a rule of a few lines, and with none."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import onnx
import pytest
import tvm
from onnx import TensorProto, helper
from tvm import te
from tvm.relax import op as R

from tesa.attributes.attribute import TeSA, from_mask
from tesa.frontend import converter, converter_scope, import_onnx
from tesa.propagate import Operator, common, remove_rule, rule, rule_scope, rules
from tesa.propagate.engine import solve
from tesa.propagate.network import build_network
from tesa.propagate.registry import find
from tests.propagate.run_network import run_network

from .calls import network

F = "float32"


@pytest.fixture(autouse=True)
def scope() -> Iterator[None]:
    """No test leaves a rule behind."""
    with rule_scope():
        yield


def mirror(x: Any) -> Any:
    """x[i] + x[n-1-i]: not element-wise."""
    n = x.shape[1]
    return te.compute(x.shape, lambda i, j: x[i, j] + x[i, n - 1 - j])


def mirrored(name: str = "mirror") -> Callable[[Any, Any], Any]:
    return lambda builder, x: builder.call_te(mirror, x, primfunc_name_hint=name)


GIVEN = {"x0": from_mask(np.array([[1, 0, 0, 0]]))}


def pass_mirror(op: Operator, inputs: tuple[TeSA, ...]) -> tuple[TeSA, ...]:
    """0 where both are 0."""
    zero = np.broadcast_to(inputs[0].zero, op.inputs[0])
    return (common.facts(op.outputs[0], zero & zero[:, ::-1], np.zeros((1, 1))),)


def test_a_rule_of_a_few_lines() -> None:
    rule("call_tir.mirror", backward=common.all_needed)(pass_mirror)
    net = network(mirrored(), ((1, 4), F))
    found = solve(net, GIVEN)
    assert found.tesa[net.outputs[0]].zero.tolist() == [[False, True, True, False]]
    assert not found.scrambled
    assert not found.unruled
    assert any("call_tir.mirror" in str(origin) for origin in found.tesa[net.outputs[0]].origins)
    assert dict(rules())["call_tir.mirror"].summary == "0 where both are 0."


def test_without_a_rule_scrambling_finds_the_same_and_more() -> None:
    net = network(mirrored(), ((1, 4), F))
    found = solve(net, GIVEN)
    assert found.tesa[net.outputs[0]].zero.tolist() == [[False, True, True, False]]
    assert found.scrambled == {net.nodes[0].var: "call_tir.mirror"}
    assert found.notes == {net.nodes[0].var: "no rule; scrambled with 32 trials"}


def test_an_operator_may_name_itself_whatever_its_function_is_called() -> None:
    def body(builder: Any, x: Any) -> Any:
        named = {"tesa.op": "mirror"}
        once = builder.emit(builder.call_te(mirror, x, primfunc_name_hint="kernel", primfunc_attrs=named))
        return builder.call_te(mirror, once, primfunc_name_hint="other", primfunc_attrs=named)

    net = network(body, ((1, 4), F))
    assert [node.operator.op for node in net.nodes] == ["call_tir.mirror"] * 2


def test_packed_functions() -> None:
    """A black box: its code cannot be looked at, it is run all the same."""

    @tvm.register_global_func("tesa.test.reverse", override=True)
    def reverse(x: Any, y: Any) -> None:
        y.copyfrom(np.ascontiguousarray(x.numpy()[:, ::-1]))

    @tvm.register_global_func("tesa.test.double", override=True)
    def double(x: Any) -> Any:
        return tvm.runtime.tensor(x.numpy() * 2)

    def body(builder: Any, x: Any) -> Any:
        y = builder.emit(R.call_dps_packed("tesa.test.reverse", x, x.ty))
        return builder.emit(R.call_pure_packed("tesa.test.double", y, ty_args=x.ty))

    net = network(body, ((1, 4), F))
    found = solve(net, GIVEN)
    assert [node.operator.op for node in net.nodes] == [
        "call_dps_packed.tesa.test.reverse", "call_packed.tesa.test.double",
    ]  # fmt: skip
    assert found.tesa[net.outputs[0]].zero.tolist() == [[True, True, True, False]]
    assert len(found.scrambled) == 2


def test_a_packed_function_that_fails_on_some_numbers_is_left_alone() -> None:
    @tvm.register_global_func("tesa.test.positive", override=True)
    def positive(x: Any, y: Any) -> None:
        if np.abs(x.numpy()).max() > 1e3:
            raise ValueError("too large for me")
        y.copyfrom(x.numpy() * 0)

    net = network(lambda b, x: b.emit(R.call_dps_packed("tesa.test.positive", x, x.ty)), ((1, 4), F))
    found = solve(net)
    assert list(found.unruled.values()) == ["call_dps_packed.tesa.test.positive"]
    assert "too large for me" in next(iter(found.notes.values()))
    assert found.tesa["x0"].live.all()
    assert not found.tesa[net.outputs[0]].known.any()


def test_a_name_is_given_once() -> None:
    with pytest.raises(ValueError, match=r"'relax.matmul' has two rules; .*replace=True"):
        rule("relax.matmul", backward=common.all_needed)(common.nothing)
    rule("relax.matmul", backward=common.all_needed, replace=True)(common.nothing)
    found = find("relax.matmul")
    assert found is not None
    assert found.forward is common.nothing


def test_a_scope_restores_what_was_there() -> None:
    before = rules()
    with rule_scope():
        remove_rule("relax.matmul")
        rule("call_tir.mirror", backward=common.all_needed)(pass_mirror)
        assert find("relax.matmul") is None
    assert rules() == before
    with pytest.raises(KeyError):
        remove_rule("call_tir.mirror")


def swoosh_model() -> onnx.ModelProto:
    """x -> relu -> Swoosh(slope=2) -> y."""
    nodes = [
        helper.make_node("Relu", ["x"], ["a"], "first"),
        helper.make_node("Swoosh", ["a"], ["y"], "second", domain="com.example", slope=2.0),
    ]
    ports = [helper.make_tensor_value_info(n, TensorProto.FLOAT, [1, 4]) for n in "xy"]
    graph = helper.make_graph(nodes, "g", ports[:1], ports[1:])
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("com.example", 1)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=9)


def test_a_custom_operator_of_a_model_file() -> None:
    """Its converter makes a kernel, which is found element-wise, asked for f(0), and passes what is known."""

    def kernel(x: Any, slope: float) -> Any:
        return te.compute(x.shape, lambda *i: x(*i) * te.sigmoid(x(*i) * slope))

    with converter_scope():

        @converter("com.example::Swoosh")
        def swoosh(bb: Any, inputs: Any, attrs: Any) -> Any:
            named = {"tesa.op": "swoosh"}
            return bb.call_te(kernel, inputs[0], attrs["slope"], primfunc_name_hint="swoosh", primfunc_attrs=named)

        mod = import_onnx(swoosh_model()).mod
    net = build_network(mod["main"], functions=mod)
    assert net.nodes[-1].operator.op == "call_tir.swoosh"
    found = solve(net, {"x": from_mask(np.array([[1, 0, 1, 1]]))})
    assert found.tesa[net.outputs[0]].zero.tolist() == [[False, True, False, False]]
    assert not found.unruled
    assert not found.scrambled
    x = np.array([[1, 0, -1, 2]], np.float32)
    expected = np.maximum(x, 0) / (1 + np.exp(-2 * np.maximum(x, 0)))
    np.testing.assert_allclose(run_network(net, {"x": x})[net.outputs[0]], expected, rtol=1e-6)


def test_a_rule_holds_for_every_shape_of_a_function() -> None:
    """TVM calls the second function of a name name1."""
    from tesa.propagate.network import Node
    from tesa.propagate.select import select

    with rule_scope():

        def backward(op: Operator, inputs: Any, outputs: Any) -> Any:
            return (outputs[0].live,)

        @rule("call_tir.swoosh", backward=backward)
        def swoosh(op: Operator, inputs: Any) -> Any:
            """0 stays 0."""
            return (inputs[0],)

        for name in ("swoosh", "swoosh1", "swoosh12"):
            operator = Operator(f"call_tir.{name}", "layer", ((2,),), ((2,),), (None,), ("float32",))
            chosen = select(Node(operator, "y", ("x",), ("y",))).rule
            assert chosen is not None
            assert chosen.summary == "0 stays 0."
