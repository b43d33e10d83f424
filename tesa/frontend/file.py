"""A model file's bytes as a ModelProto, external data included."""

from pathlib import Path
from typing import Any

import onnx
import onnx.external_data_helper
from google.protobuf.message import DecodeError  # type: ignore[import-untyped]

from tesa.errors import ModelError, UsageError
from tesa.frontend.control.inside import tensors_of
from tesa.frontend.names import did_you_mean


def read_model(model: str | Path | Any) -> tuple[str, Any]:
    """Read a path or ModelProto: (its name in messages, ModelProto with all its data). ModelError, UsageError."""
    if isinstance(model, onnx.ModelProto):
        source, proto = "the given model", model
    else:
        source = str(model)
        proto = _parse(Path(model))
    if not proto.ir_version and not proto.graph.node:
        raise ModelError(f"{source}: not an ONNX file. Give a file that torch.onnx.export or onnx.save has written")
    if not proto.graph.node:
        raise ModelError(f"{source}: the graph has no nodes, there is nothing to compile")
    if not proto.graph.output:
        raise ModelError(f"{source}: the graph has no outputs. Export the model again with its outputs")
    return source, proto


def _parse(path: Path) -> Any:
    if path.is_dir():
        raise UsageError(f"{path}: is a folder, give the .onnx file in it")
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        raise UsageError(f"{path}: there is no such file. {_nearest_file(path)}".rstrip()) from None
    except OSError as error:
        raise UsageError(f"{path}: cannot be read: {error.strerror}") from error
    if not data:
        raise ModelError(f"{path}: the file is empty. Export or download the model again")
    proto = onnx.ModelProto()
    try:
        proto.ParseFromString(data)
    except DecodeError:
        raise ModelError(
            f"{path}: not an ONNX file, or a truncated one ({len(data)} bytes). Export or download the model again"
        ) from None
    _load_external(proto, path)
    return proto


def _nearest_file(path: Path) -> str:
    names = [p.name for p in path.parent.glob("*.onnx")] if path.parent.is_dir() else []
    return did_you_mean(path.name, names)


def _load_external(proto: Any, path: Path) -> None:
    for tensor in tensors_of(proto.graph):
        if tensor.data_location != onnx.TensorProto.EXTERNAL:
            continue
        location = next((e.value for e in tensor.external_data if e.key == "location"), "?")
        try:
            onnx.external_data_helper.load_external_data_for_tensor(tensor, str(path.parent))
        except Exception as error:
            raise ModelError(
                f"{path}: the data of tensor {tensor.name!r} are in the external file {location!r}, which cannot be "
                f"read from the folder {path.absolute().parent}. Put that file beside the model "
                f"({type(error).__name__})"
            ) from error
        tensor.data_location = onnx.TensorProto.DEFAULT
