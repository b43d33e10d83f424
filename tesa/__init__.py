"""tesa compiles neural networks with pruned weights into kernels made for exactly their sparsity pattern.

The functions here are loaded at their first use, so that `import tesa` costs nothing:
compile (ONNX file to library), load (a compiled model), kernel (one layer), forms (every kernel for a weight), sweep
(kernels over sparsities), compare (kernels in turn), import_onnx, inspect_model, analyze_model, tune_model.
"""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tesa import _moved
from tesa.base import display
from tesa.base.version import __version__

# schedules/ and tuning_logs/ lie beside this package in a checkout, and inside of it where tesa is installed. Python
# that is started in the checkout finds this folder first, whatever is installed.
if not (Path(__file__).parent / "schedules").is_dir():
    __path__.append(str(Path(__file__).parent.parent))
_moved.install()

_HOMES = {
    "compile": ("tesa.compiler", "compile_model"),
    "load": ("tesa.runtime", "load"),
    "kernel": ("tesa.kernels.kernel", "kernel"),
    "import_onnx": ("tesa.frontend", "import_onnx"),
    "inspect_model": ("tesa.analyze.inspection", "inspect_model"),
    "largest_tensor": ("tesa.frontend.giants", "largest_tensor"),
    "analyze_model": ("tesa.analyze.analysis", "analyze_model"),
    "tune_model": ("tesa.tune.model", "tune_model"),
    "forms": ("tesa.kernels.forms", "forms"),
    "sweep": ("tesa.kernels.sweep", "sweep"),
    "compare": ("tesa.kernels.comparison", "compare"),
}
__all__ = [
    "__version__", "analyze_model", "compare", "compile", "forms", "import_onnx", "inspect_model", "kernel",
    "largest_tensor", "load", "sweep", "tune_model",
]  # fmt: skip

if TYPE_CHECKING:
    from tesa.analyze.analysis import analyze_model
    from tesa.analyze.inspection import inspect_model
    from tesa.compiler import compile_model as compile
    from tesa.frontend import import_onnx
    from tesa.frontend.giants import largest_tensor
    from tesa.kernels.comparison import compare
    from tesa.kernels.forms import forms
    from tesa.kernels.kernel import kernel
    from tesa.kernels.sweep import sweep
    from tesa.runtime import load
    from tesa.tune.model import tune_model


_PARTS = ("compact", "compress", "explore", "frontend", "propagate", "report", "runtime", "schedules", "torch")

display.load_with(lambda: importlib.import_module("tesa.report.notebook"))


def __getattr__(name: str) -> Any:
    if name in _PARTS:
        return importlib.import_module(f"tesa.{name}")
    if name not in _HOMES:
        raise AttributeError(f"module 'tesa' has no attribute {name!r}")
    module, function = _HOMES[name]
    return getattr(importlib.import_module(module), function)


def __dir__() -> list[str]:
    return sorted(__all__)
