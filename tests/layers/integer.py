"""Quantized networks, lowered to integer layers with kernels in NumPy, and held against onnxruntime."""

from __future__ import annotations

from typing import Any

import numpy as np
import tvm
from numpy.typing import NDArray
from onnx import TensorProto
from tvm import relax

from tesa.layers.bind import Binding, bind
from tesa.layers.network import Network, to_network
from tesa.layers.pipeline import schedule_rest
from tesa.measure.reference import Inputs, reference
from tesa.targets.target import parse_target
from tests.frontend.onnx_models import model, node, port

Arrays = dict[str, NDArray[Any]]


class Quantized:
    """A QDQ model that is put together step by step, as quantizers write them. rng: where all numbers are from.

    signed: activations are int8 codes; channels: a scale for each output channel of a weight.
    """

    def __init__(self, signed: bool = False, channels: bool = True, seed: int = 0) -> None:
        self.rng = np.random.default_rng(seed)
        self.signed, self.channels = signed, channels
        self.nodes: list[Any] = []
        self.constants: dict[str, Any] = {}
        self.inputs: dict[str, list[int]] = {}

    def name(self) -> str:
        """A name that nothing has."""
        return f"t{len(self.nodes)}"

    def input(self, *shape: int) -> str:
        """An input of float32."""
        name = f"x{len(self.inputs)}"
        self.inputs[name] = list(shape)
        return name

    def op(self, op: str, *inputs: Any, **options: Any) -> str:
        """An operator; arrays among its inputs become constants."""
        names = [self.constant(x) if not isinstance(x, str) else x for x in inputs]
        result = self.name()
        self.nodes.append(node(op, names, result, **options))
        return result

    def constant(self, array: Any) -> str:
        """An initializer."""
        name = f"c{len(self.constants)}"
        self.constants[name] = np.asarray(array)
        return name

    def quantize(self, x: str, scale: float, zero: int) -> str:
        """Codes of the kind of the model. zero: as of uint8."""
        level = np.int8(zero - 128) if self.signed else np.uint8(zero)
        return self.op("QuantizeLinear", x, np.float32(scale), level)

    def dequantize(self, x: str, scale: float, zero: int) -> str:
        """The numbers of such codes."""
        level = np.int8(zero - 128) if self.signed else np.uint8(zero)
        return self.op("DequantizeLinear", x, np.float32(scale), level)

    def codes(self, x: str, scale: float, zero: int) -> str:
        """A quantize and a dequantize."""
        return self.dequantize(self.quantize(x, scale, zero), scale, zero)

    def weight(self, *shape: int, axis: int = 0, zero: int = 0, density: float = 0.4, step: float = 0.01) -> str:
        """A weight of int8 codes behind its dequantize. zero: its zero point."""
        limit = 127 - abs(zero)
        values = self.rng.integers(-limit, limit + 1, shape) * (self.rng.random(shape) < density) + zero
        count = shape[axis] if self.channels else 1
        scale = (self.rng.random(count) + 0.5).astype(np.float32) * np.float32(step)
        zeros = np.full(count, zero, np.int8)
        if not self.channels:
            scale, zeros = scale.reshape(()), zeros.reshape(())
        return self.op("DequantizeLinear", values.astype(np.int8), scale, zeros, axis=axis)

    def bias(self, count: int, step: float = 1e-3) -> str:
        """A bias of int32 behind its dequantize."""
        values = self.rng.integers(-900, 901, count).astype(np.int32)
        return self.op("DequantizeLinear", values, np.float32(step))

    def proto(self, *outputs: str) -> Any:
        """The model as ONNX."""
        ports = [port(name, shape) for name, shape in self.inputs.items()]
        made = model(self.nodes, ports, list(outputs), self.constants, opset=17)
        quantized = {name for n in self.nodes if n.op_type == "QuantizeLinear" for name in n.output}
        for output in made.graph.output:
            if output.name in quantized:
                output.type.tensor_type.elem_type = TensorProto.INT8 if self.signed else TensorProto.UINT8
        return made

    def feeds(self) -> Arrays:
        """Numbers for the inputs."""
        return {name: self.rng.standard_normal(shape).astype(np.float32) for name, shape in self.inputs.items()}


def lowered(proto: Any, integer: bool = True, **options: Any) -> Network:
    """The network with integer layers wherever they are possible."""
    return to_network(proto, integer=(lambda ways: True) if integer else None, **options)


def run(network: Network, inputs: Arrays) -> dict[str, NDArray[Any]]:
    """Run a lowered network with a kernel in NumPy for each layer; its outputs by name."""
    kernels = {}
    for index, layer in enumerate(network.lowered.layers):
        tvm.register_global_func(f"test.integer{index}", _kernel(layer), override=True)
        kernels[layer.placeholder] = Binding(f"test.integer{index}", (), layer.bias, None, layer.scale)
    here = parse_target(None)
    target = tvm.target.Target({**here.tvm, "opt-level": 0})
    mod = schedule_rest(bind(network.lowered.mod, kernels), target, here.core, 1).mod
    machine = relax.VirtualMachine(tvm.compile(mod, target=target), tvm.cpu())
    result = machine["main"](*(tvm.runtime.tensor(array) for array in inputs.values()))
    arrays = [result.numpy()] if hasattr(result, "numpy") else [tensor.numpy() for tensor in result]
    return dict(zip((port.name for port in network.prepared.imported.outputs), arrays, strict=True))


def _kernel(layer: Any) -> Any:
    """Called as a generated one is: x, constants, scale, bias, residual, y."""
    problem = layer.problem

    def kernel(x: Any, *rest: Any) -> None:
        *given, y = rest
        epilogue = problem.epilogue
        wanted = [name for name in ("scale", "bias", "residual") if getattr(epilogue, name)]
        arrays = dict(zip(wanted, (array.numpy() for array in given), strict=True))
        assert tuple(x.shape) == problem.x_shape
        assert str(x.dtype) == problem.x_dtype
        found = reference(problem, layer.weight, Inputs(x.numpy(), **arrays)).y
        y.copyfrom(np.ascontiguousarray(found.reshape(problem.y_shape), problem.output.dtype))

    return kernel
