"""A module of PyTorch as an ONNX model, with exact zeros where it is pruned."""

from __future__ import annotations

import functools
import logging
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch.utils import _pytree as pytree

from tesa.base.extras import install
from tesa.compact.saved import save
from tesa.errors import ModelError, UsageError
from tesa.torch.masks import plain_copy

LOGGERS = ("torch.onnx", "torch.export", "onnxscript", "onnx_ir")


def arguments(example: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """The arguments of a call: of a tuple each is one, of a dict they are keywords, anything else is the only one.

    >>> arguments({"ids": 1})
    ((), {'ids': 1})
    """
    if isinstance(example, Mapping) and all(isinstance(key, str) for key in example):
        return (), dict(example)
    return (tuple(example), {}) if isinstance(example, tuple | list) else ((example,), {})


def exported(module: Any, example: Any, dynamic_shapes: Any = None) -> Any:
    """A module as a ModelProto, in evaluation mode. The module itself stays as it is.

    Errors: UsageError for what is no module or on another device, ModelError where PyTorch's exporter refuses it.
    """
    if not isinstance(module, torch.nn.Module):
        raise UsageError(f"a torch.nn.Module is compiled, not a {type(module).__name__}; wrap a function in a module")
    args, kwargs = arguments(example)
    tensors = [leaf for leaf in pytree.tree_leaves((args, kwargs)) if isinstance(leaf, torch.Tensor)]
    if not tensors:
        raise UsageError("the example holds no tensor; give the inputs of a call: a tensor, a tuple or a dict of them")
    elsewhere = {str(t.device) for t in (*tensors, *module.parameters(), *module.buffers()) if t.device.type != "cpu"}
    if elsewhere:
        raise UsageError(f"the module or its example is on {', '.join(elsewhere)}; move both to the CPU: .to('cpu')")
    plain = plain_copy(module).eval()
    _only_tensors(plain, args, kwargs)
    with _quiet(), torch.no_grad():
        try:
            program = torch.onnx.export(
                plain, args, kwargs=kwargs, dynamo=True, verbose=False, dynamic_shapes=dynamic_shapes
            )
        except ImportError as error:
            raise UsageError(f"{error}: {install('torch')}") from error
        except Exception as error:
            raise ModelError(f"{type(module).__name__}: PyTorch cannot export it: {_told(error)}") from error
    if program is None:
        raise ModelError(f"{type(module).__name__}: PyTorch's exporter returned nothing")
    return program.model_proto


def _only_tensors(plain: Any, args: Any, kwargs: Any) -> None:
    """Let a module that returns other things as well, which the exporter refuses, return its tensors alone."""
    forward = plain.forward
    try:
        with torch.no_grad():
            leaves = pytree.tree_leaves(plain(*args, **kwargs))
    except Exception as error:
        raise UsageError(f"{type(plain).__name__} cannot be called with the example: {_told(error)}") from error
    if all(isinstance(leaf, torch.Tensor) for leaf in leaves):
        return

    @functools.wraps(forward)
    def tensors(*given: Any, **named: Any) -> Any:
        found = pytree.tree_leaves(forward(*given, **named))
        return tuple(leaf for leaf in found if isinstance(leaf, torch.Tensor))

    plain.forward = tensors


def export(module: Any, example: Any, path: str | Path, dynamic_shapes: Any = None) -> Path:
    """Write a module as an ONNX file, in evaluation mode, with exact zeros where it is pruned.

    example: the inputs of a call: a tensor, a tuple of arguments, or a dict of keywords. dynamic_shapes: as
    torch.onnx.export takes them. Errors as exported(), and those of writing.
    """
    proto = exported(module, example, dynamic_shapes)
    save(proto, Path(path))
    return Path(path)


def _told(error: BaseException) -> str:
    """The reason in a line: exporters wrap it several times over."""
    while error.__cause__ is not None:
        error = error.__cause__
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0] if lines else type(error).__name__


@contextmanager
def _quiet() -> Iterator[None]:
    """Without the exporter's notes on packages and on Python's own future."""
    levels = {name: logging.getLogger(name).level for name in LOGGERS}
    for name in LOGGERS:
        logging.getLogger(name).setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for name, level in levels.items():
            logging.getLogger(name).setLevel(level)
