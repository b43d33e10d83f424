"""Checks with onnxruntime and random inputs that a smaller model computes the same."""

from pathlib import Path
from typing import Any

import numpy as np

from tesa.attributes.attribute import Values
from tesa.base.compare import largest_difference, magnitude
from tesa.base.onnxruntime import reference_outputs
from tesa.compact.write import write
from tesa.errors import UsageError
from tesa.frontend.file import read_model
from tesa.frontend.model import ImportedModel, Port
from tesa.frontend.onnx import import_onnx

TOLERANCE = 1e-3
"""The largest difference allowed between the outputs of both models, relative to their largest value."""


def verify_with_onnxruntime(original: ImportedModel | str | Path | Any, proto: Any, trials: int = 2) -> float:
    """The largest difference between the outputs of two models, relative to the largest value of each output.

    original: an imported model (with its masks), a path or a ModelProto. Each trial takes other random inputs.
    UsageError where onnxruntime is not installed or a model cannot compute with random inputs.
    """
    if isinstance(original, ImportedModel):
        graph = original.graph
        if graph is None:
            raise UsageError("this module did not come from ONNX, so onnxruntime cannot run it")
        ports: tuple[Port, ...] = original.inputs
        shapes = {port.name: port.shape for port in original.outputs}
        original = write(graph, graph.nodes, graph.constants, graph.sources, graph.quantization, shapes)
    else:
        original = read_model(original)[1]
        ports = import_onnx(original).inputs
    worst = 0.0
    for seed in range(trials):
        rng = np.random.default_rng(seed)
        feeds = {port.name: random_input(port, rng) for port in ports}
        expected = reference_outputs(original, feeds, name="the original model")
        found = reference_outputs(proto, feeds, name="the smaller model")
        worst = max([worst, *(difference(found[name], array) for name, array in expected.items())])
    return worst


def random_input(port: Port, rng: np.random.Generator) -> Values:
    """A random array for an input: normal floats; integers 0 and 1, which every table has a row for."""
    if port.dtype.startswith(("float", "bfloat")):
        return rng.standard_normal(port.shape).astype(port.dtype)
    return rng.integers(0, 2, port.shape).astype(port.dtype)


def difference(found: Values, expected: Values) -> float:
    """The largest difference relative to the largest expected value; infinite where the shapes or the NaNs differ."""
    if found.shape != expected.shape:
        return float("inf")
    return largest_difference(found, expected) / max(magnitude(expected), 1e-6)
