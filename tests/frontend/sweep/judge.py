"""Compiles many nodes as one model and holds each one's results against onnxruntime, or ONNX's reference."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from onnx.reference import ReferenceEvaluator

from tesa.compiler import compile_model
from tesa.errors import TesaError
from tesa.frontend import import_onnx
from tesa.runtime import load

from .case import Case, merged

SESSION = onnxruntime.SessionOptions()
SESSION.intra_op_num_threads = 1
SESSION.log_severity_level = 4
SESSION.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL


def results(model: Any, feeds: Mapping[str, Any]) -> Mapping[str, Any]:
    """The outputs of a model that tesa compiles."""
    with tempfile.TemporaryDirectory() as folder:
        done = compile_model(model, output=Path(folder) / "sweep.so", measure=False)
        return load(done.path)(feeds)


def expected(case: Case) -> list[Any] | str:
    """What the outputs are: onnxruntime's word, else that of ONNX's reference; the reason where neither has one."""
    model, feeds = merged({"n": case}), case.arrays("n")
    try:
        session = onnxruntime.InferenceSession(model.SerializeToString(), SESSION, providers=["CPUExecutionProvider"])
        return list(session.run(None, feeds))
    except Exception as error:
        first = str(error).splitlines()[0]
    try:
        return [np.asarray(y) for y in ReferenceEvaluator(model).run(None, feeds)]
    except Exception as error:
        return f"no judge: {first}; {type(error).__name__} {error}"


def failures(cases: Iterable[Case]) -> dict[str, str]:
    """What is wrong, by the name of the case; compiles once for each opset."""
    wrong: dict[str, str] = {}
    by_opset: dict[int, dict[str, Case]] = {}
    for number, case in enumerate(cases):
        by_opset.setdefault(case.opset, {})[f"n{number}"] = case
    for group in by_opset.values():
        wrong |= _judge(group)
    return wrong


def _judge(group: Mapping[str, Case]) -> dict[str, str]:
    wrong, results, sound = {}, {}, {}
    for prefix, case in group.items():
        want = expected(case)
        if isinstance(want, str):
            wrong[case.name] = want
        else:
            results[prefix], sound[prefix] = want, case
    for prefix, got in _run(sound, wrong).items():
        fault = _compare(sound[prefix], got, results[prefix])
        if fault:
            wrong[sound[prefix].name] = fault
    return wrong


def _run(cases: Mapping[str, Case], wrong: dict[str, str], halve: bool = False) -> dict[str, list[Any]]:
    """The outputs of each case; what cannot be compiled is found out and noted in `wrong`."""
    if not cases:
        return {}
    feeds = {name: x for prefix, case in cases.items() for name, x in case.arrays(prefix).items()}
    try:
        found = results(merged(cases), feeds)
    except Exception as error:
        if len(cases) == 1:
            (case,) = cases.values()
            wrong[case.name] = f"{type(error).__name__} {str(error).strip().splitlines()[-1]}"
            return {}
        parts = _halves(cases) if halve else [{p: c for p, c in cases.items() if _imports(p, c, wrong)}]
        return {p: y for part in parts for p, y in _run(part, wrong, halve=True).items()}
    return {p: [np.asarray(found[name]) for name in filter(None, c.results(p))] for p, c in cases.items()}


def _halves(cases: Mapping[str, Case]) -> list[dict[str, Case]]:
    items = list(cases.items())
    return [dict(items[: len(items) // 2]), dict(items[len(items) // 2 :])]


def _imports(prefix: str, case: Case, wrong: dict[str, str]) -> bool:
    try:
        import_onnx(merged({prefix: case}))
    except TesaError as error:
        wrong[case.name] = f"refused: {error}"
        return False
    return True


def _compare(case: Case, got: list[Any], want: list[Any]) -> str:
    for i, (one, other) in enumerate(zip(got, want, strict=True)):
        if one.dtype != other.dtype or one.shape != other.shape:
            return f"output {i}: {one.dtype}{list(one.shape)} for {other.dtype}{list(other.shape)}"
        exact = other.dtype.kind in "iub"
        a, b = (x if exact else x.astype(np.float64) for x in (one, other))
        same = (a == b) if exact else np.isclose(a, b, case.tolerance, case.tolerance, equal_nan=True)
        if not same.all():
            bad = np.argwhere(~same)[0].tolist()
            where = tuple(bad)
            return f"output {i}{bad}: {one[where]} for {other[where]}; {int((~same).sum())} of {same.size} differ"
    return ""
