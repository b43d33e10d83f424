"""A model file's bytes as a ModelProto, external data included."""

import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import onnx
import onnx.external_data_helper
from google.protobuf.message import DecodeError  # type: ignore[import-untyped]

from tesa.errors import ModelError, UsageError
from tesa.frontend.control.inside import tensors_in, tensors_of
from tesa.frontend.names import did_you_mean


def read_model(model: str | Path | Any) -> tuple[str, Any]:
    """Read a path or ModelProto: (its name in messages, ModelProto with all its data). ModelError, UsageError."""
    if isinstance(model, onnx.ModelProto):
        source, proto = "the given model", model
        _refuse_external(proto, source)
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


def _external(proto: Any) -> Iterator[tuple[Any, str]]:
    """(tensor, name of its file) of each tensor whose data are beside the model, wherever in the model it stands."""
    for tensors in (tensors_of(proto.graph), *(tensors_in(function.node) for function in proto.functions)):
        for tensor in tensors:
            if tensor.data_location == onnx.TensorProto.EXTERNAL:
                yield tensor, next((e.value for e in tensor.external_data if e.key == "location"), "")


def _refuse_external(proto: Any, source: str) -> None:
    """Raise a ModelError for a model in memory that lacks data: it has no folder that their file could be in."""
    for tensor, location in _external(proto):
        raise ModelError(
            f"{source}: the data of tensor {tensor.name!r} are in the external file {location[:200]!r}, and a model in "
            "memory has no folder to look for it. Give the path of the model's file, or load it with onnx.load"
        )


def _load_external(proto: Any, path: Path) -> None:
    for tensor, location in _external(proto):
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of keys that onnx does not know
                onnx.external_data_helper.load_external_data_for_tensor(tensor, str(path.absolute().parent))
        except Exception as error:
            raise ModelError(
                f"{path}: the data of tensor {tensor.name!r} are in the external file {location[:200]!r}, which cannot "
                f"be read from the folder {path.absolute().parent}. {_remedy(error)}"
            ) from error
        tensor.data_location = onnx.TensorProto.DEFAULT


REMEDIES = {
    "symbolic link": "It is a symbolic link, which could lead anywhere and is not followed. Put the file itself there",
    "hard link": "It has several names (hard links), by which other files could be read. Put a copy of the file there",
    "absolute path": "The model names it by an absolute path; only files in the model's folder are read. Save it again",
    "points outside": "The model names a file outside of its folder, which is not read. Save the model again",
    "not be empty": "The model does not name the file. Save it again with its data",
    "not regular file": "Put that file beside the model",
}
"""What to do about data that cannot be read, by what onnx's message says."""


def _remedy(error: Exception) -> str:
    told = next((remedy for part, remedy in REMEDIES.items() if part in str(error)), None)
    if told is not None:
        return told
    text = " ".join(str(error).split())[:200] or type(error).__name__
    return f"What is wrong: {text}. Save the model again with its data"
