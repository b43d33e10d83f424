"""What is tried with a mutated model: it is imported and its facts are propagated."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from tesa.frontend import import_onnx
from tesa.propagate import propagate

_FOLDER = tempfile.TemporaryDirectory(prefix="tesa-fuzz-")  # the server removes it at its end


def check(data: bytes) -> str:
    """Read a model that these bytes are the file of. What tesa raises on purpose is an answer."""
    path = Path(_FOLDER.name) / "model.onnx"
    path.write_bytes(data)
    os.chdir(_FOLDER.name)
    return repr(propagate(import_onnx(path)))
