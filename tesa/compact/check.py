"""Checks with onnxruntime and random inputs that a smaller model computes the same."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tesa.attributes.attribute import Values
from tesa.base.compare import largest_difference, magnitude
from tesa.base.onnxruntime import reference_outputs
from tesa.base.random_inputs import REALS, random_array
from tesa.base.tolerance import Precision, has_numbers, tolerance_of
from tesa.compact.write import write
from tesa.errors import TesaError, UsageError
from tesa.frontend.file import read_model
from tesa.frontend.limits import input_limits
from tesa.frontend.model import ImportedModel, Port
from tesa.frontend.onnx import import_onnx
from tesa.frontend.precision import exact_outputs, noise_of, precision_of

TOLERANCE = 1e-3
"""The largest difference allowed between the outputs of both models, relative to their largest value, in float32."""

SMALL = 1e-3
"""Differences of outputs that are all below it are relative to it: float32 has no more digits near 0."""


@dataclass(frozen=True)
class Check:
    """The comparison of two models. error: the largest difference, relative to the largest value of each output.

    fault: why the smaller model cannot be taken for the given one, "" where it can.
    """

    error: float
    fault: str = ""


def check_smaller(original: ImportedModel | str | Path | Any, proto: Any, trials: int = 2) -> Check:
    """Compare the outputs of two models within the tolerance of the network, see tesa.base.tolerance.

    original: an imported model (with its masks), a path or a ModelProto. Each trial takes other random inputs, with
    integers that every table has a row for. An output without any number is a fault: nothing was compared. UsageError
    where onnxruntime is not installed or a model cannot compute with random inputs.
    """
    source, imported = _source(original)
    limits = {} if imported.graph is None else input_limits(imported.graph)
    precision = precision_of(source)
    worst, faults = 0.0, []
    for seed in range(trials):
        feeds, expected = _expected(source, imported.inputs, limits, precision, seed)
        found = _outputs(proto, feeds, precision, "the smaller model")
        noise: Mapping[str, Values] = {}
        for name, array in expected.items():
            error = difference(found[name], array)
            worst = max(worst, error)
            if not has_numbers(array):
                faults.append(f"all of the output {name!r} is NaN for random inputs, so that nothing can be compared")
            elif not _agree(found[name], array, precision.at(name)):
                noise = noise or noise_of(source, feeds, expected, (), precision)
                if not _agree(found[name], array, precision.at(name), noise[name]):
                    faults.append(f"the output {name!r} differs, relative error {error:.1e}")
    return Check(worst, faults[0] if faults else "")


def verify_with_onnxruntime(original: ImportedModel | str | Path | Any, proto: Any, trials: int = 2) -> float:
    """The largest difference between the outputs of two models, relative to the largest value of each output.

    The arguments and errors are those of check_smaller, which also says whether that is too much.
    """
    return check_smaller(original, proto, trials).error


def random_input(port: Port, rng: np.random.Generator, limits: tuple[int, int] | None = None) -> Values:
    """A random array for an input: normal floats; integers within the limits, else 0 and 1."""
    if port.dtype.startswith(REALS) or limits is not None:
        return random_array(port.name, port.shape, port.dtype, rng, limits)
    return rng.integers(0, 2, port.shape).astype(port.dtype)


def difference(found: Values, expected: Values) -> float:
    """The largest difference relative to the largest expected value; infinite where the shapes or the NaNs differ."""
    if found.shape != expected.shape:
        return float("inf")
    return largest_difference(found, expected) / max(magnitude(expected), SMALL)


def _source(original: ImportedModel | str | Path | Any) -> tuple[Any, ImportedModel]:
    """(the model as a ModelProto, the same imported)."""
    if not isinstance(original, ImportedModel):
        proto = read_model(original)[1]
        return proto, import_onnx(proto)
    graph = original.graph
    if graph is None:
        raise UsageError("this module did not come from ONNX, so onnxruntime cannot run it")
    shapes = {port.name: port.shape for port in original.outputs}
    return write(graph, graph.nodes, graph.constants, graph.sources, graph.quantization, shapes), original


def _expected(
    source: Any, ports: tuple[Port, ...], limits: Mapping[str, tuple[int, int]], precision: Precision, seed: int
) -> tuple[dict[str, Values], dict[str, Values]]:
    """(inputs, outputs) of the given model; without the signs of the inputs where it has no numbers for these."""
    rng = np.random.default_rng(seed)
    feeds = {port.name: random_input(port, rng, limits.get(port.name)) for port in ports}
    expected = _outputs(source, feeds, precision, "the original model")
    if all(map(has_numbers, expected.values())):
        return feeds, expected
    feeds = {name: np.abs(array) if array.dtype.kind in "fV" else array for name, array in feeds.items()}
    return feeds, _outputs(source, feeds, precision, "the original model")


def _outputs(proto: Any, feeds: Mapping[str, Values], precision: Precision, name: str) -> dict[str, Values]:
    try:
        return reference_outputs(proto, feeds, name=name)
    except TesaError:
        if not precision.half:
            raise
        return exact_outputs(proto, feeds, name=name)  # it has no kernels for such numbers


def _agree(found: Values, expected: Values, precision: Precision, noise: Values | None = None) -> bool:
    if found.shape != expected.shape:
        return False
    tolerance = tolerance_of(expected, precision, noise)
    if tolerance.exact and noise is not None:
        return tolerance.holds(found[noise == 0], expected[noise == 0])
    return tolerance.holds(found, expected)
