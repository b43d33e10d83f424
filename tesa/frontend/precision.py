"""The numbers that an ONNX file computes with, and how far onnxruntime is off from itself on it.

The tolerances of comparisons follow from both, see tesa.base.tolerance.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from onnx import AttributeProto, TensorProto, helper, numpy_helper

from tesa.base.onnxruntime import Array, reference_outputs
from tesa.base.tolerance import STEPS, Precision
from tesa.errors import TesaError
from tesa.frontend.control.inside import all_nodes
from tesa.frontend.half import HALVES, widen_halves
from tesa.frontend.load import load_graph
from tesa.frontend.whole_numbers import whole_tensors

QUANTIZING = {
    "DynamicQuantizeLinear", "MatMulInteger", "ConvInteger", "QGemm", "QAttention", "DynamicQuantizeMatMul",
    "DynamicQuantizeLSTM", "MatMulIntegerToFloat", "QOrderedMatMul", "QuantizeWithOrder",
}  # fmt: skip
BITS = {"int4": 4, "uint4": 4, "int2": 2, "uint2": 2, "int16": 16, "uint16": 16}
NUDGE = 2.0**-23
"""The relative change of inputs and weights that stands for the rounding of float32."""


def precision_of(proto: Any) -> Precision:
    """The bits of activations and the 16-bit reals of a ModelProto.

    >>> import onnx
    >>> from tesa.models import digits_path
    >>> precision_of(onnx.load(digits_path()))
    Precision(bits=32, half='')
    """
    nodes = list(all_nodes(proto.graph.node))
    nodes += [node for function in proto.functions for node in all_nodes(function.node)]
    types = {tensor.name: tensor.data_type for tensor in proto.graph.initializer}
    types |= {n.output[0]: n.attribute[0].t.data_type for n in nodes if n.op_type == "Constant" and n.attribute}
    bits = min((_bits(node, types) for node in nodes), default=32)
    ports = [value.type.tensor_type.elem_type for value in (*proto.graph.input, *proto.graph.output)]
    casts = [a.i for node in nodes if node.op_type == "Cast" for a in node.attribute if a.name == "to"]
    halves = {HALVES[code].name for code in (*types.values(), *ports, *casts) if code in HALVES}
    return Precision(bits, max(halves, key=STEPS.__getitem__, default=""), whole_tensors(proto))


def _bits(node: Any, types: Mapping[str, int]) -> int:
    """The bits that a node quantizes an activation to, 32 where it does not."""
    options = {a.name: a.i for a in node.attribute if a.type == AttributeProto.INT}
    if node.op_type == "MatMulNBits":
        return 8 if options.get("accuracy_level", 0) == 4 else 32  # onnxruntime then quantizes the activation
    if node.op_type in QUANTIZING or node.op_type.startswith("QLinear"):
        return 8
    if node.op_type != "QuantizeLinear" or node.input[0] in types:  # a weight is no activation
        return 32
    code = types.get(node.input[2], 0) if len(node.input) > 2 else options.get("output_dtype", 0)
    return BITS.get(helper.tensor_dtype_to_np_dtype(code).name, 8) if code else 8


def widened(proto: Any, shapes: Mapping[str, Sequence[int]]) -> Any:
    """The model with float32 in place of 16-bit reals, at its inputs and outputs too, under the same names.

    shapes: of all inputs.
    """
    import onnx

    graph = load_graph(proto, shapes)
    widen_halves(graph)
    nodes = list(graph.nodes)
    ports = [v for v in (*graph.inputs, *graph.outputs) if v.type.tensor_type.elem_type in HALVES]
    for value in ports:
        value.type.tensor_type.elem_type = TensorProto.FLOAT
    names = {value.name for value in ports}
    for node in nodes:
        if node.op_type == "Cast" and (node.output[0] in names or node.input[0] in names):
            for attribute in node.attribute:
                if attribute.name == "to" and attribute.i in HALVES:
                    attribute.i = TensorProto.FLOAT
    tensors = [numpy_helper.from_array(np.asarray(array), name) for name, array in graph.constants.items()]
    body = helper.make_graph(nodes, "widened", graph.inputs, graph.outputs, tensors)
    opsets = [helper.make_opsetid(domain, version) for domain, version in {**graph.domains, "": graph.opset}.items()]
    made = helper.make_model(body, opset_imports=opsets)
    made.ir_version = max(8, onnx.helper.find_min_ir_version_for(opsets[-1:]))
    return made


def exact_outputs(
    proto: Any, feeds: Mapping[str, Array], extra: Sequence[str] = (), *, name: str = "model"
) -> dict[str, Array]:
    """The results of onnxruntime for a model of 16-bit reals in float32, by name. extra: inner tensors as well."""
    wide = widened(proto, {key: array.shape for key, array in feeds.items()})
    made = {out for node in wide.graph.node for out in node.output}
    real = {key: array.astype(np.float32) if array.dtype.name in STEPS else array for key, array in feeds.items()}
    return reference_outputs(wide, real, [tensor for tensor in extra if tensor in made], name=name)


def noise_of(
    proto: Any, feeds: Mapping[str, Array], expected: Mapping[str, Array], extra: Sequence[str], precision: Precision
) -> dict[str, Array]:
    """The noise of onnxruntime, element by element: of other runs, the largest |difference|.

    The other runs: with its optimizations, as far as they round nothing that the model does not; on inputs and weights
    that are moved by the last bit of a float32; and, of 16-bit reals, in float32.
    """
    runs: list[Mapping[str, Array]] = []
    quantized = any(node.op_type in ("QuantizeLinear", "DequantizeLinear") for node in proto.graph.node)
    level = "basic" if quantized or precision.bits < 32 else "all"
    attempts: list[Callable[[], Mapping[str, Array]]] = [
        lambda: reference_outputs(proto, feeds, extra, optimize=level),
        lambda: reference_outputs(*_nudged(proto, feeds, 1), extra),
        lambda: reference_outputs(*_nudged(proto, feeds, 2), extra),
    ]
    if precision.half:
        attempts.append(lambda: exact_outputs(proto, feeds, extra))
    for attempt in attempts:
        try:
            runs.append(attempt())
        except TesaError:  # as where it cannot run the model in another form; the other runs remain
            continue
    return {name: _largest(array, [run[name] for run in runs if name in run]) for name, array in expected.items()}


def _largest(expected: Array, others: Sequence[Array]) -> Array:
    found = np.zeros(expected.shape)
    wide = expected.astype(np.float64)
    for other in others:
        if other.shape == expected.shape:
            with np.errstate(invalid="ignore"):
                found = np.fmax(found, np.abs(other.astype(np.float64) - wide))
    return found


def _nudged(proto: Any, feeds: Mapping[str, Array], seed: int) -> tuple[Any, dict[str, Array]]:
    """A copy of a model and its inputs with every float32 moved by the last bit."""
    rng = np.random.default_rng(seed)
    copy = type(proto)()
    copy.CopyFrom(proto)
    for tensor in copy.graph.initializer:
        if tensor.data_type == TensorProto.FLOAT:
            tensor.CopyFrom(numpy_helper.from_array(_moved(numpy_helper.to_array(tensor), rng), tensor.name))
    return copy, {name: _moved(array, rng) for name, array in feeds.items()}


def _moved(array: Array, rng: np.random.Generator) -> Array:
    if array.dtype != np.float32 or np.array_equal(array, np.rint(array)):  # whole numbers: an exponent, an index
        return array
    return np.asarray(array * (1 + NUDGE * rng.choice((-1.0, 1.0), array.shape)), np.float32)
