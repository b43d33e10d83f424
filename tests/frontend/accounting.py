"""What becomes of each node test of the package onnx that onnxruntime passes: right numbers, or a refusal."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import onnx
import onnxruntime
from onnx import numpy_helper

from tesa.errors import TesaError
from tesa.frontend import import_onnx
from tesa.frontend.parameters import PARAMETERS
from tests.propagate.onnx_nodes import cases, plain

from .merged import computed, merged

INNER = re.compile(r"TVM|tvm|relax|R\.Tensor|Traceback|Check failed|InternalError|\n")
"""What no message for a user says."""


@cache
def passes(name: str) -> bool:
    """True if onnxruntime can load and run a node test, and has its numbers."""
    case = cases()[name]
    if not case.data_sets:
        return False
    options = onnxruntime.SessionOptions()
    options.log_severity_level, options.intra_op_num_threads = 4, 1
    inputs, wanted = case.data_sets[0]
    try:
        session = onnxruntime.InferenceSession(
            case.model.SerializeToString(), options, providers=["CPUExecutionProvider"]
        )
        names = [value.name for value in case.model.graph.input]
        got = session.run(None, {n: _array(x) for n, x in zip(names, inputs, strict=False)})
    except Exception:  # whatever it cannot do is not asked of tesa
        return False
    pairs = zip(got, map(_array, wanted), strict=False)
    return all(not isinstance(w, np.ndarray) or _equal(np.asarray(g), w, case, 1e-3) for g, w in pairs)


def _array(value: Any) -> Any:
    return numpy_helper.to_array(value) if isinstance(value, onnx.TensorProto) else value


def _equal(found: Any, wanted: Any, case: Any, relative: float) -> bool:
    if wanted.dtype.kind in "OUS":
        return bool((found == wanted).all())
    bounds = {"rtol": max(case.rtol, relative), "atol": max(case.atol, relative / 100), "equal_nan": True}
    found, wanted = (np.asarray(x).astype(float) for x in (found, wanted))
    return found.shape == wanted.shape and bool(np.allclose(found, wanted, **bounds))


def with_constants(name: str) -> tuple[onnx.ModelProto, dict[str, Any]]:
    """The test with the parameters of its operators, as sizes and axes, in the file; and what is fed."""
    made = plain(name)
    model, feeds = onnx.ModelProto(), dict(made.feeds)
    model.CopyFrom(made.model)
    fixed = {
        node.input[i]
        for node in model.graph.node
        for i in PARAMETERS.get(node.op_type, ())
        if i < len(node.input) and node.input[i] in feeds
    }
    for value in [v for v in model.graph.input if v.name in fixed]:
        model.graph.input.remove(value)
        model.graph.initializer.append(numpy_helper.from_array(feeds.pop(value.name), value.name))
    return model, feeds


@dataclass(frozen=True)
class Trial:
    """A model that imports, to be built and run."""

    model: onnx.ModelProto
    feeds: Mapping[str, Any]


def verdicts(names: Sequence[str]) -> dict[str, str]:
    """For each test "right", "refused: ...", or what is wrong: "wrong: ..." numbers, "crash: ...", "inner: ..." text.

    Where parameters are inputs of the test, which is refused, the verdict is that on the test with constants for them.
    """
    found: dict[str, str] = {}
    trials: dict[str, Trial] = {}
    for name in names:
        answer = _imported(name)
        if isinstance(answer, Trial):
            trials[name] = answer
        else:
            found[name] = answer
    kinds: dict[Any, list[str]] = {}
    for name, trial in trials.items():
        opsets = tuple(sorted((o.domain, o.version) for o in trial.model.opset_import))
        kinds.setdefault((opsets, trial.model.ir_version), []).append(name)
    for same in kinds.values():
        for start in range(0, len(same), GROUP):
            found |= _built({name: trials[name] for name in same[start : start + GROUP]})
    return found


GROUP = 24
"""So many tests are built at once."""


def _imported(name: str) -> Trial | str:
    made = plain(name)
    answer = _try(made.model, made.feeds)
    model, feeds = with_constants(name)
    if not isinstance(answer, Trial) and len(feeds) < len(made.feeds):
        return _try(model, feeds)
    return answer


def _try(model: onnx.ModelProto, feeds: Mapping[str, Any]) -> Trial | str:
    try:
        import_onnx(model)
    except TesaError as error:
        text = str(error)
        return f"inner: {text}" if INNER.search(text) else f"refused: {text}"
    except Exception as error:  # any other one is a fault
        return f"crash: {type(error).__name__}: {error}"
    return Trial(model, feeds)


def _built(trials: Mapping[str, Trial]) -> dict[str, str]:
    """The verdicts on tests that import; of those of a group that cannot be built together one by one."""
    try:
        if len(trials) == 1:
            ((name, trial),) = trials.items()
            return {name: _judged(name, computed(trial.model, trial.feeds))}
        whole = merged({name: trial.model for name, trial in trials.items()})
        values = computed(whole, {f"{n}/{key}": x for n, t in trials.items() for key, x in t.feeds.items()})
        prefixed = {name: f"{name}/" for name in trials}
        return {name: _judged(name, {key.removeprefix(start): x for key, x in values.items() if key.startswith(start)})
                for name, start in prefixed.items()}  # fmt: skip
    except Exception as error:
        if len(trials) == 1:
            return {name: f"crash: {type(error).__name__}: {str(error)[-300:]}" for name in trials}
    names = list(trials)
    halves = [names[: len(names) // 2], names[len(names) // 2 :]]
    return {key: value for half in halves for key, value in _built({n: trials[n] for n in half}).items()}


def _judged(name: str, found: Mapping[str, Any]) -> str:
    case = cases()[name]
    arrays = [*(_array(x) for x in case.data_sets[0][0]), *found.values()]
    short = any("float16" in str(x.dtype) or "float8" in str(x.dtype) for x in arrays if isinstance(x, np.ndarray))
    for value, want in zip(case.model.graph.output, map(_array, case.data_sets[0][1]), strict=False):
        if isinstance(want, np.ndarray) and not _equal(found[value.name], want, case, 0.02 if short else 1e-3):
            return f"wrong: output {value.name!r} of shape {found[value.name].shape}, expected {want.shape}"
    return "right"
