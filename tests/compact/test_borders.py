"""Weights that stand in the file otherwise than in the module, and operators of a domain of one's own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper
from tvm import relax

from tesa.compact import compact
from tesa.compiler import compile_model
from tesa.errors import UsageError
from tesa.frontend import converter, converter_scope, import_onnx
from tesa.propagate import propagate
from tesa.runtime import load, verify

from .shrink import dense, model, node, port, shapes, shrink, without


def sparse(*shape: int, seed: int = 0) -> Any:
    rng = np.random.default_rng(seed)
    return (rng.normal(size=shape) * (rng.random(shape) < 0.5)).astype(np.float32)


@pytest.mark.parametrize("turned", [(0, 0), (0, 1), (1, 0), (1, 1)])
@pytest.mark.parametrize("first", [True, False])
@pytest.mark.parametrize("alpha", [1.0, 0.5])
def test_a_square_constant_on_either_side_of_a_gemm(turned: tuple[int, int], first: bool, alpha: float) -> None:
    """Dead elements of the constant are those of the file's array, whichever way it is turned."""
    inputs = ["w", "x"] if first else ["x", "w"]
    mask = (np.random.default_rng(3).random((6, 6)) < 0.4).astype(np.float32)
    nodes = [
        node("Gemm", inputs, "g", transA=turned[0], transB=turned[1], alpha=alpha),
        node("Mul", ["g", "mask"], "y"),
    ]
    shrink(model(nodes, [port("x", [6, 6])], ["y"], {"w": sparse(6, 6), "mask": mask}))


@pytest.mark.parametrize("zero", [None, 0, 3, 128])
def test_an_integer_convolution_keeps_its_codes(zero: int | None) -> None:
    """A code that is the zero point is a zero of the weight, and 0 is none."""
    codes = np.random.default_rng(1).integers(100, 156, (6, 4, 3, 3)).astype(np.uint8)
    codes[[1, 4]] = zero or 0
    constants = {"w": codes, "a": np.uint8(7), "after": without(dense(5, 6, 1, 1), 2, 3, axis=1)}
    more = [] if zero is None else ["z"]
    if zero is not None:
        constants["z"] = np.uint8(zero)
    nodes = [
        node("ConvInteger", ["x", "w", "a", *more], "i", pads=[1, 1, 1, 1]),
        node("Cast", ["i"], "f", to=1),
        node("Conv", ["f", "after"], "y", name="after"),
    ]
    shrink(model(nodes, [port("x", [1, 4, 5, 5], "uint8")], ["y"], constants))


def _row_sum() -> Any:
    """A model with an operator of the domain my.ops, version 3, in its middle."""
    weight = without(dense(4, 8), 0, 1, axis=1)
    nodes = [
        node("MatMul", ["x", "w"], "h", name="h"),
        helper.make_node("Shifted", ["h"], ["s"], name="s", domain="my.ops"),
        node("MatMul", ["s", "v"], "y", name="out"),
    ]
    proto = model(nodes, [port("x", [2, 4])], ["y"], {"w": weight, "v": dense(8, 3, seed=1)})
    proto.opset_import.append(helper.make_opsetid("my.ops", 3))
    return proto


def test_an_operator_of_ones_own_survives_compaction(tmp_path: Path) -> None:
    from tvm import te

    with converter_scope():

        @converter("my.ops::Shifted")
        def shifted(bb: Any, inputs: Any, attrs: Any) -> Any:
            def add_one(x: Any) -> Any:
                return te.compute(x.shape, lambda i, j: x[i, j] + 1.0, name="shifted")

            return bb.call_te(add_one, inputs[0])

        proto = _row_sum()
        small = compact(propagate(import_onnx(proto))).proto
        assert {o.domain: o.version for o in small.opset_import}["my.ops"] == 3
        plain = onnx.ModelProto()
        plain.CopyFrom(proto)
        compile_model(proto, output=tmp_path / "model.so", measure=False)
    ones = model(
        [*[n for n in plain.graph.node if n.name == "h"], node("Add", ["h", "one"], "s"),
         *[n for n in plain.graph.node if n.name == "out"]],
        [port("x", [2, 4])], ["y"],
        {"one": np.float32(1), **{t.name: onnx.numpy_helper.to_array(t) for t in plain.graph.initializer}},
    )  # fmt: skip
    onnx.save(ones, tmp_path / "ones.onnx")
    assert verify(load(tmp_path / "model.so"), tmp_path / "ones.onnx").ok


@pytest.mark.parametrize(("labels", "left"), [("", 8), ("...->...", 6), ("nc->nc", 6)])
def test_labels_let_channels_be_removed_through_an_operator_of_ones_own(labels: str, left: int) -> None:
    """A converter says once which axes correspond; without labels all of them stay."""
    with converter_scope():

        @converter("my.ops::Shifted", labels=labels)
        def shifted(bb: Any, inputs: Any, attrs: Any) -> Any:
            return relax.op.add(inputs[0], relax.const(1.0, "float32"))

        proto = _row_sum()
        proto.graph.initializer[1].CopyFrom(onnx.numpy_helper.from_array(without(dense(8, 3), 0, 1), "v"))
        found = compact(propagate(import_onnx(proto)))
    assert shapes(found) == {"w": (4, left), "v": (left, 3)}


def test_labels_that_do_not_fit() -> None:
    with converter_scope():

        @converter("my.ops::Shifted", labels="ncq->nc")
        def shifted(bb: Any, inputs: Any, attrs: Any) -> Any:
            return relax.op.add(inputs[0], relax.const(1.0, "float32"))

        with pytest.raises(UsageError, match=r"node 's': the labels 'ncq->nc' .* shape \[\[2, 8\]\]"):
            compact(propagate(import_onnx(_row_sum())))
