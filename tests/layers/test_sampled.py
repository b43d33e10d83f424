"""Resize and the sampling of pictures are one function for each axis, and no take is left in them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnxruntime
import pytest
import tvm
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from tvm import relax

from tesa.layers.network import to_network
from tesa.layers.pipeline import schedule_rest
from tesa.schedules.cpu.operators import describe
from tesa.targets.target import parse_target

Arrays = dict[str, NDArray[Any]]


class Nodes:
    """A model with a node, and inputs, for each case."""

    def __init__(self) -> None:
        self.rng = np.random.default_rng(0)
        self.nodes: list[Any] = []
        self.inputs: Arrays = {}
        self.constants: Arrays = {}

    def add(self, op: str, *inputs: NDArray[Any], scales: Sequence[float] = (), **options: Any) -> None:
        """A node of some inputs; scales: of a Resize, a constant."""
        number = len(self.nodes)
        own = {f"x{number}.{i}": array.astype(np.float32) for i, array in enumerate(inputs)}
        self.inputs.update(own)
        names = list(own)
        if scales:
            self.constants[f"s{number}"] = np.array(scales, np.float32)
            names += ["", f"s{number}"]
        self.nodes.append(helper.make_node(op, names, [f"y{number}"], **options))

    def normal(self, *shape: int) -> NDArray[Any]:
        return self.rng.standard_normal(shape)

    def check(self, opset: int = 19) -> list[str]:
        """The model computes what onnxruntime computes, without a take; the rules that scheduled its functions."""
        ports = [helper.make_tensor_value_info(n, TensorProto.FLOAT, a.shape) for n, a in self.inputs.items()]
        ends = [helper.make_tensor_value_info(f"y{i}", TensorProto.FLOAT, None) for i in range(len(self.nodes))]
        tensors = [numpy_helper.from_array(a, n) for n, a in self.constants.items()]
        graph = helper.make_graph(self.nodes, "nodes", ports, ends, tensors)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=9)
        want = onnxruntime.InferenceSession(model.SerializeToString()).run(None, self.inputs)
        lowered, here = to_network(model).lowered, parse_target(None)
        mod = schedule_rest(lowered.mod, tvm.target.Target(here.tvm), here.core, 1).mod
        functions = {var.name_hint: describe(f) for var, f in mod.functions_items() if describe(f)}
        assert not any("take" in name for name in functions), functions
        assert not lowered.layers
        machine = relax.VirtualMachine(tvm.compile(mod, target=tvm.target.Target(here.tvm)), tvm.cpu())
        got = machine["main"](*(tvm.runtime.tensor(a) for a in self.inputs.values()))
        for one, other in zip(got if len(want) > 1 else [got], want, strict=True):
            np.testing.assert_allclose(one.numpy(), other, rtol=1e-4, atol=1e-4 * np.abs(other).max())
        return [rule for name, rule in functions.items() if name.startswith("sample")]


@pytest.mark.parametrize("mode", ["linear", "cubic", "nearest"])
def test_resize_permutes_vectors_of_the_last_axis(mode: str) -> None:
    nodes = Nodes()
    down = {} if mode != "nearest" else {"nearest_mode": "floor"}
    for shape in [(1, 3, 9, 20), (2, 2, 5, 6), (1, 7, 16, 16), (1, 1, 2, 40)]:
        for scale in (2.0, 1.7):
            nodes.add("Resize", nodes.normal(*shape), scales=(1, 1, 1, scale), mode=mode, **down)
    assert set(nodes.check()) == {"picks"}


def test_resize_of_both_axes_is_two_functions() -> None:
    nodes = Nodes()
    for scale in (2.0, 1.7, 0.5):
        nodes.add("Resize", nodes.normal(1, 3, 9, 20), scales=(1, 1, scale, scale), mode="cubic")
    assert sorted(nodes.check()) == ["elementwise"] * 3 + ["picks"] * 3


def test_a_long_step_down_is_read_element_by_element() -> None:
    nodes = Nodes()
    nodes.add("Resize", nodes.normal(1, 2, 3, 900), scales=(1, 1, 1, 0.1), mode="linear")
    assert nodes.check() == ["elementwise"]


@pytest.mark.slow
def test_grids_read_pixels_as_rows_of_channels() -> None:
    nodes = Nodes()
    for mode, padding in (("bilinear", "zeros"), ("nearest", "border")):
        x, grid = nodes.normal(2, 5, 6, 7), nodes.rng.uniform(-1.3, 1.3, (2, 4, 3, 2))
        nodes.add("GridSample", x, grid, mode=mode, padding_mode=padding)
    assert nodes.check(16)


@pytest.mark.slow
def test_deformable_convolutions() -> None:
    nodes = Nodes()
    shapes = [(2, 4, 6, 7), (3, 4, 3, 3), (2, 36, 6, 7), (3,), (2, 18, 6, 7)]
    nodes.add("DeformConv", *(nodes.normal(*s) for s in shapes), kernel_shape=[3, 3], pads=[1] * 4, offset_group=2)
    assert set(nodes.check()) == {"elementwise"}
