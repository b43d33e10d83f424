"""What is tried with a mutated model: it is imported, its facts are propagated, and it is lowered to layers."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from tesa.frontend import import_onnx
from tesa.layers.network import to_networks
from tesa.propagate import propagate

_FOLDER = tempfile.TemporaryDirectory(prefix="tesa-fuzz-")  # the server removes it at its end


def check(data: bytes) -> str:
    """Read a model that these bytes are the file of. What tesa raises on purpose is an answer."""
    return repr(propagate(import_onnx(_written(data))))


def check_lowered(data: bytes) -> str:
    """Go on to the layers that kernels are chosen for, as compiling does; three times as long."""
    return repr(to_networks(_written(data))[1])


def _written(data: bytes) -> Path:
    path = Path(_FOLDER.name) / "model.onnx"
    path.write_bytes(data)
    os.chdir(_FOLDER.name)
    return path
