"""One place that turns whatever reading a model raises into an error that names file, node and operator.

A model file can be wrong in more ways than checks can name one by one. What the checks do not name ends up in an
exception of Python, NumPy, onnx or TVM somewhere in the reading; here it becomes one message for the user. The node is
that of the innermost function at work on one: its frames are searched for it, so that no rewrite has to carry it along.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Any

import onnx
from onnx.checker import ValidationError
from onnx.shape_inference import InferenceError

from tesa.errors import ModelError, TesaError, UnsupportedError

INNER = re.compile(r"TVM|tvm|relax|R\.Tensor|Traceback|Check failed|InternalError|ffi\.|0x[0-9a-f]{6}")
"""What shows that a text is for those who work on a compiler."""


@contextmanager
def guarded(source: str, doing: str = "imported") -> Iterator[None]:
    """Let errors of tesa pass, and turn every other exception into one. source: the file. doing: what cannot be done.

    >>> with guarded("model.onnx"):
    ...     [][0]
    Traceback (most recent call last):
    ...
    tesa.errors.UnsupportedError: model.onnx: cannot be imported (IndexError: list index out of range). Check the file with onnx.checker.check_model and onnxruntime; if both take it, please report the model
    """  # noqa: E501
    try:
        yield
    except TesaError:
        raise
    except Exception as error:
        raise explained(error, source, doing) from error


def explained(error: Exception, source: str, doing: str) -> TesaError:
    """The error of tesa for an exception that reading a model has ended with."""
    node = _node_at(error.__traceback__)
    where = f"{source}: "
    if node is not None:
        where += f"node {node.name or next(iter(node.output), '?')!r} ({node.op_type}): "
    if isinstance(error, MemoryError) or "bad_alloc" in str(error):
        return ModelError(f"{where}there is not enough memory for its tensors. Check the sizes in the file")
    if isinstance(error, ValidationError | InferenceError):
        return ModelError(f"{where}not valid ONNX: {_line(error)}. Export the model again")
    if isinstance(error, RecursionError):
        return ModelError(f"{where}the model is nested too deeply to be {doing}. Export it without nested bodies")
    reason = _line(error)
    told = "" if INNER.search(reason) or _of_tvm(error) else f" ({type(error).__name__}: {reason})".replace(": )", ")")
    return UnsupportedError(
        f"{where}cannot be {doing}{told}. Check the file with onnx.checker.check_model and onnxruntime; if both take "
        "it, please report the model"
    )


def _line(error: Exception) -> str:
    """The first line of an exception's text, without the dot at its end."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0].rstrip(".")[:300] if lines else ""


def _of_tvm(error: Exception) -> bool:
    """True where the innermost Python frame of an exception is TVM's."""
    at, name = error.__traceback__, ""
    while at is not None:
        name = at.tb_frame.f_code.co_filename
        at = at.tb_next
    return "/tvm/" in name or "/tvm_ffi/" in name


def _node_at(at: TracebackType | None) -> Any:
    """The node that the innermost function that has one was at work on, None if there is none."""
    found: Any = None
    while at is not None:
        local = at.tb_frame.f_locals
        nodes = [value for value in local.values() if isinstance(value, onnx.NodeProto)]
        if nodes:
            found = local["node"] if isinstance(local.get("node"), onnx.NodeProto) else nodes[-1]
        at = at.tb_next
    return found
