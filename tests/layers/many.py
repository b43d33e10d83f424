"""Many small layers in one model, lowered once, with kernels in NumPy, and held against onnxruntime."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnxruntime
import tvm
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from tvm import relax

from tesa.layers.bind import Binding, bind
from tesa.layers.network import Network, to_network
from tesa.layers.pipeline import schedule_rest
from tesa.targets.target import parse_target
from tests.schedules.reference import reference

Arrays = dict[str, NDArray[Any]]
Shape = tuple[int, ...]


class Many:
    """A model with a layer of its own for each input. rng: where all numbers are from."""

    def __init__(self, seed: int = 0) -> None:
        self.rng = np.random.default_rng(seed)
        self.nodes: list[Any] = []
        self.inputs: Arrays = {}
        self.constants: Arrays = {}
        self.outputs: list[str] = []

    def add(self, op: str, x: Shape, w: Shape, left: bool = False, bias: Shape | None = None, **options: Any) -> None:
        """A layer, with a bias and a ReLU behind it where bias has a shape. left: the weight is the first operand."""
        i, result = len(self.outputs), f"y{len(self.outputs)}"
        self.inputs[f"x{i}"] = self.rng.standard_normal(x).astype(np.float32)
        zeros = self.rng.random(w) < 0.6
        self.constants[f"w{i}"] = np.where(zeros, 0, self.rng.standard_normal(w)).astype(np.float32)
        names = [f"w{i}", f"x{i}"] if left else [f"x{i}", f"w{i}"]
        self.nodes.append(helper.make_node(op, names, [result], **options))
        if bias is not None:
            self.constants[f"b{i}"] = self.rng.standard_normal(bias).astype(np.float32)
            self.nodes.append(helper.make_node("Add", [result, f"b{i}"], [f"s{i}"]))
            self.nodes.append(helper.make_node("Relu", [f"s{i}"], [f"z{i}"]))
            result = f"z{i}"
        self.outputs.append(result)

    @property
    def proto(self) -> Any:
        """The model as ONNX."""
        ports = [helper.make_tensor_value_info(n, TensorProto.FLOAT, a.shape) for n, a in self.inputs.items()]
        ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in self.outputs]
        tensors = [numpy_helper.from_array(array, name) for name, array in self.constants.items()]
        graph = helper.make_graph(self.nodes, "many", ports, ends, tensors)
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)

    def check(self, kernels: int | None = None) -> Network:
        """Every layer computes what onnxruntime computes, in a kernel of its own, or in so many in all."""
        proto = self.proto
        network = to_network(proto)
        assert network.skipped == ()
        weights = sum(name.startswith("w") for name in self.constants)
        assert len(network.layers) == (weights if kernels is None else kernels)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        expected = onnxruntime.InferenceSession(proto.SerializeToString(), options).run(None, self.inputs)
        for name, got, wanted in zip(self.outputs, run(network, self.inputs), expected, strict=True):
            np.testing.assert_allclose(got, wanted, atol=1e-4, rtol=1e-4, err_msg=name)
        return network


def run(network: Network, inputs: Arrays) -> list[NDArray[Any]]:
    """Run a lowered network with a kernel in NumPy for each layer."""
    kernels = {}
    for index, layer in enumerate(network.lowered.layers):
        tvm.register_global_func(f"test.many{index}", _kernel(layer), override=True)
        kernels[layer.placeholder] = Binding(f"test.many{index}", (), layer.bias)
    here = parse_target(None)
    target = tvm.target.Target({**here.tvm, "opt-level": 0})
    mod = schedule_rest(bind(network.lowered.mod, kernels), target, here.core, 1).mod
    machine = relax.VirtualMachine(tvm.compile(mod, target=target), tvm.cpu())
    result = machine["main"](*(tvm.runtime.tensor(array) for array in inputs.values()))
    return [result.numpy()] if hasattr(result, "numpy") else [tensor.numpy() for tensor in result]


def _kernel(layer: Any) -> Any:
    """Called as a generated one is: x, constants, bias, residual, y."""

    def kernel(x: Any, *rest: Any) -> None:
        assert tuple(x.shape) == layer.problem.x_shape
        residual = rest[-2].numpy() if layer.problem.epilogue.residual else None
        y = reference(layer.problem, layer.weight, x.numpy(), layer.bias, residual)
        rest[-1].copyfrom(np.ascontiguousarray(y.reshape(layer.problem.y_shape), np.float32))

    return kernel
