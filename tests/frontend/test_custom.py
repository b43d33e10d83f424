"""Operators of a domain of one's own."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import tvm
from onnx import helper
from tvm import relax, te

from tesa.errors import UnsupportedError, UsageError
from tesa.frontend import converter, converter_scope, custom_operators, import_onnx
from tesa.propagate.engine import solve
from tesa.propagate.network import build_network
from tests.support import QUICK

from .onnx_models import floats, model, node, port
from .test_import import operators

NAME = "com.example::Swoosh"


def swoosh_model(**attributes: Any) -> Any:
    nodes = [
        node("MatMul", ["x", "w"], "a"), node("Swoosh", ["a"], "s", name="gate", domain="com.example", **attributes),
        node("Relu", ["s"], "y"),
    ]  # fmt: skip
    weight = floats(3, 4)
    weight[:, 1] = 0
    given = model(nodes, [port("x", [2, 3])], ["y"], {"w": weight})
    given.opset_import.append(helper.make_opsetid("com.example", 1))
    return given


def run(imported: Any, x: Any) -> Any:
    mod = relax.get_pipeline("zero")(imported.mod)
    machine = relax.VirtualMachine(tvm.compile(mod, tvm.target.Target(QUICK)), tvm.cpu())
    return machine["main"](tvm.runtime.tensor(x)).numpy()


def test_without_a_converter_the_error_says_how() -> None:
    with pytest.raises(UnsupportedError, match=r"com\.example::Swoosh \(1x, first at node 'gate'\)") as caught:
        import_onnx(swoosh_model())
    assert "tesa.frontend.converter" in str(caught.value)


@pytest.mark.parametrize("plain", [True, False])
def test_a_converter_of_operators_or_of_an_expression(plain: bool) -> None:
    with converter_scope():

        @converter(NAME)
        def swoosh(bb: Any, inputs: Any, attrs: dict[str, Any]) -> Any:
            (x,) = inputs
            shift = float(attrs.get("shift", 1.0))
            if plain:
                moved = bb.normalize(relax.op.subtract(x, relax.const(shift, "float32")))
                return relax.op.multiply(x, bb.normalize(relax.op.sigmoid(moved)))

            def body(data: Any) -> Any:
                return te.compute(data.shape, lambda *i: data(*i) * te.sigmoid(data(*i) - shift), name="swoosh")

            return bb.call_te(body, x, primfunc_name_hint="swoosh")

        assert custom_operators() == (NAME,)
        imported = import_onnx(swoosh_model(shift=0.5))
    assert custom_operators() == ()
    x = floats(2, 3)
    product = x @ imported.graph.constants["w"]
    expected = np.maximum(product / (1 + np.exp(0.5 - product)), 0)
    np.testing.assert_allclose(run(imported, x), expected, rtol=1e-5, atol=1e-5)
    assert "gate" in imported.names.values()
    net = build_network(imported.mod["main"], imported.names, functions=imported.mod)
    found = solve(net)
    assert not found.unruled
    last = found.tesa[net.outputs[0]]
    assert np.broadcast_to(last.zero, (2, 4)).all(axis=0).tolist() == [False, True, False, False]
    assert operators(imported)[0] == "matmul"


def test_a_converter_that_fails_names_the_layer() -> None:
    with converter_scope():

        @converter(NAME)
        def swoosh(bb: Any, inputs: Any, attrs: dict[str, Any]) -> Any:
            raise KeyError("beta")

        with pytest.raises(UnsupportedError, match=r"node 'gate': the converter of com\.example::Swoosh fails.*beta"):
            import_onnx(swoosh_model())


def test_names_of_converters() -> None:
    def nothing(bb: Any, inputs: Any, attrs: dict[str, Any]) -> Any:
        return inputs[0]

    with pytest.raises(UsageError, match=r"expected domain::Operator"):
        converter("Swoosh")
    with converter_scope():
        converter(NAME)(nothing)
        with pytest.raises(UsageError, match=r"has a converter; converter\(\.\.\., replace=True\)"):
            converter(NAME)(nothing)
        converter(NAME, replace=True)(nothing)
        converter("com.microsoft::FusedMatMul")(nothing)
        given = model([node("FusedMatMul", ["x"], "y", domain="com.microsoft")], [port("x", [4])], ["y"])
        assert operators(import_onnx(given)) == []
