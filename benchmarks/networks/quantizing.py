"""Quantization by onnxruntime's own quantizer, as users do it: QDQ with calibration, or dynamic."""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper

from tesa.errors import UsageError

Array = NDArray[Any]
Feeds = Mapping[str, Array]


def quantized(model: Any, how: str, feeds: Sequence[Feeds] = ()) -> Any:
    """The model in 8 bits: uint8 activations, int8 weights by channel, whose zeros stay zeros.

    how: "static", with the ranges that the activations have on the feeds, written as QDQ; or "dynamic".
    """
    from onnxruntime.quantization import (
        CalibrationDataReader,
        QuantFormat,
        QuantType,
        quantize_dynamic,
        quantize_static,
    )

    class Reader(CalibrationDataReader):  # type: ignore[misc]
        def __init__(self) -> None:
            self.feeds = iter(feeds)

        def get_next(self) -> Any:
            return next(self.feeds, None)

    with tempfile.TemporaryDirectory() as name, _quiet():
        source, target = Path(name) / "float.onnx", Path(name) / "codes.onnx"
        onnx.save(onnx.shape_inference.infer_shapes(model), source)
        if how == "static":
            quantize_static(
                source, target, Reader(), quant_format=QuantFormat.QDQ, per_channel=True,
                activation_type=QuantType.QUInt8, weight_type=QuantType.QInt8,
            )  # fmt: skip
        elif how == "dynamic":
            quantize_dynamic(source, target, per_channel=True, weight_type=QuantType.QInt8)
        else:
            raise UsageError(f"{how!r}: a network is quantized static or dynamic")
        return onnx.load(target)


def zeros(model: Any) -> float:
    """The share of zeros among the weights of a model of two axes or more, int8 or float32.

    Tables of embeddings are no weights here: what Gather reads is left out.
    """
    tables = {node.input[0] for node in model.graph.node if node.op_type == "Gather"}
    total = found = 0
    for tensor in model.graph.initializer:
        if len(tensor.dims) < 2 or tensor.name in tables:
            continue
        array = numpy_helper.to_array(tensor)
        if array.dtype in (np.int8, np.float32):
            total += array.size
            found += array.size - int(np.count_nonzero(array))
    return found / total if total else 0.0


@contextmanager
def _quiet() -> Iterator[None]:
    """Without its advice to prepare the model first."""
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(logging.NOTSET)
