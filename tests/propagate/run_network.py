"""Computes a whole network operator by operator, each run as tesa.propagate.executor runs it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from tesa.attributes.attribute import Values
from tesa.propagate.executor import CannotRunError, compile_node
from tesa.propagate.network import Network

Change = Callable[[str, Values], Values]


def run_network(net: Network, inputs: Mapping[str, Any], change: Change = lambda name, value: value) -> dict[str, Any]:
    """All tensors of a network, computed operator by operator in the types of the model.

    inputs: an array for each parameter. change(name, value) may replace a tensor as soon as it is there. CannotRunError
    names the operator that cannot be run.
    """
    values: dict[str, Any] = {name: change(name, np.asarray(array)) for name, array in inputs.items()}
    for name, array in net.constants.items():
        values[name] = change(name, array)
    for node in net.nodes:
        try:
            results = compile_node(node)([values[name] for name in node.inputs])
        except CannotRunError as error:
            raise CannotRunError(f"{node.operator.layer} ({node.operator.op}): {error}") from error
        for name, result in zip(node.outputs, results, strict=True):
            values[name] = change(name, result)
    return values
