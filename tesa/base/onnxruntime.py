"""Runs ONNX models with onnxruntime, the engine that compiled models are compared with in time and numbers."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tesa.base.extras import install
from tesa.errors import ModelError, UsageError

Array = NDArray[Any]


def onnxruntime_session(model: Path | bytes, threads: int = 1, *, optimize: str = "all", name: str = "model") -> Any:
    """A CPU session of onnxruntime; name: of the model in messages, where it is not a path.

    optimize: "all", "basic", or "none", which runs every operator as the file has it. onnxruntime's own rewrites of a
    quantized model, which are not basic, round where the model does not. UsageError where onnxruntime is not installed,
    ModelError where it refuses the model.
    """
    try:
        import onnxruntime
    except ImportError as error:
        raise UsageError(f"onnxruntime is not installed: {install('bench')}") from error
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 4  # what is worth saying comes as an exception
    levels = onnxruntime.GraphOptimizationLevel
    options.graph_optimization_level = {
        "all": levels.ORT_ENABLE_ALL, "basic": levels.ORT_ENABLE_BASIC, "none": levels.ORT_DISABLE_ALL
    }[optimize]  # fmt: skip
    source = str(model) if isinstance(model, Path) else model
    try:
        return onnxruntime.InferenceSession(source, options, providers=["CPUExecutionProvider"])
    except Exception as error:
        where = model if isinstance(model, Path) else name
        raise ModelError(f"{where}: onnxruntime refuses it: {_line(error)}") from error


def onnxruntime_call(path: Path, feeds: Mapping[str, Array], threads: int) -> Callable[[], object]:
    """One run on bound inputs, without the cost of Python dictionaries."""
    session = onnxruntime_session(path, threads)
    binding = session.io_binding()
    for name, array in feeds.items():
        binding.bind_cpu_input(name, np.ascontiguousarray(array))
    for output in session.get_outputs():
        binding.bind_output(output.name)
    return lambda: session.run_with_iobinding(binding)


def reference_outputs(
    source: str | Path | Any,
    feeds: Mapping[str, Array],
    extra: Sequence[str] = (),
    *,
    name: str = "model",
    optimize: str = "none",
) -> dict[str, Array]:
    """The outputs that onnxruntime computes for an ONNX file or ModelProto, by default operator by operator, by name.

    extra: inner tensors to return as well; name: of a ModelProto in messages; optimize: see onnxruntime_session.
    UsageError where it cannot compute with these inputs.
    """
    if isinstance(source, str | Path):
        import onnx

        name, source = str(source), onnx.load(source)
    model = type(source)()
    model.CopyFrom(source)
    present = {output.name for output in model.graph.output}
    for tensor in dict.fromkeys(extra):
        if tensor not in present:
            model.graph.output.add().name = tensor
    session = onnxruntime_session(model.SerializeToString(), optimize=optimize, name=name)
    names = [output.name for output in session.get_outputs()]
    wanted = {i.name for i in session.get_inputs()}
    try:
        found = session.run(names, {k: v for k, v in feeds.items() if k in wanted})
    except Exception as error:
        raise UsageError(
            f"{name}: onnxruntime cannot compute with these inputs; give real ones with -i in.npz ({_line(error)})"
        ) from error
    return dict(zip(names, found, strict=True))


def _line(error: Exception) -> str:
    """The first line of what onnxruntime says, without its own error code."""
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return lines[0].rpartition(" : ")[2] if lines[0].startswith("[ONNXRuntimeError]") else lines[0]
