"""Products: a model whose kernels are functions of its module computes what one with linked kernels computes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from tesa.base.onnxruntime import reference_outputs
from tesa.build import product
from tesa.build.product import FUNCTION, Product
from tesa.compiler import compile_model
from tesa.runtime import load
from tests.build import toy


def model(path: Path) -> Path:
    """Two sparse layers, the second with a residual."""
    rng = np.random.default_rng(0)
    arrays: dict[str, Any] = {}
    for name in ("w1", "w2"):
        arrays[name] = (rng.standard_normal((32, 32)) * (rng.random((32, 32)) < 0.2)).astype(np.float32)
        arrays["b" + name[1]] = rng.standard_normal(32).astype(np.float32)
    nodes = [
        helper.make_node("Gemm", ["x", "w1", "b1"], ["h"], name="first", transB=1),
        helper.make_node("Relu", ["h"], ["r"]),
        helper.make_node("Gemm", ["r", "w2", "b2"], ["g"], name="second", transB=1),
        helper.make_node("Add", ["g", "x"], ["y"]),
    ]
    shapes = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [16, 32]) for name in ("x", "y")]
    weights = [numpy_helper.from_array(array, name) for name, array in arrays.items()]
    graph = helper.make_graph(nodes, "two", shapes[:1], shapes[1:], weights)
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    path.write_bytes(made.SerializeToString())
    return path


def test_main_inside_the_module_leaves_the_objects_that_it_calls() -> None:
    problem = toy.linear()
    code = toy.code(problem, toy.weight(problem), "tesa_a")
    linked = Product("tesa_a", (Path("main.o"), Path("panel.o")), code.constants)
    inside = linked.inside(code)
    assert inside.objects == (Path("panel.o"),)
    assert inside.function is code.main
    assert inside.constants is linked.constants


@pytest.mark.parametrize("family", ["indexed", "unrolled"])
def test_kernels_inside_the_module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, family: str) -> None:
    file = model(tmp_path / "two.onnx")
    x = np.random.default_rng(1).standard_normal((16, 32)).astype(np.float32)
    want = reference_outputs(file, {"x": x})["y"]
    plans = {}
    for kind in (product.OBJECTS, FUNCTION):
        monkeypatch.setitem(product.PRODUCTS, "cpu", kind)
        compiled = compile_model(
            file, output=tmp_path / f"{kind}.so", measure=False, families=[family], dump_dir=tmp_path / kind
        )
        np.testing.assert_allclose(load(compiled.path)(x)["y"], want, rtol=1e-4, atol=1e-4)
        plans[kind] = [(layer.layer, layer.symbol) for layer in compiled.plan.layers if layer.kind == "sparse"]
        text = (tmp_path / kind / "4-scheduled.py").read_text()
        assert text.count("def tesa_") == (2 if kind == FUNCTION else 0)
    assert plans[FUNCTION] == plans[product.OBJECTS]
    assert len(plans[FUNCTION]) == 2
