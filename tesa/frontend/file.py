"""A model file's bytes as a ModelProto, external data included."""

import warnings
from collections.abc import Iterator
from math import prod
from pathlib import Path
from typing import Any

import onnx
import onnx.external_data_helper
import onnx.helper
from google.protobuf.message import DecodeError  # type: ignore[import-untyped]

from tesa.errors import ModelError, UsageError
from tesa.frontend.control.inside import tensors_in, tensors_of
from tesa.frontend.giants import largest, readable
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
    if path.exists() and not path.is_file():  # it is read again, and a pipe would be waited for without end
        raise UsageError(f"{path}: is a pipe or a device; write the model into a file, and give that")
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
                named = [entry.value for entry in tensor.external_data if entry.key == "location"]
                yield tensor, named[-1] if named else ""  # of several the last one counts, as for onnx


def _refuse_external(proto: Any, source: str) -> None:
    """Raise a ModelError for a model in memory that lacks data: it has no folder that their file could be in."""
    for tensor, location in _external(proto):
        raise ModelError(
            f"{source}: the data of tensor {tensor.name!r} are in the external file {location[:200]!r}, and a model in "
            "memory has no folder to look for it. Give the path of the model's file, or load it with onnx.load"
        )


_SHARED = 4  # times the bytes of files: several tensors may have the same data


def _load_external(proto: Any, path: Path) -> None:
    folder = path.absolute().parent
    files: dict[str, int] = {}
    total = 0
    for tensor, location in _external(proto):
        where = f"{path}: the data of tensor {tensor.name!r} are in the external file {location[:200]!r}"
        _bound(tensor, where)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of keys that onnx does not know
                onnx.external_data_helper.load_external_data_for_tensor(tensor, str(folder))
        except Exception as error:
            raise ModelError(f"{where}, which cannot be read from the folder {folder}. {_remedy(error)}") from error
        tensor.data_location = onnx.TensorProto.DEFAULT
        if location not in files:
            files[location] = (folder / location).stat().st_size
        total += len(tensor.raw_data)
        if total > max(largest() // 8, _SHARED * sum(files.values())):
            raise ModelError(
                f"{where}, whose parts other tensors have as well: with it they are {readable(total)}, of files of "
                f"{readable(sum(files.values()))}. Save the model again, with its own data for each tensor"
            )


def _bound(tensor: Any, where: str) -> None:
    """Have no more data read than a tensor may have: its file may be of terabytes, with holes. ModelError."""
    if min(tensor.dims, default=0) < 0 or tensor.data_type not in onnx.TensorProto.DataType.values():
        return  # said where the tensor is made
    told = [entry for entry in tensor.external_data if entry.key == "length"]
    most = -(-prod(map(int, tensor.dims)) * _BITS.get(tensor.data_type, 8 * _bytes(tensor.data_type)) // 8)
    if not told:
        tensor.external_data.add(key="length", value=str(most))
    elif told[-1].value.isascii() and told[-1].value.isdigit() and int(told[-1].value[:20]) > most:
        raise ModelError(
            f"{where}, and their length there is said to be {told[-1].value[:20]} bytes, and a tensor of shape "
            f"{list(tensor.dims)} has {most}. Save the model again with its data"
        )


def _bytes(kind: int) -> int:
    return 0 if kind == onnx.TensorProto.UNDEFINED else int(onnx.helper.tensor_dtype_to_np_dtype(kind).itemsize)


_BITS = {
    getattr(onnx.TensorProto, name): bits
    for name, bits in (("INT4", 4), ("UINT4", 4), ("FLOAT4E2M1", 4), ("INT2", 2), ("UINT2", 2))
    if hasattr(onnx.TensorProto, name)
}
"""The types of which a byte holds several elements."""


REMEDIES = {
    "symbolic link": "It is a symbolic link, which could lead anywhere and is not followed. Put the file itself there",
    "hard link": "It has several names (hard links), by which other files could be read. Put a copy of the file there",
    "absolute path": "The model names it by an absolute path; only files in the model's folder are read. Save it again",
    "kernel rejected path": "A folder on the way to it is a symbolic link, which is not followed. Put the file beside "
    "the model",
    "resolves outside": "A link leads outside of the model's folder, which is not followed. Put the file beside it",
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
