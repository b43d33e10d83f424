"""The model that ships with tesa, quantized by onnxruntime's quantizer: its accuracy, and its codes step by step."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static

from tesa.base.onnxruntime import onnxruntime_session
from tesa.compiler import compile_model
from tesa.models import digits_images, digits_labels, digits_path
from tesa.runtime import Model, load
from tests.integer import compare

pytestmark = pytest.mark.slow

CALIBRATED_ON = 32


class Images(CalibrationDataReader):
    def __init__(self) -> None:
        self.images = iter([{"image": image[None]} for image in digits_images()[:CALIBRATED_ON]])

    def get_next(self) -> Any:
        return next(self.images, None)


@pytest.fixture(scope="module")
def quantized(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("digits") / "digits.onnx"
    logging.disable(logging.WARNING)  # its advice to prepare the model first
    quantize_static(
        digits_path(), path, Images(), quant_format=QuantFormat.QDQ, per_channel=True,
        activation_type=QuantType.QUInt8, weight_type=QuantType.QInt8,
    )  # fmt: skip
    logging.disable(logging.NOTSET)
    return path


@pytest.fixture(scope="module")
def compiled(quantized: Path) -> Model:
    output = quantized.with_suffix(".so")
    compile_model(quantized, output=output, measure=False)
    return load(output)


def predictions(run: Any) -> Any:
    return np.array([run(image[None]).argmax() for image in digits_images()])


def test_accuracy_is_that_of_float32(quantized: Path, compiled: Model) -> None:
    """Within 0.3 % of the images, which is one of 360; and the digits are those that onnxruntime finds."""
    real, integer = (onnxruntime_session(path, optimize="none") for path in (digits_path(), quantized))
    found = predictions(lambda image: compiled({"image": image})["logits"])
    theirs = {
        name: predictions(lambda image, session=session: session.run(None, {"image": image})[0])
        for name, session in (("float32", real), ("int8", integer))
    }
    labels = digits_labels()
    assert (theirs["float32"] == labels).mean() - (found == labels).mean() <= 0.003
    assert (found != theirs["int8"]).sum() <= 1


def test_the_kernels_codes_are_right_but_for_ties(quantized: Path, compiled: Model) -> None:
    for row in compare.layers(compiled, quantized, {"image": digits_images()[40:41]}):
        assert row.only_ties, row
