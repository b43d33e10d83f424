"""Other engines that a compiled model is compared with: in time, and in what they compute."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tesa.errors import ModelError, UsageError
from tesa.runtime.model import Array


def onnxruntime_session(model: Path | bytes, threads: int = 1) -> Any:
    """A CPU session of onnxruntime. UsageError where it is not installed, ModelError where it refuses the model."""
    try:
        import onnxruntime
    except ImportError as error:
        raise UsageError("onnxruntime is not installed: pip install 'tesa[bench]'") from error
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    source = str(model) if isinstance(model, Path) else model
    try:
        return onnxruntime.InferenceSession(source, options, providers=["CPUExecutionProvider"])
    except Exception as error:
        raise ModelError(f"{model if isinstance(model, Path) else 'model'}: onnxruntime refuses it: {error}") from error


def onnxruntime_call(path: Path, feeds: Mapping[str, Array], threads: int) -> Callable[[], object]:
    """One run on bound inputs, without the cost of Python dictionaries."""
    session = onnxruntime_session(path, threads)
    binding = session.io_binding()
    for name, array in feeds.items():
        binding.bind_cpu_input(name, np.ascontiguousarray(array))
    for output in session.get_outputs():
        binding.bind_output(output.name)
    return lambda: session.run_with_iobinding(binding)


def reference_outputs(path: Path, feeds: Mapping[str, Array], extra: Sequence[str] = ()) -> dict[str, Array]:
    """What onnxruntime computes for an ONNX file, by name; extra: inner tensors to return as well."""
    import onnx

    if not extra:
        session = onnxruntime_session(path)
    else:
        model = onnx.load(str(path))
        present = {output.name for output in model.graph.output}
        model.graph.output.extend(onnx.ValueInfoProto(name=name) for name in extra if name not in present)
        session = onnxruntime_session(model.SerializeToString())
    names = [output.name for output in session.get_outputs()]
    wanted = {i.name for i in session.get_inputs()}
    return dict(zip(names, session.run(names, {k: v for k, v in feeds.items() if k in wanted}), strict=True))
