"""The ONNX model that a compiled one is held against: read, masked as it was compiled, checked to be the same model."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tesa.errors import UsageError
from tesa.runtime.manifest import TensorInfo
from tesa.runtime.model import Model

_Declared = tuple[tuple[int | None, ...] | None, str | None]
"""Shape and dtype as a file declares them, with None for what it leaves open."""


def read_reference(path: str | Path, model: Model, masks: str | Path | Mapping[str, Any] | None = None) -> Any:
    """The ModelProto of an ONNX file, external data included, with the masks multiplied into its weights.

    masks: as tesa.compile has them. UsageError or ModelError where the file cannot be read, a mask does not fit, or
    inputs or outputs are not those of the compiled model.
    """
    from tesa.frontend.file import read_model

    _, proto = read_model(path)
    check_interface(model, proto, path)
    if masks is not None:
        shapes = {info.name: info.shape for info in model.inputs}
        proto = _masked(proto, masks, shapes, str(path))
    return proto


def check_interface(model: Model, proto: Any, path: str | Path) -> None:
    """UsageError, naming what differs, unless a ModelProto has the inputs and outputs of the compiled model.

    A size or a type that the file leaves open fits. Of an output the name and the type count.
    """
    graph = proto.graph
    constants = {tensor.name for tensor in graph.initializer}
    inputs = {value.name: _declared(value) for value in graph.input if value.name not in constants}
    # exporters declare wrong shapes of outputs; those that come out are compared when both models have run
    outputs: dict[str, _Declared] = {value.name: (None, _declared(value)[1]) for value in graph.output}
    wrong = _differences("input", model.inputs, inputs) + _differences("output", model.outputs, outputs)
    if wrong:
        raise UsageError(f"{path} is not the model that {model.path} was compiled from: {'; '.join(wrong)}")


def _declared(value: Any) -> _Declared:
    from onnx.helper import tensor_dtype_to_np_dtype

    tensor = value.type.tensor_type
    dtype = tensor_dtype_to_np_dtype(tensor.elem_type).name if tensor.elem_type else None
    if not tensor.HasField("shape"):
        return None, dtype
    # 0 and what is below it stand for an open size too, as in the frontend
    return tuple(d.dim_value if d.dim_value > 0 else None for d in tensor.shape.dim), dtype


def _differences(side: str, infos: Sequence[TensorInfo], declared: Mapping[str, _Declared]) -> list[str]:
    """One phrase for each input or output that only one of the two has, or that they have differently."""
    wrong = []
    for info in infos:
        if info.name not in declared:
            wrong.append(f"it has no {side} {info.name!r}")
            continue
        shape, dtype = declared[info.name]
        if not _fits(info.shape, shape) or dtype not in (None, info.dtype):
            sizes = "" if shape is None else f"[{', '.join('?' if n is None else str(n) for n in shape)}]"
            theirs = f"{dtype or 'of any type'}{sizes}"
            wrong.append(f"{side} {info.name!r} is {theirs}, compiled was {info.dtype}{list(info.shape)}")
    names = {info.name for info in infos}
    return wrong + [f"its {side} {name!r} is not compiled" for name in declared if name not in names]


def _fits(shape: tuple[int, ...], declared: tuple[int | None, ...] | None) -> bool:
    if declared is None:
        return True
    return len(shape) == len(declared) and all(b in (None, a) for a, b in zip(shape, declared, strict=True))


def _masked(proto: Any, masks: Any, shapes: Mapping[str, Sequence[int]], source: str) -> Any:
    """A model with the masks multiplied into the constants that the frontend finds for them."""
    import onnx.inliner
    from onnx import numpy_helper

    from tesa.frontend import load_masks
    from tesa.frontend.load import load_graph
    from tesa.frontend.masks import apply_masks
    from tesa.frontend.rewrite import name_layers

    if proto.functions:
        proto = onnx.inliner.inline_local_functions(proto)
    scratch = onnx.ModelProto()
    scratch.CopyFrom(proto)
    graph = load_graph(scratch, shapes)
    graph.source = source
    name_layers(graph)
    apply_masks(graph, load_masks(masks) if isinstance(masks, str | Path) else masks)
    tensors = {name: numpy_helper.from_array(graph.constants[name], name) for name in graph.masks}
    sparse = [tensor for tensor in proto.graph.sparse_initializer if tensor.values.name not in tensors]
    nodes = [node for node in proto.graph.node if node.op_type != "Constant" or node.output[0] not in tensors]
    kept = [tensor for tensor in proto.graph.initializer if tensor.name not in tensors]
    for field, rest in (("initializer", [*kept, *tensors.values()]), ("sparse_initializer", sparse), ("node", nodes)):
        rest = [_copy(item) for item in rest]
        proto.graph.ClearField(field)
        getattr(proto.graph, field).extend(rest)
    return proto


def _copy(message: Any) -> Any:
    """A message that lives on when the list that it is in is cleared."""
    copy = type(message)()
    copy.CopyFrom(message)
    return copy
