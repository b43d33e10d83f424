"""What the tests of compact share: shrink a model, check it in every way, look at its weights."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from onnx import numpy_helper

from tesa.base.onnxruntime import reference_outputs
from tesa.compact import Compacted, compact
from tesa.compact.check import difference, random_input
from tesa.frontend import import_onnx
from tesa.propagate import propagate

from ..frontend.onnx_models import model, node, port

TOLERANCE = 1e-4


def shrink(proto: Any, seed: int = 0, tolerance: float = TOLERANCE) -> Compacted:
    """compact(proto), whose result is valid ONNX, computes the same, keeps its interface and cannot be made smaller."""
    imported = import_onnx(proto)
    found = compact(propagate(imported))
    onnx.checker.check_model(found.proto, full_check=True)
    again = import_onnx(found.proto)
    assert (again.inputs, again.outputs) == (imported.inputs, imported.outputs)
    assert compact(propagate(again)).removed == ()
    rng = np.random.default_rng(seed)
    feeds = {port.name: random_input(port, rng) for port in imported.inputs}
    expected, got = (reference_outputs(m, feeds) for m in (proto, found.proto))
    assert list(expected) == list(got)
    for name, array in expected.items():
        assert difference(got[name], array) < tolerance, name
    return found


def weights(proto: Any) -> dict[str, Any]:
    """The initializers by name."""
    return {tensor.name: numpy_helper.to_array(tensor) for tensor in proto.graph.initializer}


def shapes(found: Compacted) -> dict[str, tuple[int, ...]]:
    """The shapes of the initializers by name."""
    return {name: array.shape for name, array in weights(found.proto).items()}


def operators(found: Compacted) -> list[str]:
    """The operators of the result in their order."""
    return [node.op_type for node in found.proto.graph.node]


def dense(*shape: int, seed: int = 0) -> Any:
    """float32 between 0.5 and 1.5: nothing is 0, and what ReLU passes stays."""
    return np.random.default_rng(seed).uniform(0.5, 1.5, shape).astype(np.float32)


def without(array: Any, *gone: int, axis: int = 0) -> Any:
    """The array with 0 at these indices."""
    result = array.copy()
    np.moveaxis(result, axis, 0)[list(gone)] = 0
    return result


__all__ = ["dense", "model", "node", "operators", "port", "shapes", "shrink", "weights", "without"]
