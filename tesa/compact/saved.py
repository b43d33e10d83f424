"""Writes an ONNX model to disk, its weights into a second file where one would be too large for the format."""

from contextlib import ExitStack
from pathlib import Path
from typing import Any

import onnx
from onnx import TensorProto
from onnx.external_data_helper import set_external_data, uses_external_data

from tesa.base.files import atomic_path
from tesa.frontend.given import file_size

LARGEST = 2_000_000_000
"""Bytes of a file; protobuf reads no more than 2 GB."""

KEPT_INSIDE = 1024
"""Bytes up to which a tensor stays in the model file: sizes and scales, which readers want at once."""


def save(proto: Any, path: Path, *, external: bool = False) -> Path | None:
    """Write a model. external, or where it is too large: the weights into path.data. Returns that file, if any.

    Both files are written aside and moved into place when they are whole. The model is changed: its weights leave it.
    """
    large = any(len(tensor.raw_data) > KEPT_INSIDE for tensor in proto.graph.initializer)
    external = large and (external or file_size(proto) > LARGEST)
    beside = path.with_name(f"{path.name}.data")
    with ExitStack() as stack:
        if external:
            aside = stack.enter_context(atomic_path(beside))
            _move_out(proto, aside, beside.name)
        model = stack.enter_context(atomic_path(path))
        model.write_bytes(proto.SerializeToString())
    return beside if external else None


def copy(source: Path, path: Path) -> None:
    """Copy a model file to another name; weights that it keeps in other files go along, into path.data."""
    proto = onnx.load(source, load_external_data=False)
    if any(uses_external_data(tensor) for tensor in proto.graph.initializer):
        save(onnx.load(source), path, external=True)
        return
    with atomic_path(path) as aside:
        aside.write_bytes(source.read_bytes())


def _move_out(proto: Any, file: Path, location: str) -> None:
    """Append the large tensors to a file and leave their places in it behind."""
    with file.open("wb") as out:
        for tensor in proto.graph.initializer:
            if len(tensor.raw_data) <= KEPT_INSIDE:
                continue
            data, offset = tensor.raw_data, out.tell()
            out.write(data)
            set_external_data(tensor, location, offset, len(data))
            tensor.ClearField("raw_data")
            tensor.data_location = TensorProto.EXTERNAL
