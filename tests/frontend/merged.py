"""Many small models as one, so that they are built once."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import onnx
import onnxruntime
import tvm
from onnx import compose
from tvm import relax

from tesa.frontend import ImportedModel, import_onnx
from tests.support import QUICK


def merged(models: Mapping[str, onnx.ModelProto]) -> onnx.ModelProto:
    """One model with the nodes of all, their names prefixed with the key and a slash. All have one opset."""
    graphs, opsets, version = [], {}, 0
    for name, model in models.items():
        made = compose.add_prefix(model, f"{name}/")
        graphs.append(made.graph)
        opsets |= {o.domain: o for o in made.opset_import}
        version = max(version, made.ir_version)
    whole = onnx.GraphProto(name="merged")
    for graph in graphs:
        whole.node.extend(graph.node)
        whole.input.extend(graph.input)
        whole.output.extend(graph.output)
        whole.initializer.extend(graph.initializer)
    return onnx.helper.make_model(whole, opset_imports=list(opsets.values()), ir_version=version)


def expected(model: onnx.ModelProto, feeds: Mapping[str, Any]) -> dict[str, Any]:
    """The outputs of onnxruntime, which leaves the model as it is."""
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 3
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return dict(zip([o.name for o in session.get_outputs()], session.run(None, dict(feeds)), strict=True))


def computed(model: onnx.ModelProto, feeds: Mapping[str, Any]) -> dict[str, Any]:
    """The outputs of the imported model, built with TVM's own pipeline."""
    return run_imported(import_onnx(model), feeds)


def run_imported(imported: ImportedModel, feeds: Mapping[str, Any]) -> dict[str, Any]:
    """The outputs of an imported model, built with TVM's own pipeline."""
    mod = relax.get_pipeline("zero")(imported.mod)
    machine = relax.VirtualMachine(tvm.compile(mod, tvm.target.Target(QUICK)), tvm.cpu())
    found = machine["main"](*[tvm.runtime.tensor(feeds[p.name]) for p in imported.inputs])
    found = [found] if isinstance(found, tvm.runtime.Tensor) else list(found)
    return {port.name: array.numpy() for port, array in zip(imported.outputs, found, strict=True)}


def differences(
    models: Mapping[str, onnx.ModelProto], feeds: Mapping[str, Mapping[str, Any]], tolerance: float = 1e-4
) -> dict[str, str]:
    """What is wrong in the models, by output; empty where all have the numbers of onnxruntime."""
    whole = merged(models)
    given = {f"{name}/{key}": array for name, arrays in feeds.items() for key, array in arrays.items()}
    want = {}
    for name, model in models.items():
        want |= {f"{name}/{key}": array for key, array in expected(model, feeds[name]).items()}
    found, wrong = computed(whole, given), {}
    for name, array in want.items():
        try:
            assert found[name].dtype == array.dtype, f"{found[name].dtype} for {array.dtype}"
            np.testing.assert_allclose(found[name], array, rtol=tolerance, atol=tolerance)
        except AssertionError as error:
            wrong[name] = " ".join(str(error).split())[:200]
    return wrong
